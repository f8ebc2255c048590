"""Photographs of a data set on the Hub that is larger than the disk: streamed, a window of them at a time.

The `datasets` library reads the shards (parquet, or tar files in WebDataset's form) over the network, without storing
them. The photographs of a window lie in memory as all others do (:class:`~train.data.photographs.Photographs`); after
``steps`` steps the next window takes its place, which was read meanwhile. A step's number alone decides which window it
sees, and the position in the stream is part of the run's state: a run that resumes sees the same photographs.
"""

import itertools
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
from .sources import Source

HELD_OUT = 16
"""Photographs at the beginning of the stream that are validated on and never trained on."""
INSTALL = "streaming needs the `datasets` library: pip install 'denoising-autoencoder[stream]', or pip install datasets"


@dataclass(frozen=True)
class StreamedSource(Source):
    """A picture whose file is in memory."""

    data: bytes = b""

    def stamp(self) -> tuple[int, int]:
        """Its size; it is as old as its data set."""
        return len(self.data), 0

    def content(self) -> bytes:
        """The bytes of the file."""
        return self.data


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
        self._size, self._steps, self._make = size, steps, make
        self._dataset = open_stream(address)
        self._beginning = self._dataset.state_dict()
        self.held_out: list[Source] = list(itertools.islice(self._examples(), HELD_OUT))
        self._iterator: Iterator[Source] = iter(())
        self._seek(state["position"] if state else None)
        self._reader = ThreadPoolExecutor(1, "photographs")
        self._current = self._read(state["window"] if state else 0)
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
        """The photographs of a step. Steps are asked for in order."""
        while self._current.number < step // self._steps:
            self._current = self._next.result()
            self._next = self._reader.submit(self._read, self._current.number + 1)
        return self._current.photographs

    def close(self) -> None:
        """End the reading ahead."""
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _seek(self, position: dict[str, Any] | None) -> None:
        self._dataset.load_state_dict(position or self._beginning)
        self._iterator = self._examples()
        if position is None:
            for _ in itertools.islice(self._iterator, HELD_OUT):
                pass

    def _read(self, number: int) -> Window:
        position = self._dataset.state_dict()
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
