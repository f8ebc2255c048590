"""TIFF: depths, layouts, compressions and stacks, by tifffile."""

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from ..errors import ImageTooLarge, ImageUnreadable
from . import metadata
from .frame import DEPTHS, Frame, Request, apply_cmyk_profile
from .tiff_tags import IPTC, LAYOUT, XMP, Directory, append_directories, parse_exif, read_info

_PICTURES = {6, 7, 33003, 33004, 33005, 33007, 34712, 34892, 34927, 34933, 50001}  # JPEG, JPEG 2000, WebP, PNG
_UNCHECKED = {22610, 34887, 34934, 50002, 52546}  # JPEG XR, LERC, JPEG XL


def read(file: IO[bytes], request: Request) -> list[Frame]:
    """All pages of a TIFF, or the one that is requested; thumbnails, masks and pyramid levels are none."""
    with tifffile.TiffFile(file, name=request.name, _multifile=False) as tif:
        stored = _pages(tif, request)
        first = stored[0][0]
        chosen = request.choose(
            sum(count for _, count, _ in stored), first.imagewidth, first.imagelength, min(first.samplesperpixel, 9)
        )
        frames, parts, start = [], [], 0
        for page, count, series in stored:
            wanted = [index - start for index in chosen if start <= index < start + count]
            start += count
            if wanted:
                Request(request.name, request.max_pixels).choose(len(wanted), page.imagewidth, page.imagelength)
                parts.append((page, count, series, wanted))
        pixels = sum(len(wanted) * page.imagewidth * page.imagelength for page, _, _, wanted in parts)
        request.check_size(pixels, f"{len(chosen)} pages of")
        for page, count, series, wanted in parts:
            _check_segments(tif, page, request)
            values = _decode(page if series is None else series, page, count)
            info = read_info(
                page, file, request, request.page is not None and (tif.is_imagej or tif.is_ome or tif.is_shaped)
            )
            frames.append(_frame(values[wanted[0]], page, info, request))
            for index in wanted[1:]:
                frame = metadata.upright(_frame(values[index], page, info, request), request)
                about = {key: value for key, value in frame.info.items() if key != "exif"}  # the stack has it once
                frames.append(replace(frame, info=about))
        if stored[0][0].tags.get("MaxSampleValue") is None:
            frames = _twelve_bits(frames, first.photometric == 0, request)
        return frames


def _pages(tif: tifffile.TiffFile, request: Request) -> list[tuple[Any, int, Any]]:
    """Pages as (page, number of frames in it, series that holds them if they are more than one)."""
    pages = [page.aspage() for page in tif.pages]
    if not pages:
        raise ImageUnreadable(f"{request.name} has no pages: it is damaged or truncated.")
    pages = [page for page in pages if not (page.is_reduced or page.is_mask)]
    if not pages:
        raise ImageUnreadable(f"{request.name} holds reduced versions of a picture only: a raw file? Develop it first.")
    stacks: dict[int, tuple[int, Any]] = {}
    levels: set[int] = set()
    try:
        for series in tif.series:
            levels |= {page.offset for level in series.levels[1:] for page in level.pages if page}
            count = series.size // max(1, series.keyframe.size)
            if count > 1 and len(pages) < count and series.kind in ("imagej", "shaped", "stk"):
                stacks[series.keyframe.offset] = count, series  # they store a whole stack behind one header
    except Exception as error:
        request.warn(f"what it says about how its pages belong together is damaged ({error}) and is not used")
    pages = [page for page in pages if page.offset not in levels]
    return [(page, *stacks.get(page.offset, (1, None))) for page in pages]


