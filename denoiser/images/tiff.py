"""TIFF: depths, layouts, compressions and stacks, by tifffile; EXIF by Pillow."""

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ..errors import ImageTooLarge, ImageUnreadable
from .frame import DEPTHS, Frame, Request, apply_cmyk_profile

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
_XMP, _ICC = 700, 34675
# Tags about the layout of the pixels, which is written anew. All others are about the picture.
_LAYOUT = {*range(254, 270), *range(273, 274), *range(277, 285), *range(287, 294), 296, 297, 301, 317}
_LAYOUT |= {*range(320, 333), *range(336, 344), 347, *range(512, 522), *range(529, 533), _XMP, _ICC, EXIF_IFD, GPS_IFD}
_LAYOUT |= {40965, 50706, 50707}
_PICTURES = {6, 7, 33003, 33004, 33005, 33007, 34712, 34892, 34927, 34933, 50001}  # JPEG, JPEG 2000, WebP, PNG
_UNCHECKED = {22610, 34887, 34934, 50002, 52546}  # JPEG XR, LERC, JPEG XL
_OF_STACKS = {270, 50838, 50839}  # what ImageJ, OME and tifffile say about the dimensions, and about each plane


def read(file: IO[bytes], request: Request) -> list[Frame]:
    """All pages of a TIFF, or the one that is requested; thumbnails, masks and pyramid levels are none."""
    with tifffile.TiffFile(file, _multifile=False) as tif:
        stored = _pages(tif, request)
        first = stored[0][0]
        chosen = request.choose(
            sum(count for _, count, _ in stored), first.imagewidth, first.imagelength, min(first.samplesperpixel, 9)
        )
        frames, start = [], 0
        for page, count, series in stored:
            wanted = [index - start for index in chosen if start <= index < start + count]
            start += count
            if not wanted:
                continue
            Request(request.name, request.max_pixels).choose(len(wanted), page.imagewidth, page.imagelength)
            _check_segments(tif, page, request)
            values = _decode(page if series is None else series, page, count)
            info = _info(
                page, file, request, request.page is not None and (tif.is_imagej or tif.is_ome or tif.is_shaped)
            )
            frames.append(_frame(values[wanted[0]], page, info, request))
            info = {key: value for key, value in info.items() if key != "exif"}  # which the whole stack has once
            frames += [_frame(values[index], page, info, request) for index in wanted[1:]]
        if stored[0][0].tags.get("MaxSampleValue") is None:
            frames = _twelve_bits(frames, request)
        return frames


