"""A checkpoint's files from the Hub: checked before they are fetched, verified after, and with errors to tell apart.

What is fetched is exactly config.json, model.safetensors and README.md, at one commit. Sizes are checked before a
byte is fetched; the config is checked in full before the weights are. Bytes are compared with the hash the Hub's
metadata gives for them (the client compares sizes only); a file that differs is deleted, fetched once more, and then
reported. When the Hub cannot be asked, a cached copy serves, compared with the hash it is filed under.
"""

import contextlib
import errno
import hashlib
import io
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors
from tqdm import tqdm

from .errors import CheckpointGated, CheckpointInvalid, CheckpointNotFound, DenoiserError, HubUnreachable

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
CONFIG_BYTES = 100_000  # a config is a few hundred bytes; anything large is not one of ours
CARD_BYTES = 1_000_000
WEIGHTS_BYTES = 500_000_000
"""Larger weights are refused unless ``max_bytes`` says otherwise: the largest denoisers in use are a quarter of it."""
TIMEOUT = 10.0
"""Seconds to wait for the Hub's answer about a repository that is not in the cache; 3 where it is."""

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)  # no fault of the network

# One lock for each repository that is being fetched; they go when nobody holds them.
_locks: weakref.WeakValueDictionary[tuple, threading.Lock] = weakref.WeakValueDictionary()
_locks_guard = threading.Lock()


@dataclass(frozen=True)
class Fetched:
    """A repository's files on disk.

    Attributes:
        folder: Holds config.json, model.safetensors and, if there is one, README.md.
        commit: The commit they are of.
        changed: When that commit was made, ISO date; "" if unknown.
        note: What a person should know, such as that the cache served because the Hub did not answer; or "".
    """

    folder: Path
    commit: str
    changed: str = ""
    note: str = ""


