"""Picture files: which library reads and writes which format, errors of damaged files."""

import contextlib
import io
import itertools
import logging
import os
import re
import shutil
import uuid
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from ..errors import ImageTooLarge, ImageUnreadable
from . import heif, metadata, png, tiff, tiff_tags
from .frame import Frame, Request, apply_cmyk_profile, is_only_page, refuse_reduced

if TYPE_CHECKING:
    from torch import Tensor

    from .picture import Picture

_logger = logging.getLogger(__name__)

# What Pillow reads without loss. Others it may reduce to 8 bits silently (PPM, JPEG 2000, SGI), and for some run an
# external program (EPS).
FORMATS = ("JPEG", "WEBP", "BMP", "GIF")

WRITTEN: dict[str, str] = {
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".webp": "WEBP",
    ".bmp": "BMP",
}
"""The formats that are written, by their extensions."""
_MAX_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # of their libraries and formats
EXTENSIONS = tuple(WRITTEN)
"""Extensions of the formats that :func:`save_image` writes."""
READ_EXTENSIONS = (*EXTENSIONS, ".mpo", ".gif", ".avif", ".heic", ".heif", ".hif")
"""Extensions of the formats that are read. The content decides, not the name."""


@contextlib.contextmanager
def translate_decode_errors(name: str) -> Generator[None, None, None]:
    """What the libraries raise on a bad file, as errors of this package. Decoders may raise any type of exception."""
    try:
        yield
    except (ImageUnreadable, ImageTooLarge):
        raise
    except UnidentifiedImageError as error:
        known = "PNG, JPEG, TIFF, WebP, BMP, GIF, AVIF, HEIC"
        raise ImageUnreadable(f"{name} is not a picture, or not {known}. Save it as PNG first.") from error
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f"{name} unpacks to far more pixels than any photograph: {error}") from error
    except PermissionError as error:
        raise ImageUnreadable(f"No permission to read {name}.") from error
    except MemoryError as error:  # which says nothing by itself
        raise MemoryError(f"there is not enough memory for {name}.") from error
    except Exception as error:
        if bits := re.fullmatch(r"(?i)cannot handle (\d+)-bit layers", str(error)):  # Pillow, of JPEG
            raise ImageUnreadable(
                f"{name} is a JPEG of {bits[1]} bits a sample. Save it as 16-bit PNG first."
            ) from error
        raise ImageUnreadable(f"{name} is damaged or truncated: {error}") from error


def load(source: Path | IO[bytes], max_pixels: int, page: int | None = None, single: bool = False) -> list[Frame]:
    """The frames of a file, or one of them.

    Args:
        source: A path, or an open file.
        max_pixels: Limit of all frames that are decoded, together.
        page: The one to read, from 1; None for all.
        single: Refuse several.

    Raises:
        ImageUnreadable, ImageTooLarge: The message says why, and what to do.
    """
    name = source.name or str(source) if isinstance(source, Path) else str(getattr(source, "name", None) or "the file")
    request = Request(name, max_pixels, page, single)
    if isinstance(source, Path):
        if not os.path.exists(source):  # unlike source.exists() also of a name that is too long
            if address := re.match(r"(\w\w+:)/?(.*)", str(source)):  # a path has one slash of two
                raise ImageUnreadable(f"{address[1]}//{address[2]} is an address: download it first.")
            raise ImageUnreadable(f"There is no file {name}.")
        if source.is_dir():
            raise ImageUnreadable(f"{name} is a folder, not a picture.")
    elif isinstance(source, io.TextIOBase):
        raise TypeError("a picture file must be opened as binary: open(path, 'rb')")
    elif getattr(source, "closed", False):
        raise ImageUnreadable(f"{name} is closed: open it again.")
    with translate_decode_errors(name):
        if isinstance(source, Path):
            with open(source, "rb") as file:
                frames = _read(file, request)
        else:
            frames = _read(source, request)
        return [metadata.upright(frame, request) for frame in frames]


def _read(file: IO[bytes], request: Request) -> list[Frame]:
    """The frames as their reader gives them; the content decides which it is."""
    if not getattr(file, "seekable", bool)():
        file = io.BytesIO(file.read())
    file.seek(0)
    head = file.read(64)
    if not head:
        raise ImageUnreadable(f"{request.name} is empty (0 bytes), or was read to its end before.")
    file.seek(0)
    if head.startswith(png.SIGNATURE):
        return png.read(file, request)
    if head.startswith(tiff_tags.SIGNATURES):
        return tiff.read(file, request)
    if head[4:8] == b"ftyp":
        return heif.read_avif(file, request) if b"avi" in head[8:] else heif.read_heif(file, request)
    try:
        image = Image.open(file, formats=FORMATS)
    except Exception:
        if not head.startswith(b"\xff\xd8"):
            raise
        file.seek(0)
        image = JpegImageFile(file)
        request.warn("its index of further pictures is damaged and is not used")
    try:
        with image:
            return from_pil(image, request)
    except OSError:
        if not head.startswith(b"\xff\xd8"):
            raise
        file.seek(0)
        content = file.read().rstrip(b"\xff")  # half of a mark
        # If all pixels are there, what follows changes none.
        ended, longer = (Image.open(io.BytesIO(content + more + b"\xff\xd9")) for more in (b"", b"\x5a" * 64))
        if not np.array_equal(np.asarray(ended), np.asarray(longer)):
            raise
    request.warn("its end is missing, behind the last pixel")
    return from_pil(ended, request)


