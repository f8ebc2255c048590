"""Picture files: the formats that are read and written, what each can hold, errors of damaged files."""

import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import ImageTooLarge, ImageUnreadable

# Formats that are read without loss. Of others, Pillow may reduce some to 8 bits silently (PPM, JPEG 2000, AVIF, SGI),
# and run an external program for some (EPS).
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")

JPEG_EXTENSIONS = (".jpg", ".jpeg", ".jfif")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".webp", ".bmp")
"""Extensions of the formats that :func:`save_image` writes."""


@contextmanager
def translate_decode_errors(name: str) -> Generator[None, None, None]:
    """What Pillow raises on a bad file, as errors of this package. Its decoders may raise any type of exception."""
    try:
        yield
    except (ImageUnreadable, ImageTooLarge):
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise ImageUnreadable(f"{name} is not a picture, or not {known}. Save it as PNG first.") from error
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f"{name} unpacks to far more pixels than any photograph: {error}") from error
    except PermissionError as error:
        raise ImageUnreadable(f"No permission to read {name}.") from error
    except Exception as error:
        raise ImageUnreadable(f"{name} is damaged or truncated: {error}") from error


def save_image(image: Image.Image, path: str | os.PathLike[str], fast: bool = False) -> None:
    """Write a picture with its color profile, EXIF, XMP and resolution, atomically.

    PNG, TIFF and BMP are lossless, WebP is written losslessly, JPEG at quality 95 without chroma subsampling. A
    temporary file in the same folder is renamed, so that no partial picture is left behind.

    Args:
        image: As :class:`Denoiser` returns it.
        path: Its extension decides the format; the folder is created if needed.
        fast: Compress PNG at the fastest level.

    Raises:
        ValueError: The format is unknown, or cannot hold the picture's depth or transparency.
        OSError: It cannot be written.
    """
    path = Path(path)
    check_format(path, image.mode)
    extension = path.suffix.lower()
    kept = {".webp": ("icc_profile", "exif", "xmp"), ".bmp": ("dpi",)}
    kept |= dict.fromkeys(JPEG_EXTENSIONS, ("icc_profile", "exif", "dpi", "xmp"))
    options = {k: image.info[k] for k in kept.get(extension, ("icc_profile", "exif", "dpi")) if k in image.info}
    if extension in JPEG_EXTENSIONS:
        options |= {"quality": 95, "subsampling": 0}
    elif extension == ".webp":
        options |= {"lossless": True, "exact": True}  # exact: the colors under full transparency too
    elif extension == ".png" and fast:
        options |= {"compress_level": 1}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not from tempfile, whose files only their owner can read. The name is unique: two processes may write one target.
    partial = path.with_name(f".partial-{uuid.uuid4().hex}{path.suffix}")
    try:
        image.save(partial, **options)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_format(path: Path, mode: str = "L") -> None:
    """Raise ValueError if a file of this name cannot hold a picture of this PIL mode."""
    extension = path.suffix.lower()
    if extension not in EXTENSIONS:
        raise ValueError(f"cannot tell the format from {path.name!r}; use one of {', '.join(EXTENSIONS)}")
    if mode.startswith("I;16") and extension not in (".png", ".tif", ".tiff"):
        raise ValueError(f"{extension} cannot hold 16 bits; write {path.stem}.png or .tif instead")
    if mode == "F" and extension not in (".tif", ".tiff"):
        raise ValueError(f"{extension} cannot hold floating point; write {path.stem}.tif instead")
    if mode in ("LA", "RGBA") and extension in (*JPEG_EXTENSIONS, ".bmp"):
        raise ValueError(f"{extension} cannot hold transparency; write {path.stem}.png instead")
