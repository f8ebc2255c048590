"""Every cell of the table in docs/formats.md, written and read; metadata, animations, damage."""

import io
import math
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from denoiser import ImageTooLarge, ImageUnreadable, read_frames, save_image
from denoiser.images import codecs, metadata
from denoiser.images.frame import Frame
from denoiser.images.picture import Picture, read

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXTENSION = {"PNG": ".png", "TIFF": ".tif", "JPEG": ".jpg", "WebP": ".webp", "BMP": ".bmp"}
COLOR = {
    "gamma": 0.45455,
    "chromaticity": (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06),
    "srgb": 1,
    "cicp": bytes([9, 16, 0, 1]),
}


def table():
    lines = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("| | 8 bits"))
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start : start + 7]]
    return [(row[0], column, cell) for row in rows for column, cell in zip(head[1:], row[1:], strict=True)]


def exif_block():
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    return exif.tobytes()


def picture(dtype=np.uint8, channels=3, maximum=None, **info):
    draw = np.random.default_rng(0)
    top = maximum or (np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1.0)
    smooth = draw.random((4, 5, channels)).repeat(8, 0).repeat(8, 1)
    planes = np.rint(smooth * top).astype(dtype) if np.dtype(dtype).kind == "u" else (smooth * 1.5).astype(dtype)
    return Picture.from_frame(Frame(planes, float(top), info))


INFO = {
    "ICC profile": {"icc_profile": PROFILE},
    "EXIF": {"exif": exif_block()},
    "XMP": {"xmp": b"<x:xmpmeta>a title</x:xmpmeta>"},
    "resolution": {"resolution": (300.0, 150.0, 2)},
    "text": {"text": {"Copyright": "someone", "Title": "caf\u00e9 \u732b"}},
    "gAMA, cHRM, sRGB, cICP": COLOR,
}


@pytest.mark.parametrize(("form", "column", "cell"), table())
def test_every_cell_of_the_table(tmp_path, caplog, form, column, cell):
    path = tmp_path / f"a{EXTENSION[form]}"
    if column in INFO:
        save_image(picture(**INFO[column]), path)
        found = read(path).info
        for key, value in INFO[column].items():
            if cell == "yes" and key == "resolution":
                assert found[key] == pytest.approx(value, abs=0.02) and "cannot hold" not in caplog.text
            elif cell == "yes":
                assert found[key] == value and "cannot hold" not in caplog.text
            else:
                assert key not in found and metadata.LABELS[key] in caplog.text
        return
    source = {
        "8 bits": lambda: [picture()],
        "10 to 16 bits": lambda: [picture(np.uint16)],
        "float": lambda: [picture(np.float32)],
        "alpha": lambda: [picture(channels=4)],
        "frames": lambda: [picture(), picture(channels=3).with_pixels(1 - picture().pixels)],
    }[column]()
    if cell == "no":
        with pytest.raises(ValueError, match="cannot hold"):
            save_image(source, path)
        assert not path.exists()
        return
    save_image(source, path)
    frames = read_frames(path)
    assert len(frames) == len(source)
    for frame, expected in zip(frames, source):
        error = np.abs(frame.planes.astype(float) - np.atleast_3d(np.asarray(expected)).astype(float))
        assert frame.planes.dtype == expected.dtype and error.max() <= (8 if form == "JPEG" else 0)
    if cell == "8 bits":
        with pytest.raises(ValueError, match="cannot hold"):
            save_image([picture(np.uint16), picture(np.uint16)], tmp_path / f"b{path.suffix}")


def test_the_table_has_every_format_that_is_written():
    assert {EXTENSION[form] for form, _, _ in table()} <= set(codecs.EXTENSIONS)
    assert {codecs.WRITTEN[extension] for extension in codecs.EXTENSIONS} == {form.upper() for form, _, _ in table()}


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_ten_to_fourteen_bits_stay_in_tiff_and_are_stretched_in_png(tmp_path, bits, channels):
    top = 2**bits - 1
    source = picture(np.uint16, channels, top)
    save_image(source, tmp_path / "a.tif")
    again = read(tmp_path / "a.tif")
    assert again.maximum == top and np.array_equal(again.pixels, source.pixels)
    save_image(source, tmp_path / "a.png")
    assert np.allclose(read(tmp_path / "a.png").pixels, source.pixels, atol=1 / 65535)


@given(
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(1, 4),
    st.integers(1, 30),
    st.integers(1, 30),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=60)
def test_png_of_any_size_and_depth_is_lossless(tmp_path_factory, dtype, channels, height, width, fast, seed):
    planes = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)
    path = tmp_path_factory.mktemp("png") / "a.png"
    save_image(Picture.from_frame(Frame(planes, float(np.iinfo(dtype).max))), path, fast)
    assert np.array_equal(read_frames(path)[0].planes, planes)
    with Image.open(path) as opened:  # another decoder agrees, with what it can hold
        opened.load()
        assert opened.size == (width, height)
        if dtype == np.uint8:
            assert np.array_equal(np.atleast_3d(np.asarray(opened)).reshape(planes.shape), planes)


