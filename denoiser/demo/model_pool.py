"""Checkpoints kept loaded for many visitors: a bounded number in bounded memory, the least recently used goes first.

Strangers name the checkpoints here. A name is therefore never tried as a folder, and what the host did not list is
asked for anonymously and cached apart: the host's token, and whatever it has fetched, serve the host's own list only.
"""

import contextlib
import dataclasses
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import numpy as np

from ..download.cache import delete_cached
from ..download.checkpoint_files import MAX_WEIGHTS_BYTES
from ..errors import CheckpointInvalid, CheckpointNotFound, DenoiserError, HubUnreachable
from ..hub.catalogue import Facts, facts_of, read_card
from ..hub.checkpoints import Checkpoint, bundled_checkpoints, find_checkpoint, find_on_hub, parse_name
from ..pipeline import MARGIN, TILE, Denoiser

SLOWEST = 20.0
"""Seconds a megapixel above which a checkpoint is refused: it would keep everyone else waiting."""
MOST_ACTIVATIONS = 3_000_000_000
"""Bytes of features, for one tile, above which a checkpoint is refused."""
FRESH = 600.0
"""Seconds for which a pulled checkpoint is used without asking the Hub whether it has changed."""
WORKERS = 12
WAITING = 40
"""Pulls at a time, and how many may wait for their turn."""
OF_SESSION, OF_ADDRESS = 3, WORKERS // 2
"""Pulls that one visitor may have under way, by session and by network address, so that others find a worker free."""


@dataclass(frozen=True)
class Visitor:
    """Who asks for a checkpoint; "" where that is not known."""

    session: str = ""
    address: str = ""


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


@dataclass
class Pull:
    """A checkpoint on its way; whoever asks for it meanwhile shares it.

    Attributes:
        future: Its result is the :class:`Loaded` checkpoint, or the error that kept it from loading.
        done: Bytes of the weights so far.
        total: Bytes of the weights; 0 until that is known.
        visitor: Who started it.
    """

    future: Future
    visitor: Visitor = Visitor()
    done: int = 0
    total: int = 0

    def progress(self, done: int, total: int) -> None:
        """Take note of how far it is."""
        self.done, self.total = done, total


