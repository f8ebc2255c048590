"""What a file says about its pixels: profile, EXIF, XMP, resolution, text; and which format can hold which of it."""

import hashlib
import io
import re
import struct
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

from .frame import Frame, Request

LABELS = {
    "icc_profile": "ICC color profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "xmp_extended": "extended XMP",
    "iptc": "IPTC",
    "resolution": "resolution",
    "gamma": "gAMA",
    "chromaticity": "cHRM",
    "srgb": "sRGB",
    "cicp": "cICP",
    "mdcv": "mDCV",
    "clli": "cLLI",
    "text": "text",
    "comment": "comment",
    "duration": "frame times",
    "loop": "loop count",
    "still": "the picture that stands for the animation",
}
"""The keys of :attr:`Frame.info`, as messages name them.

``resolution`` is (x, y, unit), pixels per unit; the unit is that of TIFF: 1 none, 2 inch, 3 centimeter. ``gamma``,
``chromaticity`` and ``srgb`` are as Pillow gives them, ``cicp``, ``mdcv`` and ``clli`` the chunks of PNG, ``iptc`` the
records in a JPEG.
"""

_COMMON = ("icc_profile", "exif", "xmp", "resolution")
_OF_A_PICTURE = {*_COMMON, "text", "comment", "iptc"}
KEPT: dict[str, tuple[str, ...]] = {
    "PNG": tuple(key for key in LABELS if key not in ("xmp_extended", "iptc")),
    "TIFF": (*_COMMON, "iptc"),
    "JPEG": (*_COMMON, "xmp_extended", "iptc", "comment"),
    "WEBP": ("icc_profile", "exif", "xmp", "duration", "loop"),
    "BMP": ("resolution",),
}
"""What each format that is written can hold."""
_MAX_DPI = {"PNG": 1e8, "TIFF": 1e9, "JPEG": 65_535, "BMP": 1e8}

_TOO_MUCH = {"resolution": " without a unit or as fine as this", "icc_profile": " for gray"}
# Bytes in the one segment that each has; XMP and profiles may have several. Pillow has less room for comments.
_JPEG_SEGMENTS = {"exif": 65_533, "iptc": 65_507, "comment": 60_000}
_IPTC_RESOURCE = 0x0404
# Segments that hold what is kept, what Pillow decodes by, or pictures that are said to be left out.
_KNOWN_SEGMENTS = {
    "APP0": (b"JFIF\0", b"JFXX\0"),
    "APP1": (b"Exif\0", b"http://ns.adobe.com/x"),
    "APP2": (b"ICC_PROFILE\0", b"MPF\0"),
    "APP13": (b"Photoshop 3.0\0",),
    "APP14": (b"Adobe",),
}
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_XMP_PART = 65_000
_XMP_POINTER = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{}"/>'
    "</rdf:RDF></x:xmpmeta>"
)


_XMP_TEXT = "XML:com.adobe.xmp"


def _is_bytes(value: Any) -> bool:
    return isinstance(value, bytes)


_SOUND: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("icc_profile", "exif", "xmp_extended", "iptc", "cicp", "mdcv", "clli"), _is_bytes),
    "gamma": lambda value: isinstance(value, Real),
    "srgb": lambda value: isinstance(value, int) and 0 <= value < 256,
    "chromaticity": lambda value: isinstance(value, tuple) and all(isinstance(one, Real) for one in value),
    "comment": lambda value: isinstance(value, str | bytes),
    "still": lambda value: isinstance(value, bool),
}
"""What of ``Image.info`` is taken as it is, and of which kind it has to be: anybody may put anything there."""


def from_pil(image: Image.Image) -> dict[str, Any]:
    """The info of a PIL image, in the terms of ``LABELS``."""
    texts = (image.info.get("text"), getattr(image, "text", None))
    text: dict[str, Any] = next((one for one in texts if one and isinstance(one, dict)), {})
    # Pillow puts the texts of a PNG among what it says of the picture itself, whatever their names are.
    source = {key: value for key, value in image.info.items() if key not in text or not _is_same(value, text[key])}
    info = {key: source[key] for key, is_sound in _SOUND.items() if key in source and is_sound(source[key])}
    xmp = source.get("xmp") or text.get(_XMP_TEXT) or source.get(_XMP_TEXT)
    if xmp and isinstance(xmp, str | bytes):
        info["xmp"] = xmp.encode() if isinstance(xmp, str) else xmp
    text = {key: value for key, value in text.items() if key != _XMP_TEXT}
    if text:
        info["text"] = text
    if isinstance(info.get("exif"), bytes):  # formats differ in whether they store the prefix
        info["exif"] = b"Exif\0\0" + info["exif"].removeprefix(b"Exif\0\0")
    unit = source.get("resolution_unit", 2)
    if (dpi := _pair(source.get("dpi"))) and not _is_made_up(image):
        scale = 1 / 2.54 if unit == 3 else 1.0
        info["resolution"] = (dpi[0] * scale, dpi[1] * scale, 3 if unit == 3 else 2)
    elif source.get("jfif_unit") == 0 and len(set(source["jfif_density"])) > 1:
        info["resolution"] = (*map(float, source["jfif_density"]), 1)
    elif pair := _pair(source.get("resolution") or source.get("aspect")):
        info["resolution"] = (*pair, 1)
    if image.format in ("JPEG", "MPO") and _IPTC_RESOURCE in source.get("photoshop", ()):
        info["iptc"] = source["photoshop"][_IPTC_RESOURCE]
    parts = [body for _, body in getattr(image, "applist", ()) if body.startswith(_XMP_EXTENSION)]
    if parts:
        at = len(_XMP_EXTENSION) + 32
        parts.sort(key=lambda body: body[at + 4 : at + 8])
        info["xmp_extended"] = b"".join(body[at + 8 :] for body in parts)
    return {key: value for key, value in info.items() if value not in (None, b"", "")}


