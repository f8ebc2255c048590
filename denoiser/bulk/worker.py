"""What an actor of Ray does: one picture file, or one Parquet shard, from a place to another."""

import json
import os
import platform
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import ray  # pyright: ignore[reportMissingImports]

from ..errors import DenoiserError
from ..file_jobs import Job, name_results, read_source, write_result
from ..images.codecs import READ_EXTENSIONS
from ..images.frame import Frame
from ..models import DenoisingAutoencoder
from ..pipeline import Denoiser
from ..run_folder import run_folder
from .places import Place
from .shards import denoise_shard

SHARD = ".parquet"
ATTEMPTS = 4
"""How many workers may die of a job: Ray gives it to another one without end."""


def is_shard(name: str) -> bool:
    """Whether a file is a Parquet shard, by its name."""
    return name.lower().endswith(SHARD)


@ray.remote(num_cpus=0)
class Shared:
    """What the workers share: the network, and how often each job was begun."""

    def __init__(self, network: DenoisingAutoencoder):
        self._network = network
        self._begun: Counter[str] = Counter()

    def network(self) -> DenoisingAutoencoder:
        return self._network

    def begin(self, job: str) -> int:
        """The number of this attempt."""
        self._begun[job] += 1
        return self._begun[job]


class Worker:
    """Holds the network. Calls may come two at a time: one computes while the other reads or writes.

    Args:
        shared: An actor of :class:`Shared`: workers need neither the Hub nor the checkpoint's folder.
        source: Address of the pictures.
        output: Address of the results.
        denoiser: Options of :class:`Denoiser`.
        call: Options of its calls.
        extension: Of the results; None keeps each.
        column: Of shards, see :func:`denoise_shard`.
    """

    def __init__(
        self,
        shared: Any,
        source: str,
        output: str,
        denoiser: dict[str, Any],
        call: dict[str, Any],
        extension: str | None,
        column: str | None,
    ):
        self._denoiser = Denoiser(ray.get(shared.network.remote()), **denoiser)
        self._shared = shared
        self._source, self._output = Place(source), Place(output)
        self._call, self._extension, self._column = call, extension, column
        self._computing = threading.Lock()

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        """Do a job of ``row``; returns a report, as JSON. Nothing is raised: the others go on."""
        source, target, alternatives = json.loads(row["job"])
        started, report = time.time(), {"input": source, "worker": f"{platform.node()}/{os.getpid()}"}
        try:
            attempt: Any = ray.get(self._shared.begin.remote(row["job"]))
            if attempt > ATTEMPTS:
                raise MemoryError(f"{ATTEMPTS} workers died of it: it may need more memory than there is")
            with run_folder() as folder:
                if is_shard(source):
                    done = self._shard(source, target, folder)
                else:
                    done = self._file(source, (target, *alternatives), folder)
            report |= done | {"status": "written"}
        except (DenoiserError, ValueError, OSError) as error:
            report |= {"status": "failed", "reason": str(error)}
        except Exception as error:  # out of memory, a driver error: other pictures may succeed
            report |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
        return {"report": json.dumps(report | {"started": started, "seconds": round(time.time() - started, 3)})}

    def _file(self, name: str, targets: tuple[str, ...], folder: Path) -> dict[str, Any]:
        source = self._source.fetch(name, folder)
        results = Path(self._output.root) if self._output.is_local else folder / "out"
        first, *others = (results / target for target in targets)
        path, figures = self._denoise(Job(source, first, tuple(others)))
        written = path.relative_to(results).as_posix()
        if not self._output.is_local:
            self._output.store(path, written)
        return {"output": written} | figures

    def _denoise(self, job: Job) -> tuple[Path, dict[str, Any]]:
        """One file, as the command line does it; returns the file that was written, and figures."""
        frames, path, note = read_source(job, None, None, overwrite=True)
        with self._computing:
            results = [self._denoiser(frame, **self._call) for frame in frames]
        write_result(results, path, to_stream=False)
        figures: dict[str, Any] = {
            "megapixels": round(sum(frame.planes[..., 0].size for frame in frames) / 1e6, 6),
            "removed": round(float(np.mean([removed(*pair) for pair in zip(frames, results)])), 3),
        }
        return path, figures | ({"note": note} if note else {})

    def _shard(self, name: str, target: str, folder: Path) -> dict[str, Any]:
        figures: list[dict[str, Any]] = []

        def denoise(encoded: bytes, stated: str) -> tuple[bytes, str]:
            ending = Path(stated).suffix  # of the rest no file needs to be able to have it as its name
            source = folder / f"picture{ending if ending.lower() in READ_EXTENSIONS else '.png'}"
            source.write_bytes(encoded)
            (job,) = name_results([(source, folder / "out" / source.name)], self._extension)
            path, one = self._denoise(job)
            figures.append(one)
            result = path.read_bytes()
            path.unlink()
            return result, (stated.removesuffix(source.suffix) or path.stem) + path.suffix

        with self._source.open(name) as source:
            pictures, failures = denoise_shard(source, folder / "shard", self._column, denoise)
        self._output.store(folder / "shard", target)
        report: dict[str, Any] = {"output": target, "pictures": pictures}
        report["megapixels"] = round(sum(one["megapixels"] for one in figures), 6)
        if figures:
            report["removed"] = round(float(np.mean([one["removed"] for one in figures])), 3)
        return report | ({"failures": failures} if failures else {})


def removed(noisy: Frame, denoised: Frame) -> float:
    """The root mean square of what was taken away, 8-bit levels."""
    difference = denoised.planes.astype(np.float32) - noisy.planes.astype(np.float32)
    return float(np.sqrt(np.mean(np.square(difference)))) * 255 / noisy.maximum