def _pages(tif: tifffile.TiffFile, request: Request) -> list[tuple[Any, int, Any]]:
    """Pages as (page, number of frames in it, series that holds them if they are more than one)."""
    pages = [page.aspage() for page in tif.pages]
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
    if page.compression in _UNCHECKED:
        raise ImageUnreadable(f"{request.name} is compressed by {page.compression!s}; save it with LZW or Deflate.")
    if page.compression not in _PICTURES:
        return
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    height = min(height, page.imagelength) if not page.is_tiled else height
    for segment, _ in tif.filehandle.read_segments(page.dataoffsets, page.databytecounts, flat=True):
        if isinstance(segment, bytes) and segment:
            with Image.open(io.BytesIO(segment), formats=["JPEG", "JPEG2000", "WEBP", "PNG"]) as part:
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
    if planes.dtype.kind == "f":
        maximum = 1.0
    else:
        declared = page.tags.valueof("MaxSampleValue")
        declared = declared[0] if isinstance(declared, tuple) else declared
        bits = page.bitspersample if isinstance(page.bitspersample, int) else page.bitspersample[0]
        maximum = float(2**bits - 1)
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
        table = np.asarray(page.colormap, np.uint16).T >> 8
        planes, maximum = table[planes[..., 0]].astype(np.uint8), 255.0
    if planes.dtype == np.uint8 and maximum != 255:
        planes, maximum = (planes.astype(np.uint16) * 255 // int(maximum)).astype(np.uint8), 255.0
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


def _twelve_bits(frames: list[Frame], request: Request) -> list[Frame]:
    """Frames of 16 bits whose values end at 10, 12 or 14 bits, as cameras and microscopes write them."""
    if any(frame.maximum != 65535 for frame in frames):
        return frames
    highest = max(int(frame.planes.max()) for frame in frames)
    for bits in (10, 12, 14):
        if 2 ** (bits - 1) <= highest < 2**bits:
            request.warn(f"its values end at {highest}: white is taken to be {2**bits - 1} ({bits} bits in 16)")
            return [replace(frame, maximum=float(2**bits - 1)) for frame in frames]
    return frames


def _info(page: tifffile.TiffPage, file: IO[bytes], request: Request, part: bool) -> dict[str, Any]:
    """What the tags of a page say; a damaged tag is left out, and of a ``part`` of a stack what describes the whole."""
    info: dict[str, Any] = {}
    x, y = (_ratio(page.tags.valueof(name)) for name in ("XResolution", "YResolution"))
    if x and y:
        unit = page.tags.valueof("ResolutionUnit", default=2)
        info["resolution"] = (x, y, int(unit) if unit in (1, 2, 3) else 2)
    if info.get("resolution") == (1, 1, 1):  # one pixel a pixel: what is written where nothing is known
        del info["resolution"]
    for tag, key in ((_ICC, "icc_profile"), (_XMP, "xmp")):
        value = page.tags.valueof(tag)
        if isinstance(value, str):
            value = value.encode()
        if isinstance(value, bytes) and value:
            info[key] = value
    try:
        exif = _exif(page, file, _LAYOUT | _OF_STACKS if part else _LAYOUT)
        if exif is not None:
            info["exif"] = exif
    except Exception as error:  # Pillow raises nearly anything on tags of the wrong type
        request.warn(f"its tags about the picture are damaged ({error}) and are dropped")
    return info


def _ratio(value: Any) -> float | None:
    try:
        return float(value[0]) / float(value[1])
    except (TypeError, ValueError, ZeroDivisionError, IndexError, KeyError):
        return None


def _exif(page: tifffile.TiffPage, file: IO[bytes], without: set[int]) -> bytes | None:
    """The tags about the picture, and EXIF and GPS, as an EXIF block in the byte order of the file."""
    file.seek(0)
    header = file.read(16)
    root = _directory(file, header, page.offset)
    start = b"II*\0\x08\0\0\0" if header.startswith(b"II") else b"MM\0*\0\0\0\x08"
    kept = ImageFileDirectory_v2(start)
    for tag in root:
        if tag not in without:
            kept.tagtype[tag] = root.tagtype[tag]
            kept[tag] = root[tag]
    if isinstance(kept.get(270), str):  # how tifffile says that a stack follows one header; it no longer does
        kept[270] = kept[270].replace(', "truncated": true', "")
    for pointer in (EXIF_IFD, GPS_IFD):
        if isinstance(root.get(pointer), int):
            kept[pointer] = _subdirectory(file, header, root[pointer])
    return b"Exif\0\0" + start + kept.tobytes(8) if len(kept) else None


def _directory(file: IO[bytes], header: bytes, offset: int) -> ImageFileDirectory_v2:
    directory = ImageFileDirectory_v2(header[: 16 if header[2:4] in (b"+\0", b"\0+") else 8])
    file.seek(offset)
    directory.load(file)
    return directory


def _subdirectory(file: IO[bytes], header: bytes, offset: int) -> dict[int, Any]:
    """A directory without its pointer to that of interoperability, which says nothing but "R98"."""
    return {tag: value for tag, value in _directory(file, header, offset).items() if tag != 40965}


def write(path: Path, frames: Sequence[Frame]) -> None:
    """Write frames as the pages of a TIFF, uncompressed, each with its tags, in the byte order that its EXIF has."""
    blocks = [_parse(frame.info.get("exif", b"")) for frame in frames]
    big = blocks[0] is not None and blocks[0][0].startswith(b"MM")
    with tifffile.TiffWriter(path, byteorder=">" if big else "<") as tif:
        for frame, block in zip(frames, blocks):
            _write_page(tif, frame, block[1] if block else {})
    directories = [block[1] if block else {} for block in blocks]
    if any(pointer in directory for directory in directories for pointer in (EXIF_IFD, GPS_IFD)):
        _append_directories(path, directories)


def _write_page(tif: tifffile.TiffWriter, frame: Frame, directory: Any) -> None:
    planes, info = frame.planes, frame.info
    channels = planes.shape[2]
    extra = [_extratag(tag, directory.tagtype[tag], directory[tag]) for tag in directory if tag not in _LAYOUT]
    extra += [(pointer + 1, 4, 1, 0, True) for pointer in (EXIF_IFD, GPS_IFD) if pointer in directory]
    if frame.planes.dtype == np.uint16 and frame.maximum != 65535:
        extra.append((281, 3, channels, [int(frame.maximum)] * channels if channels > 1 else int(frame.maximum), True))
    if "xmp" in info:
        extra.append((_XMP, 1, len(info["xmp"]), info["xmp"], True))
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
        extratags=[tag for tag in extra if tag is not None],
    )


