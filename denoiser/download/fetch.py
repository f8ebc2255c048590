"""Download the files of a checkpoint: checked before, verified after.

Only config.json, model.safetensors and README.md are downloaded, and what a caller asks for beside them, at one commit.
Sizes are checked before a byte is downloaded; the config is checked in full before the weights are. Bytes are compared
with the hash in the Hub's metadata (the client compares sizes only); a file that differs is deleted, downloaded once
more, and then reported. When the Hub does not answer, the cached copy is used, after it is compared with the hash in
its file name.
"""

import io
import re
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub_errors
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from tqdm import tqdm

from ..errors import CheckpointInvalid, CheckpointNotFound, HubUnreachable
from .cache import blob_hash, cached_files, cached_path, delete_cached, has_hash, record_ref
from .checkpoint_files import (
    CARD_FILE,
    CONFIG_FILE,
    MAX_CARD_BYTES,
    MAX_CONFIG_BYTES,
    MAX_WEIGHTS_BYTES,
    WEIGHTS_FILE,
)
from .client_errors import failure_reason, is_network_error, not_the_hub_message, translate_errors

TIMEOUT = 10.0
"""Seconds to wait for the Hub's answer about a repository that is not in the cache."""
TIMEOUT_IF_CACHED = 3.0
"""Seconds to wait for it if the repository is in the cache."""
RETRY_PAUSES = (0.2, 1.0, 3.0)
"""Seconds before a download is tried again after the connection was reset."""

# One lock for each repository, revision and cache that is being fetched. An entry is dropped when nobody holds its
# lock.
_locks: weakref.WeakValueDictionary[tuple, threading.Lock] = weakref.WeakValueDictionary()
_locks_guard = threading.Lock()


@dataclass(frozen=True)
class Fetched:
    """A repository's files on disk.

    Attributes:
        folder: Holds config.json, model.safetensors and, if the repository has one, README.md.
        commit: The commit they are of.
        last_modified: When that commit was made, ISO; "" if unknown.
        note: What the user should know, such as that the cached copy is used because the Hub did not answer; or "".
    """

    folder: Path
    commit: str
    last_modified: str = ""
    note: str = ""


def fetch(
    repo_id: str,
    revision: str | None = None,
    *,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    also: tuple[str, ...] = (),
    max_bytes: int = MAX_WEIGHTS_BYTES,
    check: Callable[[Path], object] = lambda config: None,
    make_room: Callable[[str, int], object] = lambda commit, size: None,
    progress: Callable[[int, int], object] | None = None,
    local_files_only: bool = False,
) -> Fetched:
    """The verified files of a checkpoint repository, from the Hub or its cache.

    Args:
        repo_id: "user/repo".
        revision: Branch, tag or commit.
        token: False asks anonymously, None uses the stored one.
        cache_dir: Instead of the Hub client's usual cache.
        also: Further files of the repository; it is invalid without them.
        max_bytes: Larger weights are refused.
        check: Called with the path of config.json before the weights are downloaded; raises if it is not valid.
        make_room: Called with the commit and the bytes to download, before a download.
        progress: Called with the bytes of the weights so far and in total.
        local_files_only: Do not ask the Hub.

    Raises:
        CheckpointNotFound: No such repository or revision, or it is private.
        CheckpointGated: The owner of the repository requires users to request access.
        CheckpointInvalid: It is not a checkpoint, is too large, or arrives damaged twice.
        HubUnreachable: The Hub does not answer and the files are not in the cache.
        DenoiserError: They cannot be written to the cache.
    """
    check_name(repo_id, revision)
    repository = _Repository(repo_id, revision, token, cache_dir and str(cache_dir), also)
    with _locks_guard:
        lock = _locks.setdefault((repo_id, revision, repository.cache_dir), threading.Lock())
    with lock:  # other threads that ask for the same repository then find it cached
        cached = cached_files(repo_id, revision, repository.cache_dir, also)
        if local_files_only or huggingface_hub.constants.HF_HUB_OFFLINE:
            return repository.from_cache(cached, check, "not asked (offline mode)")
        try:
            info = repository.ask(TIMEOUT_IF_CACHED if cached else TIMEOUT)
            found = repository.from_hub(info, max_bytes, check, make_room, progress)
        except HubUnreachable as error:
            if not cached:
                raise
            return repository.from_cache(cached, check, failure_reason(error.__cause__))
        record_ref(found.folder, found.commit, revision)
        return found


