"""Checkpoint files in the Hub client's cache: found, compared with their hash, deleted."""

import contextlib
import hashlib
import os
import re
import threading
from pathlib import Path

import huggingface_hub

from .checkpoint_files import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE


def cached_path(repo_id: str, name: str, revision: str | None, cache_dir: str | None) -> Path | None:
    """Where the cache has a file of a repository, or None."""
    path = huggingface_hub.try_to_load_from_cache(repo_id, name, cache_dir=cache_dir, revision=revision)
    return Path(path) if isinstance(path, str) else None


def cached_files(
    repo_id: str, revision: str | None, cache_dir: str | None, also: tuple[str, ...] = ()
) -> dict[str, Path]:
    """The cached files of a revision by name; {} unless all required files, config, weights and ``also``, are there."""
    found = {}
    for name in (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, *also):
        if path := cached_path(repo_id, name, revision, cache_dir):
            found[name] = path
    return found if {CONFIG_FILE, WEIGHTS_FILE, *also} <= found.keys() else {}


def record_ref(folder: Path, commit: str, revision: str | None) -> None:
    """Record in the cache which commit a branch or tag points to, for use without the Hub.

    The client does that only when it downloads by that name; :func:`denoiser.download.fetch.fetch` does by commit.

    Args:
        folder: The snapshot folder of the commit.
        commit: What the name points to.
        revision: Branch, tag or commit; None is "main".
    """
    if revision == commit:
        return
    with contextlib.suppress(OSError):  # the cache may be read-only
        path = folder.parent.parent / "refs" / (revision or "main")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{threading.get_ident()}")
        partial.write_text(commit)
        os.replace(partial, path)


def blob_hash(path: Path) -> str | None:
    """The hash by which the cache names a file's blob; None where there are no symbolic links, and so no such name.

    The first link leads to the blob of that name; that may be a link on to a store shared between repositories.
    """
    return os.path.basename(os.readlink(path)) if path.is_symlink() else None


def has_hash(path: Path, digest: str | None) -> bool:
    """Whether a file has a hash: SHA-256 if it has 64 digits, git's SHA-1 if 40; anything else is not compared."""
    with open(path, "rb") as file:
        if digest and re.fullmatch("[0-9a-f]{64}", digest):
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
        if digest and re.fullmatch("[0-9a-f]{40}", digest):
            content = file.read()
            return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == digest
    return True


def delete_cached(path: Path) -> None:
    """Delete a file from the cache: its name in the snapshot, and every link and blob behind it."""
    chain = [path]
    while chain[-1].is_symlink():
        chain.append(chain[-1].parent / os.readlink(chain[-1]))
    for link in chain:
        link.unlink(missing_ok=True)