@pytest.mark.parametrize(("name", "limit"), [("a.jpg", 65_500), ("a.webp", 16_383)])
def test_a_side_that_a_format_cannot_hold_is_refused_with_its_limit(tmp_path, name, limit):
    for shape in ((1, limit + 1, 1), (limit + 1, 1, 1)):
        frame = Frame(np.zeros(shape, np.uint8), 255.0)
        with pytest.raises(ValueError, match=f"{limit} at most; PNG and TIFF can"):
            save_image(frame, tmp_path / name)
        for other in ("a.png", "a.tif"):
            save_image(frame, tmp_path / other)
    save_image(Frame(np.zeros((1, limit, 1), np.uint8), 255.0), tmp_path / name)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 3), (8, 9, 4)])
def test_arrays_and_tensors_are_written(tmp_path, dtype, shape):
    array = (np.linspace(0, 1, math.prod(shape)).reshape(shape) * (1 if dtype is np.float32 else 255)).astype(dtype)
    tensor = torch.from_numpy(array if array.ndim == 2 else np.moveaxis(array, -1, 0).copy())
    for value in (array, tensor):
        save_image(value, tmp_path / "a.tif")
        assert np.array_equal(read_frames(tmp_path / "a.tif")[0].planes, np.atleast_3d(array))
        save_image([value, value], tmp_path / "b.tif")
        assert len(read_frames(tmp_path / "b.tif")) == 2