def _check_segments(tif: tifffile.TiffFile, page: tifffile.TiffPage, request: Request) -> None:
    """Refuse strips and tiles that are pictures with a size of their own, and one much larger than the tags say.

    Their decoders take memory for the size that they say: a few kilobytes can ask for gigabytes.
    """
    if page.imagedepth > 1:
        raise ImageUnreadable(
            f"{request.name} holds a volume of {page.imagedepth} planes in one page (ImageDepth). Save each as a page."
        )
    if page.compression in _UNCHECKED:
        raise ImageUnreadable(f"{request.name} is compressed by {page.compression!s}; save it with LZW or Deflate.")
    if page.compression not in _PICTURES:
        return
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    height = min(height, page.imagelength) if not page.is_tiled else height
    for segment, _ in tif.filehandle.read_segments(page.dataoffsets, page.databytecounts, flat=True):
        if isinstance(segment, bytes) and segment:
            try:
                part = Image.open(io.BytesIO(segment), formats=["JPEG", "JPEG2000", "WEBP", "PNG"])
            except UnidentifiedImageError as error:
                raise ImageUnreadable(
                    f"{request.name} holds JPEG of 12 bits, or lossless, or damaged; save it with LZW or Deflate."
                ) from error
            with part:
                if part.width * part.height > 4 * height * width + 4096:
                    raise ImageTooLarge(
                        f"{request.name} has a tile of {part.width} x {part.height} pixels, not as said."
                    )


def _decode(stored: Any, page: tifffile.TiffPage, count: int) -> np.ndarray:
    """Pixels of a page or series as (frame, H, W, C)."""
    values = np.asarray(stored.asarray())
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    if planar:
        values = np.moveaxis(values.reshape(-1, page.samplesperpixel, page.imagelength, page.imagewidth), 1, -1)
    return values.reshape(count, page.imagelength, page.imagewidth, -1)


def _frame(planes: np.ndarray, page: tifffile.TiffPage, info: dict[str, Any], request: Request) -> Frame:
    """A decoded page as gray or RGB, 0 black."""
    if planes.dtype.kind == "b":
        planes = planes.astype(np.uint8)
    planes = planes.astype(planes.dtype.newbyteorder("="), copy=False)
    if planes.dtype not in DEPTHS:
        raise ImageUnreadable(
            f"{request.name} has samples of type {planes.dtype}; expected 1 to 16 bits without sign, or floats."
        )
    kind = getattr(page.photometric, "name", str(page.photometric))
    if "PhotometricInterpretation" not in page.tags:
        kind = "RGB" if planes.shape[2] > 2 else "MINISBLACK"
        request.warn(f"it does not say what its colors are; {'RGB' if kind == 'RGB' else 'gray'} is taken")
    if planes.dtype.kind == "f":
        maximum = 1.0
    else:
        declared = page.tags.valueof("MaxSampleValue")
        declared = declared[0] if isinstance(declared, tuple) else declared
        sizes = {page.bitspersample} if isinstance(page.bitspersample, int) else set(page.bitspersample)
        # Samples of different sizes come out of tifffile as whole bytes.
        maximum = float(2 ** (sizes.pop() if len(sizes) == 1 else 8 * planes.dtype.itemsize) - 1)
        if isinstance(declared, int) and int(planes.max()) <= declared in (1023, 4095, 16383) and kind != "PALETTE":
            maximum = float(declared)
    colors = {"MINISBLACK": 1, "MINISWHITE": 1, "PALETTE": 1, "RGB": 3, "YCBCR": 3, "SEPARATED": 4}.get(kind)
    if colors is None or planes.shape[2] < colors or (kind == "YCBCR" and page.compression not in (6, 7, 34892, 33007)):
        raise ImageUnreadable(f"{request.name} has color model {kind}; convert it to RGB or gray first.")
    if planes.shape[2] > colors + 1:
        raise ImageUnreadable(f"{request.name} has {planes.shape[2]} channels; expected gray, RGB or CMYK, and alpha.")
    if planes.shape[2] > colors and (not page.extrasamples or page.extrasamples[0] == 0):
        request.warn("its last channel is not said to be alpha; it is kept as alpha")
    if kind == "MINISWHITE":
        planes = np.concatenate([maximum - planes[..., :1], planes[..., 1:]], axis=2).astype(planes.dtype)
    if kind == "PALETTE":
        table = np.asarray(page.colormap, np.uint16).T
        table = table >> 8 if table.max() > 255 else table  # some programs wrote 8 bits
        planes, maximum = table[planes[..., 0]].astype(np.uint8), 255.0
    if planes.dtype == np.uint8 and maximum != 255:
        planes, maximum = np.rint(planes * np.float32(255 / maximum)).astype(np.uint8), 255.0
    frame = Frame(planes, maximum, info)
    if kind == "SEPARATED":
        frame = apply_cmyk_profile(frame, request)
    if frame.has_alpha and page.extrasamples and page.extrasamples[0] == 1:  # associated alpha
        frame = _divide_by_alpha(frame)
    return frame