def check_name(repo_id: str, revision: str | None) -> None:
    """Refuse what cannot be a repository or revision, before it is looked up: both become file names in the cache.

    Raises:
        CheckpointNotFound: It cannot be one.
    """
    try:
        huggingface_hub.utils.validate_repo_id(repo_id)
        valid = repo_id.count("/") == 1
    except hub_errors.HFValidationError:
        valid = False
    if not valid:
        raise CheckpointNotFound(f"{repo_id[:120]!r} cannot be a repository on the Hub: those are written user/name.")
    if revision is not None and (not re.fullmatch(r"\w[\w./-]{0,199}", revision) or ".." in revision):
        raise CheckpointNotFound(f"{revision[:120]!r} cannot be a revision: name a branch, a tag or a commit.")


@dataclass(frozen=True)
class _Repository:
    """A repository at a revision, with the options of its download."""

    repo_id: str
    revision: str | None
    token: str | bool | None
    cache_dir: str | None
    also: tuple[str, ...]

    def ask(self, timeout: float) -> ModelInfo:
        """The Hub's metadata of the repository, checked: the client accepts any JSON as an answer."""
        with translate_errors(self.repo_id, self.revision, self.token):
            try:
                info = huggingface_hub.HfApi(token=self.token).model_info(
                    self.repo_id, revision=self.revision, files_metadata=True, timeout=timeout
                )
                if not _is_complete(info):
                    raise TypeError("a field is missing or of another type")
            except (hub_errors.HFValidationError, UnicodeEncodeError):
                raise
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise HubUnreachable(not_the_hub_message(self.repo_id, self.revision)) from error
        return info

    def from_hub(
        self,
        info: ModelInfo,
        max_bytes: int,
        check: Callable[[Path], object],
        make_room: Callable[[str, int], object],
        progress: Callable[[int, int], object] | None,
    ) -> Fetched:
        """The files at the commit of ``info``, downloaded where the cache lacks them; see :func:`fetch`."""
        files = {file.rfilename: file for file in info.siblings or ()}
        commit = info.sha or ""
        self._check_files(files, max_bytes)
        present = [name for name in (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, *self.also) if name in files]
        lacking = [name for name in present if not cached_path(self.repo_id, name, commit, self.cache_dir)]
        if lacking:
            # The client retries for half a minute when files are not available; a first request without retries fails
            # at once.
            address = huggingface_hub.hf_hub_url(self.repo_id, lacking[0], revision=commit)
            with translate_errors(self.repo_id, self.revision, self.token):
                huggingface_hub.get_hf_file_metadata(address, token=self.token, timeout=TIMEOUT)
            make_room(commit, sum(files[name].size or 0 for name in lacking))
        check(self._verified(files[CONFIG_FILE], commit))
        folder = self._verified(files[WEIGHTS_FILE], commit, _progress_bar(progress) if progress else None).parent
        for name in {CARD_FILE, *self.also} & files.keys():
            self._verified(files[name], commit)
        return Fetched(folder, commit, info.last_modified.date().isoformat() if info.last_modified else "")

    def from_cache(self, cached: dict[str, Path], check: Callable[[Path], object], reason: str) -> Fetched:
        """The cached files, verified; ``reason`` says why the Hub does not serve them."""
        at = f" at revision {self.revision!r}" if self.revision else ""
        if not cached:
            raise HubUnreachable(
                f"{self.repo_id}{at} is not in the cache, and the Hub was {reason}. Check the network, or use a "
                "bundled checkpoint."
            )
        for name, path in cached.items():
            if not has_hash(path, blob_hash(path)):
                delete_cached(path)
                raise CheckpointInvalid(
                    f"{self.repo_id}: the cached {name} is damaged and was deleted; try again online."
                )
        check(cached[CONFIG_FILE])
        folder = cached[WEIGHTS_FILE].parent
        return Fetched(folder, folder.name, note=f"From the cache: the Hub was {reason}.")

    def _check_files(self, files: dict[str, RepoSibling], max_bytes: int) -> None:
        if missing := [name for name in (CONFIG_FILE, WEIGHTS_FILE, *self.also) if name not in files]:
            raise CheckpointInvalid(
                f"{self.repo_id} has no {' and no '.join(missing)}: it is not a denoiser checkpoint. (Only safetensors "
                "weights are read; a pickle is never opened.)"
                if missing != list(self.also)
                else f"{self.repo_id} has no {' and no '.join(missing)}: export its checkpoint, or ask its owner to."
            )
        limits = {CONFIG_FILE: MAX_CONFIG_BYTES, WEIGHTS_FILE: max_bytes, CARD_FILE: MAX_CARD_BYTES}
        limits |= dict.fromkeys(self.also, 4 * max_bytes)  # weights may be stored in half the precision
        for name, limit in limits.items():
            size = (files[name].size or 0) if name in files else 0
            if size > limit:
                raise CheckpointInvalid(
                    f"{self.repo_id}: {name} has {size / 1e6:,.1f} MB; more than {limit / 1e6:,.1f} MB is not fetched."
                )

    def _verified(self, file: RepoSibling, commit: str, progress_bar: type[tqdm] | None = None) -> Path:
        """One file of the commit, verified; a damaged one is downloaded again, once."""
        for _ in range(2):
            path = self._download(file.rfilename, commit, progress_bar)
            if has_hash(path, _expected_hash(file)):
                return path
            delete_cached(path)
        raise CheckpointInvalid(
            f"{self.repo_id}: {file.rfilename} arrived damaged twice: its bytes do not have the hash that the Hub "
            "states. The copies were deleted; try again later."
        )

    def _download(self, name: str, commit: str, progress_bar: type[tqdm] | None) -> Path:
        """One file of the commit. After a connection reset it is tried again; the client resumes after a clean cut."""
        for pause in (*RETRY_PAUSES, None):
            with translate_errors(self.repo_id, self.revision, self.token):
                try:
                    return Path(
                        huggingface_hub.hf_hub_download(
                            self.repo_id,
                            name,
                            revision=commit,
                            token=self.token,
                            cache_dir=self.cache_dir,
                            tqdm_class=progress_bar,
                        )
                    )
                except RuntimeError as error:  # what its Xet transfer raises when it cannot connect
                    raise HubUnreachable(f"The Hub did not deliver {self.repo_id}: {error}"[:300]) from error
                except Exception as error:
                    answered = isinstance(error, hub_errors.HfHubHTTPError | hub_errors.LocalEntryNotFoundError)
                    if pause is None or answered or not is_network_error(error):
                        raise
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


def _is_complete(info: ModelInfo) -> bool:
    """Whether metadata has the fields that are used, by type; raises what their absence raises."""
    return bool(re.fullmatch("[0-9a-f]{40}", info.sha or "")) and all(
        isinstance(file.rfilename, str)
        and isinstance(file.size, int | None)
        and isinstance(_expected_hash(file), str | None)
        for file in info.siblings or ()
    )


def _expected_hash(file: RepoSibling) -> str | None:
    """The hash in the Hub's metadata of a file: SHA-256 for large files, git's SHA-1 for small ones."""
    return file.lfs.sha256 if file.lfs else file.blob_id


def _progress_bar(progress: Callable[[int, int], object]) -> type[tqdm]:
    """A tqdm class for the client that draws nothing and calls ``progress``."""

    class ProgressBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any):
            kwargs.pop("name", None)
            super().__init__(*args, **kwargs | {"disable": False, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            displayed = super().update(n)
            if self.total:
                progress(int(self.n), int(self.total))
            return displayed

    return ProgressBar