@pytest.mark.parametrize("value", ["a.png", None, [], ["a.png"], 3, {"a": 1}])
def test_what_is_no_picture_is_refused_with_a_sentence(tmp_path, value):
    with pytest.raises(TypeError, match="save_image takes a PIL image"):
        save_image(value, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


# Metadata from format to format


@pytest.mark.parametrize("source", ["a.png", "a.tif", "a.jpg", "a.webp"])
@pytest.mark.parametrize("target", ["b.png", "b.tif", "b.jpg", "b.webp"])
@pytest.mark.parametrize("through_pil", [False, True])
def test_profile_exif_and_xmp_travel_from_any_format_to_any_other(tmp_path, source, target, through_pil):
    given_info = INFO["ICC profile"] | INFO["EXIF"] | INFO["XMP"]
    save_image(picture(**given_info), tmp_path / source)
    result = read(tmp_path / source)
    save_image(result.to_pil() if through_pil else result, tmp_path / target)
    found = read(tmp_path / target).info
    exif = Image.Exif()
    exif.load(found["exif"])
    assert exif[0x010F] == "Maker"
    assert found["icc_profile"] == PROFILE and found["xmp"] == INFO["XMP"]["xmp"]


@pytest.mark.parametrize("size", [1_000, 64_000, 66_000, 400_000])
@pytest.mark.parametrize("target", ["b.png", "b.tif", "b.jpg", "b.webp"])
def test_xmp_of_any_length_travels(tmp_path, size, target):
    packet = b"<x:xmpmeta>" + b"k" * size + b"</x:xmpmeta>"
    save_image(picture(xmp=packet), tmp_path / target)
    found = read(tmp_path / target).info
    assert packet in (found["xmp"], found.get("xmp_extended"))
    with Image.open(tmp_path / target) as opened:
        assert "xmp" in opened.info or 700 in getattr(opened, "tag_v2", {})
    save_image(read(tmp_path / target), tmp_path / f"c{target}")
    again = read(tmp_path / f"c{target}").info
    assert (again["xmp"], again.get("xmp_extended")) == (found["xmp"], found.get("xmp_extended"))


def test_exif_that_jpeg_cannot_hold_is_named_and_the_rest_is_written(tmp_path, caplog):
    exif = Image.Exif()
    exif[0xC350] = bytes(70_000)
    save_image(picture(exif=exif.tobytes(), icc_profile=PROFILE), tmp_path / "a.jpg")
    assert "EXIF of more than 64 kB" in caplog.text and read(tmp_path / "a.jpg").info["icc_profile"] == PROFILE


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("target", ["b.jpg", "b.tif", "b.png", "b.webp"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_a_turned_picture_keeps_its_letters_and_has_its_size(tmp_path, orientation, target, order):
    exif = Image.Exif()
    exif.endian = order
    texts = {0x013B: "J\u00fcrgen".encode(), 0x8298: "\u00a9 \u732b".encode(), 0xC350: b"private \xe9"}
    for tag, value in texts.items():
        exif[tag] = value
    exif[0x0112] = orientation
    inside = {0xA430: "\u00d6zg\u00fcr".encode(), 0x927C: b"notes of the maker", 0xA002: 40, 0xA003: 32}
    exif.get_ifd(0x8769).update(inside)
    planes = np.asarray(picture())
    Image.fromarray(planes).save(tmp_path / "a.jpg", exif=exif)
    save_image(read(tmp_path / "a.jpg"), tmp_path / target)
    content = (tmp_path / target).read_bytes()
    assert all(value in content for value in (*texts.values(), inside[0xA430], inside[0x927C]))
    with Image.open(tmp_path / target) as written:
        found = written.getexif()
        assert found.get(0x0112, 1) == 1 and found[0x013B] == texts[0x013B].decode("latin-1")
        assert (found.get_ifd(0x8769)[0xA002], found.get_ifd(0x8769)[0xA003]) == written.size


def test_a_comment_keeps_its_letters(tmp_path, caplog):
    for text in ("café 猫".encode(), "café".encode("latin-1")):
        save_image(picture(comment=text), tmp_path / "a.jpg")
        save_image(read(tmp_path / "a.jpg"), tmp_path / "b.png")
        assert read(tmp_path / "b.png").info["text"]["Comment"].startswith("café")
    save_image(picture(comment=bytes(70_000)), tmp_path / "a.jpg")
    assert "comment of more than 64 kB" in caplog.text


def test_what_other_programs_have_put_into_a_jpeg_is_named(tmp_path, caplog):
    save_image(picture(), tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    read(tmp_path / "a.jpg")
    assert not caplog.text
    more = b"\xff\xeb\0\x08JP\0\0ab" + b"\xff\xec\0\x08Ducky\0" + b"\xff\xe1\0\x07other"
    (tmp_path / "a.jpg").write_bytes(content[:2] + more + content[2:])
    read(tmp_path / "a.jpg")
    assert "(APP1, APP11, APP12) is left out" in caplog.text


@pytest.mark.parametrize("source", ["a.jpg", "a.png"])
@pytest.mark.parametrize("target", ["b.jpg", "b.tif", "b.png"])
def test_captions_in_iptc_travel_or_are_named(tmp_path, caplog, source, target):
    records = b"\x1c\x02\x78\0\x07a title"
    save_image(picture(iptc=records), tmp_path / source)
    assert ("IPTC" in caplog.text) == (source == "a.png")
    if source == "a.jpg":
        save_image(read(tmp_path / source), tmp_path / target)
        assert (records in (tmp_path / target).read_bytes()) == (target != "b.png") == ("IPTC" not in caplog.text)


def test_a_bmp_without_a_resolution_is_read_without_a_word(tmp_path, caplog):
    save_image(picture(), tmp_path / "a.bmp")
    assert "resolution" not in read(tmp_path / "a.bmp").info and not caplog.text


@pytest.mark.parametrize("resolution", [(3.0, 1.0, 1), (254_000.0, 254_000.0, 2), (2e9, 2e9, 3)])
@pytest.mark.parametrize("target", ["b.jpg", "b.tif", "b.png", "b.bmp"])
def test_a_resolution_travels_or_is_named(tmp_path, caplog, resolution, target):
    save_image(picture(resolution=resolution), tmp_path / target)
    found = read(tmp_path / target).info.get("resolution")
    assert ("resolution" in caplog.text) == (found is None)
    if found:
        scale = 2.54 if found[2] == 2 and resolution[2] == 3 else 1
        assert found[:2] == pytest.approx([value * scale for value in resolution[:2]], rel=1e-3)
    assert (found is None) == (resolution[0] == 2e9 or target == "b.jpg" or (target == "b.bmp" and resolution[2] == 1))


def test_a_text_keeps_its_language(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("Title", "猫", "ja", "題")
    Image.new("L", (8, 8)).save(tmp_path / "a.png", pnginfo=texts)
    save_image(read(tmp_path / "a.png"), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        title = image.text["Title"]
    assert (title, title.lang, title.tkey) == ("猫", "ja", "題")


def test_a_bmp_of_sixteen_bits_a_pixel_is_read(tmp_path):
    words = np.random.default_rng(0).integers(0, 65536, (8, 8)).astype("<u2")
    head = struct.pack("<IiiHHIIiiII3I", 40, 8, -8, 1, 16, 3, 128, 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F)
    start = 14 + len(head)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", start + 128, 0, 0, start) + head + words.tobytes())
    red, green, blue = words >> 11, words >> 5 & 63, words & 31
    expected = np.stack([red / 31, green / 63, blue / 31], axis=2)
    assert np.abs(read(tmp_path / "a.bmp").pixels - expected).max() < 1 / 255


# Damage


def chunk(kind, body, crc=None):
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def with_chunk(path, extra):
    content = path.read_bytes()
    path.write_bytes(content[:33] + extra + content[33:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (chunk(b"tEXt", b"key\0value", crc=1), "tEXt"),
        (chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(3_000_000))), "zTXt"),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"k" * 3_000_000)), "iTXt"),
        (chunk(b"iTXt", b"key\0\0\0\0\0\xff\xfe"), "iTXt"),
        (chunk(b"iCCP", b"name\0\0nonsense"), "iCCP"),
        (chunk(b"iCCP", b"name\0\0" + zlib.compress(b"no profile at all")), "profile is damaged"),
        (chunk(b"tEXt", b"Title\0another"), "the name 'Title' the last is kept"),
        (chunk(b"gAMA", b"\0"), "gAMA"),
        (chunk(b"cHRM", b"\0\0\0"), "cHRM"),
        (chunk(b"cHRM", bytes(12)), "cHRM"),
        (chunk(b"acTL", b"\0\0"), "animation is damaged"),
        (chunk(b"acTL", bytes([9] * 8)), "animation is damaged"),
        (chunk(b"pHYs", b"\0"), "pHYs"),
        (chunk(b"eXIf", b"nonsense"), "EXIF is damaged"),
        (chunk(b"cICP", b"\0\0\0\0", crc=1), ""),
        (chunk(b"abCd", b"\0" * 50), ""),
    ],
)
def test_a_bad_chunk_costs_itself_and_not_the_picture(tmp_path, caplog, dtype, extra, said):
    source = picture(dtype, text={"Title": "kept"})
    save_image(source, tmp_path / "a.png")
    with_chunk(tmp_path / "a.png", extra)
    again = read(tmp_path / "a.png")
    assert np.array_equal(again.pixels, source.pixels) and again.info == {"text": {"Title": "kept"}}
    assert said in caplog.text


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.tif"])
def test_a_damaged_profile_is_dropped_and_said(tmp_path, caplog, name):
    save_image(picture(icc_profile=PROFILE), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    at = content.index(PROFILE[:64])
    (tmp_path / name).write_bytes(content[: at + 36] + b"nope" + content[at + 40 :])
    again = read(tmp_path / name)
    assert "icc_profile" not in again.info and "ICC color profile is damaged" in caplog.text
    assert np.allclose(again.pixels, picture().pixels, atol=8 / 255)


def test_of_two_profiles_the_first_is_kept(tmp_path, caplog):
    save_image(picture(icc_profile=PROFILE), tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"IDAT") - 4
    second = chunk(b"iCCP", b"name\0\0" + zlib.compress(b"no profile at all"))
    (tmp_path / "a.png").write_bytes(content[:at] + second + content[at:])
    assert read(tmp_path / "a.png").info["icc_profile"] == PROFILE and "the first is kept" in caplog.text


def test_a_jpeg_profile_of_which_a_part_is_missing_is_said(tmp_path, caplog):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg", icc_profile=PROFILE)
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content.replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\1\2"))
    assert not read(tmp_path / "a.jpg").info and "ICC color profile is damaged" in caplog.text


def test_a_jpeg_without_a_resolution_gets_none(tmp_path):
    exif = Image.Exif()
    exif[270] = "a description"
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert "resolution" not in read(tmp_path / "a.jpg").info
    exif.update({282: 72.0, 283: 72.0, 296: 2})
    Image.new("RGB", (16, 16)).save(tmp_path / "b.jpg", exif=exif)
    assert read(tmp_path / "b.jpg").info["resolution"] == (72, 72, 2)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
@pytest.mark.parametrize("cut", [1, 2, 30, 200])
def test_a_jpeg_without_its_end_is_whole_if_its_pixels_are(tmp_path, caplog, options, cut):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(
        tmp_path / "a.jpg", **options
    )
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(content[:-cut])
    if cut > 2:
        with pytest.raises(ImageUnreadable, match="damaged or truncated"):
            read(tmp_path / "b.jpg")
    else:
        assert np.array_equal(read(tmp_path / "b.jpg").pixels, read(tmp_path / "a.jpg").pixels)
        assert "its end is missing" in caplog.text


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_a_profile_of_megabytes_travels(tmp_path, name):
    profile = struct.pack(">I", len(PROFILE) + 2_000_000) + PROFILE[4:] + bytes(2_000_000)
    save_image(picture(icc_profile=profile), tmp_path / name)
    assert read(tmp_path / name).info["icc_profile"] == profile


def test_a_sixteen_bit_png_that_is_cut_is_said_to_be_damaged(tmp_path):
    save_image(picture(np.uint16), tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ImageUnreadable, match="damaged or truncated"):
        read(tmp_path / "a.png")


def test_a_bomb_of_sixteen_bits_is_refused_before_it_is_decoded(tmp_path):
    save_image(picture(np.uint16), tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    (tmp_path / "a.png").write_bytes(bytes(content))
    with pytest.raises(ImageTooLarge, match="60000 x 60000"):
        read(tmp_path / "a.png")


def test_a_jpeg_of_twelve_bits_is_not_said_to_be_damaged(tmp_path):
    array = np.random.default_rng(0).integers(0, 4096, (40, 50)).astype(np.uint16)
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg8_encode(array, bitspersample=12))
    with pytest.raises(ImageUnreadable, match="a JPEG of 12 bits"):
        read(tmp_path / "a.jpg")


# Animations


def frames_of(count=3, alpha=False):
    draw = np.random.default_rng(1)
    frames = [draw.integers(0, 256, (12, 16, 4 if alpha else 3), np.uint8) for _ in range(count)]
    return [Image.fromarray(frame) for frame in frames]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
@pytest.mark.parametrize("target", ["b.png", "b.webp", "b.tif"])
def test_every_frame_of_an_animation_is_kept_with_its_time(tmp_path, name, target):
    times = [100, 250, 400]
    first, *rest = frames_of()
    options = {"quality": 100} if name == "a.avif" else {"lossless": True} if name == "a.webp" else {}
    first.save(tmp_path / name, save_all=True, append_images=rest, duration=times, loop=3, **options)
    frames = read_frames(tmp_path / name)
    with Image.open(tmp_path / name) as opened:
        for index, frame in enumerate(frames):
            opened.seek(index)
            assert np.array_equal(frame.planes, np.asarray(opened.convert("RGB")))
    with pytest.raises(ImageUnreadable, match=r"has 3 frames or pages.*--page"):
        read(tmp_path / name)
    assert np.array_equal(read_frames(tmp_path / name, page=2)[0].planes, frames[1].planes)
    save_image([Picture.from_frame(frame) for frame in frames], tmp_path / target)
    written = read_frames(tmp_path / target)
    assert all(np.array_equal(after.planes, before.planes) for after, before in zip(written, frames, strict=True))
    if target != "b.tif":
        assert [frame.info["duration"] for frame in written] == times
    if target != "b.tif" and name in ("a.png", "a.webp"):
        assert written[0].info["loop"] == 3


@pytest.mark.parametrize("mode", ["L", "LA"])
@pytest.mark.parametrize("target", ["b.png", "b.tif"])
def test_gray_animations_stay_gray(tmp_path, mode, target):
    first, *rest = (image.convert(mode) for image in frames_of(alpha=mode == "LA"))
    first.save(tmp_path / "a.png", save_all=True, append_images=rest, duration=100)
    frames = read_frames(tmp_path / "a.png")
    assert [frame.planes.shape for frame in frames] == [(12, 16, len(mode))] * 3
    assert read_frames(tmp_path / "a.png", page=1)[0].planes.shape == (12, 16, len(mode))
    save_image(frames, tmp_path / target)
    for after, before, image in zip(read_frames(tmp_path / target), frames, (first, *rest), strict=True):
        assert np.array_equal(after.planes, before.planes)
        assert np.array_equal(before.planes, np.asarray(image).reshape(before.planes.shape))


def test_an_animation_with_a_suggested_palette_keeps_its_frames(tmp_path):
    images = frames_of()
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:], duration=100)
    content = (tmp_path / "a.png").read_bytes()
    body = b"PLTE" + bytes(range(96))
    chunk = struct.pack(">I", 96) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    assert len(read_frames(tmp_path / "a.png")) == 3


