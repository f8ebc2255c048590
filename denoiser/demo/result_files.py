"""Pictures on disk on their way to gradio, which copies them into its own cache right after a call."""

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ..images.codecs import save_image
from ..images.picture import Picture

DISK_FULL = "The server's disk is full at the moment. Try again in a few minutes, or with a smaller part of the photo."
CHECK_SECONDS = 5.0
"""How often the size of all files is looked at."""
SPARE_BYTES = 50_000_000
"""Free space that is left to others."""
UNFINISHED_SECONDS = 300.0
"""After so long without a byte an upload has been given up."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there is no space on the disk, or none for this user."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class ResultFiles:
    """A folder of results, each deleted after a while, and a bound on the size of all temporary files.

    Args:
        folder: Exists; the caller deletes it in the end.
        seconds: How long a result is kept.
        max_bytes: Size of all files together, gradio's included; beyond it the oldest are deleted.

    Attributes:
        other_files: Gives the paths of gradio's files, which are deleted for their size only.
        uploads: Folder of the uploads under way and of nothing else's files that begin with "tmp": gradio leaves those
            that are broken off there. None to leave them, too.
    """

    def __init__(self, folder: Path, seconds: float, max_bytes: int = 2_000_000_000):
        self.folder, self.seconds, self.max_bytes = folder, seconds, max_bytes
        self.other_files: Callable[[], Iterable[str]] = lambda: ()
        self.uploads: Path | None = None
        self._stop = threading.Event()
        self._cleaner = threading.Thread(target=self._delete_stale_forever, daemon=True)

    def save(self, picture: Picture | np.ndarray, name: str) -> str:
        """Write a picture, or uint8 pixels (H, W, C), losslessly in its own depth -> the file's path.

        Noise hardly compresses, so it is written with little compression.

        Raises:
            OSError: There is no space for it and for gradio's copy.
        """
        if isinstance(picture, Picture):
            image, size = picture, picture.pixels.size * picture.dtype.itemsize
        else:
            image, size = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture), picture.size
        if shutil.disk_usage(self.folder).free < 2 * size + SPARE_BYTES:
            self.delete_oldest_files(self.max_bytes // 2)
            if shutil.disk_usage(self.folder).free < 2 * size + SPARE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        path = Path(tempfile.mkdtemp(dir=self.folder)) / name
        save_image(image, path, fast=True)
        return str(path)

    def delete_stale_files(self) -> None:
        """Delete the results that gradio has copied by now, and uploads that were broken off."""
        for old in self.folder.iterdir():
            if time.time() - old.stat().st_mtime > self.seconds:
                shutil.rmtree(old, ignore_errors=True)
        for path in self._unfinished():
            with contextlib.suppress(OSError):  # finished meanwhile
                if time.time() - path.stat().st_mtime > UNFINISHED_SECONDS:
                    path.unlink()

    def _unfinished(self) -> list[Path]:
        return list(self.uploads.glob("tmp*")) if self.uploads else []

    def delete_oldest_files(self, max_bytes: int) -> None:
        """Delete the oldest files, gradio's copies and uploads among them, until the rest has this size."""
        files = []
        for path in [*self.folder.rglob("*"), *map(Path, self.other_files()), *self._unfinished()]:
            try:
                stat = path.stat()
            except OSError:  # deleted meanwhile
                continue
            if path.is_file():
                files.append((stat.st_ctime, stat.st_size, path))  # a copy has the mtime of what it is of
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def start(self) -> None:
        """Delete stale files from now on, in a thread."""
        self._cleaner.start()

    def stop(self) -> None:
        """End that thread."""
        self._stop.set()
        if self._cleaner.is_alive():
            self._cleaner.join()

    def _delete_stale_forever(self) -> None:
        while not self._stop.wait(min(self.seconds, CHECK_SECONDS)):
            try:
                self.delete_stale_files()
                self.delete_oldest_files(self.max_bytes)
            except OSError:  # the next time, then
                logging.exception("temporary files could not be deleted")
