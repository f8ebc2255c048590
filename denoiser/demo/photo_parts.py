"""The part of a photo that the page works on, and the overview in which a visitor chooses it."""

import base64
import dataclasses
import io
import re

import numpy as np
from PIL import Image

from ..images.picture import Picture
from .figures import render

AREAS = {
    "Smaller": "shrunk",
    "A part": "part",
    "All, slow": "all",
}
"""Labels and names of what can be worked on of a large photo."""
MIDDLE = "0.5 0.5"
"""Where the part is at first: shares of width and height."""
OVERVIEW_PIXELS = 60_000


def locate(area: str, part: str) -> str:
    """The name of an area with the place of the part, for :func:`take_area`; what is no place is the middle."""
    found = re.fullmatch(r"([01](?:\.\d{1,6})?) ([01](?:\.\d{1,6})?)", part or "")
    x, y = (min(float(share), 1.0) for share in (found.groups() if found else MIDDLE.split()))
    return f"part@{x:.3f},{y:.3f}" if area == "part" else area


def take_area(picture: Picture, area: str, max_pixels: int) -> Picture:
    """What is worked on of a picture: "shrunk", "all", or "part@x,y" as :func:`locate` gives it."""
    kind, _, place = area.partition("@")
    if kind == "all":
        return picture
    if kind == "shrunk":
        return picture.downscale(max_pixels)
    x, y = map(float, place.split(",")) if place else (0.5, 0.5)
    return picture.crop(max_pixels, x, y)


def to_integers(picture: Picture) -> Picture:
    """A floating-point picture in 16 bits, clipped to [0, 1], as PNG can hold it."""
    changed = dataclasses.replace(picture, maximum=65535.0, dtype=np.dtype(np.uint16), beyond=None)
    return changed.with_pixels(picture.pixels)


def render_overview(picture: Picture, part_pixels: int, upload: str) -> str:
    """A photo in small as HTML, as our own reader sees it, with the frame of the part that is worked on.

    Args:
        picture: The whole photo.
        part_pixels: Size of the part.
        upload: Name of the folder of the upload, by which overview.js knows it.
    """
    small = picture.downscale(OVERVIEW_PIXELS)
    pixels = np.rint(small.pixels.clip(0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "JPEG", quality=85)
    height, width = picture.pixels.shape[:2]
    return render(
        "overview.html",
        jpeg=base64.b64encode(file.getvalue()).decode(),
        share=min(1.0, (part_pixels / (height * width)) ** 0.5),
        upload=upload,
        width=small.pixels.shape[1],
        height=small.pixels.shape[0],
    )
