"""Measure a checkpoint.

    python -m train.evaluate color-small --data cbsd68 --sigma 15 25 50
    python -m train.evaluate photo --data nam25/clean --noisy nam25/noisy

The protocol is the literature's. The clean 8-bit picture / 255 gets Gaussian noise in float32, neither clipped nor
rounded; the output is clipped to [0, 1] and rounded to 8 bits; PSNR over all pixels and channels with peak 255, mean
over the pictures. The noise of picture i (sorted by path) is
``numpy.random.default_rng(i).standard_normal(shape, dtype=float32)``. A gray checkpoint gets ``convert("L")``.

With ``--noisy`` nothing is added: each picture of that folder is denoised as it is and compared with the picture of
the same name in ``--data``.
"""

import argparse
import contextlib
import hashlib
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from denoiser import Denoiser, DenoiserError
from denoiser.analysis.metrics import MEASURES
from denoiser.models import WEIGHTS_FILE
from denoiser.noise import add_noise

from .data.sources import Source, find_images, match_pairs
from .state import escape_unprintable, read_json, write_text

EVALUATION_FILE = "evaluation.json"
MEANS = ("noisy_psnr", "psnr", "noisy_ssim", "ssim", "noisy_edge_fidelity", "edge_fidelity")


def load_clean(source: Source, channels: int) -> np.ndarray:
    """A picture as float32 (H, W, 3) or (H, W), 8-bit values / 255."""
    return np.asarray(source.read(channels), dtype=np.float32) / 255


def processor_name() -> str:
    """The processor's name, as far as the system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine(device: torch.device) -> str:
    """What the times were taken on, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"{processor_name()}, {threads} thread{'s' if threads > 1 else ''}, torch {torch.__version__}"