def test_what_is_said_of_further_pages_alone_is_named(tmp_path, caplog):
    infos = {}, {"icc_profile": PROFILE}
    pages = [Frame(np.full((8, 8, 3), tone, np.uint8), 255.0, info) for tone, info in enumerate(infos)]
    save_image(pages, tmp_path / "a.tif")
    assert [frame.info.get("icc_profile") for frame in read_frames(tmp_path / "a.tif")] == [None, PROFILE]
    assert "cannot hold" not in caplog.text
    save_image(pages, tmp_path / "a.png")
    assert "cannot hold ICC color profile of further frames" in caplog.text


def test_the_profile_of_a_gray_picture_is_not_given_to_colors(tmp_path, caplog):
    gray = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    save_image(Frame(np.full((8, 8, 1), 9, np.uint8), 255.0, {"icc_profile": gray}), tmp_path / "a.webp")
    assert "cannot hold ICC color profile for gray" in caplog.text
    with Image.open(tmp_path / "a.webp") as written:
        assert "icc_profile" not in written.info


def test_pixels_that_are_not_square_stay_so(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    content[13:18] = b"\0\0\2\0\1"  # of JFIF: no unit, two to one
    (tmp_path / "a.jpg").write_bytes(content)
    for name in ("b.png", "b.tif"):
        save_image(read_frames(tmp_path / "a.jpg"), tmp_path / name)
        assert read_frames(tmp_path / name)[0].info["resolution"] == (2, 1, 1)


def test_frame_times_keep_their_fractions(tmp_path):
    frames = [Frame(np.asarray(image), 255.0, {"duration": 1000 / 30}) for image in frames_of()]
    save_image(frames, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().count(struct.pack(">HH", 1, 30) + b"\0\0") == 3
    save_image(read_frames(tmp_path / "a.png"), tmp_path / "b.webp")  # which has whole milliseconds
    assert [frame.info["duration"] for frame in read_frames(tmp_path / "b.webp")] == [33] * 3


@pytest.mark.parametrize("kind", [b"sBIT", b"bKGD", b"tIME", b"oFFs", b"prVt"])
def test_chunks_that_are_left_out_are_named(tmp_path, caplog, kind):
    save_image(picture(), tmp_path / "a.png")
    with_chunk(tmp_path / "a.png", chunk(kind, b"\5\6\5"))
    assert not read(tmp_path / "a.png").info and f"its {kind.decode()} is left out" in caplog.text


@pytest.mark.parametrize("target", ["b.png", "b.webp", "b.tif"])
def test_alpha_of_animations_is_kept(tmp_path, target):
    first, *rest = frames_of(alpha=True)
    first.save(tmp_path / "a.png", save_all=True, append_images=rest, duration=100, blend=0)
    frames = read_frames(tmp_path / "a.png")
    assert all(frame.has_alpha for frame in frames)
    save_image([Picture.from_frame(frame) for frame in frames], tmp_path / target)
    for after, before in zip(read_frames(tmp_path / target), frames, strict=True):
        assert np.array_equal(after.planes, before.planes)


def test_a_number_of_frames_that_is_wrong_costs_no_frame(tmp_path, caplog):
    save_image(frames_of(3), tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"acTL") - 4
    for body in (struct.pack(">II", 7, 0), struct.pack(">II", 2, 0), b"\0"):
        (tmp_path / "b.png").write_bytes(content[:at] + chunk(b"acTL", body) + content[at + 20 :])
        assert [frame.planes.tolist() for frame in read_frames(tmp_path / "b.png")] == [
            frame.planes.tolist() for frame in read_frames(tmp_path / "a.png")
        ]
    assert caplog.text.count("it has 3 frames") == 3


def test_the_picture_that_stands_for_an_animation_is_no_part_of_it(tmp_path):
    still, first, second = frames_of(3)
    still.save(tmp_path / "a.png", save_all=True, append_images=[first, second], default_image=True, duration=[70, 90])
    frames = read_frames(tmp_path / "a.png")
    save_image(frames, tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        with Image.open(tmp_path / name) as opened:
            assert opened.n_frames == 3 and opened.info["default_image"]
        again = read_frames(tmp_path / name)
        assert [frame.info.get("duration") for frame in again] == [None, 70, 90]
        assert all(np.array_equal(one.planes, other.planes) for one, other in zip(frames, again, strict=True))
    save_image(frames, tmp_path / "c.webp")  # which cannot hold it, and is all that moves
    again = read_frames(tmp_path / "c.webp")
    assert all(np.array_equal(one.planes, other.planes) for one, other in zip(frames[1:], again, strict=True))


def test_animations_in_a_list_keep_their_frames(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), 60 * index, np.uint8)) for index in range(3)]
    frames[0].save(tmp_path / "a.webp", lossless=True, save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.webp") as animated:
        save_image([animated, frames[2]], tmp_path / "b.tif")
    assert [frame.planes[0, 0, 0] for frame in read_frames(tmp_path / "b.tif")] == [0, 60, 120, 120]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_planes_in_any_order_in_memory_are_written(tmp_path, dtype, channels):
    planes = np.arange(6 * 5 * channels, dtype=dtype).reshape(6, 5, channels)
    for turned in (planes[::-1], planes[:, ::-1], np.asfortranarray(planes)):
        save_image(Frame(turned, float(np.iinfo(dtype).max)), tmp_path / "a.png")
        assert np.array_equal(read_frames(tmp_path / "a.png")[0].planes, turned)


@pytest.mark.parametrize("target", ["b.png", "b.webp"])
def test_a_moving_part_keeps_the_transparency_around_it(tmp_path, target):
    planes = np.zeros((3, 32, 32, 4), np.uint8)
    for index, frame in enumerate(planes):
        frame[8 * index : 8 * index + 8] = 90 + 40 * index, 120, 60, 255
    save_image([Frame(frame, 255.0, {"duration": 80}) for frame in planes], tmp_path / target)
    assert np.array_equal([frame.planes for frame in read_frames(tmp_path / target)], planes)


@pytest.mark.parametrize("target", ["b.png", "b.webp", "b.tif"])
def test_equal_pages_do_not_become_one(tmp_path, target):
    blank = [Frame(np.full((8, 8, 3), 255, np.uint8), 255.0)] * 3
    if target == "b.tif":
        save_image(blank, tmp_path / target)
        assert len(read_frames(tmp_path / target)) == 3
    else:
        with pytest.raises(ValueError, match="cannot hold equal pages one by one"):
            save_image(blank, tmp_path / target)


def test_one_frame_in_an_animated_format_is_a_picture(tmp_path):
    for name in ("a.gif", "a.webp"):
        frames_of(1)[0].save(tmp_path / name, save_all=True)
        assert read(tmp_path / name).size == (16, 12)


def test_the_preview_in_an_mpo_is_no_page(tmp_path, caplog):
    first, second = frames_of(2)
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second.resize((4, 3))])
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    assert len(read_frames(tmp_path / "a.jpg")) == 1 and read(tmp_path / "a.jpg").size == (16, 12)
    assert "left out" in caplog.text


