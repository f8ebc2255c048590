"""Checkpoints kept loaded for many visitors: a bounded number in bounded memory, the least recently used goes first.

Strangers name the checkpoints here. A name is therefore never tried as a folder, and what the host did not list is
asked for anonymously and cached apart: the host's token, and whatever it has fetched, serve the host's own list only.
"""

import contextlib
import dataclasses
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..download.checkpoint_files import MAX_WEIGHTS_BYTES
from ..errors import CheckpointInvalid, CheckpointNotFound, DenoiserError, HubUnreachable
from ..hub.checkpoints import Checkpoint, bundled_checkpoints, find_bundled, find_on_hub, parse_name
from ..hub.facts import Facts, facts_of, read_card
from ..pipeline import MARGIN, TILE, Denoiser
from .compute_gate import ComputeGate
from .pulls import Pull, Pulls, Visitor
from .thread_teams import release_team
from .visitor_cache import VisitorCache
from .zero_gpu import Compute, ZeroGpuDenoiser

MAX_SECONDS_PER_MEGAPIXEL = 20.0
"""A slower checkpoint is refused: it would keep everyone else waiting."""
MAX_ACTIVATION_BYTES = 3_000_000_000
"""A checkpoint with more bytes of features, for one tile, is refused."""
FRESH_SECONDS = 600.0
"""How long a pulled checkpoint is used without asking the Hub whether it has changed."""
MAX_REMEMBERED = 1000
"""Names, and configurations, of which something is kept beside what is loaded: strangers may name thousands."""


def checkpoint_key(name: str) -> str:
    """What people write -> the one name under which a checkpoint is kept.

    Raises:
        CheckpointNotFound: It cannot be a checkpoint's name.
    """
    name = str(name).strip()
    if name in bundled_checkpoints():
        return name
    repo_id, revision = parse_name(name)
    return repo_id + (f"@{revision}" if revision else "")


@dataclass(frozen=True)
class Loaded:
    """A checkpoint ready for use.

    Attributes:
        denoiser: Shared by everyone who uses it.
        facts: For people to read.
        card: Its card's text.
        seconds_per_megapixel: Measured here.
        note: What a person should know, such as that the Hub did not answer; "" if there is nothing to say.
    """

    denoiser: Denoiser
    facts: Facts
    card: str
    seconds_per_megapixel: float
    note: str = ""

    def seconds(self, height: int, width: int) -> float:
        """What a picture takes here, by the pixels that are computed for it."""
        return self.denoiser.computed_pixels(height, width) / 1e6 * self.seconds_per_megapixel


