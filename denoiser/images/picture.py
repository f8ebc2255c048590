"""Any picture <-> float array, without loss.

:func:`read` takes a path, an open file, a PIL image, a numpy array or a torch tensor and gives a :class:`Picture`:
float pixels to compute with, and what is needed to return the result as the same kind of object
(:meth:`Picture.restore`). :func:`read_frames` gives all frames of a stack or an animation.

What would lose information is refused with a reason, never reduced silently.
"""

import dataclasses
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image

from ..errors import ImageUnreadable
from . import codecs, metadata
from .frame import DEPTHS, Frame, Request

MAX_PIXELS = 100_000_000
"""Larger pictures are refused unless a caller raises ``max_pixels``. For files Pillow has a limit of 179 megapixels."""

_logger = logging.getLogger(__name__)

# Noise can take floats well beyond [0, 1], and highlights are brighter than white; but if most values are above this
# limit, they are on another scale (0..255, 0..65535).
_FLOAT_LIMIT = 8.0

MANY_HIGHLIGHTS = 0.05
"""Share of values beyond the network's range from which on a warning asks for the scale."""
NETWORK_RANGE = -1.0, 2.0
"""Beyond these limits no noise takes a value: it is a highlight, or says that there is no data. It stays as it is."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture to compute with, and what is needed to hand it back.

    Attributes:
        pixels: float32 (H, W, C), C = 1 or 3, nominally in [0, 1]; those of floats in [-1, 2].
        alpha: float32 (H, W) in [0, 1], or None.
        maximum: The value of white where the picture was read from: 255, 65535, 4095 for 12 bits, or 1.0.
        dtype: The type of its values there.
        info: Color profile, EXIF and the like, see :attr:`denoiser.images.frame.Frame.info`.
        like: An empty array or tensor of the kind, dtype and number of dimensions of the result; :class:`Frame` where
            that is one; None for a PIL image.
        beyond: The values of floats beyond the range of ``pixels``, (H, W, C), and 0 elsewhere, or None. They stay.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    maximum: float
    dtype: np.dtype[Any]
    info: dict[str, Any] = field(default_factory=dict[str, Any])
    like: np.ndarray | torch.Tensor | type[Frame] | None = None
    beyond: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as PIL has them."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @classmethod
    def from_frame(cls, frame: Frame, name: str = "the picture") -> "Picture":
        """A frame of a file as a picture.

        Raises:
            ImageUnreadable: It has values that are not finite, or floats on another scale.
        """
        with np.errstate(over="ignore"):  # of doubles, where there are no data
            planes, beyond = frame.planes.astype(np.float32), None
        if frame.planes.dtype.kind == "f":
            check_floats(frame.planes, name)
        else:
            planes /= np.float32(frame.maximum)
        alpha = planes[..., -1] if frame.has_alpha else None
        pixels = np.ascontiguousarray(planes if alpha is None else planes[..., :-1])
        if frame.planes.dtype.kind == "f":
            pixels, beyond = _within_range(pixels, frame.planes[..., : pixels.shape[2]])
        return cls(pixels, alpha, frame.maximum, frame.planes.dtype, frame.info, beyond=beyond)

    def to_frame(self) -> Frame:
        """The picture as a file of its depth holds it."""
        height, width, channels = self.pixels.shape
        planes = np.empty((height, width, channels + (self.alpha is not None)), self.dtype)
        for top in range(0, height, 256):  # by bands: a float copy of a large one takes hundreds of megabytes
            band = slice(top, top + 256)
            planes[band, :, :channels] = self._values(self.pixels[band])
            if self.beyond is not None:
                kept = self.beyond[band]
                np.copyto(planes[band, :, :channels], kept, where=kept != 0, casting="unsafe")
            if self.alpha is not None:
                planes[band, :, -1] = self._values(self.alpha[band])
        return Frame(planes, self.maximum, self.info)

    def _values(self, planes: np.ndarray) -> np.ndarray:
        """Values in [0, 1] as the picture's depth holds them, on its scale 0..``maximum``; floats as they are."""
        if self.dtype.kind == "f":
            return planes
        values = np.clip(planes, 0, 1)
        values *= np.float32(self.maximum)
        return np.rint(values, out=values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The values as a file holds them: what ``np.asarray`` gives of a PIL image."""
        planes = self.to_frame().planes
        return np.asarray(planes[..., 0] if planes.shape[2] == 1 else planes, dtype)

    def with_pixels(self, pixels: np.ndarray) -> "Picture":
        """This picture with other pixels (H, W, C), as a file of its depth would hold them.

        For integer pictures they are clipped to [0, 1] and rounded to the nearest of ``maximum`` + 1 levels: what
        writing to PNG and reading back gives. Alpha, depth and metadata stay.

        Raises:
            ValueError: ``pixels`` has another shape.
        """
        if pixels.shape != self.pixels.shape:
            raise ValueError(f"pixels have shape {pixels.shape}, the picture {self.pixels.shape}")
        return dataclasses.replace(self, pixels=self._quantize(pixels))

    def to_pil(self) -> Image.Image:
        """The picture as a PIL image of its depth, with the metadata of its source.

        Raises:
            ValueError: PIL has no such images: 16-bit or floating-point pixels in more than one channel.
        """
        return codecs.to_pil(self.to_frame())

    def restore(self, pixels: np.ndarray) -> "Image.Image | Frame | np.ndarray | torch.Tensor | Picture":
        """``pixels`` (H, W, C) as the same kind, depth and channel count as the source, alpha untouched.

        Integers are clipped and rounded to nearest. What was read from a file becomes a PIL image, or a
        :class:`Picture` if PIL has no such images (16-bit color).
        """
        if pixels.shape != self.pixels.shape:
            raise ValueError(f"pixels have shape {pixels.shape}, the picture {self.pixels.shape}")
        picture = dataclasses.replace(self, pixels=pixels)
        if self.like is None:
            deep_color = self.dtype != np.uint8 and (pixels.shape[2] > 1 or self.alpha is not None)
            return picture if deep_color else picture.to_pil()
        frame = picture.to_frame()
        if isinstance(self.like, type):
            return frame
        planes = frame.planes
        if self.like.ndim == 2:
            planes = planes[..., 0]
        if isinstance(self.like, np.ndarray):
            return planes.astype(self.like.dtype, copy=False)
        planes = np.ascontiguousarray(np.moveaxis(planes, -1, 0) if self.like.ndim == 3 else planes)
        return torch.from_numpy(planes).to(device=self.like.device, dtype=self.like.dtype)

    def crop(self, max_pixels: int, x: float = 0.5, y: float = 0.5) -> "Picture":
        """A part of the picture, same proportions, at most ``max_pixels``, no pixel changed.

        ``x`` and ``y`` say where its middle is, as shares of width and height; it stays within the picture.
        """
        height, width = self._fit(max_pixels)
        free = self.pixels.shape[0] - height, self.pixels.shape[1] - width
        top = round(min(max(y * self.pixels.shape[0] - height / 2, 0), free[0]))
        left = round(min(max(x * self.pixels.shape[1] - width / 2, 0), free[1]))
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
        """``function`` over pixels and alpha."""
        whole = self.pixels if self.beyond is None else np.where(self.beyond != 0, self.beyond, self.pixels)
        whole = np.ascontiguousarray(function(whole))
        with np.errstate(over="ignore"):  # of doubles, where there are no data
            pixels, beyond = _within_range(whole.astype(np.float32, copy=False), whole)
        alpha = None if self.alpha is None else np.ascontiguousarray(function(self.alpha))
        return dataclasses.replace(self, pixels=pixels, alpha=alpha, beyond=beyond)

    def _quantize(self, planes: np.ndarray) -> np.ndarray:
        """Values as the picture's depth holds them, float32."""
        if self.dtype.kind == "f":
            return planes.astype(np.float32)
        values = self._values(planes)
        values /= np.float32(self.maximum)
        return values.astype(np.float32, copy=False)


ImageLike = str | os.PathLike[str] | IO[bytes] | Frame | Picture | Image.Image | np.ndarray | torch.Tensor
"""What :func:`read` takes."""


def read(source: ImageLike, max_pixels: int = MAX_PIXELS, page: int | None = None) -> Picture:
    """Read a picture.

    Args:
        source: A path or an open file; a frame of one; a :class:`Picture`; a PIL image; a numpy array (H, W), (H, W, C)
            of uint8, uint16 or float with white 1, where C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA); or a
            torch tensor (H, W) or (C, H, W) likewise.
        max_pixels: Larger pictures are refused before they are decoded.
        page: The page or frame of a file that has several, from 1. Without it they are refused.

    Raises:
        ImageUnreadable: Missing, empty, truncated, not a picture, or of a kind that cannot be read without loss.
        ImageTooLarge: More than ``max_pixels``.
        TypeError: ``source`` is none of the above.
    """
    if isinstance(source, Frame):
        return dataclasses.replace(Picture.from_frame(source), like=Frame)
    if isinstance(source, Picture):
        return dataclasses.replace(source, pixels=source.pixels.copy(), like=None)
    if isinstance(source, np.ma.MaskedArray) and np.ma.is_masked(source):
        raise ImageUnreadable("the picture has a mask, which the result would lose: fill it first (picture.filled()).")
    if isinstance(source, np.ndarray):
        array = np.asarray(source)  # no matrix or masked array
        return _from_array(array, np.empty((0,) * array.ndim, array.dtype), max_pixels)
    if isinstance(source, torch.Tensor):
        if source.is_meta or source.is_nested or source.layout != torch.strided:
            raise ImageUnreadable("the picture is no dense tensor with values: it is on meta, sparse or nested.")
        planes = source.detach().cpu().resolve_conj().resolve_neg()
        planes = planes.float() if planes.is_floating_point() and planes.dtype != torch.float64 else planes
        planes = np.moveaxis(planes.numpy(), 0, -1) if source.ndim == 3 else planes.numpy()
        return _from_array(planes, source.new_empty((0,) * source.ndim), max_pixels, tuple(source.shape))
    if isinstance(source, Image.Image):
        request = Request("the image", max_pixels, page, single=True)
        with codecs.translate_decode_errors(request.name):
            frame = metadata.upright(codecs.from_pil(source, request)[0], request)
        return Picture.from_frame(frame)
    if not isinstance(source, str | os.PathLike) and not hasattr(source, "read"):
        raise TypeError(
            f"a picture is a path, a file, a PIL image, a numpy array or a torch tensor, not {type(source).__name__}"
        )
    frame = read_frames(source, max_pixels, page, single=True)[0]
    return Picture.from_frame(frame, _name(source))


def read_frames(
    source: str | os.PathLike[str] | IO[bytes],
    max_pixels: int = MAX_PIXELS,
    page: int | None = None,
    single: bool = False,
) -> list[Frame]:
    """All pages or frames of a file, or the one that is asked for; see :func:`read`.

    Args:
        source: A path or an open file.
        max_pixels: Limit of all of them together.
        page: The one to read, from 1.
        single: Refuse several.

    Raises:
        ImageUnreadable, ImageTooLarge, TypeError: See :func:`read`.
    """
    if isinstance(source, str | os.PathLike):
        return codecs.load(Path(source), max_pixels, page, single)
    if not hasattr(source, "read"):
        raise TypeError(f"a picture file is a path or an open file, not {type(source).__name__}")
    return codecs.load(source, max_pixels, page, single)


def _within_range(pixels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """``pixels`` and ``beyond`` of a :class:`Picture`, from its ``values`` and those as float32."""
    if pixels.min() >= NETWORK_RANGE[0] and pixels.max() <= NETWORK_RANGE[1]:
        return pixels, None
    inside = np.clip(pixels, *NETWORK_RANGE)
    return inside, np.where(inside == pixels, values.dtype.type(0), values)


def _name(source: str | os.PathLike[str] | IO[bytes]) -> str:
    return Path(source).name if isinstance(source, str | os.PathLike) else "the picture"


def check_floats(planes: np.ndarray, name: str) -> None:
    """Raise ImageUnreadable for values that are no numbers, or most of which are far above white at 1."""
    if not np.isfinite(planes).all():
        raise ImageUnreadable(f"{name} holds values that are not finite numbers: replace them first.")
    highest = float(planes.max())
    if highest > _FLOAT_LIMIT and np.mean(planes > _FLOAT_LIMIT) > 0.5:
        raise ImageUnreadable(f"{name} has values up to {highest:g}; floats must have white at 1: divide by white.")
    if highest > NETWORK_RANGE[1] and np.mean(planes > NETWORK_RANGE[1]) > MANY_HIGHLIGHTS:
        _logger.warning("%s: values above %g stay as they are, and many are: is white at 1?", name, NETWORK_RANGE[1])


def _from_array(
    array: np.ndarray, like: np.ndarray | torch.Tensor, max_pixels: int, shape: tuple[int, ...] | None = None
) -> Picture:
    channels, shape = array.shape[2] if array.ndim == 3 else 1, shape or array.shape
    name = "the picture"
    if array.ndim not in (2, 3) or channels not in (1, 2, 3, 4):
        expected = "(C, H, W)" if isinstance(like, torch.Tensor) else "(H, W, C)"
        raise ImageUnreadable(f"{name} has shape {shape}; expected (H, W) or {expected} with 1 to 4 channels.")
    if 0 in array.shape:
        raise ImageUnreadable(f"{name} has no pixels: its shape is {shape}.")
    Request(name, max_pixels).choose(1, array.shape[1], array.shape[0])
    dtype = array.dtype.newbyteorder("=")
    if dtype not in DEPTHS:
        raise ImageUnreadable(f"{name} has type {array.dtype}; expected uint8, uint16 or float with white at 1.")
    maximum = float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0
    planes = array.reshape(*array.shape[:2], channels)
    return dataclasses.replace(Picture.from_frame(Frame(planes, maximum), name), dtype=dtype, like=like)