def test_both_pictures_of_a_camera_with_two_lenses_are_kept(tmp_path):
    first, second = frames_of(2)
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second])
    content = (tmp_path / "a.mpo").read_bytes()
    with Image.open(tmp_path / "a.mpo") as opened:
        sizes = [entry["Size"] for entry in opened.mpinfo[0xB002]]
    for kind, size in zip((0x030000, 0), sizes, strict=True):
        content = content.replace(struct.pack("<LL", kind, size), struct.pack("<LL", 0x020002, size))
    (tmp_path / "a.jpg").write_bytes(content)
    assert len(read_frames(tmp_path / "a.jpg")) == 2
    with pytest.raises(ImageUnreadable, match="--page"):
        read(tmp_path / "a.jpg")


@pytest.mark.parametrize("damage", [b"\xff" * 8, b"II*\0\xff\0\0\0", bytes(8)])
def test_a_damaged_index_of_pictures_does_not_block_the_first(tmp_path, damage):
    first, second = frames_of(2)
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    whole = read(tmp_path / "a.jpg").pixels
    content = (tmp_path / "a.jpg").read_bytes()
    at = content.index(b"MPF\0") + 4
    for start in range(at, at + 60, 4):
        (tmp_path / "a.jpg").write_bytes(content[:start] + damage + content[start + 8 :])
        assert np.array_equal(read_frames(tmp_path / "a.jpg")[0].planes / np.float32(255), whole)


