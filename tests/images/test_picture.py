import io
import os
import pickle
import struct
import tempfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import ExifTags, Image, PngImagePlugin

from denoiser import ImageTooLarge, ImageUnreadable, errors, save_image
from denoiser.images.codecs import write_frames
from denoiser.images.frame import Frame
from denoiser.images.picture import read, read_frames


def sixteen_bit_png(array: np.ndarray) -> bytes:
    """Pillow cannot write 16-bit color, so the few chunks of such a PNG are put together here."""
    height, width, channels = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "F"])
def test_pil_pictures_come_back_as_they_were(mode):
    shape = (7, 9, len(mode)) if mode in ("LA", "RGB", "RGBA") else (7, 9)
    draw = np.random.default_rng(0)
    array = {
        "I;16": lambda: draw.integers(0, 65536, shape, np.uint16),
        "F": lambda: draw.random(shape, np.float32),
    }.get(mode, lambda: draw.integers(0, 256, shape, np.uint8))()
    image = Image.fromarray(array)
    assert image.mode == mode
    picture = read(image)
    back = picture.restore(picture.pixels)
    assert back.mode == mode and np.array_equal(np.asarray(back), array)


def test_big_endian_pil_pictures_can_be_written(tmp_path):
    array = np.random.default_rng(0).integers(0, 65536, (7, 9), np.uint16)
    image = Image.frombytes("I;16B", (9, 7), array.astype(">u2").tobytes())
    picture = read(image)
    save_image(picture.restore(picture.pixels), tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), array)
    with pytest.raises(ValueError, match="cannot hold 16 bits"):
        save_image(image, tmp_path / "a.jpg")


@given(
    st.sampled_from([np.uint8, np.uint16]).flatmap(
        lambda dtype: arrays(
            dtype,
            array_shapes(min_dims=2, max_dims=2, max_side=9)
            | st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
        )
    )
)
@settings(deadline=None)
def test_integer_arrays_survive_the_round_trip(array):
    picture = read(array)
    assert picture.pixels.shape[2] in (1, 3) and picture.pixels.min() >= 0 and picture.pixels.max() <= 1
    back = picture.restore(picture.pixels)
    assert back.dtype == array.dtype and np.array_equal(back, array)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 6), (1, 5, 6), (3, 5, 6), (4, 5, 6)])
def test_tensors_come_back_as_they_were(dtype, shape):
    tensor = (torch.rand(shape) * (255 if dtype == torch.uint8 else 1)).to(dtype)
    picture = read(tensor)
    back = picture.restore(picture.pixels)
    assert (
        back.dtype == dtype and back.shape == tensor.shape and torch.allclose(back.float(), tensor.float(), atol=1e-6)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (300, 1), (20_000, 1), (20_000, 2), (1, 20_000), (3000, 3)])
def test_narrow_pictures_are_written_as_png(tmp_path, dtype, channels, size):
    white = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, white, (*size, channels), dtype, endpoint=True)
    for fast in (False, True):
        write_frames([Frame(pixels, white)], tmp_path / "a.png", fast)
        (found,) = read_frames(tmp_path / "a.png")
        assert np.array_equal(found.planes, pixels)


@given(
    st.sampled_from([np.uint8, np.uint16]),
    st.data(),
    arrays(
        np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(1)), elements=st.floats(-1, 2, width=32)
    ),
)
@settings(deadline=None, max_examples=50)
def test_new_pixels_are_what_writing_to_png_and_reading_back_gives(tmp_path_factory, dtype, data, pixels):
    channels = 3 if dtype == np.uint8 and data.draw(st.booleans()) else 1
    pixels = np.repeat(pixels, channels, axis=2)
    alpha = dtype == np.uint8 and data.draw(st.booleans())
    shape = (*pixels.shape[:2], channels + alpha) if channels + alpha > 1 else pixels.shape[:2]
    picture = read(Image.fromarray(np.full(shape, 7, dtype))).with_pixels(pixels)
    path = tmp_path_factory.mktemp("picture") / "written.png"
    picture.to_pil().save(path)
    back = read(path)
    assert np.array_equal(back.pixels, picture.pixels) and back.maximum == picture.maximum
    assert np.array_equal(back.alpha, picture.alpha) if alpha else back.alpha is picture.alpha is None
    assert np.array_equal(picture.with_pixels(picture.pixels).pixels, picture.pixels)


