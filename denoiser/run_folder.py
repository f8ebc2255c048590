"""The folder of a run's temporary files; what a run that was killed has left is deleted by the next one."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing that was left is deleted
    fcntl = None  # type: ignore[assignment]

PREFIX, LOCK = "denoiser-", "denoiser.lock"


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """A new folder that only this user can read, locked while this process lives and deleted in the end."""
    delete_left_over(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # Locked before it has its name: whoever finds a lock that is free may delete the folder.
        with open(folder / f"{LOCK}.new", "w", encoding="utf-8") as lock:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX)
                os.rename(lock.name, folder / LOCK)
            yield folder


def delete_left_over(parent: Path) -> None:
    """Delete the folders of runs that have ended without doing so: this user's, with a lock that no process holds."""
    if fcntl is None:
        return
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # no lock: not ours, or just made; held: alive; gone: another was faster
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