def from_pil(image: Image.Image, request: Request) -> list[Frame]:
    """The frames of a PIL image."""
    refuse_reduced(image, request.name)
    if image.format == "PNG" and getattr(image, "n_frames", 1) == 1:
        request.choose(1, *image.size)
        image.load()  # what is said behind the pixels is known then
    info = metadata.from_pil(image)
    if image.format == "TIFF" and set(getattr(image, "tag_v2", ())) - tiff_tags.LAYOUT - tiff_tags.READ_BY_PILLOW:
        request.warn("its tags about the picture, such as EXIF, are left out: pass the path of the file to keep them")
    if metadata.has_broken_profile(image):
        request.warn("its ICC color profile is damaged and is dropped")
    if segments := metadata.left_out(image):
        request.warn(f"what other programs have put into it ({', '.join(segments)}) is left out")
    if is_only_page(image, request):
        request = Request(request.name, request.max_pixels)
        request.choose(1, *image.size)
        frames = [png.pil_frame(image, request, info)]
    else:
        frames = png.pil_frames(image, request, info)
    if image.mode == "CMYK":
        frames = [apply_cmyk_profile(frame, request) for frame in frames]
    white_is_zero = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(262) == 0
    return [replace(one, planes=np.uint16(one.maximum) - one.planes) for one in frames] if white_is_zero else frames


def save_image(
    image: "Image.Image | Frame | Picture | np.ndarray | Tensor | Sequence[Image.Image | Frame | Picture | np.ndarray]",
    path: str | os.PathLike[str],
    fast: bool = False,
) -> None:
    """Write a picture with its color profile, EXIF, XMP, resolution and text, atomically.

    PNG, TIFF and BMP are lossless, WebP is written losslessly, JPEG at quality 95 without chroma subsampling. A
    temporary file in the same folder is renamed, so that no partial picture is left behind. What the format cannot hold
    of the metadata is named in a warning.

    Args:
        image: As :class:`Denoiser` returns it, arrays too; several for a stack (TIFF) or an animation (PNG, WebP).
        path: Its extension decides the format; the folder is created if needed.
        fast: Compress PNG at the fastest level.

    Raises:
        ValueError: The format is unknown, or cannot hold the picture's depth, size, transparency or number.
        OSError: It cannot be written.
        TypeError: ``image`` is none of the above.
    """
    frames = to_frames(image)
    prepare(Path(path), frames)
    write_frames(frames, Path(path), fast)


def prepare(path: Path, frames: Sequence[Frame]) -> None:
    """Check that a file of this name can hold the frames, and name in a warning what of their metadata it cannot.

    Raises:
        ValueError: It cannot hold their depth, transparency or number.
    """
    check_format(path, frames)
    form = WRITTEN[path.suffix.lower()]
    words = metadata.lost(frames[0].info, form) + metadata.lost_of_further(frames, form)
    if words:
        _logger.warning("%s: %s cannot hold %s, which the result loses", path.name, path.suffix, ", ".join(words))