def _is_made_up(image: Image.Image) -> bool:
    """Whether Pillow has put 72 dpi where a JPEG names no resolution."""
    if image.format not in ("JPEG", "MPO") or image.info.get("jfif_unit"):
        return False
    try:
        return ExifTags.Base.XResolution not in image.getexif()
    except Exception:  # a damaged one
        return True


def _is_same(value: Any, text: str) -> bool:
    return value == text or (isinstance(value, bytes) and value == text.encode("latin-1", "replace"))


def _pair(value: Any) -> tuple[float, float] | None:
    """Two numbers of a resolution, of which one may stand for both; None if they are none."""
    pair = value if isinstance(value, tuple | list) else (value, value)
    return (float(pair[0]), float(pair[1])) if len(pair) == 2 and all(isinstance(one, Real) for one in pair) else None


def has_broken_profile(image: Image.Image) -> bool:
    """Whether parts of a JPEG's color profile are missing."""
    parts = any(body.startswith(b"ICC_PROFILE\0") for _, body in getattr(image, "applist", ()))
    return parts and not image.info.get("icc_profile")


def left_out(image: Image.Image) -> list[str]:
    """The segments of a JPEG that are not kept, by their names, such as "APP11"."""
    segments = [(name, body) for name, body in getattr(image, "applist", ()) if name.startswith("APP")]
    return sorted({name for name, body in segments if not body.startswith(_KNOWN_SEGMENTS.get(name, ()))})


def to_pil(info: dict[str, Any]) -> dict[str, Any]:
    """The same for ``Image.info``, where ``dpi`` is the resolution in inches."""
    given = {key: value for key, value in info.items() if key != "resolution"}
    if "resolution" in info:
        x, y, unit = info["resolution"]
        scale = 2.54 if unit == 3 else 1.0
        given |= {"resolution" if unit == 1 else "dpi": (x * scale, y * scale), "resolution_unit": unit}
    return given


def kept(info: dict[str, Any], form: str) -> dict[str, Any]:
    """What of ``info`` a file of this format ("PNG") can hold."""
    found = {key: info[key] for key in KEPT[form] if key in info}
    if form == "WEBP" and found.get("icc_profile", b"")[16:20] == b"GRAY":  # it holds colors only
        del found["icc_profile"]
    if form == "JPEG":
        found = {key: found[key] for key in found if len(found[key]) <= _JPEG_SEGMENTS.get(key, np.inf)}
    if "resolution" in found:
        x, y, unit = found["resolution"]
        if max(x, y) * (2.54 if unit == 3 else 1) > _MAX_DPI[form] or (unit == 1 and form in ("JPEG", "BMP")):
            del found["resolution"]
    return found


def lost(info: dict[str, Any], form: str) -> list[str]:
    """What of ``info`` a file of this format cannot hold, in words."""
    holds = kept(info, form)
    return [
        LABELS[key] + (_TOO_MUCH.get(key, " of more than 64 kB") if key in KEPT[form] else "")
        for key in info
        if key in LABELS and key not in holds
    ]


def lost_of_further(frames: Sequence[Frame], form: str) -> list[str]:
    """What is said of frames after the first alone, in words, where a file of this format says it once."""
    if form == "TIFF":
        return []
    first, further = frames[0].info, [frame.info for frame in frames[1:]]
    keys = {key for info in further for key in _OF_A_PICTURE & info.keys() if info[key] != first.get(key)}
    return [f"{LABELS[key]} of further frames" for key in sorted(keys)]


def checked(info: dict[str, Any], request: Request) -> dict[str, Any]:
    """``info`` without a damaged color profile or resolution."""
    if "resolution" in info and not all(0 < value < np.inf for value in info["resolution"]):
        if any(info["resolution"][:2]):  # 0 by 0 says in a BMP that it is not known
            request.warn(f"its resolution of {info['resolution'][:2]} is none and is dropped")
        info = {key: value for key, value in info.items() if key != "resolution"}
    if "icc_profile" in info:
        try:
            ImageCms.ImageCmsProfile(io.BytesIO(info["icc_profile"]))
        except Exception as error:
            request.warn(f"its ICC color profile is damaged ({error}) and is dropped")
            return {key: value for key, value in info.items() if key != "icc_profile"}
    return info


