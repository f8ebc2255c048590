"""Any picture <-> float array, without loss.

:func:`read` takes a path, a PIL image, a numpy array or a torch tensor and gives a :class:`Picture`: float pixels to
compute with, and what is needed to return the result as the same kind of object (:meth:`Picture.restore`).

What would lose information is refused with a reason, never reduced silently: 16-bit color *files* (Pillow
would reduce them to 8 bits; pass the uint16 array instead), CMYK and other print color spaces, animations.
"""

import dataclasses
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

from ..errors import ImageTooLarge, ImageUnreadable
from .codecs import FORMATS, translate_decode_errors

_logger = logging.getLogger(__name__)

MAX_PIXELS = 100_000_000
"""Larger pictures are refused unless a caller raises ``max_pixels``. For files Pillow has a limit of 179 megapixels."""

# TIFF mixes tags about the picture with tags about the layout of its pixels; these are about the picture.
_DESCRIPTIVE_TAGS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)

# The PIL modes that are read, and the mode of the result. A palette cannot hold denoised colors.
_MODES = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA", "F": "F"}
_MODES |= {"I;16": "I;16", "I;16L": "I;16", "I;16B": "I;16", "I;16N": "I;16"}

# The entries of a PIL image's ``info`` that stay with the picture.
_METADATA = ("icc_profile", "exif", "dpi", "xmp")

# What each EXIF orientation needs to stand upright.
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_PIL_TYPES = {255.0: np.uint8, 65535.0: np.uint16}

# Noise can take floats well beyond [0, 1]; above this limit they are on another scale (0..255, 0..65535).
_FLOAT_LIMIT = 8.0


ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor
"""What :func:`read` takes."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture to compute with, and what is needed to hand it back.

    Attributes:
        pixels: float32 (H, W, C), C = 1 or 3, nominally in [0, 1].
        alpha: float32 (H, W) in [0, 1], or None.
        maximum: The value of white where the picture was read from: 255, 65535 or 1.0.
        source: What it was read from: a PIL image, or an array or tensor of one picture. Its kind, dtype and metadata
            are those of the result.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    maximum: float
    source: Image.Image | np.ndarray | torch.Tensor

    def with_pixels(self, pixels: np.ndarray) -> "Picture":
        """This picture with other pixels (H, W, C), as a file of its depth would hold them.

        They are clipped to [0, 1] and, for integer pictures, rounded to the nearest of ``maximum`` + 1 levels: what
        writing to PNG and reading back gives. Alpha, depth and metadata stay.

        Raises:
            ValueError: ``pixels`` has another shape.
        """
        if pixels.shape != self.pixels.shape:
            raise ValueError(f"pixels have shape {pixels.shape}, the picture {self.pixels.shape}")
        return dataclasses.replace(self, pixels=self._quantize(pixels))

    def to_pil(self) -> Image.Image:
        """The picture as a PIL image of its depth, with the color profile, EXIF, XMP and resolution of its source.

        Raises:
            ValueError: PIL has no such images: 16-bit or floating-point pixels in more than one channel.
        """
        planes = self._levels()
        planes = planes.astype(_PIL_TYPES.get(self.maximum, np.float32))
        if planes.shape[-1] == 1:
            planes = planes[..., 0]
        elif planes.dtype != np.uint8:
            raise ValueError("PIL holds 16-bit and floating-point pixels in one channel only; use restore()")
        image = Image.fromarray(planes)
        if isinstance(self.source, Image.Image):
            image.info |= {key: self.source.info[key] for key in _METADATA if key in self.source.info}
        return image

    def restore(self, pixels: np.ndarray) -> Image.Image | np.ndarray | torch.Tensor:
        """``pixels`` (H, W, C) as the same kind, depth and channel count as the source, alpha untouched.

        Clipped to [0, 1]; integers are rounded to nearest.
        """
        picture = self.with_pixels(pixels)
        if isinstance(self.source, Image.Image):
            return picture.to_pil()
        planes = picture._levels()
        if self.source.ndim == 2:
            planes = planes[..., 0]
        if isinstance(self.source, np.ndarray):
            return planes.astype(self.source.dtype)
        planes = np.ascontiguousarray(np.moveaxis(planes, -1, 0) if self.source.ndim == 3 else planes)
        return torch.from_numpy(planes).to(device=self.source.device, dtype=self.source.dtype)

    def center_crop(self, max_pixels: int) -> "Picture":
        """The center of the picture, same proportions, at most ``max_pixels``, no pixel changed."""
        height, width = self._fit(max_pixels)
        top, left = (self.pixels.shape[0] - height) // 2, (self.pixels.shape[1] - width) // 2
        return self._apply(lambda planes: planes[top : top + height, left : left + width])

    def downscale(self, max_pixels: int) -> "Picture":
        """The whole picture, scaled down (bilinear, antialiased) to at most ``max_pixels``, in the same depth."""
        size = self._fit(max_pixels)

        def resize(planes: np.ndarray) -> np.ndarray:
            x = torch.from_numpy(planes.reshape(*planes.shape[:2], -1)).permute(2, 0, 1)[None]
            small = torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)[0]
            return self._quantize(small.permute(1, 2, 0).numpy().reshape(*size, *planes.shape[2:]))

        return self if size == self.pixels.shape[:2] else self._apply(resize)

    def _fit(self, max_pixels: int) -> tuple[int, int]:
        """Height and width of at most ``max_pixels``: in proportion, as long as the shorter side has a pixel left."""
        height, width = self.pixels.shape[:2]
        ratio = min(1.0, (max_pixels / (height * width)) ** 0.5)
        rows, columns = max(1, int(height * ratio)), max(1, int(width * ratio))
        return min(rows, max(1, max_pixels // columns)), min(columns, max(1, max_pixels // rows))

    def _apply(self, function: Callable[[np.ndarray], np.ndarray]) -> "Picture":
        """``function`` over pixels and alpha. The source is replaced as well, so that a large one is freed."""
        pixels = np.ascontiguousarray(function(self.pixels))
        alpha = None if self.alpha is None else np.ascontiguousarray(function(self.alpha))
        changed = dataclasses.replace(self, pixels=pixels, alpha=alpha)
        return dataclasses.replace(changed, source=changed.restore(pixels))

    def _quantize(self, planes: np.ndarray) -> np.ndarray:
        """Values in [0, 1] as the picture's depth holds them, float32."""
        planes = np.clip(planes, 0, 1)  # a copy; in place from here on, as a large one takes hundreds of megabytes
        if self.maximum > 1:
            planes *= self.maximum
            planes = np.rint(planes, out=planes).astype(np.float32, copy=False)
            planes /= np.float32(self.maximum)
        return planes.astype(np.float32, copy=False)

    def _levels(self) -> np.ndarray:
        """Pixels and alpha (H, W, channels of the source) on the scale of the source, 0..``maximum``."""
        planes = self.pixels if self.alpha is None else np.concatenate([self.pixels, self.alpha[..., None]], axis=-1)
        planes = np.clip(planes, 0, 1)
        planes *= self.maximum
        return np.rint(planes, out=planes) if self.maximum > 1 else planes


