"""Photographs of a data set on the Hub that is larger than the disk: streamed, a window of them at a time.

The `datasets` library reads the shards (parquet, or tar files in WebDataset's form) over the network, without storing
them. The photographs of a window lie in memory as all others do (:class:`~train.data.photographs.Photographs`); after
``steps`` steps the next window takes its place, which was read meanwhile. A step's number alone decides which window it
sees, and the position in the stream is part of the run's state: a run that resumes sees the same photographs. Only
while the Hub cannot be read, steps see the window before.
"""

import io
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch

from denoiser.download.client_errors import is_network_error
from denoiser.hub.card_text import HUB_PREFIX

from .photographs import Photographs
from .sources import Source, named

HELD_OUT = 16
"""Photographs at the beginning of the stream that are validated on and never trained on."""
PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds before a window is read again after the network failed: at first, and after several failures."""
INSTALL = "streaming needs the `datasets` library: pip install 'denoising-autoencoder[stream]', or pip install datasets"


@dataclass(frozen=True)
class StreamedSource(Source):
    """A picture whose file is in memory."""

    data: bytes = b""

    def stamp(self) -> tuple[int, int]:
        """Its size; it is as old as its data set."""
        return len(self.data), 0

    def open(self) -> io.BytesIO:
        """The bytes of the file, with its name."""
        return named(self.data, self.name)


@dataclass(frozen=True)
class Window:
    """A window of the stream.

    Attributes:
        number: Counted from the beginning of the run.
        position: Of the stream where the window begins, see ``datasets.IterableDataset.state_dict``.
        photographs: What it holds.
    """

    number: int
    position: dict[str, Any]
    photographs: Photographs


class PhotographStream:
    """The windows of a data set, one after the other; from its end on from the beginning again.

    Args:
        address: "hf://datasets/user/name".
        size: Photographs of a window.
        steps: Steps for which a window is used.
        make: Decodes pictures.
        state: Where an earlier call stopped, see :attr:`state`.

    Attributes:
        failure: Why no further window can be read, if it is not the network; None while they can.

    Raises:
        FileNotFoundError: There is no such data set, it has no shards, or ``datasets`` is not installed.
    """

    def __init__(
        self,
        address: str,
        size: int,
        steps: int,
        make: Callable[[list[Source]], Photographs],
        state: dict[str, Any] | None = None,
    ):
        self._address, self._size, self._steps, self._make = address, size, steps, make
        self._dataset = open_stream(address)
        self._beginning = self._dataset.state_dict()
        self.held_out: list[Source] = list(itertools.islice(self._examples(), HELD_OUT))
        self._iterator: Iterator[Source] = iter(())
        self._seek(None)
        self._reader, self._closed = ThreadPoolExecutor(1, "photographs"), threading.Event()
        self._failures, self.failure = 0, None
        self._current = self._read(state["window"], state["position"]) if state else self._read(0)
        self._next: Future[Window] = self._reader.submit(self._read, self._current.number + 1)

    @property
    def state(self) -> dict[str, Any]:
        """The window in use, and where it begins."""
        return {"window": self._current.number, "position": self._current.position}

    @property
    def photographs(self) -> Photographs:
        """The window in use."""
        return self._current.photographs

    @property
    def pixels(self) -> torch.Tensor:
        """The pixels of the window in use."""
        return self.photographs.pixels

    @property
    def skipped(self) -> list[str]:
        """What could not be read in the window in use, and why."""
        return self.photographs.skipped

    @property
    def unused(self) -> list[str]:
        """Names of what could not be read."""
        return self.photographs.unused

    def at(self, step: int) -> Photographs:
        """The photographs of a step; where those cannot be read, the ones at hand. Steps are asked for in order."""
        while self._current.number < step // self._steps and not self.failure:
            if self._failures and not self._next.done():
                break
            try:
                self._current = self._next.result()
            except Exception as error:  # of the Hub's client, of the HTTP library below it, of `datasets`
                if isinstance(error, OSError) or is_network_error(error):
                    self._try_again(error)
                else:
                    self.failure = error
            else:
                self._failures = 0
                self._next = self._reader.submit(self._read, self._current.number + 1)
        return self._current.photographs

    def _try_again(self, error: Exception) -> None:
        """Have the window read again after a pause, which grows."""
        if not self._failures:
            print(
                f"{self._address} cannot be read ({type(error).__name__}: {error}): trying again, with the photographs "
                "at hand meanwhile",
                file=sys.stderr,
            )
        pause = min(PAUSE * 2**self._failures, LONGEST_PAUSE)
        self._failures += 1
        self._next = self._reader.submit(self._read, self._current.number + 1, self._position, pause)

    def close(self) -> None:
        """End the reading ahead."""
        self._closed.set()
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _seek(self, position: dict[str, Any] | None) -> None:
        self._dataset.load_state_dict(position or self._beginning)
        self._iterator = self._examples()
        if position is None:
            for _ in itertools.islice(self._iterator, HELD_OUT):
                pass

    def _read(self, number: int, position: dict[str, Any] | None = None, pause: float = 0) -> Window:
        """The next window, or after a pause the one at ``position``."""
        if self._closed.wait(pause):
            return self._current  # nobody asks for another
        if position:
            self._seek(position)
        # Not asked for after seeking: the data set tells where it is only once it is read.
        self._position = position = position or self._dataset.state_dict()
        sources = list(itertools.islice(self._iterator, self._size))
        if len(sources) < self._size:  # the end of the data set: on from its beginning
            self._seek(None)
            sources += itertools.islice(self._iterator, self._size - len(sources))
        return Window(number, position, self._make(sources))

    def _examples(self) -> Iterator[Source]:
        for example in self._dataset:
            for value in example.values():
                if isinstance(value, dict) and value.get("bytes"):
                    name = Path(value.get("path") or "photograph").name
                    yield StreamedSource(Path(name), name, size=len(value["bytes"]), data=value["bytes"])


def open_stream(address: str) -> Any:
    """A data set of the Hub at its present commit, as an iterable whose pictures are not decoded.

    Raises:
        FileNotFoundError: See :class:`PhotographStream`.
    """
    try:
        import datasets
    except ImportError as error:
        raise FileNotFoundError(f"{address}: {INSTALL}") from error
    repo_id = address.removeprefix(HUB_PREFIX)
    api = huggingface_hub.HfApi()
    try:
        info = api.dataset_info(repo_id)
    except Exception as error:
        if not isinstance(error, huggingface_hub.errors.HfHubHTTPError | ValueError) and not is_network_error(error):
            raise
        raise FileNotFoundError(f"{address} cannot be read: {type(error).__name__}: {error}") from error
    names = sorted(sibling.rfilename for sibling in info.siblings or ())
    for form, end in (("parquet", ".parquet"), ("webdataset", ".tar")):
        if shards := [f"{HUB_PREFIX}{repo_id}@{info.sha}/{name}" for name in names if name.endswith(end)]:
            return datasets.load_dataset(form, data_files=shards, split="train", streaming=True).decode(False)
    raise FileNotFoundError(f"{address} has no shards to stream (.parquet or .tar files)")
