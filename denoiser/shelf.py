"""Checkpoints kept loaded for many visitors: a bounded number in bounded memory, the least recently used goes first.

Strangers name the checkpoints here. A name is therefore never tried as a folder, and what the host did not list is
asked for anonymously and cached apart: the host's token, and whatever it has fetched, serve the host's own list only.
"""

import dataclasses
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import numpy as np

from ._download import WEIGHTS_BYTES
from ._hub import Checkpoint, bundled_checkpoints, find_checkpoint, find_on_hub, parse_name
from .catalogue import Facts, facts_of, read_card
from .errors import CheckpointInvalid, DenoiserError, HubUnreachable
from .pipeline import Denoiser

SLOWEST = 30.0
"""Seconds a megapixel above which a checkpoint is refused: it would keep everyone else waiting."""
FRESH = 600.0
"""Seconds for which a pulled checkpoint is used without asking the Hub whether it has changed."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint ready for use.

    Attributes:
        denoiser: Shared by everyone who uses it.
        facts: For people to read.
        card: Its card's text.
        seconds_per_megapixel: Measured here.
    """

    denoiser: Denoiser
    facts: Facts
    card: str
    seconds_per_megapixel: float


class Shelf:
    """Loaded checkpoints, shared by all threads.

    Args:
        trusted: Names the host lists: fetched with the host's token, into the usual cache.
        most: Checkpoints kept loaded.
        most_bytes: Memory that their weights may take together; the one in use stays in any case.
        max_bytes: Weights larger than this are not fetched.
        cache_dir: Where visitors' checkpoints are cached.
        cache_bytes: Disk space for them; when more is taken, those unused longest are deleted.
    """

    def __init__(
        self,
        trusted: tuple[str, ...] = (),
        most: int = 4,
        most_bytes: int = 2_000_000_000,
        max_bytes: int = WEIGHTS_BYTES,
        cache_dir: str | Path | None = None,
        cache_bytes: int = 4_000_000_000,
    ):
        self.trusted, self.most, self.most_bytes, self.max_bytes = trusted, most, most_bytes, max_bytes
        self.cache_dir = Path(cache_dir or Path(huggingface_hub.constants.HF_HUB_CACHE).with_name("denoiser-visitors"))
        self.cache_bytes = cache_bytes
        self._loaded: dict[str, Loaded] = {}  # the least recently used first
        self._asked: dict[str, float] = {}
        self._commits: dict[str, str] = {}
        self._pulling: weakref.WeakValueDictionary[str, threading.Lock] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """What is loaded now."""
        return list(self._loaded)

    @staticmethod
    def key(name: str) -> str:
        """What people write -> the one name under which a checkpoint is kept.

        Raises:
            CheckpointNotFound: It cannot be a checkpoint's name.
        """
        name = str(name).strip()
        if name in bundled_checkpoints():
            return name
        repo_id, revision = parse_name(name)
        return repo_id + (f"@{revision}" if revision else "")

    def peek(self, name: str) -> Loaded | None:
        """A checkpoint if it is loaded."""
        return self._loaded.get(name)

    def get(self, name: str) -> Loaded:
        """A checkpoint to compute with: from memory, else from the cache as it was last seen, else from the Hub.

        Raises:
            DenoiserError: As :meth:`pull`.
        """
        key = self.key(name)
        return self._take(key) or self.pull(name, ask=key not in self._commits)

    def pull(self, name: str, progress: Callable[[int, int], object] | None = None, ask: bool = True) -> Loaded:
        """A checkpoint that someone chose: as the Hub has it now. Many asking at once share one download.

        Args:
            name: Bundled, "user/name", "user/name@revision" or the address of a page.
            progress: Called with the bytes of the weights so far and in all.
            ask: Whether to ask the Hub for changes where the cache would do.

        Raises:
            CheckpointNotFound, CheckpointGated, CheckpointInvalid, HubUnreachable: Each says what to do next. What
                was loaded before stays loaded.
        """
        key = self.key(name)
        with self._lock:
            mine = self._pulling.setdefault(key, threading.Lock())
        with mine:
            present = self._take(key)
            if present and time.monotonic() - self._asked[key] < FRESH:
                return present
            try:
                found = self._find(key, progress, ask)
            except HubUnreachable:
                if present:
                    return present
                raise
            if not present or present.denoiser.revision != found.revision:
                present = self._load(found, key)
            self._put(key, present)
            return present

    def _take(self, key: str) -> Loaded | None:
        with self._lock:
            present = self._loaded.pop(key, None)
            if present:
                self._loaded[key] = present  # now the most recently used
            return present

    def _put(self, key: str, loaded: Loaded) -> None:
        with self._lock:
            self._loaded.pop(key, None)
            self._loaded[key] = loaded
            self._asked[key] = time.monotonic()
            if loaded.denoiser.revision:
                self._commits[key] = loaded.denoiser.revision
            while len(self._loaded) > 1 and (
                len(self._loaded) > self.most
                or sum(4 * one.facts.parameters for one in self._loaded.values()) > self.most_bytes
            ):
                self._loaded.pop(next(iter(self._loaded)))

    def _find(self, key: str, progress, ask: bool) -> Checkpoint:
        if key in bundled_checkpoints():
            return find_checkpoint(key)
        options = {"max_bytes": self.max_bytes, "progress": progress}
        if key not in self.trusted:
            options |= {"token": False, "cache_dir": self.cache_dir}
        if not ask:
            try:  # it was here a moment ago, and only memory was short
                return find_on_hub(key.partition("@")[0], self._commits[key], local_files_only=True, **options)
            except DenoiserError:
                pass
        found = find_on_hub(key, **options)
        if key not in self.trusted:
            self._make_room(found)
        return found

    def _load(self, found: Checkpoint, key: str) -> Loaded:
        denoiser = Denoiser.from_checkpoint(found)
        facts = dataclasses.replace(facts_of(found), name=key)
        for side in (64, 512, 512):  # a look, then one call that sets the kernels up, then what the machine can do
            picture = np.full((side, side, 3), 128, np.uint8)
            started = time.perf_counter()
            denoiser(picture, 25)
            seconds = (time.perf_counter() - started) / (side * side / 1e6)
            if seconds > SLOWEST * (10 if side == 64 else 1):
                raise CheckpointInvalid(
                    f"{found.name} is too large for this machine: it takes more than {SLOWEST:.0f} s a megapixel here. "
                    "Use it on a faster one."
                )
        return Loaded(denoiser, facts, read_card(found), seconds)

    def _make_room(self, newest: Checkpoint) -> None:
        """Delete the longest unused from the visitors' cache until it fits its space again."""
        try:
            info = huggingface_hub.scan_cache_dir(self.cache_dir)
        except (huggingface_hub.CacheNotFound, OSError):
            return
        size = info.size_on_disk
        for repo in sorted(info.repos, key=lambda repo: repo.last_accessed):
            if size <= self.cache_bytes:
                break
            if repo.repo_id != newest.name:
                size -= repo.size_on_disk
                shutil.rmtree(repo.repo_path, ignore_errors=True)