def test_pages_of_two_depths_need_tiff(tmp_path):
    frames = [picture(dtype, 3, maximum).to_frame() for dtype, maximum in ((np.uint8, 255), (np.uint16, 65535))]
    for name in ("a.png", "a.webp"):
        with pytest.raises(ValueError, match=r"\.tif instead"):
            save_image(frames, tmp_path / name)
    save_image(frames, tmp_path / "a.tif")
    assert [frame.planes.dtype for frame in read_frames(tmp_path / "a.tif")] == [np.uint8, np.uint16]


# AVIF and HEIC


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_avif_is_read_at_its_depth(tmp_path, bits, channels):
    source = picture(np.uint8 if bits == 8 else np.uint16, channels, 2**bits - 1).to_frame().planes
    stored = source[..., 0] if channels == 1 else source
    options = {"pixelformat": "gray"} if channels == 1 else {}
    (tmp_path / "a.avif").write_bytes(imagecodecs.avif_encode(stored, level=100, bitspersample=bits, **options))
    (frame,) = read_frames(tmp_path / "a.avif")
    assert frame.maximum == 2**bits - 1 and frame.planes.shape == source.shape
    assert np.abs(frame.planes.astype(int) - source).max() <= 2
    save_image(Picture.from_frame(frame), tmp_path / "b.png")
    assert np.allclose(read(tmp_path / "b.png").pixels, read(tmp_path / "a.avif").pixels, atol=1 / 65535)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize(("primaries", "transfer"), [(9, 16), (12, 2), (1, 13), (2, 13)])