def write_frames(frames: Sequence[Frame], path: Path, fast: bool = False, overwrite: bool = True) -> None:
    """Write frames that a file of this name can hold; see :func:`save_image`.

    Raises:
        FileExistsError: There is such a file, and it is not to be overwritten.
        OSError: It cannot be written.
    """
    form = WRITTEN[path.suffix.lower()]
    if form == "WEBP" and "still" in frames[0].info:
        frames = frames[1:]
    frames = [replace(frame, info=metadata.kept(frame.info, form)) for frame in frames]
    if overwrite:
        path = Path(os.path.realpath(path))  # what a link leads to is replaced, not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not from tempfile, whose files only their owner can read. The name is unique: two processes may write one target.
    partial = path.with_name(f".partial-{uuid.uuid4().hex}{path.suffix}")
    try:
        if form == "TIFF":
            tiff.write(partial, frames)
        elif form == "PNG":
            with open(partial, "wb") as file:
                png.write(file, frames, fast)
        else:
            images = [to_pil(frame) for frame in frames]
            images[0].save(partial, form, **_options(frames, images, form))
        if form == "WEBP" and len(frames) > 1 and frames[0].has_alpha:
            _say_alpha(partial)
        if overwrite:
            with contextlib.suppress(FileNotFoundError):
                shutil.copymode(path, partial)  # whoever could not read it cannot now
            os.replace(partial, path)
        else:
            _move_to_free_name(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _move_to_free_name(partial: Path, path: Path) -> None:
    """Give a file its name, which only one of several processes can do.

    Raises:
        FileExistsError: There is a file of that name.
    """
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.replace(partial, path)


def _say_alpha(path: Path) -> None:
    """Set the flag of alpha in an animated WebP: libwebp leaves it out where the changed parts of frames are opaque."""
    with open(path, "r+b") as file:
        file.seek(20)
        flags = file.read(1)[0]
        file.seek(20)
        file.write(bytes([flags | 0x10]))


def to_frames(
    image: "Image.Image | Frame | Picture | np.ndarray | Tensor | Sequence[Image.Image | Frame | Picture | np.ndarray]",
) -> list[Frame]:
    """What :func:`save_image` takes, as frames."""
    if isinstance(image, Image.Image):
        return from_pil(image, Request("the image", 2**62))
    if isinstance(image, Sequence) and not isinstance(image, str | bytes) and image:
        return [frame for item in image for frame in to_frames(item)]
    if isinstance(image, Frame):
        return [image]
    from .picture import Picture, read  # which imports this module

    if isinstance(image, np.ndarray) or hasattr(image, "detach"):  # a tensor
        image = read(cast(Any, image), max_pixels=2**62)
    if not isinstance(image, Picture):
        known = "a PIL image, a Picture, a Frame, a numpy array, a tensor or a list of them"
        raise TypeError(f"save_image takes {known}, not {'an empty list' if image == [] else type(image).__name__}")
    return [image.to_frame()]


def to_pil(frame: Frame) -> Image.Image:
    """A frame as a PIL image.

    Raises:
        ValueError: PIL has no such images: 16-bit or floating-point pixels in more than one channel.
    """
    planes = frame.planes[..., 0] if frame.planes.shape[2] == 1 else frame.planes
    if planes.dtype.kind == "f":
        planes = planes.astype(np.float32, copy=False)
    if planes.ndim == 3 and planes.dtype != np.uint8:
        raise ValueError("PIL holds 16-bit and floating-point pixels in one channel only; use restore()")
    image = Image.fromarray(planes)
    image.info |= metadata.to_pil(frame.info)
    if planes.dtype == np.uint16 and frame.maximum != 65535:
        image.info["maximum"] = frame.maximum
    return image


def _options(frames: Sequence[Frame], images: Sequence[Image.Image], form: str) -> dict[str, Any]:
    """Pillow's options for the formats that it writes."""
    info = frames[0].info
    if form == "JPEG":
        return {"quality": 95, "subsampling": 0} | metadata.jpeg_options(info)
    if form == "BMP":
        given = metadata.to_pil(info)
        return {"dpi": given.get("dpi", (0, 0))}  # 0 is unknown, where Pillow would say 96
    # exact: the colors under full transparency too
    options = {"lossless": True, "exact": True} | {k: info[k] for k in ("icc_profile", "exif", "xmp") if k in info}
    if len(images) > 1:
        options |= {"save_all": True, "append_images": list(images[1:])} | png.animation_options(frames, whole=True)
    return options


def check_format(path: Path, frames: Sequence[Frame] = ()) -> None:
    """Raise ValueError if a file of this name cannot hold these frames."""
    form = WRITTEN.get(path.suffix.lower())
    if form is None:
        raise ValueError(f"cannot tell the format from {path.name!r}; use one of {', '.join(EXTENSIONS)}")
    for frame in frames:
        if (side := max(frame.planes.shape[:2])) > (limit := _MAX_SIDE.get(form, side)):
            raise ValueError(f"{path.suffix} cannot hold {side} pixels a side, {limit} at most; PNG and TIFF can")
        if frame.planes.dtype.kind == "f" and form != "TIFF":
            raise ValueError(f"{path.suffix} cannot hold floating point; write {path.stem}.tif instead")
        if frame.planes.dtype == np.uint16 and form not in ("PNG", "TIFF"):
            raise ValueError(f"{path.suffix} cannot hold 16 bits; write {path.stem}.png or .tif instead")
        if frame.has_alpha and form in ("JPEG", "BMP"):
            raise ValueError(f"{path.suffix} cannot hold transparency; write {path.stem}.png instead")
    deep = any(frame.planes.dtype != np.uint8 for frame in frames)
    if len(frames) > 1 and (form in ("JPEG", "BMP") or (form != "TIFF" and deep)):
        raise ValueError(f"{path.suffix} cannot hold {len(frames)} such pages; write {path.stem}.tif instead")
    equal = any(np.array_equal(one.planes, other.planes) for one, other in itertools.pairwise(frames))
    if form != "TIFF" and equal and "duration" not in frames[0].info:  # an animation shows them as one for longer
        raise ValueError(f"{path.suffix} cannot hold equal pages one by one; write {path.stem}.tif instead")
    if len(frames) > 1 and form != "TIFF" and len({frame.planes.shape for frame in frames}) > 1:
        raise ValueError(
            f"{path.suffix} cannot hold pages of different sizes or kinds of color; write {path.stem}.tif instead"
        )