class ModelPool:
    """Loaded checkpoints, shared by all threads.

    Args:
        trusted: Names the host lists: fetched with the host's token, into the usual cache.
        max_loaded: Checkpoints kept loaded.
        max_memory_bytes: Memory that their weights may take together; the one in use stays in any case.
        max_weights_bytes: Weights larger than this are not fetched.
        cache_folder: Where visitors' checkpoints are cached.
        max_cache_bytes: Disk space for them; when more is taken, those unused longest are deleted.
        gate: Gives a turn in which a new checkpoint is tried out, so that it does not compete with what is computed.
        zero_gpu: What computes on a ZeroGPU Space. Checkpoints are tried out on the processor there, too: that time
            bounds what they may take.
    """

    def __init__(
        self,
        trusted: tuple[str, ...] = (),
        max_loaded: int = 4,
        max_memory_bytes: int = 2_000_000_000,
        max_weights_bytes: int = MAX_WEIGHTS_BYTES,
        cache_folder: str | Path | None = None,
        max_cache_bytes: int = 4_000_000_000,
        gate: ComputeGate | None = None,
        zero_gpu: Compute | None = None,
    ):
        self.trusted, self.max_loaded, self.max_memory_bytes = trusted, max_loaded, max_memory_bytes
        self.max_weights_bytes = max_weights_bytes
        self.cache = VisitorCache(cache_folder, max_cache_bytes, self._in_use)
        self._pulls: Pulls[Loaded] = Pulls(self._pull)
        self._gate = gate or ComputeGate()
        self._zero_gpu = zero_gpu
        self._loaded: dict[str, Loaded] = {}  # the least recently used first
        self._checked_at: dict[str, float] = {}  # when the Hub was asked
        self._seen: dict[str, tuple[str, float]] = {}  # name -> the commit it was, and its speed here
        self._speeds: dict[object, float] = {}  # config -> seconds a megapixel: weights do not change them
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def names(self) -> list[str]:
        """What is loaded now."""
        return list(self._loaded)

    def get_fresh(self, name: str) -> Loaded | None:
        """A checkpoint if it is loaded and there is no need to ask the Hub about it."""
        key = checkpoint_key(name)
        loaded = self._take(key)
        age = time.monotonic() - self._checked_at.get(key, -math.inf)
        return loaded if loaded and (key in bundled_checkpoints() or age < FRESH_SECONDS) else None

    def get_local(self, name: str) -> Loaded | None:
        """A checkpoint to compute with, from memory or else from the cache as it was last seen; the Hub is not asked.

        Raises:
            CheckpointNotFound: It cannot be a checkpoint's name.
        """
        key = checkpoint_key(name)
        if loaded := self._take(key):
            return loaded
        if key in self._seen or key in bundled_checkpoints():
            with contextlib.suppress(DenoiserError):  # only memory was short: no queue, no Hub
                loaded = self._load(self._find_local(key), key)
                self._put(key, loaded, checked=False)
                return loaded
        return None

    def get(self, name: str, fetch: bool = True) -> Loaded:
        """As :meth:`get_local`, or else from the Hub.

        Args:
            name: As for :meth:`pull`.
            fetch: Whether to wait for the Hub, if it comes to that.

        Raises:
            CheckpointNotFound: It is not here, and was not to be fetched.
            DenoiserError: As :meth:`pull`.
        """
        if loaded := self.get_local(name):
            return loaded
        if not fetch:
            raise CheckpointNotFound(f"{checkpoint_key(name)} is not loaded any more: choose it again.")
        return self.start_pull(name).future.result()

    def pull(self, name: str) -> Loaded:
        """A checkpoint that someone chose: as the Hub has it now. Many asking at once share one download.

        Args:
            name: Bundled, "user/name", "user/name@revision" or the address of a page.

        Raises:
            CheckpointNotFound, CheckpointGated, CheckpointInvalid, HubUnreachable: Each says what to do next. What
                was loaded before stays loaded.
        """
        return self.get_fresh(name) or self.start_pull(name).future.result()

    def start_pull(self, name: str, visitor: Visitor = Visitor()) -> Pull[Loaded]:
        """As :meth:`pull`, without waiting for it. ``visitor`` is who asks.

        Raises:
            CheckpointNotFound: It cannot be a checkpoint's name.
            HubUnreachable: Too many others are being pulled, for this visitor or for all.
        """
        key = checkpoint_key(name)
        return self._pulls.start(key, visitor, bundled=key in bundled_checkpoints())

    def _pull(self, key: str, pull: Pull[Loaded]) -> Loaded:
        """What a pull does, in its thread."""
        try:
            loaded = self._take(key)
            try:
                found = self._find(key, pull)
            except HubUnreachable as error:
                if not loaded:
                    raise
                with self._lock:
                    self._checked_at[key] = time.monotonic()  # not at every visit while the Hub is away
                return dataclasses.replace(loaded, note=f"{error} The one loaded earlier goes on.")
            if not (loaded and loaded.denoiser.revision == found.revision):
                loaded = self._same_commit(found)
            if loaded:
                facts = dataclasses.replace(loaded.facts, name=key)
                loaded = dataclasses.replace(loaded, facts=facts, note=found.note)
            else:
                loaded = self._load(found, key)
            self._put(key, loaded)
            return loaded
        finally:
            self.cache.fetched(key)

    def _same_commit(self, found: Checkpoint) -> Loaded | None:
        """What is loaded already under another name for the same commit, such as another tag."""
        with self._lock:
            for name, loaded in self._loaded.items():
                loaded_commit = name.partition("@")[0], loaded.denoiser.revision
                if found.revision and loaded_commit == (found.name, found.revision):
                    return loaded
        return None

    def _in_use(self) -> set[tuple[str, str | None]]:
        """Repository and commit of what is loaded."""
        with self._lock:
            return {(name.partition("@")[0], loaded.denoiser.revision) for name, loaded in self._loaded.items()}

    def _take(self, key: str) -> Loaded | None:
        with self._lock:
            loaded = self._loaded.pop(key, None)
            if loaded:
                self._loaded[key] = loaded  # now the most recently used
            return loaded

    def _put(self, key: str, loaded: Loaded, checked: bool = True) -> None:
        with self._lock:
            before = self._loaded.pop(key, None)
            if before and before.denoiser.revision != loaded.denoiser.revision:  # for those who chose it
                pinned = f"{key.partition('@')[0]}@{before.denoiser.revision}"
                self._loaded[pinned] = dataclasses.replace(before, facts=dataclasses.replace(before.facts, name=pinned))
            self._loaded[key] = dataclasses.replace(loaded, note="")  # it is for whoever asked just now
            if checked:
                self._checked_at.pop(key, None)
                self._checked_at[key] = time.monotonic()
            self._seen.pop(key, None)
            self._seen[key] = loaded.denoiser.revision or "", loaded.seconds_per_megapixel
            while len(self._loaded) > 1 and (
                len(self._loaded) > self.max_loaded
                or sum(4 * (one.facts.parameters or 0) for one in self._loaded.values()) > self.max_memory_bytes
            ):
                self._loaded.pop(next(iter(self._loaded)))
            for remembered in (self._checked_at, self._seen):
                while len(remembered) > MAX_REMEMBERED:
                    remembered.pop(next(iter(remembered)))

    def _hub_options(self, key: str) -> dict:
        return {} if key in self.trusted else {"token": False, "cache_dir": self.cache.folder}

    def _find(self, key: str, pull: Pull[Loaded]) -> Checkpoint:
        if key in bundled_checkpoints():
            return find_bundled(key)
        options = self._hub_options(key)
        if key not in self.trusted:
            options["make_room"] = lambda commit, size: self.cache.make_room(key, commit, size)
        return find_on_hub(key, max_bytes=self.max_weights_bytes, progress=pull.progress, **options)

    def _find_local(self, key: str) -> Checkpoint:
        """The files as they were last seen, without asking anyone."""
        if key in bundled_checkpoints():
            return find_bundled(key)
        name, commit = key.partition("@")[0], self._seen[key][0]
        found = find_on_hub(name, commit, local_files_only=True, **self._hub_options(key))
        return dataclasses.replace(found, note="")

    def _load(self, found: Checkpoint, key: str) -> Loaded:
        facts = dataclasses.replace(facts_of(found), name=key)
        activation_bytes = facts.activation_bytes * (TILE + 2 * MARGIN) ** 2
        if activation_bytes > MAX_ACTIVATION_BYTES:
            raise CheckpointInvalid(
                f"{found.name} is too large for this page: its features would take {activation_bytes / 1e9:.0f} GB of "
                "memory. Use it on a larger machine."
            )
        with self._loading:  # one at a time: their weights are in memory twice for a moment
            denoiser = Denoiser.from_checkpoint(found, "cpu" if self._zero_gpu else "auto")
            release_team()
        commit, seconds = self._seen.get(key, ("", 0.0))
        if commit != (found.revision or "") or not seconds:
            seconds = self._measure_speed(denoiser, found.name)
        if self._zero_gpu:
            denoiser = ZeroGpuDenoiser(denoiser, self._zero_gpu)
        return Loaded(denoiser, facts, read_card(found), seconds, found.note)

    def _measure_speed(self, denoiser: Denoiser, name: str) -> float:
        """Seconds a megapixel on this machine.

        Raises:
            CheckpointInvalid: It is too slow, or what it computes is no picture. What is bundled is never too slow:
                there would be nothing to use instead, and the machine may only be busy.
        """
        config = denoiser.model.config
        sides = (64,) if config in self._speeds else (64, 256, 256)
        seconds = 0.0
        with self._gate.turn():
            for side in sides:  # a look, then one call that sets the kernels up, then what the machine can do
                picture = np.full((side, side, 3), 128, np.uint8)
                started, processor_started = time.perf_counter(), time.process_time()
                denoiser(picture, 25)
                seconds = (time.perf_counter() - started) / (side * side / 1e6)
                # What decides is the time that its cores spend on it: other processes may keep them busy.
                computed = (time.process_time() - processor_started) / torch.get_num_threads() / (side * side / 1e6)
                limit = MAX_SECONDS_PER_MEGAPIXEL * (10 if side == 64 else 1)  # the first call has much to prepare
                if computed > limit and name not in bundled_checkpoints():
                    raise CheckpointInvalid(
                        f"{name} is too slow for this page: it takes more than {MAX_SECONDS_PER_MEGAPIXEL:.0f} s a "
                        "megapixel here. Use it on a faster machine."
                    )
        with self._lock:
            while len(self._speeds) >= MAX_REMEMBERED:
                self._speeds.pop(next(iter(self._speeds)))
            return self._speeds.setdefault(config, seconds)