def test_the_color_space_that_an_avif_names_travels(tmp_path, caplog, bits, primaries, transfer):
    planes = picture(np.uint8 if bits == 8 else np.uint16, 3, 2**bits - 1).to_frame().planes
    options = {"bitspersample": bits, "primaries": primaries, "transfer": transfer}
    (tmp_path / "a.avif").write_bytes(imagecodecs.avif_encode(planes, level=100, **options))
    save_image(read_frames(tmp_path / "a.avif"), tmp_path / "b.png")
    found = read(tmp_path / "b.png").info.get("cicp")
    assert found == (bytes((primaries, 16 if transfer == 16 else 13, 0, 1)) if primaries in (9, 12) else None)
    save_image(read_frames(tmp_path / "a.avif"), tmp_path / "b.tif")
    assert ("cICP" in caplog.text) == bool(found)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_stands_upright(tmp_path, orientation):
    array = np.zeros((20, 32, 3), np.uint8)
    array[:10, :16], array[10:, :16] = 200, 90
    exif = Image.Exif()
    exif[274] = orientation
    block = exif.tobytes()
    Image.fromarray(array).save(tmp_path / "a.avif", exif=block, quality=100)
    Image.fromarray(array).save(tmp_path / "a.png", exif=block)
    shown, expected = (read_frames(tmp_path / name)[0].planes.astype(int) for name in ("a.avif", "a.png"))
    assert shown.shape == expected.shape and np.abs(shown - expected).max() < 12
    assert metadata.orientation(read(tmp_path / "a.avif").info.get("exif", b"")) == 1


def test_a_damaged_exif_does_not_block_an_avif(tmp_path, caplog):
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "a.avif", exif=exif_block())
    whole = read(tmp_path / "a.avif").pixels
    content = (tmp_path / "a.avif").read_bytes()
    at = content.index(exif_block()[6:14])
    (tmp_path / "a.avif").write_bytes(content[:at] + b"nonsense" + content[at + 8 :])
    again = read(tmp_path / "a.avif")
    assert np.array_equal(again.pixels, whole) and "EXIF is damaged" in caplog.text and "exif" not in again.info


