"""Pictures on disk on their way to gradio, which copies them into its own cache right after a call."""

import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ..images.codecs import save_image
from ..images.picture import Picture


class ResultFiles:
    """A folder of results, each deleted after a while.

    Args:
        folder: Exists; the caller deletes it in the end.
        seconds: How long a result is kept.
    """

    def __init__(self, folder: Path, seconds: float):
        self.folder, self.seconds = folder, seconds
        self._stop = threading.Event()
        self._cleaner = threading.Thread(target=self._delete_stale_forever, daemon=True)

    def save(self, picture: Picture | np.ndarray, name: str) -> str:
        """Write a picture, or uint8 pixels (H, W, C), losslessly in its own depth -> the file's path.

        Noise hardly compresses, so it is written with little compression.
        """
        if isinstance(picture, Picture):
            image = picture.to_pil()
        else:
            image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
        path = Path(tempfile.mkdtemp(dir=self.folder)) / name
        save_image(image, path, fast=True)
        return str(path)

    def delete_stale_files(self) -> None:
        """Delete the results that gradio has copied by now."""
        for old in self.folder.iterdir():
            if time.time() - old.stat().st_mtime > self.seconds:
                shutil.rmtree(old, ignore_errors=True)

    def start(self) -> None:
        """Delete stale files from now on, in a thread."""
        self._cleaner.start()

    def stop(self) -> None:
        """End that thread."""
        self._stop.set()
        if self._cleaner.is_alive():
            self._cleaner.join()

    def _delete_stale_forever(self) -> None:
        while not self._stop.wait(self.seconds):
            self.delete_stale_files()