@given(st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]), st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_new_pixels_of_an_array_are_what_restoring_and_reading_again_gives(dtype, channels):
    picture = read(np.zeros((4, 5, channels), dtype))
    pixels = np.random.default_rng(channels).uniform(-0.5, 1.5, picture.pixels.shape).astype(np.float32)
    assert np.array_equal(read(picture.restore(pixels)).pixels, picture.with_pixels(pixels).pixels)


def test_new_pixels_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2, 1\)"):
        read(np.zeros((4, 4), np.uint8)).with_pixels(np.zeros((2, 2, 1), np.float32))


def test_sixteen_bit_color_is_refused_by_to_pil_with_a_sentence():
    with pytest.raises(ValueError, match="one channel only"):
        read(np.zeros((4, 4, 3), np.uint16)).to_pil()


def test_a_result_is_clipped_and_rounded_to_nearest():
    picture = read(np.zeros((1, 4), np.uint8))
    pixels = np.array([-0.2, 100.4 / 255, 100.6 / 255, 1.7], np.float32).reshape(1, 4, 1)
    assert picture.restore(pixels).tolist() == [[0, 100, 101, 255]]


def test_exif_orientation_is_applied_and_then_gone(tmp_path):
    array = np.zeros((20, 30, 3), np.uint8)
    array[:, :15] = 255
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    picture = read(tmp_path / "turned.png")
    assert picture.pixels.shape == (30, 20, 3)
    assert picture.pixels[:15].min() == 1 and picture.pixels[15:].max() == 0
    kept = Image.Exif()
    kept.load(picture.restore(picture.pixels).info["exif"])
    assert 0x0112 not in kept and kept[0x010F] == "Maker"


def test_the_color_profile_stays_with_the_picture(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.new("RGB", (8, 8), (10, 200, 30)).save(tmp_path / "profiled.png", icc_profile=profile)
    picture = read(tmp_path / "profiled.png")
    assert picture.restore(picture.pixels).info["icc_profile"] == profile


def test_transparency_of_a_palette_becomes_alpha(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "palette.png", transparency=0)
    picture = read(tmp_path / "palette.png")
    assert picture.alpha[0, 0] == 0 and picture.alpha[1, 1] == 1
    assert np.allclose(picture.pixels[1, 1] * 255, [200, 100, 50])
    assert picture.restore(picture.pixels).mode == "RGBA"


def test_sixteen_bit_gray_files_are_read_in_full(tmp_path):
    array = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    (tmp_path / "deep.png").write_bytes(sixteen_bit_png(array[..., None]))
    picture = read(tmp_path / "deep.png")
    assert np.array_equal(np.asarray(picture.restore(picture.pixels)), array)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bit_color_files_are_read_in_full_and_refused_where_pillow_reduces_them(tmp_path, channels):
    deep = np.random.default_rng(0).integers(0, 65536, (8, 9, channels), np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(sixteen_bit_png(deep))
    picture = read(path)
    assert np.array_equal(np.asarray(picture.restore(picture.pixels)), deep)
    with Image.open(path) as lazily_opened, pytest.raises(ImageUnreadable, match="16-bit color"):
        read(lazily_opened)


def test_formats_that_pillow_may_reduce_to_8_bits_are_refused(tmp_path):
    (tmp_path / "deep.ppm").write_bytes(b"P6 4 4 65535\n" + bytes(range(96)))
    with pytest.raises(ImageUnreadable, match="not a picture, or not PNG, JPEG"):
        read(tmp_path / "deep.ppm")
    (tmp_path / "odd.dds").write_bytes(b"DDS " + b"\x7c\0\0\0" + b"\xff" * 120)
    with pytest.raises(ImageUnreadable):
        read(tmp_path / "odd.dds")


def test_sixteen_bit_gray_with_a_transparent_value_has_alpha(tmp_path):
    content = sixteen_bit_png(np.arange(16, dtype=np.uint16).reshape(4, 4, 1))
    chunk = b"tRNS\x00\x07"
    at = content.index(b"IDAT") - 4
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "transparent.png").write_bytes(content[:at] + chunk + content[at:])
    assert np.array_equal(read(tmp_path / "transparent.png").alpha == 0, np.arange(16).reshape(4, 4) == 7)
    with Image.open(tmp_path / "transparent.png") as opened, pytest.raises(ImageUnreadable, match="transparent value"):
        read(opened)


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "is empty"),
        ("text.png", b"not a picture at all", "not a picture"),
        ("cut.jpg", encoded("JPEG")[:2000], "damaged or truncated"),
        ("cut.png", encoded("PNG")[:2000], "damaged or truncated"),
        ("cut.tif", encoded("TIFF")[:4000], "damaged|not a picture"),
        ("cut.webp", encoded("WEBP")[:2000], "damaged|not a picture"),
    ],
)
def test_bad_files_are_refused_with_the_reason(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageUnreadable, match=message):
        read(tmp_path / name)


