"""Tags of TIFF that are about the picture: read as an EXIF block, and written from one, by Pillow and tifffile."""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import tifffile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .frame import Request

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
XMP, IPTC, ICC = 700, 33723, 34675
# Tags about the layout of the pixels, which is written anew. All others are about the picture.
LAYOUT = {*range(254, 270), *range(273, 274), *range(277, 285), *range(287, 294), 296, 297, 301, 317}
LAYOUT |= {*range(320, 333), *range(336, 344), 347, *range(512, 522), *range(529, 533), XMP, ICC, EXIF_IFD, GPS_IFD}
LAYOUT |= {40965, 50706, 50707}
_OF_STACKS = {270, 50838, 50839}  # what ImageJ, OME and tifffile say about the dimensions, and about each plane


def read_info(page: tifffile.TiffPage, file: IO[bytes], request: Request, part: bool) -> dict[str, Any]:
    """What the tags of a page say; a damaged tag is left out, and of a ``part`` of a stack what describes the whole."""
    info: dict[str, Any] = {}
    x, y = (_ratio(page.tags.valueof(name)) for name in ("XResolution", "YResolution"))
    if x and y:
        unit = page.tags.valueof("ResolutionUnit", default=2)
        info["resolution"] = (x, y, int(unit) if unit in (1, 2, 3) else 2)
    if info.get("resolution") == (1, 1, 1):  # one pixel a pixel: what is written where nothing is known
        del info["resolution"]
    for tag, key in ((ICC, "icc_profile"), (XMP, "xmp")):
        value = page.tags.valueof(tag)
        if isinstance(value, str):
            value = value.encode()
        if isinstance(value, bytes) and value:
            info[key] = value
    try:
        exif = _exif(page, file, LAYOUT | _OF_STACKS if part else LAYOUT)
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
    if header.startswith(b"MM\0+"):  # a BigTIFF, which Pillow does not see in this byte order
        directory = ImageFileDirectory_v2(header[:8])
        directory._bigtiff = True
    else:
        directory = ImageFileDirectory_v2(header[: 16 if header.startswith(b"II+\0") else 8])
    file.seek(offset)
    directory.load(file)
    return directory


def _subdirectory(file: IO[bytes], header: bytes, offset: int) -> dict[int, Any]:
    """A directory without its pointer to that of interoperability, which says nothing but "R98"."""
    return {tag: value for tag, value in _directory(file, header, offset).items() if tag != 40965}


def parse_exif(exif: bytes) -> tuple[bytes, ImageFileDirectory_v2] | None:
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


def as_extratag(tag: int, kind: int, value: Any) -> tuple[int, int, int, Any, bool] | None:
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


def append_directories(path: Path, directories: Sequence[Any]) -> None:
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