def fetch(
    repo_id: str,
    revision: str | None = None,
    *,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    max_bytes: int = WEIGHTS_BYTES,
    check: Callable[[Path], object] = lambda config: None,
    progress: Callable[[int, int], object] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Fetched:
    """The verified files of a checkpoint repository, from the Hub or its cache.

    Args:
        repo_id: "user/repo".
        revision: Branch, tag or commit.
        token: False asks anonymously, None uses the stored one.
        cache_dir: Instead of the Hub's usual cache.
        max_bytes: Refuse larger weights.
        check: Called with the path of config.json before the weights are fetched; raises if it does not fit.
        progress: Called with the bytes of the weights so far and in all.
        force_download: Fetch even what is cached.
        local_files_only: Do not ask the Hub.

    Raises:
        CheckpointNotFound: No such repository or revision, or it is private.
        CheckpointGated: The repository wants its users to ask for access.
        CheckpointInvalid: It is no checkpoint, too large, or arrives damaged twice.
        HubUnreachable: The Hub does not answer and the cache does not have it.
    """
    check_name(repo_id, revision)
    cache_dir = cache_dir and str(cache_dir)
    with _locks_guard:
        lock = _locks.setdefault((repo_id, cache_dir), threading.Lock())
    with lock:  # whoever asks for the same one meanwhile finds it cached
        cached = _cached(repo_id, revision, cache_dir)
        if local_files_only or huggingface_hub.constants.HF_HUB_OFFLINE:
            return _from_cache(repo_id, revision, cached, check, "not asked (offline mode)")
        try:
            with typed_errors(repo_id, revision, token):
                info = huggingface_hub.HfApi(token=token).model_info(
                    repo_id, revision=revision, files_metadata=True, timeout=3.0 if cached else TIMEOUT
                )
            return _from_hub(info, repo_id, revision, token, cache_dir, max_bytes, check, progress, force_download)
        except HubUnreachable as error:
            if not cached or force_download:
                raise
            return _from_cache(repo_id, revision, cached, check, reason(error.__cause__))


def _from_hub(info, repo_id, revision, token, cache_dir, max_bytes, check, progress, force) -> Fetched:
    files = {sibling.rfilename: sibling for sibling in info.siblings}
    limits = {CONFIG_FILE: CONFIG_BYTES, WEIGHTS_FILE: max_bytes, CARD_FILE: CARD_BYTES}
    if missing := [name for name in (CONFIG_FILE, WEIGHTS_FILE) if name not in files]:
        raise CheckpointInvalid(
            f"{repo_id} has no {' and no '.join(missing)}: it is not a denoiser checkpoint. (Only safetensors weights "
            "are read; a pickle is never opened.)"
        )
    for name, limit in limits.items():
        if name in files and (files[name].size or 0) > limit:
            size, most = files[name].size / 1e6, limit / 1e6
            raise CheckpointInvalid(f"{repo_id}: {name} has {size:,.1f} MB; more than {most:,.1f} MB is not fetched.")
    options = {"token": token, "cache_dir": cache_dir}

    def get(name: str, at: str | None, bar=None) -> Path:
        """One file, verified; damaged ones are fetched again, once."""
        for attempt in (1, 2):
            with typed_errors(repo_id, revision, token):
                try:
                    path = Path(
                        huggingface_hub.hf_hub_download(
                            repo_id, name, revision=at, force_download=force, tqdm_class=bar, **options
                        )
                    )
                except ValueError as error:  # what the client makes of an answer when it was told to force
                    raise error.__cause__ or error from None
                except Exception as error:
                    answered = isinstance(error, hub_errors.HfHubHTTPError | hub_errors.LocalEntryNotFoundError)
                    if attempt == 1 and is_network_error(error) and not answered:
                        continue  # a connection that was reset; the client itself goes on after a clean cut only
                    raise
            if matches(path, files[name]):
                return path
            remove(path)
        raise CheckpointInvalid(
            f"{repo_id}: {name} arrived damaged twice: its bytes are not those the Hub announces. The copies were "
            "deleted; try again later."
        )

    bar = _bar(progress) if progress else None
    # By the name asked for, so that the cache knows later, without the Hub, which commit that was.
    config = get(CONFIG_FILE, revision)
    if config.parent.name != info.sha:
        config = get(CONFIG_FILE, info.sha)  # a push in between
    check(config)
    weights = get(WEIGHTS_FILE, info.sha, bar)
    if CARD_FILE in files:
        get(CARD_FILE, info.sha)
    changed = info.last_modified.date().isoformat() if info.last_modified else ""
    return Fetched(weights.parent, info.sha, changed)


def _cached(repo_id: str, revision: str | None, cache_dir: str | None) -> dict[str, Path]:
    """The cached files of a revision, {} unless both that a checkpoint needs are there."""
    found = {}
    for name in (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE):
        path = huggingface_hub.try_to_load_from_cache(repo_id, name, cache_dir=cache_dir, revision=revision)
        if isinstance(path, str):
            found[name] = Path(path)
    return found if {CONFIG_FILE, WEIGHTS_FILE} <= found.keys() else {}


def _from_cache(repo_id, revision, cached, check, reason: str) -> Fetched:
    at = f" at revision {revision!r}" if revision else ""
    if not cached:
        raise HubUnreachable(
            f"{repo_id}{at} is not in the cache, and the Hub was {reason}. Check the network, or use a bundled "
            "checkpoint."
        )
    for name, path in cached.items():
        # The cache files a blob under its hash (by copy, without this name, where there are no symbolic links).
        if not matches(path, filed_under(path)):
            remove(path)
            raise CheckpointInvalid(f"{repo_id}: the cached {name} is damaged and was deleted; try again online.")
    check(cached[CONFIG_FILE])
    folder = cached[WEIGHTS_FILE].parent
    return Fetched(folder, folder.name, note=f"From the cache: the Hub was {reason}.")


@dataclass(frozen=True)
class _Hash:
    lfs: object | None = None
    blob_id: str | None = None
    sha256: str | None = None


def filed_under(path: Path) -> _Hash:
    """The hash in the name of the cache's blob behind ``path``."""
    name = Path(os.path.realpath(path)).name
    if re.fullmatch("[0-9a-f]{64}", name):
        return _Hash(sha256=name)
    return _Hash(blob_id=name if re.fullmatch("[0-9a-f]{40}", name) else None)


def matches(path: Path, expected) -> bool:
    """Whether a file has the hash that the Hub's metadata gives: sha256 for large files, git's for small ones."""
    sha256 = expected.lfs.sha256 if expected.lfs else getattr(expected, "sha256", None)
    with open(path, "rb") as file:
        if sha256:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        if expected.blob_id:
            content = file.read()
            return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == expected.blob_id
    return True


def remove(path: Path) -> None:
    """Delete a file from the cache: the name in the snapshot and the blob behind it."""
    blob = Path(os.path.realpath(path))
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


def _bar(progress: Callable[[int, int], object]) -> type[tqdm]:
    """A progress bar for the client that draws nothing and reports."""

    class Bar(tqdm):
        def __init__(self, *args, **kwargs):
            kwargs.pop("name", None)
            super().__init__(*args, **kwargs | {"disable": False, "file": io.StringIO()})

        def update(self, n=1):
            shown = super().update(n)
            if self.total:
                progress(int(self.n), int(self.total))
            return shown

    return Bar


def check_name(repo_id: str, revision: str | None) -> None:
    """Refuse, before anything is looked up, what cannot be a repository or revision: they name files in the cache."""
    try:
        huggingface_hub.utils.validate_repo_id(repo_id)
        fits = repo_id.count("/") == 1
    except hub_errors.HFValidationError:
        fits = False
    if not fits:
        raise CheckpointNotFound(f"{repo_id[:120]!r} cannot be a repository on the Hub: those are written user/name.")
    if revision is not None and (not re.fullmatch(r"\w[\w./-]{0,199}", revision) or ".." in revision):
        raise CheckpointNotFound(f"{revision[:120]!r} cannot be a revision: name a branch, a tag or a commit.")


@contextlib.contextmanager
def typed_errors(name: str, revision: str | None = None, token: str | bool | None = None) -> Iterator[None]:
    """huggingface_hub's errors as ours. The order matters: a gated repository is also a RepositoryNotFoundError.

    ``token=False`` words the messages for someone who cannot log in, such as the visitor of a Space.
    """
    at = f" at revision {revision!r}" if revision else ""
    try:
        yield
    except DenoiserError:
        raise
    except hub_errors.GatedRepoError as error:
        then = "log in with `hf auth login`" if token is not False else "use it on a machine where you are logged in"
        raise CheckpointGated(
            f"{name} is gated: ask for access at https://huggingface.co/{name}, then {then}."
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise CheckpointNotFound(
            f"{name} is on the Hub, but not{at}: check the branch, tag or commit on "
            f"https://huggingface.co/{name}/commits/main."
        ) from error
    except (hub_errors.RepositoryNotFoundError, hub_errors.HFValidationError) as error:
        then = ", or log in with `hf auth login`" if token is not False else "; private ones are not read here"
        raise CheckpointNotFound(
            f"There is no repository {name}{at} on the Hub, or it is private: check the spelling{then}."
        ) from error
    except hub_errors.LocalEntryNotFoundError as error:
        raise HubUnreachable(
            f"{name}{at} is not in the cache and the Hub could not be asked. Check the network, or use a bundled "
            "checkpoint."
        ) from error
    except hub_errors.EntryNotFoundError as error:
        raise CheckpointInvalid(f"{name}{at} lacks a file of a checkpoint.") from error
    except Exception as error:
        if isinstance(error, hub_errors.HfHubHTTPError) or is_network_error(error):
            raise HubUnreachable(
                f"The Hub did not deliver {name}{at}: it was {reason(error)}. Try again later, or use a bundled "
                "checkpoint."
            ) from error
        raise


def reason(error: BaseException | None) -> str:
    """Why the Hub could not serve, in words that follow "the Hub was"."""
    while error is not None:  # the client wraps what happened in an error of its own
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 429:
            return "asked too often (429)"
        if status:
            return f"not working (status {status})"
        if "Timeout" in type(error).__name__:
            return "too slow to answer"
        error = error.__cause__
    return "not reachable"


def is_network_error(error: BaseException) -> bool:
    """Whether the Hub could not be talked to.

    The client lets its HTTP library's errors through (httpx's or httpx2's, by version), which are no OSErrors.
    """
    if type(error).__module__.startswith("http"):
        return True
    return isinstance(error, OSError) and error.errno not in _DISK
