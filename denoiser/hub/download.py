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
import json
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors
from tqdm import tqdm

from ..errors import CheckpointGated, CheckpointInvalid, CheckpointNotFound, DenoiserError, HubUnreachable

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
CONFIG_BYTES = 100_000  # a config is a few hundred bytes; anything large is not one of ours
CARD_BYTES = 1_000_000
WEIGHTS_BYTES = 500_000_000
"""Larger weights are refused unless ``max_bytes`` says otherwise: the largest denoisers in use are a quarter of it."""
TIMEOUT = 10.0
"""Seconds to wait for the Hub's answer about a repository that is not in the cache."""
PATIENCE = 3.0
"""Seconds where it is."""

PAUSES = (0.2, 1.0, 3.0)
"""Seconds before a file is asked for again when the connection was reset."""

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
    make_room: Callable[[str, int], object] = lambda commit, size: None,
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
        make_room: Called with the commit and the bytes that will be fetched, before they are, if any are.
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
        lock = _locks.setdefault((repo_id, revision, cache_dir), threading.Lock())
    with lock:  # whoever asks for the same one meanwhile finds it cached
        cached = _cached(repo_id, revision, cache_dir)
        if local_files_only or huggingface_hub.constants.HF_HUB_OFFLINE:
            return _from_cache(repo_id, revision, cached, check, "not asked (offline mode)")
        try:
            info = _model_info(repo_id, revision, token, PATIENCE if cached else TIMEOUT)
            found = _from_hub(
                info, repo_id, revision, token, cache_dir, max_bytes, check, make_room, progress, force_download
            )
        except HubUnreachable as error:
            if not cached or force_download:
                raise
            return _from_cache(repo_id, revision, cached, check, reason(error.__cause__))
        _remember(found, revision)
        return found


def _model_info(repo_id: str, revision: str | None, token: str | bool | None, timeout: float):
    """What the Hub says of a repository, if it is the Hub that says it: the client takes any JSON for its answer."""
    with typed_errors(repo_id, revision, token):
        try:
            info = huggingface_hub.HfApi(token=token).model_info(
                repo_id, revision=revision, files_metadata=True, timeout=timeout
            )
            genuine = re.fullmatch("[0-9a-f]{40}", info.sha) and all(
                isinstance(file.rfilename, str)
                and isinstance(file.size, int | None)
                and isinstance(announced(file), str | None)
                for file in info.siblings
            )
        except hub_errors.HFValidationError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise HubUnreachable(_not_the_hub(repo_id, revision)) from error
    if not genuine:
        raise HubUnreachable(_not_the_hub(repo_id, revision))
    return info


def _not_the_hub(name: str, revision: str | None) -> str:
    at = f" at revision {revision!r}" if revision else ""
    return (
        f"What answered for {name}{at} was not the Hub: a login page of the network, perhaps. Check it in a browser, "
        "or use a bundled checkpoint."
    )


def _from_hub(info, repo_id, revision, token, cache_dir, max_bytes, check, make_room, progress, force) -> Fetched:
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
    present = [name for name in limits if name in files]
    lacking = [name for name in present if force or not _cached_path(repo_id, name, info.sha, cache_dir)]
    if lacking:
        # The client retries for half a minute when files are not to be had; a first look without retries tells.
        address = huggingface_hub.hf_hub_url(repo_id, lacking[0], revision=info.sha)
        with typed_errors(repo_id, revision, token):
            huggingface_hub.get_hf_file_metadata(address, token=token, timeout=TIMEOUT)
        make_room(info.sha, sum(files[name].size or 0 for name in lacking))

    def get(name: str, bar=None) -> Path:
        """One file of the commit, verified; a damaged one is fetched again, once."""
        for _ in range(2):
            path = download(name, bar)
            if matches(path, announced(files[name])):
                return path
            remove(path)
        raise CheckpointInvalid(
            f"{repo_id}: {name} arrived damaged twice: its bytes are not those the Hub announces. The copies were "
            "deleted; try again later."
        )

    def download(name: str, bar) -> Path:
        """One file of the commit. A connection that was reset is tried again: the client goes on after a clean cut."""
        for pause in (*PAUSES, None):
            with typed_errors(repo_id, revision, token):
                try:
                    return Path(
                        huggingface_hub.hf_hub_download(
                            repo_id,
                            name,
                            revision=info.sha,
                            token=token,
                            cache_dir=cache_dir,
                            force_download=force,
                            tqdm_class=bar,
                        )
                    )
                except RuntimeError as error:  # how its Xet transfer puts that it could not connect
                    raise HubUnreachable(f"The Hub did not deliver {repo_id}: {error}"[:300]) from error
                except ValueError as error:  # what the client makes of an answer when it was told to force
                    raise error.__cause__ or error from None
                except Exception as error:
                    answered = isinstance(error, hub_errors.HfHubHTTPError | hub_errors.LocalEntryNotFoundError)
                    if pause is None or answered or not is_network_error(error):
                        raise
            time.sleep(pause)

    check(get(CONFIG_FILE))
    folder = get(WEIGHTS_FILE, _bar(progress) if progress else None).parent
    if CARD_FILE in files:
        get(CARD_FILE)
    return Fetched(folder, info.sha, info.last_modified.date().isoformat() if info.last_modified else "")