class ModelPool:
    """Loaded checkpoints, shared by all threads.

    Args:
        trusted: Names the host lists: fetched with the host's token, into the usual cache.
        most: Checkpoints kept loaded.
        most_bytes: Memory that their weights may take together; the one in use stays in any case.
        max_bytes: Weights larger than this are not fetched.
        cache_dir: Where visitors' checkpoints are cached.
        cache_bytes: Disk space for them; when more is taken, those unused longest are deleted.
        computing: Held while a new checkpoint is tried out, so that it does not compete with what is being computed.
    """

    def __init__(
        self,
        trusted: tuple[str, ...] = (),
        most: int = 4,
        most_bytes: int = 2_000_000_000,
        max_bytes: int = MAX_WEIGHTS_BYTES,
        cache_dir: str | Path | None = None,
        cache_bytes: int = 4_000_000_000,
        computing: contextlib.AbstractContextManager | None = None,
    ):
        self.trusted, self.most, self.most_bytes, self.max_bytes = trusted, most, most_bytes, max_bytes
        self.cache_dir = Path(cache_dir or Path(huggingface_hub.constants.HF_HUB_CACHE).with_name("denoiser-visitors"))
        self.cache_bytes = cache_bytes
        self._computing = computing or threading.Lock()
        self._loaded: dict[str, Loaded] = {}  # the least recently used first
        self._asked: dict[str, float] = {}
        self._seen: dict[str, tuple[str, float]] = {}  # name -> the commit it was, and its speed here
        self._speeds: dict[object, float] = {}  # config -> seconds a megapixel: weights do not change them
        self._pulls: dict[str, Pull] = {}
        self._flying: dict[tuple[str, str], int] = {}  # repository and commit -> bytes that are being fetched
        self._lock, self._disk, self._loading = threading.Lock(), threading.Lock(), threading.Lock()
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="pull")

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
        """A checkpoint by its key, if it is loaded."""
        return self._loaded.get(name)

    def ready(self, name: str) -> Loaded | None:
        """A checkpoint if it is loaded and there is no need to ask the Hub about it."""
        key = self.key(name)
        present = self._take(key)
        fresh = present and (key in bundled_checkpoints() or time.monotonic() - self._asked.get(key, 0) < FRESH)
        return present if fresh else None

    def here(self, name: str) -> Loaded | None:
        """A checkpoint to compute with, from memory or else from the cache as it was last seen; the Hub is not asked.

        Raises:
            CheckpointNotFound: It cannot be a checkpoint's name.
        """
        key = self.key(name)
        if present := self._take(key):
            return present
        if key in self._seen or key in bundled_checkpoints():
            with contextlib.suppress(DenoiserError):  # only memory was short: no queue, no Hub
                present = self._load(self._find_here(key), key)
                self._put(key, present, asked=False)
                return present
        return None

    def get(self, name: str, fetch: bool = True) -> Loaded:
        """As :meth:`here`, or else from the Hub.

        Args:
            name: As for :meth:`pull`.
            fetch: Whether to wait for the Hub, if it comes to that.

        Raises:
            CheckpointNotFound: It is not here, and was not to be fetched.
            DenoiserError: As :meth:`pull`.
        """
        if present := self.here(name):
            return present
        if not fetch:
            raise CheckpointNotFound(f"{self.key(name)} is not loaded any more: choose it again.")
        return self.start(name).future.result()

    def pull(self, name: str) -> Loaded:
        """A checkpoint that someone chose: as the Hub has it now. Many asking at once share one download.

        Args:
            name: Bundled, "user/name", "user/name@revision" or the address of a page.

        Raises:
            CheckpointNotFound, CheckpointGated, CheckpointInvalid, HubUnreachable: Each says what to do next. What
                was loaded before stays loaded.
        """
        return self.ready(name) or self.start(name).future.result()

    def start(self, name: str, visitor: Visitor = Visitor()) -> Pull:
        """As :meth:`pull`, without waiting for it. ``visitor`` is who asks.

        Raises:
            CheckpointNotFound: It cannot be a checkpoint's name.
            HubUnreachable: Too many others are being pulled, for this visitor or for all.
        """
        key = self.key(name)
        with self._lock:
            if key in self._pulls:
                return self._pulls[key]
            if len(self._pulls) >= WORKERS + WAITING and key not in bundled_checkpoints():
                raise HubUnreachable("Too many checkpoints are being pulled at the moment. Try again in a minute.")
            mine = [other.visitor for other in self._pulls.values()]
            for field, most in (("session", OF_SESSION), ("address", OF_ADDRESS)):
                who = getattr(visitor, field)
                if who and sum(getattr(other, field) == who for other in mine) >= most:
                    raise HubUnreachable(
                        "Too many checkpoints are being pulled for you already. Try again when one of them is here."
                    )
            pull = self._pulls[key] = Pull(Future(), visitor)
        if key in bundled_checkpoints():  # what needs no Hub waits behind nobody who does
            threading.Thread(target=self._run, args=(key, pull), daemon=True).start()
        else:
            self._workers.submit(self._run, key, pull)
        return pull

    def _run(self, key: str, pull: Pull) -> None:
        try:
            result, error = self._pull(key, pull), None
        except BaseException as problem:
            result, error = None, problem
        with self._lock:
            del self._pulls[key]
            for flight in [flight for flight in self._flying if flight[0] == key]:
                del self._flying[flight]
        if error is None:
            pull.future.set_result(result)
        else:
            pull.future.set_exception(error)

    def _pull(self, key: str, pull: Pull) -> Loaded:
        present = self._take(key)
        try:
            found = self._find(key, pull)
        except HubUnreachable as error:
            if not present:
                raise
            with self._lock:
                self._asked[key] = time.monotonic()  # not at every visit while the Hub is away
            return dataclasses.replace(present, note=f"{error} The one loaded earlier goes on.")
        if not (present and present.denoiser.revision == found.revision):
            present = self._same(found)
        if present:
            loaded = dataclasses.replace(present, facts=dataclasses.replace(present.facts, name=key), note=found.note)
        else:
            loaded = self._load(found, key)
        self._put(key, loaded)
        return loaded

    def _same(self, found: Checkpoint) -> Loaded | None:
        """What is loaded already under another name for the same commit, such as another tag."""
        with self._lock:
            for name, loaded in self._loaded.items():
                if found.revision and (name.partition("@")[0], loaded.denoiser.revision) == (
                    found.name,
                    found.revision,
                ):
                    return loaded
        return None

    def _take(self, key: str) -> Loaded | None:
        with self._lock:
            present = self._loaded.pop(key, None)
            if present:
                self._loaded[key] = present  # now the most recently used
            return present

    def _put(self, key: str, loaded: Loaded, asked: bool = True) -> None:
        with self._lock:
            self._loaded.pop(key, None)
            self._loaded[key] = dataclasses.replace(loaded, note="")  # it is for whoever asked just now
            if asked:
                self._asked[key] = time.monotonic()
            self._seen.pop(key, None)
            self._seen[key] = loaded.denoiser.revision or "", loaded.seconds_per_megapixel
            while len(self._loaded) > 1 and (
                len(self._loaded) > self.most
                or sum(4 * one.facts.parameters for one in self._loaded.values()) > self.most_bytes
            ):
                self._loaded.pop(next(iter(self._loaded)))
            for known in (self._asked, self._seen):  # strangers may name thousands
                while len(known) > 1000:
                    known.pop(next(iter(known)))

    def _options(self, key: str) -> dict:
        return {} if key in self.trusted else {"token": False, "cache_dir": self.cache_dir}

    def _find(self, key: str, pull: Pull) -> Checkpoint:
        if key in bundled_checkpoints():
            return find_checkpoint(key)
        options = self._options(key)
        if key not in self.trusted:
            options["make_room"] = lambda commit, size: self._make_room(key, commit, size)
        return find_on_hub(key, max_bytes=self.max_bytes, progress=pull.progress, **options)

    def _find_here(self, key: str) -> Checkpoint:
        """The files as they were last seen, without asking anyone."""
        if key in bundled_checkpoints():
            return find_checkpoint(key)
        name, commit = key.partition("@")[0], self._seen[key][0]
        found = find_on_hub(name, commit, local_files_only=True, **self._options(key))
        return dataclasses.replace(found, note="")

    def _load(self, found: Checkpoint, key: str) -> Loaded:
        facts = dataclasses.replace(facts_of(found), name=key)
        tile = (TILE + 2 * MARGIN) ** 2
        if facts.activations * tile > MOST_ACTIVATIONS:
            size = facts.activations * tile / 1e9
            raise CheckpointInvalid(
                f"{found.name} is too large for this page: its features would take {size:.0f} GB of memory. Use it on "
                "a larger machine."
            )
        with self._loading:  # one at a time: their weights are in memory twice for a moment
            denoiser = Denoiser.from_checkpoint(found)
        commit, seconds = self._seen.get(key, ("", 0.0))
        if commit != (found.revision or "") or not seconds:
            seconds = self._try_out(denoiser, found.name)
        return Loaded(denoiser, facts, read_card(found), seconds, found.note)

    def _try_out(self, denoiser: Denoiser, name: str) -> float:
        """Seconds a megapixel on this machine.

        Raises:
            CheckpointInvalid: It is too slow, or what it computes is no picture. What is bundled is never too slow:
                there would be nothing to use instead, and the machine may only be busy.
        """
        config = denoiser.model.config
        sides = (64,) if config in self._speeds else (64, 512, 512)
        with self._computing:
            for side in sides:  # a look, then one call that sets the kernels up, then what the machine can do
                picture = np.full((side, side, 3), 128, np.uint8)
                started = time.perf_counter()
                denoiser(picture, 25)
                seconds = (time.perf_counter() - started) / (side * side / 1e6)
                # The first call has much to prepare.
                if seconds > SLOWEST * (10 if side == 64 else 1) and name not in bundled_checkpoints():
                    raise CheckpointInvalid(
                        f"{name} is too slow for this page: it takes more than {SLOWEST:.0f} s a megapixel here. Use "
                        "it on a faster machine."
                    )
        with self._lock:
            while len(self._speeds) >= 1000:
                self._speeds.pop(next(iter(self._speeds)))
            return self._speeds.setdefault(config, seconds)

    def _make_room(self, key: str, commit: str, size: int) -> None:
        """Delete the longest unused from the visitors' cache until what is about to be fetched fits its space.

        What is loaded or being fetched stays.
        """
        with self._disk:
            with self._lock:
                self._flying[key, commit] = size
                kept = {(name.partition("@")[0], at) for name, at in self._flying}
                kept |= {(name.partition("@")[0], one.denoiser.revision) for name, one in self._loaded.items()}
                needed = sum(self._flying.values())
            while True:
                try:
                    info = huggingface_hub.scan_cache_dir(self.cache_dir)
                except (huggingface_hub.CacheNotFound, OSError):
                    return
                going = [
                    (repo.last_accessed, revision.last_modified, repo, revision)
                    for repo in info.repos
                    for revision in repo.revisions
                    if (repo.repo_id, revision.commit_hash) not in kept
                ]
                if info.size_on_disk + needed <= self.cache_bytes or not going:
                    return
                _, _, repo, revision = min(going, key=lambda item: item[:2])
                _delete(repo, revision)


def _delete(repo: huggingface_hub.CachedRepoInfo, revision: huggingface_hub.CachedRevisionInfo) -> None:
    """Delete a revision's files, and its repository's folder if it was the last. (The client deletes by commit alone,
    whichever repository that is in.)"""
    others = {file.blob_path for other in repo.revisions if other is not revision for file in other.files}
    for file in revision.files:
        if file.blob_path in others:
            file.file_path.unlink(missing_ok=True)
        else:
            delete_cached(file.file_path)
    shutil.rmtree(repo.repo_path if len(repo.revisions) == 1 else revision.snapshot_path, ignore_errors=True)
