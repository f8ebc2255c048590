"""The cache on disk of what visitors name, of bounded size: what was unused longest is deleted."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import huggingface_hub

from ..download.cache import delete_cached


class VisitorCache:
    """A cache folder of huggingface_hub's layout with a bound on its size.

    Args:
        folder: Where it lies; by default beside the Hub's usual cache.
        max_bytes: Space that it may take.
        in_use: Gives the (repository, commit) pairs that are loaded; they stay.
    """

    def __init__(self, folder: str | Path | None, max_bytes: int, in_use: Callable[[], set[tuple[str, str | None]]]):
        usual = Path(huggingface_hub.constants.HF_HUB_CACHE)
        self.folder = Path(folder or usual.with_name("denoiser-visitors"))
        self.max_bytes = max_bytes
        self._in_use = in_use
        self._expected: dict[tuple[str, str], int] = {}  # checkpoint's key and commit -> bytes that are being fetched
        self._lock, self._scan_lock = threading.Lock(), threading.Lock()

    def make_room(self, key: str, commit: str, size: int) -> None:
        """Delete the longest unused until what is about to be fetched fits; what is loaded or being fetched stays."""
        with self._scan_lock:
            with self._lock:
                self._expected[key, commit] = size
                kept = {(name.partition("@")[0], at) for name, at in self._expected}
                needed = sum(self._expected.values())
            kept |= self._in_use()
            while True:
                try:
                    info = huggingface_hub.scan_cache_dir(self.folder)
                except (huggingface_hub.CacheNotFound, OSError):
                    return
                deletable = [
                    (repo.last_accessed, revision.last_modified, repo, revision)
                    for repo in info.repos
                    for revision in repo.revisions
                    if (repo.repo_id, revision.commit_hash) not in kept
                ]
                if info.size_on_disk + needed <= self.max_bytes or not deletable:
                    return
                _, _, repo, revision = min(deletable, key=lambda item: item[:2])
                _delete(repo, revision)

    def fetched(self, key: str) -> None:
        """Take note that a checkpoint is here, or will not come."""
        with self._lock:
            for expected in [expected for expected in self._expected if expected[0] == key]:
                del self._expected[expected]


def _delete(repo: huggingface_hub.CachedRepoInfo, revision: huggingface_hub.CachedRevisionInfo) -> None:
    """Delete a revision's files, and its repository's folder if it was the last.

    The client deletes by commit alone, whichever repository that is in.
    """
    others = {file.blob_path for other in repo.revisions if other is not revision for file in other.files}
    for file in revision.files:
        if file.blob_path in others:
            file.file_path.unlink(missing_ok=True)
        else:
            delete_cached(file.file_path)
    shutil.rmtree(repo.repo_path if len(repo.revisions) == 1 else revision.snapshot_path, ignore_errors=True)
