"""AVIF at all depths, by imagecodecs; HEIC, by pi-heif, an extra. Both are read only."""

import io
import math
import struct
from typing import IO, Any

import imagecodecs
import numpy as np
from PIL import Image

from ..errors import FormatLibraryMissing, ImageUnreadable
from . import metadata
from .frame import Frame, Request
from .png import pil_frames


def read_avif(file: IO[bytes], request: Request) -> list[Frame]:
    """The pictures of an AVIF, or the one that is requested."""
    content = _without_damaged_exif(file.read(), request)
    flags = content[content.index(b"av1C") + 6]  # of the AV1 configuration: high bit depth, twelve bits
    with Image.open(io.BytesIO(content), formats=["AVIF"]) as image:
        info = metadata.from_pil(image)
        at = content.find(b"colrnclx") + 8
        info |= _color_space(info, *struct.unpack_from(">HH", content, at)) if at > 7 else {}
        if not flags & 0x40:
            return pil_frames(image, request, info)
        if getattr(image, "n_frames", 1) > 1:
            raise ImageUnreadable(f"{request.name} is an animation of more than 8 bits, which cannot be read in full.")
        request.choose(1, *image.size)
        gray = image.mode in ("L", "LA")
    planes = np.asarray(imagecodecs.avif_decode(content))
    planes = planes if planes.ndim == 3 else planes[..., None]
    planes = planes[..., [0, *range(3, planes.shape[2])]] if gray else planes
    return [Frame(planes, 4095.0 if flags & 0x20 else 1023.0, info)]


def _without_damaged_exif(content: bytes, request: Request) -> bytes:
    """An AVIF that can be opened: its library reads nothing of one whose EXIF has another start than it should."""
    try:
        Image.open(io.BytesIO(content), formats=["AVIF"]).close()
        return content
    except ValueError as error:
        if "Exif" not in str(error):
            raise
    request.warn("its EXIF is damaged and is dropped")
    start = content.index(b"meta")
    end = start - 4 + int.from_bytes(content[start - 4 : start], "big")
    return content[:start] + content[start:end].replace(b"Exif", b"none") + content[end:]


def _color_space(info: dict[str, Any], primaries: int, transfer: int) -> dict[str, bytes]:
    """A color space that a file names by the numbers of H.273, as a chunk cICP; none if it is sRGB or has a profile.

    What is unspecified, 2, is that of sRGB.
    """
    primaries, transfer = (1 if primaries == 2 else primaries), (13 if transfer == 2 else transfer)
    if "icc_profile" in info or (primaries, transfer) == (1, 13) or max(primaries, transfer) > 255:
        return {}
    return {"cicp": bytes((primaries, transfer, 0, 1))}  # of RGB, full range, as which it is decoded


def read_heif(file: IO[bytes], request: Request) -> list[Frame]:
    """The pictures of a HEIC, or the one that is requested; thumbnails and depth maps are none."""
    try:
        import pi_heif
    except ImportError:
        raise FormatLibraryMissing(
            f"{request.name} is HEIC, for which a library is missing: pip install 'denoising-autoencoder[formats]'"
        ) from None
    opened = pi_heif.open_heif(file, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    frames = []
    chosen = request.choose(len(opened), *opened.size)
    request.check_size(sum(math.prod(opened[index].size) for index in chosen), f"{len(chosen)} pictures of")
    for index in chosen:
        image = opened[index]
        planes = np.array(image)  # a copy: the library frees its own
        maximum = float(2 ** int(image.info.get("bit_depth", 8)) - 1)
        info = {key: image.info[key] for key in ("icc_profile", "exif", "xmp") if image.info.get(key)}
        if named := image.info.get("nclx_profile"):
            info |= _color_space(info, named["color_primaries"], named["transfer_characteristics"])
        info = metadata.without_orientation(info, request)  # the library has turned it
        frames.append(Frame(planes if planes.ndim == 3 else planes[..., None], maximum, info))
    return frames