@given(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF"]), st.data())
@settings(deadline=None, max_examples=60)
def test_damaged_files_raise_nothing_but_our_errors(tmp_path_factory, form, data):
    content = bytearray(encoded(form))
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"damaged.{form.lower()}"
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    try:
        picture = read(path, max_pixels=1_000_000)
        assert np.isfinite(picture.pixels).all()
    except (ImageUnreadable, ImageTooLarge):
        pass


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(ImageUnreadable, match=r"no file nothing\.png"):
        read(tmp_path / "nothing.png")
    with pytest.raises(ImageUnreadable, match="is a folder"):
        read(tmp_path)
    with pytest.raises(ImageUnreadable, match="no file"):
        read("x" * 5000)
    for address in ("https://example.com/a.png", Path("https://example.com/a.png")):
        with pytest.raises(ImageUnreadable, match=r"https://example\.com/a\.png is an address: download it first"):
            read(address)
    with pytest.raises(ImageUnreadable, match="the file is empty"):
        read(io.BytesIO())
    with pytest.raises(ImageUnreadable, match=r"^\. is a folder"):
        read("")
    (tmp_path / "a.png").touch()
    with open(tmp_path / "a.png", "rb") as file:
        pass
    with pytest.raises(ImageUnreadable, match="is closed: open it again"):
        read(file)


def test_a_file_for_which_the_memory_is_too_small_is_not_damaged(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise MemoryError

    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    monkeypatch.setattr("imagecodecs.png_decode", fail)
    with pytest.raises(MemoryError, match=r"not enough memory for a\.png"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
def test_a_file_is_read_from_its_beginning_wherever_it_stands(form):
    image, buffer = Image.new("RGB", (9, 7), (90, 80, 70)), io.BytesIO()
    image.save(buffer, form)
    buffer.seek(8)
    assert read(buffer).size == (9, 7)
    assert read(SimpleNamespace(read=io.BytesIO(buffer.getvalue()).read)).size == (9, 7)


def test_a_bilevel_image_with_transparency_stays_gray():
    image = Image.new("1", (9, 7), 1)
    image.info["transparency"] = 0
    assert read(image).pixels.shape == (7, 9, 1) and read(image).alpha is not None


def test_doubles_that_mean_no_data_stay_as_they_are():
    values = np.full((40, 50), 0.5)
    values[3, 4] = -np.finfo(np.float64).max
    assert np.array_equal(np.asarray(read(values)), values)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    header = sixteen_bit_png(np.zeros((1, 1, 1), np.uint16))
    bomb = bytearray(header)
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    (tmp_path / "bomb.png").write_bytes(bytes(bomb))
    with pytest.raises(ImageTooLarge, match=r"megapixels|far more pixels"):
        read(tmp_path / "bomb.png")


def test_the_pixel_limit_is_the_callers(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "small.png")
    assert read(tmp_path / "small.png", max_pixels=1200).pixels.shape == (30, 40, 3)
    with pytest.raises(ImageTooLarge, match="40 x 30"):
        read(tmp_path / "small.png", max_pixels=1199)
    with pytest.raises(ImageTooLarge):
        read(np.zeros((30, 40), np.uint8), max_pixels=1199)
    Image.new("L", (501, 400)).save(tmp_path / "a little larger.png")
    with pytest.raises(ImageTooLarge, match=r"501 x 400 = 0\.3 megapixels; the limit is 0\.2\."):
        read(tmp_path / "a little larger.png", max_pixels=200_000)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), "expected \\(H, W\\) or \\(H, W, C\\)"),
        (np.zeros((8,), np.uint8), "expected"),
        (np.zeros((0, 8), np.uint8), "no pixels"),
        (np.zeros((8, 8), np.int32), "type int32"),
        (np.zeros((8, 8), bool), "type bool"),
        (np.full((8, 8), np.nan), "not finite"),
        (np.full((8, 8), 200.0), "divide by white"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array, message):
    with pytest.raises(ImageUnreadable, match=message):
        read(array)


def test_print_colors_and_animations_are_refused(tmp_path):
    with pytest.raises(ImageUnreadable, match="color mode CMYK"):
        read(Image.new("CMYK", (4, 4)))
    frames = [Image.new("L", (4, 4), value) for value in (0, 255)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageUnreadable, match="2 frames"):
        read(tmp_path / "moving.gif")


def test_other_types_raise_a_type_error():
    with pytest.raises(TypeError, match="not dict"):
        read({})


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_a_part_or_a_smaller_version_is_still_the_same_kind(mode):
    image = Image.fromarray(np.full((40, 60), 30_000, np.uint16)) if mode == "I;16" else Image.new(mode, (60, 40), 90)
    picture = read(image)
    for smaller in (picture.downscale(600), picture.crop(600)):
        back = smaller.restore(smaller.pixels)
        assert back.mode == mode and back.size == (30, 20) and smaller.size == (30, 20)
        assert np.allclose(smaller.pixels, picture.pixels[0, 0], atol=1e-4)
    assert read(image).downscale(10**9).pixels.shape == picture.pixels.shape


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(
    ("tag", "kind", "value"),
    [(0x011A, 2, b"72\0\0"), (0x0103, 11, struct.pack("<f", 1.5)), (0x011B, 10, struct.pack("<I", 9000))],
    ids=["resolution as text", "compression as float", "rational out of place"],
)
def test_a_damaged_tag_costs_the_metadata_and_not_the_picture(tmp_path, orientation, tag, kind, value):
    entries = sorted(
        [
            struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0),
            struct.pack("<HHI", tag, kind, 1 + 3 * (kind == 2)) + value,
        ]
    )
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + b"".join(entries) + bytes(4)
    picture = np.arange(30 * 40 * 3, dtype=np.uint32).reshape(30, 40, 3).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "p.jpg", quality=95, exif=exif)
    upright = read(tmp_path / "p.jpg").pixels
    with Image.open(tmp_path / "p.jpg") as stored:
        expected = np.rot90(np.asarray(stored), {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    assert np.array_equal(np.rint(upright * 255), expected)


@pytest.mark.parametrize(("height", "width"), [(1, 30_000), (3, 12_345), (9000, 2), (1, 1), (700, 900)])
def test_a_part_of_a_picture_is_never_larger_than_asked_for(height, width):
    picture = read(Image.new("RGB", (width, height)))
    for part in (picture.crop(5000), picture.downscale(5000)):
        assert part.pixels.shape[0] * part.pixels.shape[1] <= 5000


def test_files_that_cannot_be_rewound_are_read(tmp_path):
    Image.new("RGB", (9, 7), (10, 20, 30)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for path in (False, True):
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            given = f"/dev/fd/{reading}" if path else file
            if not path or Path(given).exists():
                assert read(given).size == (9, 7)


def test_a_file_opened_as_text_is_refused_with_the_reason(tmp_path):
    (tmp_path / "a.png").write_bytes(b"abc")
    with open(tmp_path / "a.png") as file, pytest.raises(TypeError, match="binary"):
        read(file)


@pytest.mark.parametrize("kind", [np.asmatrix, np.ma.masked_array])
def test_subclasses_of_arrays_are_taken_as_arrays(kind):
    plane = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = read(kind(plane))
    assert type(picture.restore(picture.pixels)) is np.ndarray and np.array_equal(
        picture.to_frame().planes[..., 0], plane
    )


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_errors_reach_other_processes(kind):
    error = kind("a sentence", 3) if kind is errors.SeveralFrames else kind("a sentence")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == "a sentence" and vars(again) == vars(error)


def test_a_picture_is_a_picture(photo):
    deep = read(photo.astype(np.uint16) * 257)
    again = read(deep)
    assert np.array_equal(again.pixels, deep.pixels) and not np.shares_memory(again.pixels, deep.pixels)
    assert again.dtype == np.uint16 and again.maximum == deep.maximum


# -- images that Pillow has opened -------------------------------------------------------------------------------------


def test_white_that_is_lower_than_the_depth_stays_so_through_pil(tmp_path):
    twelve = np.random.default_rng(0).integers(0, 4096, (20, 30), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", twelve, extratags=[(281, 3, 1, 4095, True)])
    once = read(tmp_path / "a.tif")
    image = once.restore(once.pixels)
    for source in (image, Image.open(tmp_path / "a.tif")):
        picture = read(source)
        assert picture.maximum == 4095 and np.array_equal(picture.pixels, once.pixels)
        assert picture.restore(picture.pixels).info["maximum"] == 4095
    save_image(image, tmp_path / "b.png")
    assert np.abs(read(tmp_path / "b.png").pixels - once.pixels).max() < 1e-4


@pytest.mark.parametrize("convert", [lambda image: image.convert("P"), lambda image: image.quantize(16)])
def test_a_palette_with_alpha_keeps_it(tmp_path, convert):
    planes = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    image = convert(Image.fromarray(planes))
    picture = read(image)
    assert picture.alpha is not None
    assert np.array_equal(np.rint(picture.alpha * 255), np.asarray(image.convert("RGBA"))[..., 3])
    save_image(image, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as written:
        assert written.mode == "RGBA"


def test_what_a_png_says_behind_its_pixels_is_read_from_an_image_that_is_not_loaded(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (12, 9), (9, 99, 199)).save(buffer, "PNG")
    content = buffer.getvalue()
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    (tmp_path / "a.png").write_bytes(content[:-12] + chunk + content[-12:])
    assert read(Image.open(tmp_path / "a.png")).pixels.shape == read(tmp_path / "a.png").pixels.shape == (12, 9, 3)
    with pytest.raises(ImageTooLarge):
        read(Image.open(tmp_path / "a.png"), max_pixels=50)


NAMES = [
    "chromaticity",
    "resolution",
    "aspect",
    "transparency",
    "comment",
    "icc_profile",
    "exif",
    "xmp",
    "loop",
    "duration",
    "maximum",
    "text",
    "srgb",
]


@pytest.mark.parametrize(
    ("key", "value"), [("gamma", "2.2"), ("dpi", "72"), ("jfif_unit", "0"), *((name, "a text") for name in NAMES)]
)
def test_texts_of_a_png_are_texts_whatever_their_names(tmp_path, caplog, key, value):
    text = PngImagePlugin.PngInfo()
    text.add_text(key, value)
    Image.new("RGB", (12, 9)).save(tmp_path / "a.png", pnginfo=text)
    for source in (tmp_path / "a.png", Image.open(tmp_path / "a.png")):
        picture = read(source)
        assert picture.info == {"text": {key: value}} and picture.alpha is None
        save_image(picture, tmp_path / "b.png")
        assert read(tmp_path / "b.png").info == picture.info
    assert not caplog.text


def test_anything_may_be_in_the_info_of_an_image(tmp_path):
    image = Image.new("RGB", (12, 9))
    image.info |= {"text": "caption", "dpi": 300, "gamma": "x", "icc_profile": "x", "exif": 3, "srgb": -1, "xmp": 7}
    assert read(image).info == {"resolution": (300.0, 300.0, 2)}
    image.info = {"text": {"\u043a\u043b\u044e\u0447": "value"}, "dpi": ("x", "y")}
    save_image(image, tmp_path / "a.png")
    assert read(tmp_path / "a.png").info == {"text": {"????": "value"}}


def test_planes_of_sixteen_bits_that_pillow_reduces_are_refused_and_lost_tags_named(tmp_path, caplog):
    deep = np.random.default_rng(0).integers(0, 65536, (3, 20, 30), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", planarconfig="separate")
    with pytest.raises(ImageUnreadable, match="reduces to 8 bits"):
        read(Image.open(tmp_path / "a.tif"))
    gray = (deep[0] >> 8).astype(np.uint8)
    tifffile.imwrite(tmp_path / "b.tif", gray, resolution=(300, 300), metadata=None, software=False)
    read(Image.open(tmp_path / "b.tif"))
    assert not caplog.text
    tifffile.imwrite(tmp_path / "c.tif", gray, extratags=[(271, 2, 0, "maker", True)])
    read(Image.open(tmp_path / "c.tif"))
    assert "pass the path" in caplog.text


# -- sizes, names and what is replaced ---------------------------------------------------------------------------------


def test_the_limit_of_pixels_is_of_all_pages_whatever_their_sizes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for side in (4, 30, 30, 30):
            writer.write(np.zeros((side, side), np.uint8), photometric="minisblack")
    assert len(read_frames(tmp_path / "a.tif", max_pixels=2716)) == 4
    with pytest.raises(ImageTooLarge, match="4 pages of"):
        read_frames(tmp_path / "a.tif", max_pixels=2715)
    assert len(read_frames(tmp_path / "a.tif", max_pixels=1000, page=2)) == 1


def test_a_file_without_a_name_is_read():
    with tempfile.SpooledTemporaryFile() as file:  # as web frameworks hand uploads over
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.arange(12, dtype=np.uint8).reshape(3, 4))
        file.write(buffer.getvalue())
        assert read(file).pixels.shape == (3, 4, 1)


def test_a_file_that_is_replaced_keeps_its_rights_and_a_link_its_target(tmp_path):
    image, target, link = Image.new("L", (9, 9), 7), tmp_path / "a.png", tmp_path / "link.png"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    save_image(image, link)
    assert link.is_symlink() and target.stat().st_mode & 0o777 == 0o640 and read(target).pixels.shape == (9, 9, 1)


def test_a_mask_is_not_lost_silently():
    with pytest.raises(ImageUnreadable, match="fill it first"):
        read(np.ma.masked_array(np.zeros((9, 9), np.uint8), np.eye(9, dtype=bool)))


def test_many_values_above_white_are_asked_about(caplog):
    dark = np.full((20, 20), 0.5, np.float32)
    dark[:4] = 200
    read(dark)
    assert "is white at 1?" in caplog.text
