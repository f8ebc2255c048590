"""PNG: all depths, by imagecodecs; animations and the chunks about the picture, by Pillow.

Chunks are read one at a time, so that a damaged one costs itself and not the picture.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import IO, Any

import imagecodecs
import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from ..errors import ImageUnreadable
from . import metadata
from .frame import Frame, Request, pil_planes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT")
_MAX_PROFILE = 2**26
_RAW_CHUNKS = {b"cICP": "cicp", b"mDCV": "mdcv", b"cLLI": "clli"}  # Pillow does not read them
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_PARSED_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"pHYs", b"eXIf", *_TEXT_CHUNKS)


def read(file: IO[bytes], request: Request) -> list[Frame]:
    """All frames of a PNG, or the one that is requested."""
    content = file.read()
    pixels, about = _split(content, request)
    info: dict[str, Any] = {}
    for kind, chunk in about:
        info = _merge(info, kind, chunk, request)
    others = sorted({kind.decode("latin-1") for kind, _ in about if kind not in (*_RAW_CHUNKS, *_PARSED_CHUNKS)})
    if others:
        request.warn(f"its {', '.join(others)} {'is' if len(others) == 1 else 'are'} left out")
    width, height, depth, color = struct.unpack(">IIBB", content[16:26])
    animated = b"acTL" in pixels[: pixels.find(b"IDAT")]
    if depth == 16 and animated:
        raise ImageUnreadable(f"{request.name} is an animation of 16 bits. Save its frames as files of their own.")
    if color in (0, 2, 4, 6) and not animated:
        request.choose(1, width, height)
        planes = np.asarray(imagecodecs.png_decode(pixels))
        return [Frame(planes if planes.ndim == 3 else planes[..., None], float(2 ** max(8, depth) - 1), info)]
    with Image.open(io.BytesIO(pixels), formats=["PNG"]) as image:
        return pil_frames(image, request, info)


def _split(content: bytes, request: Request) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A PNG with nothing but pixels, and its sound chunks about the picture as (kind, whole chunk)."""
    kept, about, at = [(b"", content[:8])], [], 8
    while at < len(content):
        kind = content[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        (kept if kind in _PIXEL_CHUNKS or end > len(content) else about).append((kind, content[at:end]))
        at = end
    kinds = [kind for kind, _ in kept]
    if b"acTL" in kinds:
        index, count = kinds.index(b"acTL"), kinds.count(b"fcTL")
        said = kept[index][1]
        if len(said) != 20 or said[8:12] != struct.pack(">I", count):
            request.warn(f"what it says about its animation is damaged; it has {count} frames")
            kept[index] = b"acTL", _chunk(b"acTL", struct.pack(">II", count, 0)) if count else b""
    elif not about:
        return content, about
    return b"".join(chunk for _, chunk in kept), about


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _merge(info: dict[str, Any], kind: bytes, chunk: bytes, request: Request) -> dict[str, Any]:
    """``info`` with what a chunk says; the chunk is dropped if it is damaged."""
    sound = chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
    if kind in _RAW_CHUNKS and sound:
        return info | {_RAW_CHUNKS[kind]: chunk[8:-4]}
    if kind not in _PARSED_CHUNKS:
        return info
    if kind == b"iCCP" and "icc_profile" in info:
        request.warn("of its ICC color profiles the first is kept")
        return info
    try:
        if kind == b"iCCP":  # Pillow reads none of more than a megabyte
            unpack = zlib.decompressobj()
            found = {"icc_profile": unpack.decompress(chunk[8:-4].partition(b"\0")[2][1:], _MAX_PROFILE)}
            if not (sound and unpack.eof):
                raise ValueError("it cannot be unpacked")
        else:
            with Image.open(io.BytesIO(_ONE_PIXEL[:33] + chunk + _ONE_PIXEL[33:]), formats=["PNG"]) as image:
                found = metadata.from_pil(image)
        if kind in _TEXT_CHUNKS and not found:
            raise ValueError("it is no text")
        if kind == b"cHRM" and len(found["chromaticity"]) != 8:
            raise ValueError("it has not eight numbers")
    except Exception as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        request.warn(f"its chunk {kind.decode('latin-1')} is damaged or too large{reason} and is dropped")
        return info
    before, text = info.get("text", {}), found.pop("text", {})
    if before.keys() & text:
        request.warn(f"of its texts with the name {next(iter(text))!r} the last is kept")
    return info | found | ({"text": before | text} if text else {})


def pil_frames(image: Image.Image, request: Request, info: dict[str, Any]) -> list[Frame]:
    """The frames of an animation that Pillow has opened, or its one picture."""
    chosen = request.choose(getattr(image, "n_frames", 1), *image.size)
    if image.mode.startswith("I;16") or (len(chosen) == 1 and chosen.start == 0 and getattr(image, "n_frames", 1) == 1):
        return [pil_frame(image, request, info)]
    gray = image.format == "PNG" and image.mode in ("L", "LA")  # of the other formats single frames may be so
    modes = ("L", "LA") if gray else ("RGB", "RGBA")
    frames = []
    for index in chosen:
        image.seek(index)
        image.load()
        shown = image.convert(modes[image.has_transparency_data])
        times = {key: image.info[key] for key in ("duration", "loop") if key in image.info}
        if index == 0 and image.info.get("default_image"):
            times = {"still": True}
        frames.append(Frame(pil_planes(shown, request.name), 255.0, info | times))
    if len({frame.planes.shape[2] for frame in frames}) > 1:
        frames = [Frame(_opaque(frame.planes), 255.0, frame.info) for frame in frames]
    return frames


def _opaque(planes: np.ndarray) -> np.ndarray:
    return planes if planes.shape[2] in (2, 4) else np.dstack([planes, np.full_like(planes[..., 0], 255)])


def pil_frame(image: Image.Image, request: Request, info: dict[str, Any]) -> Frame:
    """The current frame of a PIL image."""
    planes = pil_planes(image, request.name)
    maximum = float(np.iinfo(planes.dtype).max) if planes.dtype.kind == "u" else 1.0
    if planes.dtype == np.uint16:  # our results and TIFF may say that white is lower
        stated = image.info.get("maximum", getattr(image, "tag_v2", {}).get(281))
        stated = stated[0] if isinstance(stated, tuple) and stated else stated
        if isinstance(stated, int | float) and planes.max() <= stated < maximum:
            maximum = float(stated)
    return Frame(planes, maximum, info)


def write(file: IO[bytes], frames: Sequence[Frame], fast: bool) -> None:
    """Write one frame, or 8-bit ones as an animation.

    A higher level than 1 takes several times as long for files a few percent smaller (``benchmarks.png``); ``fast``
    suits noise, which hardly compresses.
    """
    first = frames[0]
    if len(frames) > 1:
        buffer = io.BytesIO()
        images = [
            Image.fromarray(np.squeeze(frame.planes, 2) if frame.planes.shape[2] == 1 else frame.planes)
            for frame in frames
        ]
        images[0].save(buffer, "PNG", save_all=True, append_images=images[1:], **animation_options(frames))
        content: Any = buffer.getbuffer()
    else:
        planes = first.to_depth(np.uint16 if first.planes.dtype.itemsize == 2 else np.uint8)
        planes = np.ascontiguousarray(planes[..., 0] if planes.shape[2] == 1 else planes)
        strategy, filters = imagecodecs.PNG.STRATEGY, imagecodecs.PNG.FILTER
        options = {"strategy": strategy.RLE, "filter": filters.SUB} if fast else {"filter": filters.PAETH}
        # The buffer that it takes by itself has no room for the byte that begins each row.
        room = planes.nbytes + planes.nbytes // 100 + 2 * len(planes) + 4096
        content = memoryview(imagecodecs.png_encode(planes, level=1, out=room, **options))
    file.write(content[:33])  # the signature and IHDR
    for kind, body in _chunks(first.info):
        PngImagePlugin.putchunk(file, kind, body)
    file.write(content[33:])


def animation_options(frames: Sequence[Frame], whole: bool = False) -> dict[str, Any]:
    """Times, in ``whole`` milliseconds or as they are, and loops of an animation as Pillow's options."""
    still = "still" in frames[0].info
    moving = frames[still:]
    durations = [frame.info.get("duration", 100) for frame in moving]
    durations = [round(duration) for duration in durations] if whole else durations
    return {"duration": durations, "loop": moving[0].info.get("loop", 1), "default_image": still}


def _chunks(info: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """The metadata as PNG chunks."""
    chunks = PngImagePlugin.PngInfo()
    if "gamma" in info:
        chunks.add(b"gAMA", struct.pack(">I", round(info["gamma"] * 100_000)))
    if "chromaticity" in info:
        chunks.add(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in info["chromaticity"])))
    if "srgb" in info:
        chunks.add(b"sRGB", bytes([info["srgb"]]))
    for kind, key in _RAW_CHUNKS.items():
        if key in info:
            chunks.add(kind, info[key])
    if "icc_profile" in info:
        chunks.add(b"iCCP", b"ICC Profile\0\0" + zlib.compress(info["icc_profile"]))
    if "resolution" in info:
        x, y, unit = info["resolution"]
        meters = {1: 1.0, 2: 1 / 0.0254, 3: 100.0}[unit]
        chunks.add(b"pHYs", struct.pack(">IIB", round(x * meters), round(y * meters), unit != 1))
    if "exif" in info:
        chunks.add(b"eXIf", info["exif"].removeprefix(b"Exif\0\0"))
    if "xmp" in info:
        chunks.add_itxt("XML:com.adobe.xmp", info["xmp"].decode("utf-8", "replace"))
    text = {"Comment": info["comment"]} if "comment" in info else {}
    for key, value in (text | info.get("text", {})).items():
        if isinstance(value, bytes):  # a comment of GIF or JPEG, which do not say its encoding
            try:
                value = value.decode()
            except UnicodeDecodeError:
                value = value.decode("latin-1")
        chunks.add_text(key.encode("latin-1", "replace"), value)  # all that names of texts can have
    return [(kind, body) for kind, body, *_ in chunks.chunks]


def _one_pixel() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    return buffer.getvalue()


_ONE_PIXEL = _one_pixel()
