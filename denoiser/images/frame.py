"""A frame: the pixels of one picture as a file holds them, and what the file says about them."""

import logging
import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from PIL import Image

from ..errors import ImageTooLarge, ImageUnreadable, SeveralFrames

_logger = logging.getLogger(__name__)

DEPTHS = (np.uint8, np.uint16, np.float16, np.float32, np.float64)
"""Types of pixels that are read."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a file: of a stack or an animation there are several.

    Attributes:
        planes: (H, W, C) of one of ``DEPTHS``, upright; C = 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA). Black is 0,
            and alpha is not multiplied in.
        maximum: The value of white: 255, 65535, 4095 for 12 bits, or 1.0 for floats.
        info: Color profile, EXIF and the like: the keys of :data:`denoiser.images.metadata.LABELS`.
    """

    planes: np.ndarray
    maximum: float
    info: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def has_alpha(self) -> bool:
        """Whether the last plane is alpha."""
        return self.planes.shape[2] in (2, 4)

    def to_depth(self, dtype: type[np.integer[Any]]) -> np.ndarray:
        """The planes with white at the largest value of ``dtype``, such as 12 bits stretched to 16."""
        top = float(np.iinfo(dtype).max)
        if self.maximum == top:
            return self.planes
        return np.rint(self.planes * np.float32(top / self.maximum)).astype(dtype)


class Request(NamedTuple):
    """What is asked of a file.

    Attributes:
        name: Of the file, in messages.
        max_pixels: Limit of all frames together.
        page: The one to read, from 1; None for all.
        single: Whether several are refused.
    """

    name: str
    max_pixels: int
    page: int | None = None
    single: bool = False

    def choose(self, count: int, width: int, height: int, channels: int = 1) -> range:
        """The frames to decode, of ``count``.

        Raises:
            ImageUnreadable: There is no such page, or there are several where one is wanted.
            ImageTooLarge: They have too many pixels.
        """
        if min(count, width, height) < 1:
            raise ImageUnreadable(f"{self.name} has no pixels.")
        if not 1 <= channels <= 5:
            raise ImageUnreadable(f"{self.name} has {channels} channels; expected gray, RGB or CMYK, and alpha.")
        if self.page is not None and not 1 <= self.page <= count:
            raise ImageUnreadable(f"{self.name} has no page {self.page}; there are {count}, counted from 1.")
        if self.single and self.page is None and count > 1:
            raise SeveralFrames(
                f"{self.name} has {count} frames or pages. The command line denoises and keeps them all, or one with "
                "--page; in code, denoiser.read_frames gives them one by one.",
                count,
            )
        chosen = range(count) if self.page is None else range(self.page - 1, self.page)
        pages = f" x {len(chosen)} pages" if len(chosen) > 1 else ""
        self.check_size(len(chosen) * width * height, f"{width} x {height}{pages} =")
        return chosen

    def check_size(self, pixels: int, what: str) -> None:
        """Raise ImageTooLarge if ``pixels``, of all frames together, are too many; ``what`` has them."""
        if pixels > self.max_pixels:
            megapixels = math.ceil(pixels / 1e5) / 10  # above the limit, if by a few pixels
            raise ImageTooLarge(
                f"{self.name} has {what} {megapixels:.1f} megapixels; the limit is {self.max_pixels / 1e6:.1f}. "
                "Make it smaller or crop it."
            )

    def warn(self, message: str) -> None:
        """Say what was dropped or changed of this file."""
        _logger.warning("%s: %s", self.name, message)


# The PIL modes that are read, and the mode of the result. A palette cannot hold denoised colors.
_MODES = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBX": "RGB"}
_MODES |= {"RGBA": "RGBA", "RGBa": "RGBA", "F": "F", "CMYK": "CMYK", "YCbCr": "RGB"}
_MODES |= dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), "I;16")


def refuse_reduced(image: Image.Image, name: str) -> None:
    """Raise ImageUnreadable if Pillow reduces the depth of an opened file; known only until its pixels are loaded."""
    deep = ";16" in str(getattr(image, "tile", "")) and image.format != "BMP"  # where it is 16 bits a pixel
    if image.format == "TIFF" and image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):  # planes are read one by one
        deep = deep or max(getattr(image, "tag_v2", {}).get(258, (8,))) > 8
    if deep and not image.mode.startswith("I;16"):
        raise ImageUnreadable(f"{name} holds 16-bit color, which Pillow reduces to 8 bits. Pass the path of the file.")
    if image.mode.startswith("I;16") and "transparency" in image.info:
        raise ImageUnreadable(f"{name} is 16-bit gray with a transparent value, which Pillow drops. Pass the path.")


def is_only_page(image: Image.Image, request: Request) -> bool:
    """Whether a TIFF or MPO that PIL has opened at its only full page has thumbnails, masks or the like beside it."""
    count, here = getattr(image, "n_frames", 1), image.tell()
    if image.format == "MPO":
        kinds = [entry["Attribute"]["MPType"] for entry in getattr(image, "mpinfo", {}).get(0xB002, ())]
        several = sum(kind.startswith("Multi-Frame") for kind in kinds) > 1  # as of cameras with two lenses
        if not several and count > 1:
            request.warn("the other pictures in it (previews, depth or gain maps) are left out")
        return not several
    if image.format != "TIFF" or count == 1:
        return image.format == "TIFF"
    pages: list[int] = []
    for index in range(count):
        image.seek(index)
        if not getattr(image, "tag_v2", {}).get(254, 0) & 5:
            pages.append(index)
    image.seek(here)
    return pages == [here]


def pil_planes(image: Image.Image, name: str) -> np.ndarray:
    """The pixels (H, W, C) of a PIL image; CMYK has four channels.

    Raises:
        ImageUnreadable: Of a color mode that cannot be read.
    """
    if image.mode not in _MODES:
        raise ImageUnreadable(f"{name} has color mode {image.mode}; convert it to RGB or gray first.")
    target = _MODES[image.mode]
    image.load()
    if isinstance(image.info.get("transparency"), str):  # a text of that name
        image = image.copy()
        del image.info["transparency"]
    if image.has_transparency_data and target in ("L", "RGB"):
        target = "LA" if target == "L" else "RGBA"
    if image.mode != target and target != "I;16":
        image = image.convert(target)
    planes = np.asarray(image)
    planes = planes.astype(planes.dtype.newbyteorder("="), copy=False)
    return planes if planes.ndim == 3 else planes[..., None]


def apply_cmyk_profile(frame: Frame, request: Request) -> Frame:
    """A CMYK frame (0 is no ink) as RGB by its profile, which the result no longer has.

    Raises:
        ImageUnreadable: There is no profile, without which its colors are unknown.
    """
    profile = frame.info.get("icc_profile")
    if not profile or profile[16:20] != b"CMYK":
        raise ImageUnreadable(
            f"{request.name} has color mode CMYK and no color profile: its colors are unknown. Convert it to RGB first."
        )
    ink, alpha = np.ascontiguousarray(frame.planes[..., :4]), frame.planes[..., 4:]
    color = imagecodecs.cms_transform(
        ink, profile, imagecodecs.cms_profile("srgb"), colorspace="cmyk", outcolorspace="rgb"
    )
    request.warn("CMYK is converted to RGB (sRGB) by its color profile")
    info = {key: value for key, value in frame.info.items() if key != "icc_profile"}
    return replace(frame, planes=np.concatenate([color, alpha], axis=2), info=info)