def _divide_by_alpha(frame: Frame) -> Frame:
    """Colors that alpha is multiplied into, as they are without."""
    color, alpha = frame.planes[..., :-1].astype(np.float32), frame.planes[..., -1:].astype(np.float32)
    color = np.divide(color * frame.maximum, alpha, out=color, where=alpha > 0)
    if frame.planes.dtype.kind == "u":
        color = np.rint(np.clip(color, 0, frame.maximum))
    return replace(frame, planes=np.concatenate([color, alpha], axis=2).astype(frame.planes.dtype))


def _twelve_bits(frames: list[Frame], white_is_zero: bool, request: Request) -> list[Frame]:
    """Frames of 16 bits whose values end at 10, 12 or 14 bits, as cameras and microscopes write them.

    ``white_is_zero`` says that they were stored with white at 0.
    """
    if any(frame.maximum != 65535 for frame in frames):
        return frames
    if white_is_zero and any(frame.has_alpha for frame in frames):
        return frames
    highest = max(65535 - int(one.planes.min()) if white_is_zero else int(one.planes.max()) for one in frames)
    for bits in (10, 12, 14):
        if 2 ** (bits - 1) <= highest < 2**bits:
            request.warn(f"its values end at {highest}: white is taken to be {2**bits - 1} ({bits} bits in 16)")
            shift = np.uint16(65536 - 2**bits if white_is_zero else 0)
            return [replace(one, planes=one.planes - shift, maximum=float(2**bits - 1)) for one in frames]
    return frames


def write(path: Path, frames: Sequence[Frame]) -> None:
    """Write frames as the pages of a TIFF, uncompressed, each with its tags, in the byte order that its EXIF has."""
    order = parse_exif(frames[0].info.get("exif", b""))[0]
    blocks = [parse_exif(frame.info.get("exif", b""), order) for frame in frames]
    with tifffile.TiffWriter(path, byteorder=">" if order == ">" else "<") as tif:
        for frame, (_, root, parts) in zip(frames, blocks):
            _write_page(tif, frame, root, list(parts))
    if any(parts for _, _, parts in blocks):
        append_directories(path, [parts for _, _, parts in blocks])


def _write_page(tif: tifffile.TiffWriter, frame: Frame, root: Directory, pointers: Sequence[int]) -> None:
    planes, info = frame.planes, frame.info
    channels = planes.shape[2]
    extra: list[Any] = []
    for tag, (kind, data) in root.items():
        if tag not in LAYOUT and kind < 13:
            # tifffile counts packed fractions as twice as many
            fraction = {5: "I", 10: "i"}.get(kind)
            value = struct.unpack(f"{tif.tiff.byteorder}{len(data) // 4}{fraction}", data) if fraction else data
            extra.append((tag, kind, len(data) // 8, value, True))
    extra += [(pointer + 1, 4, 1, 0, True) for pointer in pointers]
    if frame.planes.dtype == np.uint16 and frame.maximum != 65535:
        extra.append((281, 3, channels, [int(frame.maximum)] * channels if channels > 1 else int(frame.maximum), True))
    extra += [(tag, 1, len(info[key]), info[key], True) for tag, key in ((XMP, "xmp"), (IPTC, "iptc")) if key in info]
    x, y, unit = info.get("resolution", (1, 1, 1))
    tif.write(
        planes[..., 0] if channels == 1 else planes,
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if frame.has_alpha else None,
        resolution=(x, y),
        resolutionunit=unit,
        iccprofile=info.get("icc_profile"),
        description=None,
        software=False,
        metadata=None,
        contiguous=False,
        extratags=extra,
    )
