"""TIFF: every layout of the same pixels is read as the same picture, and tags come through."""

import contextlib
import io
import itertools
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from denoiser import Denoiser, ImageTooLarge, ImageUnreadable, read_frames, save_image
from denoiser.images import tiff_tags
from denoiser.images.picture import Picture, read

DTYPES = [np.uint8, np.uint16, np.float32]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def values(shape, dtype, seed=0):
    draw = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return draw.uniform(-0.2, 1.8, shape).astype(dtype)
    return draw.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def unchanged(path, target, **options):
    """A file read, written and read again, as an array."""
    frames = read_frames(path, **options)
    save_image([Picture.from_frame(frame) for frame in frames], target)
    return tifffile.imread(target)


@pytest.mark.parametrize("dtype", [*DTYPES, np.float16, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_depth_and_channel_count_survives_bit_for_bit(tmp_path, dtype, channels):
    array = values((13, 17, channels) if channels > 1 else (13, 17), dtype)
    extra = {2: ["unassalpha"], 4: ["unassalpha"]}.get(channels)
    photometric = "rgb" if channels > 2 else "minisblack"
    options = {"planarconfig": "contig"} if channels > 1 else {}
    if np.dtype(dtype).kind == "f" and extra:
        array[..., -1] = np.clip(array[..., -1], 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric=photometric, extrasamples=extra, metadata=None, **options)
    written = unchanged(tmp_path / "a.tif", tmp_path / "b.tif")
    assert written.dtype == dtype
    assert np.allclose(written, array, rtol=1e-6) if np.dtype(dtype).kind == "f" else np.array_equal(written, array)


LAYOUTS = list(
    itertools.product(
        DTYPES, "<>", ["contig", "separate"], [None, (16, 32)], [None, "zlib", "lzw", "packbits", "zstd"], [False, True]
    )
)


@given(st.sampled_from(LAYOUTS), st.booleans(), st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None, max_examples=80)
def test_the_layout_of_a_file_does_not_change_the_picture(tmp_path_factory, layout, big, height, width):
    dtype, order, planar, tile, compression, predictor = layout
    array = values((height, width, 3), dtype)
    path = tmp_path_factory.mktemp("layout") / "a.tif"
    stored = np.moveaxis(array, -1, 0) if planar == "separate" else array
    tifffile.imwrite(
        path,
        stored,
        byteorder=order,
        photometric="rgb",
        planarconfig=planar,
        tile=tile,
        compression=compression,
        predictor=predictor if compression in ("zlib", "lzw", "zstd") else None,
        bigtiff=big,
        rowsperstrip=None if tile else max(1, height // 3),
    )
    (frame,) = read_frames(path)
    assert frame.planes.dtype == dtype and np.array_equal(frame.planes, array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_looks_the_same_afterwards(tmp_path, dtype):
    array = values((20, 30), dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    save_image(read(tmp_path / "a.tif").to_pil(), tmp_path / "b.tif")
    page = tifffile.TiffFile(tmp_path / "b.tif").pages[0]
    assert page.photometric.name == "MINISBLACK" and np.array_equal(page.asarray(), np.iinfo(dtype).max - array)


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
def test_one_bit_becomes_eight(tmp_path, photometric):
    array = values((9, 21), np.uint8) > 100
    tifffile.imwrite(tmp_path / "a.tif", array, photometric=photometric)
    shown = ~array if photometric == "miniswhite" else array
    assert np.array_equal(read_frames(tmp_path / "a.tif")[0].planes[..., 0], shown * np.uint8(255))


def test_fax_compression_is_read(tmp_path):
    drawn = Image.new("1", (64, 40), 1)
    drawn.paste(0, (10, 10, 50, 30))
    for name in ("group3", "group4"):
        drawn.save(tmp_path / f"{name}.tif", compression=name)
        shown = read_frames(tmp_path / f"{name}.tif")[0].planes[..., 0]
        assert np.array_equal(shown, np.asarray(drawn) * np.uint8(255))


def test_a_palette_becomes_rgb(tmp_path):
    image = Image.fromarray(values((20, 30), np.uint8) % 4, "P")
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "a.tif")
    assert np.array_equal(read_frames(tmp_path / "a.tif")[0].planes, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("quality", [75, 100])
def test_jpeg_in_tiff_is_read_as_rgb(tmp_path, quality):
    smooth = np.stack(np.meshgrid(np.arange(64), np.arange(64)), -1).astype(np.uint8)
    array = np.dstack([smooth * 3, np.full((64, 64), 90, np.uint8)])
    tifffile.imwrite(
        tmp_path / "a.tif", array, photometric="rgb", compression="jpeg", compressionargs={"level": quality}
    )
    Image.fromarray(array).save(tmp_path / "pil.tif", compression="jpeg", quality=quality)
    for name in ("a.tif", "pil.tif"):
        read_back = read_frames(tmp_path / name)[0].planes.astype(int)
        assert read_back.shape == array.shape and np.abs(read_back - array).mean() < 3


def test_samples_of_five_and_six_bits_fill_eight(tmp_path):
    colors = values((20, 32, 3), np.uint8) >> [3, 2, 3]
    packed = (colors @ [1 << 11, 1 << 5, 1]).astype("<u2").tobytes()
    start = 8 + 2 + 9 * 12 + 4
    about = [(256, 4, 1, 32), (257, 4, 1, 20), (258, 3, 3, start), (259, 4, 1, 1), (262, 4, 1, 2)]
    about += [(273, 4, 1, start + 6), (277, 4, 1, 3), (278, 4, 1, 20), (279, 4, 1, len(packed))]
    table = b"".join(struct.pack("<HHII", *entry) for entry in about) + bytes(4)
    head = b"II*\0" + struct.pack("<IH", 8, len(about)) + table + struct.pack("<3H", 5, 6, 5)
    (tmp_path / "a.tif").write_bytes(head + packed)
    assert np.abs(read_frames(tmp_path / "a.tif")[0].planes - colors * 255 / [31, 63, 31]).max() <= 1


@pytest.mark.parametrize("bits", [3, 5, 7])
def test_fewer_bits_than_eight_are_stretched_to_the_nearest_value(tmp_path, bits):
    array = values((16, 24), np.uint8) >> (8 - bits)
    tifffile.imwrite(tmp_path / "a.tif", array, bitspersample=bits)
    assert np.array_equal(read_frames(tmp_path / "a.tif")[0].planes[..., 0], np.rint(array * (255 / (2**bits - 1))))


def test_jpeg_of_twelve_bits_in_tiff_is_not_said_to_be_damaged(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values((64, 64), np.uint16) >> 4, compression="jpeg")
    with pytest.raises(ImageUnreadable, match="JPEG of 12 bits"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_sixteen_keep_their_values_and_their_white(tmp_path, bits, caplog):
    array = values((40, 40), np.uint16) >> (16 - bits)
    array[0, 0] = 2**bits - 1
    tifffile.imwrite(tmp_path / "a.tif", array)
    picture = read(tmp_path / "a.tif")
    assert picture.maximum == 2**bits - 1 and picture.pixels.max() == 1 and f"{bits} bits in 16" in caplog.text
    assert np.array_equal(unchanged(tmp_path / "a.tif", tmp_path / "b.tif"), array)
    caplog.clear()
    assert read(tmp_path / "b.tif").maximum == 2**bits - 1 and not caplog.text  # written files declare it
    save_image(picture, tmp_path / "c.png")
    assert np.asarray(Image.open(tmp_path / "c.png")).max() == 65535  # other formats have no such tag: stretched
    save_image(picture.to_pil(), tmp_path / "d.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "d.tif"), array)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_fewer_bits_in_sixteen_with_white_at_zero_look_the_same(tmp_path, bits):
    array = values((30, 40), np.uint16) >> (16 - bits)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    (frame,) = read_frames(tmp_path / "a.tif")
    assert frame.maximum == 2**bits - 1
    assert np.array_equal(frame.planes[..., 0], 2**bits - 1 - array)


def test_a_volume_in_one_page_is_said_to_be_one(tmp_path):
    planes = values((4, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", planes, volumetric=True, photometric="minisblack", tile=(4, 16, 16))
    with pytest.raises(ImageUnreadable, match="volume of 4 planes"):
        read_frames(tmp_path / "a.tif")


def test_values_of_a_sixteen_bit_picture_stay_on_its_scale(tmp_path):
    for highest in (200, 5000, 40_000):
        tifffile.imwrite(tmp_path / "a.tif", np.full((8, 8), highest, np.uint16))
        assert read(tmp_path / "a.tif").maximum == 65535


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_that_is_multiplied_in_is_divided_out(tmp_path, dtype):
    top = np.iinfo(dtype).max
    array = np.zeros((4, 4, 4), dtype)
    array[..., :3], array[..., 3] = top // 4, top // 2
    array[0] = 0
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["assocalpha"])
    (frame,) = read_frames(tmp_path / "a.tif")
    assert abs(int(frame.planes[1, 1, 0]) - top // 2) <= 1 and frame.planes[1, 1, 3] == top // 2
    assert not frame.planes[0].any()
    save_image(read(tmp_path / "a.tif"), tmp_path / "b.tif")
    assert tifffile.TiffFile(tmp_path / "b.tif").pages[0].extrasamples[0].name == "UNASSALPHA"


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.int8, np.complex64])
def test_other_samples_are_refused_with_their_type(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), dtype))
    with pytest.raises(ImageUnreadable, match=f"samples of type {np.dtype(dtype)}"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize(("extra", "dtype"), [(1, np.float32), (2, np.float32), (2, np.float64)])
def test_highlights_and_shadows_of_floats_survive(tmp_path, extra, dtype, tiny_model):
    array = np.full((40, 48, 3), 0.2, dtype)
    array[10:20, 10:20], array[30:, 30:] = 40.0 * extra, -3.0
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb")
    result = np.asarray(Denoiser(tiny_model, dtype="float32")(tmp_path / "a.tif", 2))
    assert abs(result.max() - 40 * extra) < 1 and abs(result.min() + 3) < 1
    picture = read(tmp_path / "a.tif")
    assert np.allclose(np.asarray(picture.restore(picture.pixels)), array, rtol=1e-6)
    assert np.asarray(picture.downscale(400)).max() > 30 * extra
    part = picture.crop(1000)
    assert part.pixels.dtype == np.float32
    assert np.asarray(Denoiser(tiny_model, dtype="float32")(part, 2)).max() == pytest.approx(40 * extra, abs=1)


def test_floats_on_another_scale_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values((16, 16), np.uint8).astype(np.float32))
    with pytest.raises(ImageUnreadable, match=r"a\.tif has values up to .* divide by white"):
        read(tmp_path / "a.tif")


# Pages


def stack(count=5, dtype=np.uint16, shape=(24, 30)):
    return values((count, *shape), dtype)


@pytest.mark.parametrize("options", [{"metadata": {"axes": "TYX"}}, {"imagej": True}], ids=["shaped", "imagej"])
def test_an_orientation_is_that_of_the_whole_stack(tmp_path, options):
    turned = [(274, 3, 1, 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", stack(3), photometric="minisblack", extratags=turned, truncate=True, **options)
    expected = np.rot90(stack(3), -1, (1, 2))
    assert np.array_equal([frame.planes[..., 0] for frame in read_frames(tmp_path / "a.tif")], expected)
    assert np.array_equal(read_frames(tmp_path / "a.tif", page=2)[0].planes[..., 0], expected[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["pages", "imagej", "imagej in one directory", "shaped in one directory", "ome"])
def test_every_plane_of_a_stack_is_kept(tmp_path, dtype, kind):
    array, name = stack(dtype=dtype), "a.ome.tif" if kind == "ome" else "a.tif"
    options = {
        "pages": {"metadata": None},
        "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
        "imagej in one directory": {"imagej": True, "metadata": {"axes": "ZYX"}, "truncate": True},
        "shaped in one directory": {"truncate": True},
        "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
    }[kind]
    tifffile.imwrite(tmp_path / name, array, photometric="minisblack", **options)
    frames = read_frames(tmp_path / name)
    assert len(frames) == 5 and np.array_equal([frame.planes[..., 0] for frame in frames], array)
    with pytest.raises(ImageUnreadable, match=r"has 5 frames or pages.*--page"):
        read(tmp_path / name)
    assert np.array_equal(read_frames(tmp_path / name, page=4)[0].planes[..., 0], array[3])
    for page in (0, 6):
        with pytest.raises(ImageUnreadable, match=f"no page {page}; there are 5"):
            read(tmp_path / name, page=page)
    written = unchanged(tmp_path / name, tmp_path / f"b{name}")
    assert written.shape == array.shape and np.array_equal(written, array)


def test_an_imagej_hyperstack_stays_one(tmp_path):
    array = values((2, 3, 4, 16, 18), np.uint16)
    luts = [np.stack([np.arange(256, dtype=np.uint8) // (index + 1)] * 3) for index in range(4)]
    metadata = {"axes": "TZCYX", "unit": "um", "spacing": 0.5, "finterval": 2.0, "mode": "composite", "LUTs": luts}
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, resolution=(1 / 0.1625, 1 / 0.1625), metadata=metadata)
    unchanged(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as before, tifffile.TiffFile(tmp_path / "b.tif") as after:
        assert after.series[0].axes == before.series[0].axes and np.array_equal(after.asarray(), array)
        for key in ("unit", "spacing", "finterval", "mode", "images"):
            assert after.imagej_metadata[key] == before.imagej_metadata[key]
        assert np.array_equal(after.imagej_metadata["LUTs"], luts)
        for tag in ("XResolution", "YResolution"):
            before_tag, after_tag = (file.pages[0].tags[tag].value for file in (before, after))
            assert after_tag[0] / after_tag[1] == pytest.approx(before_tag[0] / before_tag[1], rel=1e-6)
        assert after.pages[0].tags["ResolutionUnit"].value == before.pages[0].tags["ResolutionUnit"].value


def test_thumbnails_masks_and_pyramid_levels_are_no_pages(tmp_path):
    array = values((96, 96, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "after.tif") as tif:
        tif.write(array, photometric="rgb")
        tif.write(array[::4, ::4], photometric="rgb", subfiletype=1)
    with tifffile.TiffWriter(tmp_path / "before.tif") as tif:
        tif.write(array[::4, ::4], photometric="rgb", subfiletype=1)
        tif.write(array, photometric="rgb")
        tif.write(array[..., 0] > 90, photometric="mask", subfiletype=4)
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as tif:
        tif.write(array, photometric="rgb", tile=(32, 32), subifds=2)
        tif.write(array[::2, ::2], photometric="rgb", tile=(32, 32), subfiletype=1)
        tif.write(array[::4, ::4], photometric="rgb", tile=(32, 32), subfiletype=1)
    for name in ("after", "before", "pyramid"):
        assert np.array_equal(np.asarray(read(tmp_path / f"{name}.tif").to_pil()), array), name


def test_a_thumbnail_is_no_page_of_a_pil_image_either(tmp_path):
    array = values((96, 96, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(array, photometric="rgb")
        tif.write(array[::4, ::4], photometric="rgb", subfiletype=1)
        tif.write(array, photometric="rgb", subfiletype=1)
    with Image.open(tmp_path / "a.tif") as opened:
        assert np.array_equal(np.asarray(read(opened).to_pil()), array)
    tifffile.imwrite(tmp_path / "b.tif", stack(dtype=np.uint8), photometric="minisblack")
    with Image.open(tmp_path / "b.tif") as opened, pytest.raises(ImageUnreadable, match="5 frames or pages"):
        read(opened)


@pytest.mark.parametrize("channels", [5, 7])
def test_more_channels_than_colors_and_alpha_are_refused(tmp_path, channels):
    tifffile.imwrite(
        tmp_path / "a.tif", values((20, 30, channels), np.uint16), photometric="minisblack", planarconfig=1
    )
    with pytest.raises(ImageUnreadable, match=f"{channels} channels"):
        read(tmp_path / "a.tif")


def test_a_channel_without_a_meaning_is_kept(tmp_path, caplog):
    array = values((20, 30, 4), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["unspecified"])
    assert np.array_equal(unchanged(tmp_path / "a.tif", tmp_path / "b.tif"), array)
    assert "kept as alpha" in caplog.text


def test_a_file_of_nothing_but_thumbnails_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values((8, 8), np.uint8), subfiletype=1)
    with pytest.raises(ImageUnreadable, match="reduced versions"):
        read(tmp_path / "a.tif")


def test_a_header_without_pages_is_said_to_be_damaged(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", gray())
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:8])
    with pytest.raises(ImageUnreadable, match="damaged or truncated"):
        read(tmp_path / "b.tif")


def test_pages_of_different_kinds_are_kept(tmp_path):
    pages = [values((20, 30, 3), np.uint8), values((12, 9), np.uint16), values((20, 30, 3), np.uint8, 1)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page in pages:
            tif.write(page, photometric="rgb" if page.ndim == 3 else "minisblack")
    frames = read_frames(tmp_path / "a.tif")
    save_image([Picture.from_frame(frame) for frame in frames], tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert all(np.array_equal(page.asarray(), expected) for page, expected in zip(tif.pages, pages, strict=True))


def test_the_limit_of_pixels_is_that_of_all_pages(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), photometric="minisblack")
    assert len(read_frames(tmp_path / "a.tif", max_pixels=5 * 24 * 30)) == 5
    with pytest.raises(ImageTooLarge, match="30 x 24 x 5 pages"):
        read_frames(tmp_path / "a.tif", max_pixels=5 * 24 * 30 - 1)
    assert len(read_frames(tmp_path / "a.tif", max_pixels=24 * 30, page=2)) == 1


# Tags


def test_tags_about_the_picture_travel_and_those_about_the_layout_do_not(tmp_path):
    exif = Image.Exif()
    exif[0x010E], exif[0x010F], exif[0x0132], exif[0x8298] = "a description", "Maker", "2026:01:02 03:04:05", "someone"
    exif[0xC350] = b"\1\2\3"  # a private tag
    exif.get_ifd(0x8769)[0x829A] = 0.01  # exposure time
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8825)[1] = "N"
    image = Image.fromarray(values((20, 30, 3), np.uint8))
    image.save(tmp_path / "a.webp", exif=exif, icc_profile=PROFILE, xmp=b"<x/>", lossless=True)
    picture = read(tmp_path / "a.webp")
    picture.info["resolution"] = (300.0, 150.0, 2)
    save_image(picture, tmp_path / "a.tif")
    for name in ("b.tif", "c.tif"):
        save_image(read(tmp_path / ("a.tif" if name == "b.tif" else "b.tif")).to_pil(), tmp_path / name)
        with Image.open(tmp_path / name) as written:
            found = written.getexif()
            assert [found[tag] for tag in (0x010E, 0x010F, 0x0132, 0x8298)] == [
                exif[tag] for tag in (0x010E, 0x010F, 0x0132, 0x8298)
            ]
            assert found[0xC350] == b"\1\2\3" and found[0x0103] == 1  # uncompressed, as it is written
            camera = found.get_ifd(0x8769)
            assert float(camera[0x829A]) == pytest.approx(0.01) and camera[0x9003] == "2026:01:02 03:04:05"
            assert found.get_ifd(0x8825)[1] == "N"
            assert written.info["dpi"] == pytest.approx((300, 150)) and written.info["icc_profile"] == PROFILE
            assert bytes(written.tag_v2[700]) == b"<x/>"


@pytest.mark.parametrize(("unit", "number"), [("none", 1), ("inch", 2), ("centimeter", 3)])
@pytest.mark.parametrize("through_pil", [False, True])
def test_resolution_keeps_its_unit(tmp_path, unit, number, through_pil):
    tifffile.imwrite(tmp_path / "a.tif", values((8, 8), np.uint8), resolution=(123.25, 61.5), resolutionunit=unit)
    picture = read(tmp_path / "a.tif")
    save_image(picture.to_pil() if through_pil else picture, tmp_path / "b.tif")
    page = tifffile.TiffFile(tmp_path / "b.tif").pages[0]
    x, y = page.tags["XResolution"].value, page.tags["YResolution"].value
    assert page.tags["ResolutionUnit"].value == number
    assert (x[0] / x[1], y[0] / y[1]) == pytest.approx((123.25, 61.5), rel=1e-5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_then_gone(tmp_path, orientation):
    array = values((11, 17, 3), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", array, photometric="rgb", extratags=[(274, 3, 1, orientation, True)], resolution=(100, 50)
    )
    small = Image.fromarray((array >> 8).astype(np.uint8))
    small.save(tmp_path / "a.png", exif=Image.Exif())
    exif = Image.Exif()
    exif[274] = orientation
    small.save(tmp_path / "a.png", exif=exif)
    expected = read_frames(tmp_path / "a.png")[0].planes
    picture = read(tmp_path / "a.tif")
    assert np.array_equal(picture.to_frame().planes >> 8, expected)
    save_image(picture, tmp_path / "b.tif")
    page = tifffile.TiffFile(tmp_path / "b.tif").pages[0]
    assert page.tags.get(274) is None or orientation == 1
    assert page.tags["XResolution"].value[0] / page.tags["XResolution"].value[1] == (50 if orientation > 4 else 100)


def patched(path, tag, kind=None, count=None, value=None):
    """The file with one directory entry changed in place."""
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].tags[tag].offset
    if kind is not None:
        struct.pack_into("<H", content, offset + 2, kind)
    if count is not None:
        struct.pack_into("<I", content, offset + 4, count)
    if value is not None:
        content[offset + 8 : offset + 12] = value
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("tag", "change"),
    [
        ("XResolution", {"value": struct.pack("<I", 2**31)}),
        ("XResolution", {"kind": 2}),
        ("ImageDescription", {"count": 2**30}),
        ("ImageDescription", {"kind": 11, "count": 1}),
        ("Software", {"kind": 99}),
        (700, {"value": struct.pack("<I", 2**31)}),
        (34675, {"value": struct.pack("<I", 8)}),
        (34675, {"count": 2**30}),
    ],
)
def test_a_broken_tag_does_not_block_the_pixels(tmp_path, tag, change):
    array = values((20, 30, 3), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        array,
        photometric="rgb",
        description="a description of some length",
        software="a program",
        iccprofile=PROFILE,
        resolution=(300, 300),
        metadata=None,
        extratags=[(700, 1, 40, b"<x>" + b" " * 37, True)],
    )
    patched(tmp_path / "a.tif", tag, **change)
    (frame,) = read_frames(tmp_path / "a.tif")
    assert np.array_equal(frame.planes, array)
    assert np.array_equal(unchanged(tmp_path / "a.tif", tmp_path / "b.tif"), array)


def test_damaged_pixels_are_said_to_be(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values((200, 300), np.uint16), compression="zlib")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:-2000])
    with pytest.raises(ImageUnreadable, match="damaged or truncated"):
        read(tmp_path / "a.tif")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint8), compression="zlib", metadata=None)
    for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
        patched(tmp_path / "a.tif", tag, kind=4, count=1, value=struct.pack("<I", 60_000))
    with pytest.raises(ImageTooLarge, match="60000 x 60000"):
        read(tmp_path / "a.tif")


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_damaged_files_raise_nothing_but_our_errors(tmp_path_factory, data):
    buffer = io.BytesIO()
    compression = data.draw(st.sampled_from([None, "zlib", "lzw", "jpeg"]))
    photometric = "rgb"
    tifffile.imwrite(
        buffer, values((24, 20, 3), np.uint8), photometric=photometric, compression=compression, resolution=(72, 72)
    )
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 12))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.tif"
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    with contextlib.suppress(ImageUnreadable, ImageTooLarge):
        assert read_frames(path, max_pixels=100_000)


@pytest.mark.parametrize("compression", ["jpeg", "webp", "jpeg2000", "png"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_strips_and_tiles_that_are_pictures_are_read(tmp_path, compression, tile):
    array = values((6, 9, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    options = {"compression": compression, "tile": tile, "rowsperstrip": None if tile else 32}
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", **options)
    expected = tifffile.imread(tmp_path / "a.tif")
    assert np.array_equal(read_frames(tmp_path / "a.tif")[0].planes, expected)


@pytest.mark.parametrize("compression", ["jpeg", "webp", "png"])
def test_a_bomb_within_a_strip_is_refused_before_it_is_decoded(tmp_path, compression):
    array = np.zeros((2000, 3000, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", compression=compression, metadata=None)
    for tag, side in (("ImageWidth", 30), ("ImageLength", 20), ("RowsPerStrip", 20)):
        patched(tmp_path / "a.tif", tag, kind=4, count=1, value=struct.pack("<I", side))
    content, one = (tmp_path / "a.tif").read_bytes(), io.BytesIO()
    Image.fromarray(array).save(one, {"jpeg": "JPEG", "webp": "WEBP", "png": "PNG"}[compression])
    (tmp_path / "a.tif").write_bytes(content + one.getvalue())
    for tag, number in (("StripOffsets", len(content)), ("StripByteCounts", len(one.getvalue()))):
        patched(tmp_path / "a.tif", tag, kind=4, count=1, value=struct.pack("<I", number))
    with pytest.raises(ImageTooLarge, match="3000 x 2000 pixels"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["lerc", "jpegxl"])
def test_compressions_whose_size_cannot_be_checked_are_refused(tmp_path, compression):
    tifffile.imwrite(tmp_path / "a.tif", values((64, 64, 3), np.uint8), photometric="rgb", compression=compression)
    with pytest.raises(ImageUnreadable, match="save it with LZW or Deflate"):
        read(tmp_path / "a.tif")


def test_tags_of_a_big_endian_bigtiff_travel(tmp_path, caplog):
    tifffile.imwrite(tmp_path / "a.tif", gray(), bigtiff=True, byteorder=">", description="cells", metadata=None)
    save_image(read(tmp_path / "a.tif"), tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert tif.pages.first.description == "cells" and np.array_equal(tif.asarray(), gray())
    assert not caplog.text


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_text_of_any_letters_and_values_of_any_type_travel_byte_for_byte(tmp_path, order, big):
    unit = '<OME PhysicalSizeXUnit="\u00b5m"/>'.encode()
    tags = [
        (315, 2, "J\u00fcrgen".encode()),
        (33432, 2, "\u00a9 \u00dcnal".encode()),
        (65_000, 2, b"latin \xe9\0and more"),
    ]
    tags += [(65_001, 1, b"\1\2\3"), (65_002, 7, b"\4\5\6\7\x08"), (65_003, 12, struct.pack(order + "2d", 0.1, -3))]
    tags += [(65_005, 8, struct.pack(order + "h", -2))]
    tifffile.imwrite(
        tmp_path / "a.tif",
        gray(),
        byteorder=order,
        bigtiff=big,
        description=unit,
        metadata=None,
        extratags=[(tag, kind, None, value, True) for tag, kind, value in tags],
    )
    save_image(read(tmp_path / "a.tif"), tmp_path / "b.tif")
    save_image([read_frames(tmp_path / "a.tif")[0], read_frames(tmp_path / "b.tif")[0]], tmp_path / "c.tif")
    for name, page in (("b.tif", 0), ("c.tif", 0), ("c.tif", 1)):
        with tifffile.TiffFile(tmp_path / name) as tif:
            found = tif.pages[page].aspage().tags
            for tag, kind, value in [(270, 2, unit), *tags]:
                expected = value + b"\0" * (kind == 2)
                tif.filehandle.seek(found[tag].valueoffset)
                assert found[tag].dtype == kind and tif.filehandle.read(len(expected)) == expected
                assert kind != 2 or found[tag].count == len(expected)


def test_pages_of_different_byte_order_keep_their_tags(tmp_path):
    for order, name in (("<", "a.tif"), (">", "b.tif")):
        tags = [(65_001, 10, 1, (-1, 3), True), (65_002, 2, None, order.encode(), True)]
        tifffile.imwrite(tmp_path / name, gray(), byteorder=order, metadata=None, extratags=tags)
    save_image([read_frames(tmp_path / name)[0] for name in ("a.tif", "b.tif")], tmp_path / "c.tif")
    with tifffile.TiffFile(tmp_path / "c.tif") as tif:
        assert [page.tags[65_001].value for page in tif.pages] == [(-1, 3)] * 2
        assert [page.tags[65_002].value for page in tif.pages] == ["<", ">"]


def test_a_color_table_of_eight_bits_is_not_black(tmp_path):
    table = np.random.default_rng(0).integers(0, 256, (3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", gray(), photometric="palette", colormap=table)
    assert np.array_equal(read_frames(tmp_path / "a.tif")[0].planes, table.T[gray()])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_that_does_not_say_what_its_colors_are_is_read(tmp_path, caplog, channels):
    planes = gray() if channels == 1 else np.dstack([gray()] * 3)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb" if channels == 3 else "minisblack")
    content = (tmp_path / "a.tif").read_bytes().replace(struct.pack("<HH", 262, 3), struct.pack("<HH", 65000, 3))
    (tmp_path / "a.tif").write_bytes(content)
    assert np.array_equal(read_frames(tmp_path / "a.tif")[0].planes.squeeze(), planes)
    assert "does not say" in caplog.text


def gray():
    return np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)


def test_tags_that_share_their_bytes_take_no_more_than_the_file():
    many, size = 5000, 100_000
    entries = b"".join(struct.pack("<HHII", 40_000 + tag, 7, size, 0) for tag in range(many))
    file = io.BytesIO(struct.pack("<H", many) + entries + bytes(size))
    found = tiff_tags._directory(file, "<", 0)
    assert 0 < sum(len(data) for _, data in found.values()) <= len(file.getvalue())


def test_the_description_of_a_user_is_the_one_that_stays(tmp_path):
    """tifffile writes its own behind it, under the same tag."""
    colors = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colors, photometric="rgb", description="Sample A, 10 ms")
    save_image(read_frames(tmp_path / "a.tif"), tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert tif.pages.first.description == "Sample A, 10 ms" and np.array_equal(tif.asarray(), colors)
