"""Tags of TIFF that are about the picture: read as an EXIF block, and written from one, byte for byte.

Pillow would read their text as Latin-1, write "?" for all beyond ASCII, and guess the types of those in EXIF and GPS.
"""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile

from .frame import Request

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_HEADERS = {"<": b"II*\0\x08\0\0\0", ">": b"MM\0*\0\0\0\x08"}
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
XMP, IPTC, ICC = 700, 33723, 34675
# Tags about the layout of the pixels, which is written anew. All others are about the picture.
LAYOUT: set[int] = {*range(254, 270), *range(273, 274), *range(277, 285), *range(287, 294), 296, 297, 301, 317}
LAYOUT |= {*range(320, 333), *range(336, 344), 347, *range(512, 522), *range(529, 533), XMP, ICC, EXIF_IFD, GPS_IFD}
LAYOUT |= {40965, 50706, 50707}
READ_BY_PILLOW = {281, 282, 283, 296, 33723}
"""Tags beyond the layout that an image which Pillow opened is asked for: white, resolution, IPTC."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 18: 8}
"""Bytes of a value of each type; from 13 on they point to places in the file."""

Directory = dict[int, tuple[int, bytes]]
"""Tags as (type, values as they are stored)."""

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
    except Exception as error:  # of damaged files any type of exception
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
    header = file.read(4)
    order, big = (">" if header.startswith(b"MM") else "<"), 43 in header
    root = _directory(file, order, page.offset, big)
    parts = _parts(file, order, root, big)
    kept = {tag: stored for tag, stored in root.items() if tag not in without and stored[0] < 13}
    if 270 in kept:  # how tifffile says that a stack follows one header; it no longer does
        kept[270] = kept[270][0], kept[270][1].replace(b', "truncated": true', b"")
    if not kept and not parts:
        return None
    end = 8 + len(_packed(kept | dict.fromkeys(parts, (4, bytes(4))), order, 8))
    behind = b""
    for pointer, part in parts.items():
        kept[pointer] = 4, struct.pack(order + "I", end + len(behind))
        behind += _packed(part, order, end + len(behind))
    return b"Exif\0\0" + _HEADERS[order] + _packed(kept, order, 8) + behind


def _directory(file: IO[bytes], order: str, offset: int, big: bool = False) -> Directory:
    """The tags of a directory, without those of unknown types and those beyond the end of the file.

    Together they take no more than the file: thousands that all point to the same bytes would fill the memory.
    """
    length = room = file.seek(0, 2)
    file.seek(offset)
    count = _integer(file.read(8 if big else 2), order)
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    table = file.read(min(count, 65_535) * entry.size)
    found: Directory = {}
    for tag, kind, number, data in entry.iter_unpack(table[: len(table) // entry.size * entry.size]):
        size = number * _SIZES.get(kind, 0)
        if size > len(data):
            start = _integer(data, order)
            if start + size > length or size > room:
                continue
            room -= size
            file.seek(start)
            data = file.read(size)
        if size:  # of equal tags the first: tifffile adds its own description behind that of the user
            found.setdefault(tag, (kind, data[:size]))
    return found


def _parts(file: IO[bytes], order: str, root: Directory, big: bool = False) -> dict[int, Directory]:
    """EXIF and GPS, without the pointer to the directory of interoperability, which says nothing but "R98"."""
    found: dict[int, Directory] = {}
    for pointer in (EXIF_IFD, GPS_IFD):
        if pointer in root and root[pointer][0] in (4, 13, 16, 18):
            part = _directory(file, order, _integer(root[pointer][1], order), big)
            found[pointer] = {tag: stored for tag, stored in part.items() if tag != 40965}
    return found


def _integer(data: bytes, order: str) -> int:
    return int.from_bytes(data, "big" if order == ">" else "little")


def _packed(directory: Directory, order: str, start: int) -> bytes:
    """A directory with its values, to be stored at ``start``."""
    end = start + 2 + 12 * len(directory) + 4
    table, values = struct.pack(order + "H", len(directory)), b""
    for tag, (kind, data) in sorted(directory.items()):
        value = data.ljust(4, b"\0")
        if len(data) > 4:
            value = struct.pack(order + "I", end + len(values))
            values += data + bytes(len(data) % 2)
        table += struct.pack(order + "HHI", tag, kind, len(data) // _SIZES[kind]) + value
    return table + bytes(4) + values


def parse_exif(exif: bytes, order: str | None = None) -> tuple[str, Directory, dict[int, Directory]]:
    """An EXIF block as byte order, its tags, and those of EXIF and GPS in it, with values in ``order`` ("<", ">")."""
    file = io.BytesIO(exif.removeprefix(b"Exif\0\0"))
    header = file.read(8)
    if header[:4] not in SIGNATURES[:2]:
        return order or "<", {}, {}
    own = ">" if header.startswith(b"MM") else "<"
    root = _directory(file, own, _integer(header[4:], own))
    parts = _parts(file, own, root)
    if order in (None, own):
        return own, root, parts
    return order, _swapped(root), {pointer: _swapped(part) for pointer, part in parts.items()}


def _swapped(directory: Directory) -> Directory:
    """The tags in the other byte order."""
    units = _SIZES | {5: 4, 10: 4}  # a fraction is two numbers
    return {
        tag: (kind, np.frombuffer(data, f"u{units[kind]}").byteswap().tobytes())
        for tag, (kind, data) in directory.items()
    }


def append_directories(path: Path, blocks: Sequence[dict[int, Directory]]) -> None:
    """Write the directories of EXIF and GPS behind the pages, and point to them.

    tifffile drops these pointers, so they are written as tags of the next number, which is nobody's, and renamed.
    """
    with open(path, "r+b") as file, tifffile.TiffFile(file) as tif:
        for page, parts in zip(tif.pages, blocks):
            for pointer, part in parts.items():
                start = file.seek(0, 2)
                start += file.write(bytes(start % 2))
                file.write(_packed(part, tif.byteorder, start))
                tag = page.aspage().tags[pointer + 1]
                file.seek(tag.offset)
                file.write(struct.pack(tif.byteorder + "H", pointer))
                file.seek(tag.valueoffset)
                file.write(struct.pack(tif.byteorder + "I", start))