def gradient(bits):
    """What tests/images/data/gradient_*.heic hold, without loss."""
    rows, columns = np.mgrid[:48, :64]
    top = 2**bits - 1
    return np.stack([rows * top // 47, columns * top // 63, (rows + columns) * top // 110], -1)


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_heic_is_read_at_its_depth(tmp_path, bits, name):
    pytest.importorskip("pi_heif")
    content = (Path(__file__).parent / "data" / f"gradient_{bits}.heic").read_bytes()
    (tmp_path / name).write_bytes(content)
    (frame,) = read_frames(tmp_path / name)
    assert frame.maximum == 2**bits - 1 and np.array_equal(frame.planes, gradient(bits))
    exif = Image.Exif()
    exif.load(frame.info["exif"])
    assert exif[0x010F] == "Maker" and ImageCms.ImageCmsProfile(io.BytesIO(frame.info["icc_profile"]))


def test_without_its_library_heic_names_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pi_heif", None)
    content = (Path(__file__).parent / "data" / "gradient_8.heic").read_bytes()
    (tmp_path / "a.heic").write_bytes(content)
    with pytest.raises(ImageUnreadable, match=r"pip install 'denoising-autoencoder\[formats\]'"):
        read(tmp_path / "a.heic")


# CMYK


def cmyk_profile():
    """A profile for CMYK: a table of two points an axis from ink to Lab."""
    table = bytearray()
    for index in range(16):
        cyan, magenta, yellow, black = (index >> shift & 1 for shift in (3, 2, 1, 0))
        red, green, blue = ((1 - ink) * (1 - black) for ink in (cyan, magenta, yellow))
        light = round(255 * (0.3 * red + 0.59 * green + 0.11 * blue))
        table += bytes([light, 128 + 60 * (red - green), 128 + 60 * (green - blue)])
    identity, unit = bytes(range(256)), struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit + identity * 4 + bytes(table) + identity * 3
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"wtpt": b"XYZ " + bytes(4) + white,
        b"A2B0": lut,
        b"cprt": b"text" + bytes(4) + b"none\0",
    }
    directory, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        directory += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white
    return head.ljust(128, b"\0") + directory + body


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk_becomes_rgb_by_its_profile(tmp_path, caplog, name):
    ink = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8).repeat(8, 0).repeat(8, 1)
    source = Image.fromarray(ink, "CMYK")
    source.save(tmp_path / name, icc_profile=cmyk_profile(), **({"quality": 100} if name == "a.jpg" else {}))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile()))
    with Image.open(tmp_path / name) as opened:
        expected = ImageCms.profileToProfile(opened, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    shown = read(tmp_path / name)
    assert np.abs(np.asarray(shown.to_pil()).astype(int) - np.asarray(expected)).max() <= 1
    assert "CMYK is converted to RGB" in caplog.text and "icc_profile" not in shown.info


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk_without_a_profile_is_refused(tmp_path, name):
    Image.new("CMYK", (8, 8)).save(tmp_path / name)
    with pytest.raises(ImageUnreadable, match="color mode CMYK and no color profile"):
        read(tmp_path / name)


# Names


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jfif", "a.tif", "a.webp", "a.gif", "a.heic", "a", "a.txt"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "AVIF"])
def test_the_content_decides_and_not_the_name(tmp_path, name, form):
    Image.new("RGB", (16, 12), (200, 100, 50)).save(tmp_path / name, form)
    assert read(tmp_path / name).size == (16, 12)
    assert read(io.BytesIO((tmp_path / name).read_bytes())).size == (16, 12)


@given(st.sampled_from(["PNG", "AVIF", "HEIC"]), st.data())
@settings(deadline=None, max_examples=60)
def test_damaged_deep_files_raise_nothing_but_our_errors(form, data):
    planes = picture(np.uint16, 3, 1023).to_frame().planes
    content = bytearray(
        {
            "PNG": lambda: imagecodecs.png_encode(planes),
            "AVIF": lambda: imagecodecs.avif_encode(planes, level=60, bitspersample=10),
            "HEIC": lambda: (Path(__file__).parent / "data" / "gradient_10.heic").read_bytes(),
        }[form]()
    )
    for _ in range(data.draw(st.integers(1, 12))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        frames = read_frames(io.BytesIO(bytes(content[: data.draw(st.integers(1, len(content)))])), 1_000_000)
    except (ImageUnreadable, ImageTooLarge):
        return
    assert all(frame.planes.size for frame in frames)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (37, 21)])
def test_interlaced_png_is_read(tmp_path, dtype, size):
    planes = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (*size, 3), dtype)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b""
    for top, left, down, across in passes:
        part = planes[top::down, left::across]
        rows += b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in part if row.size)
    header = struct.pack(">IIBBBBB", size[1], size[0], 8 * planes.itemsize, 2, 0, 0, 1)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert np.array_equal(read_frames(tmp_path / "a.png")[0].planes, planes)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_png_of_few_bits_or_with_a_transparent_color_is_what_pillow_shows(tmp_path, mode):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 4, (20, 30), np.uint8) * 60).convert(mode)
    transparent = {"L": 60, "RGB": (60, 60, 60), "P": 1}.get(mode)
    image.save(tmp_path / "a.png", **({} if transparent is None else {"transparency": transparent}))
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.asarray(opened.convert("RGBA" if transparent is not None else "L"))
    (frame,) = read_frames(tmp_path / "a.png")
    if mode == "L":
        expected = expected[..., [0, 3]]
    assert np.array_equal(frame.planes.reshape(expected.shape), expected)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_of_few_bits_with_a_transparent_value_has_alpha(tmp_path, bits):
    values = np.random.default_rng(0).integers(0, 2**bits, (20, 32), np.uint8)
    digits = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :].reshape(20, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in digits)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 20, bits, 0, 0, 0, 0)) + chunk(b"tRNS", b"\0\1")
    content = header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    (frame,) = read_frames(tmp_path / "a.png")
    assert np.array_equal(frame.planes, np.dstack([values * (255 // (2**bits - 1)), np.where(values == 1, 0, 255)]))