def read(source: ImageLike, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture.

    Args:
        source: A path; a PIL image; a numpy array (H, W), (H, W, C) of uint8, uint16 or float in [0, 1], where C is
            1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA); or a torch tensor (H, W) or (C, H, W) likewise.
        max_pixels: Larger pictures are refused before they are decoded.

    Raises:
        ImageUnreadable: Missing, empty, truncated, not a picture, or of a kind that cannot be read without loss.
        ImageTooLarge: More than ``max_pixels``.
        TypeError: ``source`` is none of the above.
    """
    if isinstance(source, str | os.PathLike):
        return _from_file(Path(source), max_pixels)
    if isinstance(source, Image.Image):
        return _from_pil(source, "the image", max_pixels)
    if isinstance(source, np.ndarray):
        return _from_array(source, source, max_pixels)
    if isinstance(source, torch.Tensor):
        planes = source.detach().cpu()
        planes = planes.float() if planes.dtype in (torch.bfloat16, torch.float16) else planes
        return _from_array(
            np.moveaxis(planes.numpy(), 0, -1) if source.ndim == 3 else planes.numpy(), source, max_pixels
        )
    raise TypeError(f"a picture is a path, a PIL image, a numpy array or a torch tensor, not {type(source).__name__}")


def _check_size(width: int, height: int, max_pixels: int, name: str) -> None:
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{name} has {width} x {height} = {width * height / 1e6:.1f} megapixels; the limit is "
            f"{max_pixels / 1e6:.1f}. Make it smaller or crop it."
        )


def _from_file(path: Path, max_pixels: int) -> Picture:
    name = path.name
    if not path.exists():
        raise ImageUnreadable(f"There is no file {name}.")
    if path.is_dir():
        raise ImageUnreadable(f"{name} is a folder, not a picture.")
    if path.stat().st_size == 0:
        raise ImageUnreadable(f"{name} is empty (0 bytes).")
    with translate_decode_errors(name), Image.open(path, formats=FORMATS) as opened:
        return _from_pil(opened, name, max_pixels)


def _from_pil(image: Image.Image, name: str, max_pixels: int) -> Picture:
    if image.width < 1 or image.height < 1:
        raise ImageUnreadable(f"{name} has no pixels.")
    _check_size(*image.size, max_pixels, name)
    # The depth of the file is known only until its pixels are loaded.
    if ";16" in str(getattr(image, "tile", "")) and not image.mode.startswith("I;16"):
        raise ImageUnreadable(
            f"{name} holds 16-bit color, which would be reduced to 8 bits. Pass it as a numpy uint16 array, or save it "
            "as 8-bit; 16-bit gray files are read in full."
        )
    if image.mode.startswith("I;16") and "transparency" in image.info:
        raise ImageUnreadable(f"{name} is 16-bit gray with a transparent value, which would be lost. Use 8 bits.")
    if image.mode not in _MODES:
        raise ImageUnreadable(f"{name} has color mode {image.mode}; convert it to RGB or gray first.")
    # The second frame of a phone's MPO is a preview or depth map; in other formats frames are separate pictures.
    with translate_decode_errors(name):
        frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ImageUnreadable(f"{name} has {frames} frames or pages; pass one of them.")
    with translate_decode_errors(name):
        tags = image.getexif() if image.format == "TIFF" else {}
        image = _transpose(image, name)
        if any(tag in tags for tag in _DESCRIPTIVE_TAGS):
            kept = Image.Exif()
            kept.update({tag: tags[tag] for tag in _DESCRIPTIVE_TAGS if tag in tags})
            image.info["exif"] = kept.tobytes()
    target = _MODES[image.mode]
    if "transparency" in image.info and target in ("L", "RGB"):
        target = "LA" if image.mode == "L" else "RGBA"
    if image.mode != target and not target.startswith("I;16"):
        image = image.convert(target)
    array = np.asarray(image)
    return dataclasses.replace(_from_array(array, array, max_pixels, name), source=image)


def _transpose(image: Image.Image, name: str) -> Image.Image:
    """The picture turned as its EXIF says. A damaged EXIF costs itself and not the picture."""
    image.load()  # damaged pixels are another matter
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow raises nearly anything on tags of the wrong type
        _logger.warning("%s: its EXIF is damaged (%s) and is dropped; only the orientation is used", name, error)
        try:
            method = _TRANSPOSE.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        except Exception:
            method = None
        turned = image.transpose(method) if method is not None else image.copy()
        turned.info = {key: value for key, value in image.info.items() if key != "exif"}
        return turned


def _from_array(
    array: np.ndarray, source: np.ndarray | torch.Tensor, max_pixels: int, name: str = "the picture"
) -> Picture:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 2, 3, 4):
        expected = "(C, H, W)" if isinstance(source, torch.Tensor) else "(H, W, C)"
        raise ImageUnreadable(
            f"{name} has shape {tuple(source.shape)}; expected (H, W) or {expected} with 1 to 4 channels."
        )
    if 0 in array.shape:
        raise ImageUnreadable(f"{name} has no pixels: its shape is {tuple(source.shape)}.")
    _check_size(array.shape[1], array.shape[0], max_pixels, name)
    if array.dtype.newbyteorder("=") in (np.uint8, np.uint16):
        maximum = float(np.iinfo(array.dtype).max)
    elif np.issubdtype(array.dtype, np.floating):
        maximum = 1.0
        extreme = float(np.abs(array).max())
        if not np.isfinite(extreme):
            raise ImageUnreadable(f"{name} holds values that are not finite numbers.")
        if extreme > _FLOAT_LIMIT:
            raise ImageUnreadable(f"{name} has values up to {extreme:g}; floats must be in [0, 1]: divide by white.")
    else:
        raise ImageUnreadable(f"{name} has type {array.dtype}; expected uint8, uint16 or float in [0, 1].")
    planes = array.reshape(*array.shape[:2], channels).astype(np.float32)
    planes /= np.float32(maximum)
    alpha = planes[..., -1] if channels in (2, 4) else None
    pixels = planes if alpha is None else planes[..., :-1]
    return Picture(np.ascontiguousarray(pixels), alpha, maximum, source)