def orientation(exif: bytes) -> int:
    """EXIF orientation, 1 to 8; 1 (upright) if there is none or it is damaged."""
    try:
        found = Image.Exif()
        found.load(exif)
        value = found.get(ExifTags.Base.Orientation, 1)
        return value if value in range(1, 9) else 1
    except Exception:  # Pillow raises nearly anything on damaged EXIF
        return 1


def upright(frame: Frame, request: Request) -> Frame:
    """The frame turned as its EXIF says, which then says no longer so. A damaged EXIF costs itself, not the picture."""
    info: dict[str, Any] = checked(frame.info, request)
    planes, turn = frame.planes, orientation(info.get("exif", b""))
    # What each orientation needs: a transposition, then flips of rows and columns.
    if turn >= 5:
        planes = planes.swapaxes(0, 1)
    planes = planes[:: -1 if turn in (3, 4, 7, 8) else 1, :: -1 if turn in (2, 3, 6, 7) else 1]
    if turn >= 5 and "resolution" in info:
        x, y, unit = info["resolution"]
        info = info | {"resolution": (y, x, unit)}
    return Frame(np.ascontiguousarray(planes), frame.maximum, without_orientation(info, request))


def without_orientation(info: dict[str, Any], request: Request) -> dict[str, Any]:
    """``info`` of a picture that stands upright; without its EXIF if that is damaged."""
    turn = orientation(info.get("exif", b""))
    if "exif" in info:
        try:
            exif = Image.Exif()
            exif.load(info["exif"])
            exif.tobytes()
            if turn != 1:
                info = info | {"exif": _upright_exif(info["exif"], swap=turn >= 5)}
        except Exception as error:  # Pillow raises nearly anything on damaged EXIF
            request.warn(f"its EXIF is damaged ({error}) and is dropped; only the orientation is used")
            info = {key: value for key, value in info.items() if key != "exif"}
    if turn != 1 and "xmp" in info:
        pattern = rb'tiff:Orientation\s*=\s*["\'][0-9]["\']|<tiff:Orientation>[0-9]</tiff:Orientation>'
        info = info | {"xmp": re.sub(pattern, b"", info["xmp"])}
    return info


def _upright_exif(exif: bytes, swap: bool) -> bytes:
    """An EXIF block without its orientation and its preview; ``swap`` exchanges width and height.

    It is changed in place: nothing else moves, as camera makers' notes point to places in it.
    """
    block = bytearray(exif.removeprefix(b"Exif\0\0"))
    order = ">" if block.startswith(b"MM") else "<"

    def entries(start: int) -> list[tuple[int, int]]:
        (count,) = struct.unpack_from(order + "H", block, start)
        places = range(start + 2, start + 2 + 12 * count, 12)
        return [(struct.unpack_from(order + "H", block, place)[0], place) for place in places]

    (root,) = struct.unpack_from(order + "I", block, 4)
    found = entries(root)
    if swap and ExifTags.IFD.Exif in dict(found):
        inner = dict(entries(struct.unpack_from(order + "I", block, dict(found)[ExifTags.IFD.Exif] + 8)[0]))
        x, y = inner.get(ExifTags.Base.ExifImageWidth), inner.get(ExifTags.Base.ExifImageHeight)
        if x and y:  # type, count and value
            block[x + 2 : x + 12], block[y + 2 : y + 12] = block[y + 2 : y + 12], block[x + 2 : x + 12]
    others = [block[place : place + 12] for tag, place in found if tag != ExifTags.Base.Orientation]
    table = struct.pack(order + "H", len(others)) + b"".join(others)
    end = 2 + 12 * len(found) + 4
    block[root : root + end] = table.ljust(end, b"\0")
    return b"Exif\0\0" + bytes(block)


def jpeg_options(info: dict[str, Any]) -> dict[str, Any]:
    """The metadata as Pillow's options for JPEG, which holds XMP beyond 64 kB in segments of its own."""
    options = {key: info[key] for key in ("icc_profile", "comment", "xmp", "exif") if key in info}
    extended = info.get("xmp_extended", b"")
    if len(info.get("xmp", b"")) > 65_000:
        extended = info["xmp"]
        options["xmp"] = _XMP_POINTER.format(hashlib.md5(extended).hexdigest().upper()).encode()
    digest = hashlib.md5(extended).hexdigest().upper().encode()
    extra = b""
    for start in range(0, len(extended), _XMP_PART):
        body = _XMP_EXTENSION + digest + struct.pack(">II", len(extended), start) + extended[start : start + _XMP_PART]
        extra += b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    if "iptc" in info:
        body = b"Photoshop 3.0\0" + struct.pack(">4sHHI", b"8BIM", _IPTC_RESOURCE, 0, len(info["iptc"])) + info["iptc"]
        body += bytes(len(body) % 2)
        extra += b"\xff\xed" + struct.pack(">H", len(body) + 2) + body
    if extra:
        options["extra"] = extra
    if "resolution" in info:
        options["dpi"] = to_pil(info)["dpi"]
    return options
