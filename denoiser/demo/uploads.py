"""Visitors' photos: read, and kept while a slider moves."""

import contextlib
import os

import gradio as gr

from ..errors import SeveralFrames
from ..images.picture import Picture, read
from .model_pool import Loaded
from .photo_parts import take_area, to_integers
from .settings import Settings

MAX_KEPT = 8
"""Reduced photos that are kept, for the next move of a slider."""
LIVE_SECONDS = 0.013
"""What the network may take for a live picture, while a slider moves; larger photos are reduced to that."""
LIVE_PIXELS = 256 * 256
"""They are not reduced further: a machine that was busy when the checkpoint was tried out seems slow."""


def read_first(photo: str, max_pixels: int) -> tuple[Picture, int]:
    """The first picture of an upload, and how many frames or pages its file has.

    Raises:
        ImageUnreadable, ImageTooLarge: See :func:`denoiser.images.picture.read`.
    """
    try:
        return read(photo, max_pixels), 1
    except SeveralFrames as error:
        return read(photo, max_pixels, page=1), error.count


class Uploads:
    """Photos that visitors have uploaded. It is used while computing only, by one thread at a time.

    Args:
        settings: Its limits are used.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._kept: dict[tuple[str, str], Picture] = {}  # the least recently used first

    def open(self, photo: str | None, area: str, floats: bool = False) -> Picture:
        """Read an upload and take the part to work on: the one place where a photo comes in.

        Args:
            photo: Path of the upload.
            area: The part of it to work on, see :func:`denoiser.demo.photo_parts.take_area`.
            floats: Whether floating-point photos stay so; otherwise they get 16 bits, as the page's PNG files have.

        Raises:
            gr.Error: There is none.
            ImageUnreadable, ImageTooLarge: See :func:`denoiser.images.picture.read`.
        """
        if photo is None:
            raise gr.Error("Drop a photo first, or pick an example.", print_exception=False)
        with contextlib.suppress(OSError):
            os.utime(photo)  # its age, at which gradio deletes it, begins anew while it is used
        # Uploads lie in a folder named by their content's hash: the same path is the same picture.
        picture = self._kept.pop((photo, area), None)
        if picture is None:
            picture, _ = read_first(photo, self._settings.max_pixels)
            picture = take_area(picture, area, self._settings.interactive_pixels)
            if picture.dtype.kind == "f" and not floats:
                picture = to_integers(picture)
        if area != "all":
            self._keep((photo, area), picture)
        return picture

    def open_live(self, photo: str | None, area: str, loaded: Loaded) -> Picture:
        """As :meth:`open`, reduced to what the checkpoint computes in ``LIVE_SECONDS``."""
        area = "shrunk" if area == "all" else area
        pixels = max(LIVE_PIXELS, int(LIVE_SECONDS / loaded.seconds_per_megapixel * 1e6))
        picture = self.open(photo, area)
        height, width = picture.pixels.shape[:2]
        if photo is None or height * width <= pixels:
            return picture
        key = photo, f"{area}, {pixels}"
        picture = self._kept.pop(key, None) or picture.downscale(pixels)
        self._keep(key, picture)
        return picture

    def _keep(self, key: tuple[str, str], picture: Picture) -> None:
        self._kept[key] = picture
        if len(self._kept) > MAX_KEPT:
            self._kept.pop(next(iter(self._kept)))