def _remember(found: Fetched, revision: str | None) -> None:
    """Let the cache know which commit a branch or tag was, for times without the Hub.

    The client notes that only when it fetches by that name; here files are fetched by commit.
    """
    if revision != found.commit:
        with contextlib.suppress(OSError):  # a cache that is read-only; the checkpoint itself is here
            path = found.folder.parent.parent / "refs" / (revision or "main")
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{threading.get_ident()}")
            partial.write_text(found.commit)
            os.replace(partial, path)


def _cached_path(repo_id: str, name: str, revision: str | None, cache_dir: str | None) -> Path | None:
    path = huggingface_hub.try_to_load_from_cache(repo_id, name, cache_dir=cache_dir, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _cached(repo_id: str, revision: str | None, cache_dir: str | None) -> dict[str, Path]:
    """The cached files of a revision, {} unless both that a checkpoint needs are there."""
    found = {name: _cached_path(repo_id, name, revision, cache_dir) for name in (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)}
    found = {name: path for name, path in found.items() if path}
    return found if {CONFIG_FILE, WEIGHTS_FILE} <= found.keys() else {}


def _from_cache(repo_id, revision, cached, check, reason: str) -> Fetched:
    at = f" at revision {revision!r}" if revision else ""
    if not cached:
        raise HubUnreachable(
            f"{repo_id}{at} is not in the cache, and the Hub was {reason}. Check the network, or use a bundled "
            "checkpoint."
        )
    for name, path in cached.items():
        if not matches(path, filed_under(path)):
            remove(path)
            raise CheckpointInvalid(f"{repo_id}: the cached {name} is damaged and was deleted; try again online.")
    check(cached[CONFIG_FILE])
    folder = cached[WEIGHTS_FILE].parent
    return Fetched(folder, folder.name, note=f"From the cache: the Hub was {reason}.")


def announced(sibling) -> str | None:
    """The hash that the Hub's metadata gives for a file: sha256 for large files, git's sha1 for small ones."""
    return sibling.lfs.sha256 if sibling.lfs else sibling.blob_id


def filed_under(path: Path) -> str | None:
    """The hash under which the cache keeps a file; None where there are no symbolic links, and so no such name.

    The first link leads to the blob of that name; that may be a link on to a store shared between repositories.
    """
    return os.path.basename(os.readlink(path)) if path.is_symlink() else None


def matches(path: Path, digest: str | None) -> bool:
    """Whether a file has a hash: sha256 by its 64 digits, git's sha1 by its 40; anything else is not compared."""
    with open(path, "rb") as file:
        if digest and re.fullmatch("[0-9a-f]{64}", digest):
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
        if digest and re.fullmatch("[0-9a-f]{40}", digest):
            content = file.read()
            return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == digest
    return True


def remove(path: Path) -> None:
    """Delete a file from the cache: its name in the snapshot and everything that this leads to."""
    chain = [path]
    while chain[-1].is_symlink():
        chain.append(chain[-1].parent / os.readlink(chain[-1]))
    for one in chain:
        one.unlink(missing_ok=True)


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
    except hub_errors.LocalTokenNotFoundError as error:
        raise CheckpointNotFound(f"{name} was to be read with a token, and none is stored: `hf auth login`.") from error
    except Exception as error:
        if getattr(getattr(error, "response", None), "status_code", None) == 401:
            raise CheckpointNotFound(
                f"The Hub refused the token (401) when asked for {name}{at}: perhaps it expired; `hf auth login` again."
            ) from error
        if isinstance(error, json.JSONDecodeError):
            raise HubUnreachable(_not_the_hub(name, revision)) from error
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