def _parse(exif: bytes) -> tuple[bytes, ImageFileDirectory_v2] | None:
    """The byte order and the root directory of an EXIF block."""
    file = io.BytesIO(exif.removeprefix(b"Exif\0\0"))
    header = file.read(8)
    if header[:4] not in SIGNATURES:
        return None
    directory = _directory(file, header, int.from_bytes(header[4:], "big" if header.startswith(b"MM") else "little"))
    for pointer in (EXIF_IFD, GPS_IFD):
        if isinstance(directory.get(pointer), int):
            directory[pointer] = _subdirectory(file, header, directory[pointer])
    return header, directory


def _extratag(tag: int, kind: int, value: Any) -> tuple[int, int, int, Any, bool] | None:
    """A tag as tifffile takes it; None for the types that it cannot write."""
    if kind == 2:
        text = value.encode() if isinstance(value, str) else value
        return tag, 2, len(text) + 1, text, True
    if kind in (1, 7) and isinstance(value, bytes):
        return tag, kind, len(value), value, True
    values: list[Any] = list(value) if isinstance(value, tuple) else [value]
    if kind in (5, 10):
        return tag, kind, len(values), [part for item in values for part in (item.numerator, item.denominator)], True
    return (tag, kind, len(values), values if len(values) > 1 else values[0], True) if kind in range(1, 13) else None


def _append_directories(path: Path, directories: Sequence[Any]) -> None:
    """Write the directories of EXIF and GPS behind the pages, and point to them.

    tifffile drops these pointers, so they are written as tags of the next number, which is nobody's, and renamed.
    """
    with open(path, "r+b") as file, tifffile.TiffFile(file) as tif:
        for page, directory in zip(tif.pages, directories):
            for pointer in (EXIF_IFD, GPS_IFD):
                if pointer in directory:
                    part = ImageFileDirectory_v2(
                        b"MM\0*\0\0\0\x08" if tif.byteorder == ">" else b"II*\0\x08\0\0\0", group=pointer
                    )
                    for tag, value in directory[pointer].items():
                        part[tag] = value
                    start = file.seek(0, 2)
                    start += file.write(bytes(start % 2))
                    file.write(part.tobytes(start))
                    tag = page.aspage().tags[pointer + 1]
                    file.seek(tag.offset)
                    file.write(struct.pack(tif.byteorder + "H", pointer))
                    file.seek(tag.valueoffset)
                    file.write(struct.pack(tif.byteorder + "I", start))