def reset_peak_memory(device: torch.device) -> None:
    """Start a new count for :func:`peak_memory`, where the system allows it: on a GPU, and on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> float:
    """The peak memory since :func:`reset_peak_memory`, MB: of the device if it counts, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    with contextlib.suppress(OSError, TypeError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes on macOS, kilobytes elsewhere


def measure(denoiser: Denoiser, clean: np.ndarray, noisy: np.ndarray, sigma: float | None) -> dict[str, float]:
    """All figures of one picture; ``noisy`` may leave [0, 1]."""
    reset_peak_memory(denoiser.device)
    started = time.perf_counter()
    restored = denoiser(noisy, sigma)
    seconds = time.perf_counter() - started
    row = {"seconds_per_megapixel": seconds / (clean.shape[0] * clean.shape[1] / 1e6)}
    row["peak_memory_mb"] = peak_memory(denoiser.device)
    restored = np.rint(restored.clip(0, 1) * 255).astype(np.float32) / 255
    for name, metric in MEASURES.items():
        row |= {f"noisy_{name}": metric(clean, noisy), name: metric(clean, restored)}
    return row


def evaluate(
    denoiser: Denoiser,
    sources: list[Source],
    sigma: float | None = None,
    gray: bool = False,
    estimate: bool = False,
    noisy_sources: list[Source] | None = None,
) -> dict:
    """Measure one noise level, or pairs, over pictures.

    Args:
        denoiser: What to measure.
        sources: Clean pictures.
        sigma: Standard deviation of the noise to add, 8-bit units; None with pairs.
        gray: Measure on gray versions even if the checkpoint is for color.
        estimate: Let the denoiser estimate sigma instead of giving it.
        noisy_sources: Real noisy pictures, one for each clean one, instead of noise.

    Returns:
        The mean of every figure, the median ``seconds_per_megapixel``, the largest ``peak_memory_mb``, and ``images``:
        the figures of each picture by file name.
    """
    channels = 1 if gray else denoiser.model.config.channels
    names = [source.name for source in sources]
    if len(set(names)) < len(names):  # of several folders: add the folder's name
        names = [f"{source.path.parent.name}/{source.name}" for source in sources]
    if len(set(names)) < len(names):
        names = [f"{name} ({index + 1})" for index, name in enumerate(names)]
    images = {}
    for index, source in enumerate(tqdm(sources, "pairs" if sigma is None else f"sigma {sigma:g}", leave=False)):
        clean = load_clean(source, channels)
        if noisy_sources:
            noisy = load_clean(noisy_sources[index], channels)
            if noisy.shape != clean.shape:
                raise ValueError(f"the pair {source.name} differs in size: {noisy.shape}, {clean.shape}")
        else:
            noisy = add_noise(clean, "gaussian", seed=index, sigma=sigma)
        images[names[index]] = measure(denoiser, clean, noisy, None if estimate or noisy_sources else sigma)
    rows = images.values()
    result = {
        name: statistics.fmean(finite) if (finite := [row[name] for row in rows if np.isfinite(row[name])]) else None
        for name in MEANS
    }
    result["seconds_per_megapixel"] = statistics.median(row["seconds_per_megapixel"] for row in rows)
    result["peak_memory_mb"] = max(row["peak_memory_mb"] for row in rows)
    return result | {"images": images}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m train.evaluate", description="Measure a checkpoint.")
    parser.add_argument("checkpoint", help="a folder, a run's folder, a bundled name or user/repo")
    parser.add_argument(
        "--data", required=True, nargs="+", help="clean pictures: folders, tar files, hf://datasets/..."
    )
    parser.add_argument("--noisy", help="real noisy pictures, matched to --data by name")
    parser.add_argument("--sigma", type=float, nargs="+", default=[15, 25, 50], help="noise levels, 8-bit units")
    parser.add_argument("--gray", action="store_true", help="measure a color checkpoint on gray pictures")
    parser.add_argument("--estimate", action="store_true", help="let the denoiser estimate sigma")
    parser.add_argument("--self-ensemble", action="store_true", help="average over eight flips and turns")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--name", help="what to call the data set in the card (default: the folder's name)")
    parser.add_argument("--json", type=Path, help=f"write the figures here (a run's folder: its {EVALUATION_FILE})")
    return parser.parse_args(arguments)


def weights_hash(checkpoint: Path) -> str:
    """A hash of the weights in a checkpoint's folder."""
    return hashlib.sha256((checkpoint / WEIGHTS_FILE).read_bytes()).hexdigest()[:16]


def format_figure(figure: float | None, digits: int = 2) -> str:
    """A figure for a table; where no picture has one that is finite, "-"."""
    return "-" if figure is None else f"{figure:.{digits}f}"


HELD_OUT = "held-out photographs"
"""What a run's own validation pictures are called among its measurements."""


def name_of(places: Sequence[str], paired: bool) -> str:
    """What a data set is called, by where it is; a folder "clean" beside noisy ones by the folder around it."""
    names = []
    for place in (Path(one).resolve() for one in places):
        name = place.name if place.is_dir() else place.stem
        names.append(place.parent.name if paired and name == "clean" and place.parent.name else name)
    return " + ".join(names)


def save_measurements(path: Path, entries: list[dict]) -> None:
    """Add measurements to a JSON file, in place of earlier ones of the same data, level, dtype and settings."""

    def key(entry: dict) -> tuple:
        level = entry["sigma"] if entry["sigma"] is None else float(entry["sigma"])  # 15 and 15.0 are one level
        return level, *(entry.get(name, False) for name in ("dataset", "gray", "estimate", "self_ensemble", "dtype"))

    known = read_json(path) if path.exists() else []
    fresh = {key(entry): entry for entry in entries}
    kept = [entry for entry in known if key(entry) not in fresh]
    if others := [one for one in known if key(one) in fresh and one.get("pictures") != fresh[key(one)].get("pictures")]:
        name, count = others[0]["dataset"], others[0].get("pictures", "other")
        print(f"warning: this replaces what was measured on {count} pictures of {name}; --name keeps two apart")
    write_text(path, json.dumps(kept + entries, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse_arguments(arguments)
    escape_unprintable()
    name, output, weights = options.checkpoint, options.json, None
    run = Path(name)
    if (run / "checkpoint").is_dir():
        name, output = str(run / "checkpoint"), output or run / EVALUATION_FILE
        weights = weights_hash(run / "checkpoint")
    try:
        sources, noisy_sources = find_images(options.data), None
        if options.noisy:
            sources, noisy_sources = match_pairs(options.data, [options.noisy])
        if bad := [sigma for sigma in options.sigma if not 0 <= sigma <= 255]:
            raise ValueError(f"--sigma must be from 0 to 255, got {bad[0]:g}")
        denoiser = Denoiser.from_pretrained(
            name, device=options.device, dtype=options.dtype, self_ensemble=options.self_ensemble
        )
        denoiser(load_clean(sources[0], denoiser.model.config.channels), 25)  # the first call sets the kernels up
    except (DenoiserError, OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    dtype = str(denoiser.dtype).removeprefix("torch.")
    print(f"{options.checkpoint} on {len(sources)} pictures of {', '.join(map(str, options.data))}")
    print(f"{machine(denoiser.device)}, {dtype}\n")
    print("| sigma | noisy PSNR | PSNR | SSIM | edge fidelity | s/MP | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    entries = []
    for sigma in [None] if options.noisy else options.sigma:
        try:
            row = evaluate(denoiser, sources, sigma, options.gray, options.estimate, noisy_sources)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        print(
            f"| {'real' if sigma is None else f'{sigma:g}'} | {format_figure(row['noisy_psnr'])} "
            f"| {format_figure(row['psnr'])} | {format_figure(row['ssim'], 4)} "
            f"| {format_figure(row['edge_fidelity'], 3)} "
            f"| {row['seconds_per_megapixel']:.2f} | {row['peak_memory_mb']:.0f} |",
            flush=True,
        )
        about = {
            "dataset": options.name or name_of(options.data, bool(options.noisy)),
            "sigma": sigma,
            "gray": options.gray or denoiser.model.config.channels == 1,
            "estimate": options.estimate,
            "self_ensemble": options.self_ensemble,
            "pictures": len(sources),
            "dtype": dtype,
            "machine": machine(denoiser.device),
            "weights": weights,
        }
        entries.append(about | row)
    try:
        if output:
            save_measurements(output, entries)
    except (OSError, ValueError) as error:
        print(f"error: not written to {output}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
