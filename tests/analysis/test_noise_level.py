import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, uniform_filter

from benchmarks import noise_level as drawn
from denoiser import Denoiser, add_noise, bundled_checkpoints, estimate_sigma
from denoiser.analysis import measured_parts
from denoiser.analysis.measured_parts import is_graphic
from denoiser.analysis.metrics import psnr
from denoiser.analysis.noise_level import MAX_PATCHES
from denoiser.analysis.signal_dependence import estimate_noise
from denoiser.images.picture import read


def as_file(pixels):
    return np.rint(pixels.clip(0, 1) * 255).astype(np.float32) / 255


def clean(photo, channels):
    pixels = photo.astype(np.float32) / 255
    return pixels if channels == 3 else pixels.mean(2, keepdims=True)


@pytest.mark.parametrize("sigma", [5, 10, 25, 50])
def test_on_a_detailed_color_photograph_the_estimate_is_within_ten_percent(photo, sigma):
    noisy = add_noise(clean(photo, 3), "gaussian", sigma=sigma)
    assert estimate_sigma(noisy) == pytest.approx(sigma, rel=0.1)
    assert estimate_sigma(as_file(noisy)) == pytest.approx(sigma, rel=0.12)


@pytest.mark.parametrize("sigma", [2, 10, 25, 50])
def test_on_a_gray_photograph_texture_raises_the_estimate_little(photo, sigma):
    noisy = add_noise(clean(photo, 1), "gaussian", sigma=sigma)
    most = min(sigma * 1.2 + 1.5, sigma + 8)
    assert sigma * 0.95 < estimate_sigma(noisy) < most
    assert sigma * 0.9 < estimate_sigma(as_file(noisy)) < most


def textured(channels: int) -> np.ndarray:
    """Fine texture of brightness over all but a corner, as grass or a facade has it, without color noise."""
    random = np.random.default_rng(0)
    fine = 0.5 + 0.06 * random.standard_normal((256, 320, 1)) * (random.random((256, 320, 1)) < 0.7)
    fine[:64, :96] = np.linspace(0.4, 0.6, 96)[:, None]
    return as_file(np.float32(fine * [0.9, 1, 0.8][:channels]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [1, 2, 5, 15])
def test_texture_of_brightness_is_not_taken_for_noise(channels, sigma):
    noisy = add_noise(textured(channels), "gaussian", sigma=sigma)
    found = estimate_sigma(as_file(noisy))
    assert 0.85 * sigma <= found < (1.3 if channels == 1 else 1.1) * sigma + 1.5  # the texture's own deviation is 13
    assert estimate_sigma(noisy / 2) == pytest.approx(estimate_sigma(noisy) / 2, rel=0.05, abs=0.1)


@pytest.mark.parametrize(("channels", "sigma", "most"), [(3, 5, 1.15), (3, 15, 1.1), (1, 15, 1.35)])
def test_small_crops_full_of_texture_are_not_read_as_noise(photo, channels, sigma, most):
    """A crop in color was estimated at 1.8 times its noise of 5."""
    whole = clean(photo, channels)
    for top, left in ((0, 0), (60, 100), (100, 30), (160, 160)):
        noisy = add_noise(whole[top : top + 96, left : left + 96], "gaussian", top, sigma=sigma)
        assert 0.85 * sigma < estimate_sigma(as_file(noisy)) < most * sigma


@given(sigma=st.floats(0, 75), low=st.floats(0.3, 0.5), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=12)
def test_on_a_smooth_picture_the_estimate_is_the_noise_level(sigma, low, seed):
    smooth = np.repeat(np.linspace(low, low + 0.2, 96, dtype=np.float32)[None], 96, axis=0)[..., None].repeat(3, 2)
    assert estimate_sigma(add_noise(smooth, "gaussian", seed, sigma=sigma)) == pytest.approx(sigma, rel=0.06, abs=0.1)


@pytest.mark.parametrize("sigma", [2, 10, 25, 50])
def test_on_a_smooth_gray_picture_the_estimate_is_the_noise_level(sigma):
    smooth = np.repeat(np.linspace(0.2, 0.8, 256, dtype=np.float32)[None], 256, axis=0)[..., None]
    assert estimate_sigma(add_noise(smooth, "gaussian", sigma=sigma)) == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("sigma", [10, 25, 50])
def test_a_gray_picture_in_three_planes_is_treated_as_gray(photo, sigma):
    gray = add_noise(clean(photo, 1), "gaussian", sigma=sigma)
    three = gray.repeat(3, axis=2)
    assert estimate_sigma(three) == pytest.approx(estimate_sigma(gray), rel=1e-4)
    rounded = as_file(three) + np.random.default_rng(0).integers(0, 2, three.shape).astype(np.float32) / 255
    assert estimate_sigma(rounded) == pytest.approx(estimate_sigma(as_file(gray)), rel=0.1)


@pytest.mark.parametrize("weights", [(1, 0.9, 0.7), (1, 0.5, 0), (0, 0, 1)])
def test_noise_of_toned_and_single_channel_pictures_is_found(photo, weights):
    """Their planes are not independent: some directions of color hold no noise at all, which says nothing."""
    gray = add_noise(clean(photo, 1), "gaussian", sigma=25)
    toned = as_file(gray * np.float32(weights))
    assert 0.8 * 25 * np.mean([weight for weight in weights if weight]) < estimate_sigma(toned) < 33


def test_a_constant_channel_is_ignored(photo):
    noisy = add_noise(clean(photo, 3), "gaussian", sigma=25)
    noisy[..., 2] = 0.5
    assert 20 < estimate_sigma(as_file(noisy)) < 33


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [5, 25, 50])
@pytest.mark.parametrize("value", [0, 10, 245, 255])
def test_clipping_is_corrected_for_where_the_whole_picture_is_clipped(value, sigma, channels):
    flat = add_noise(np.full((128, 128, channels), value / 255, np.float32), "gaussian", sigma=sigma)
    assert estimate_sigma(as_file(flat)) == pytest.approx(sigma, rel=0.2)


def test_noise_smoothed_by_jpeg_is_still_found(photo):
    noisy = add_noise(clean(photo, 3), "gaussian", sigma=20)
    assert 8 < estimate_sigma(add_noise(noisy, "jpeg", quality=90)) < 22


def test_print_and_flat_graphics_have_no_noise():
    page = np.ones((200, 300, 3), np.float32)
    page[::7, ::5] = 0
    assert estimate_sigma(page) == 0
    page[50:150] = (0.2, 0.4, 0.6)
    assert estimate_sigma(page) < 2


def test_large_pictures_are_sampled(photo):
    large = np.tile(clean(photo, 3), (4, 4, 1))
    assert large[..., 0].size > 10 * MAX_PATCHES
    assert estimate_sigma(add_noise(large, "gaussian", sigma=12)) == pytest.approx(12, rel=0.1)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 3), (3, 500)])
def test_the_estimate_is_zero_for_pictures_that_are_too_small(size):
    assert estimate_sigma(np.full((*size, 3), 0.3, np.float32)) == 0


@pytest.mark.parametrize("size", [(4, 4), (5, 30), (8, 8), (33, 9), (64, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_pictures_give_a_number(size, channels):
    noisy = add_noise(np.full((*size, channels), 0.5, np.float32), "gaussian", sigma=20)
    assert 5 < estimate_sigma(noisy) < 40
    assert estimate_sigma(np.zeros((*size, channels), np.float32)) == 0


def text_page(size: int) -> np.ndarray:
    """Black letters on white, as a screenshot or a scan has them, uint8 (H, W)."""
    page, letters = Image.new("L", (420, 300), 255), np.random.default_rng(size)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    for top in range(6, 290, round(size * 1.4)):
        words = "".join(map(chr, letters.choice([*range(97, 123), 32, 32, 32, 32], 60)))
        draw.text((6, top), words, fill=0, font=font)
    return np.asarray(page)


def text_of_a_screen() -> np.ndarray:
    """Letters smoothed by the three colors of a screen's pixels, uint8 (H, W, 3)."""
    page, letters = Image.new("L", (960, 320), 255), np.random.default_rng(0)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for top in range(2, 320, 18):
        words = "".join(map(chr, letters.choice([*range(97, 123), 32, 32, 32, 32], 240)))
        draw.text((4, top), words, fill=20, font=font)
    return np.rint(uniform_filter(np.asarray(page, float), (1, 3)).reshape(320, 320, 3)).astype(np.uint8)


def pixel_art(tones: int) -> np.ndarray:
    """Small areas of gray tones, uint8 (H, W)."""
    field = gaussian_filter(np.random.default_rng(0).standard_normal((160, 160)), 1.5)
    steps = np.digitize(field, np.quantile(field, np.linspace(0, 1, tones + 1)[1:-1]))
    return (20 + 220 // tones * steps).astype(np.uint8)


def drawn_screenshot() -> np.ndarray:
    """Gray panels with lines and text, uint8 (H, W, 3)."""
    screen = Image.new("RGB", (320, 240), (52, 60, 70))
    draw = ImageDraw.Draw(screen)
    for index in range(5):
        draw.rectangle((10, 10 + 44 * index, 300, 46 + 44 * index), fill=(90, 100 + 20 * index, 120), outline=(9, 9, 9))
        draw.text((20, 20 + 44 * index), "settings and more settings", fill=(240, 240, 230))
    return np.asarray(screen)


def as_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize("name", ["color-base", "gray-base", "photo"])
@pytest.mark.parametrize("size", [9, 16, 30])
def test_a_clean_text_page_comes_back_as_it_was(name, size):
    """Its letters were taken for noise of 40 to 65 levels."""
    page = text_page(size)
    assert estimate_sigma(page) == 0 and estimate_sigma(drawn_screenshot()) == 0
    denoiser = Denoiser.from_pretrained(name, device="cpu")
    assert np.array_equal(denoiser(page), page)
    for quality in (80, 95):
        scan = as_jpeg(page, quality)
        before, after = (psnr(page / 255, other / 255) for other in (scan, denoiser(scan)))
        assert after > min(before - 0.5, 45)


@pytest.mark.parametrize("draw", [text_of_a_screen, lambda: text_of_a_screen()[..., 1], lambda: pixel_art(8)])
def test_edges_of_print_and_areas_of_gray_tones_are_no_noise(draw):
    """They were read as noise of 5 to 10 levels."""
    noisy = draw() + 8 * np.random.default_rng(0).standard_normal(draw().shape)
    assert estimate_sigma(draw()) == 0
    assert 5 < estimate_sigma(np.rint(noisy.clip(0, 255)).astype(np.uint8)) < 12


def test_noise_of_a_photograph_of_few_tones_is_found(photo):
    noisy = photo.mean(2) + 12 * np.random.default_rng(0).standard_normal(photo.shape[:2])
    assert 10 < estimate_sigma(17 * np.rint(noisy / 17).clip(0, 15).astype(np.uint8)) < 18  # rounding adds its own


CLEAN_PHOTOS = {
    "as it is": lambda x: x,
    "half as bright": lambda x: as_file(x / 2),
    "gray": lambda x: as_file(x.mean(2, keepdims=True)),
    "JPEG 75": lambda x: drawn.as_jpeg(x, 75),
    "JPEG 90": lambda x: drawn.as_jpeg(x, 90),
    "upscaled": lambda x: drawn.upscaled(x[:80, :80]),
    "flat": lambda x: np.full_like(x, 0.3),
}


@pytest.mark.parametrize("name", bundled_checkpoints())
def test_a_clean_picture_of_any_kind_comes_back(photo, name):
    denoiser = Denoiser.from_pretrained(name, device="cpu")
    pictures = {kind: np.asarray(draw(1), np.float32)[:160, :160] / 255 for kind, draw in drawn.DRAWN.items()}
    pictures["dim text"] = pictures["text"] / 4
    pictures["text in JPEG"] = drawn.as_jpeg(np.dstack([pictures["text"]] * 3), 75)
    if not denoiser.model.config.blind:  # without a level, a network takes the texture of some photographs for noise
        pictures |= {kind: change(photo[:160, :160] / np.float32(255)) for kind, change in CLEAN_PHOTOS.items()}
    for kind, picture in pictures.items():
        before = np.rint(picture * 255).astype(np.uint8)
        assert psnr(before / 255, denoiser(before) / 255) >= 45, kind


@pytest.mark.parametrize("name", ["photo", "color-base", "gray-base"])
def test_a_fine_pattern_comes_back(name):
    rows, columns = np.ogrid[:96, :128]
    patterns = [np.where((rows + columns) % 2, 20, 230), np.where(columns % 2 + 0 * rows, 90, 130)]
    patterns += [np.where((rows // 2 + columns // 2) % 2, 0, 255), np.where(rows % 3 + 0 * columns, 200, 60)]
    denoiser = Denoiser.from_pretrained(name)
    for pattern in patterns:
        for picture in (pattern.astype(np.uint8), np.stack([pattern, 255 - pattern, pattern], 2).astype(np.uint8)):
            assert estimate_sigma(picture) == 0 and np.array_equal(denoiser(picture), picture)


def test_noise_of_few_values_is_no_pattern():
    noise = np.random.default_rng(0).standard_normal((96, 128))
    assert not is_graphic(read(np.rint(2 + 0.7 * noise).clip(0, 4).astype(np.uint8)).pixels)


@pytest.mark.parametrize("sigma", [5, 15, 40])
def test_a_noisy_text_page_is_not_called_clean(sigma):
    noise = sigma * np.random.default_rng(0).standard_normal((300, 420))
    for page in (text_page(16), drawn_screenshot()[:, :, 1]):
        noisy = np.clip(np.rint(page + noise[: page.shape[0], : page.shape[1]]), 0, 255).astype(np.uint8)
        assert not is_graphic(read(noisy).pixels) and estimate_sigma(noisy) > 0.5 * sigma


@pytest.mark.parametrize("kind", list(drawn.DRAWN))
def test_noise_upon_a_drawing_is_found(kind):
    """Staves of music were taken for a pattern that is repeated, noise and all."""
    for seed in range(2):
        clean = np.asarray(drawn.DRAWN[kind](seed), np.float32)
        noisy = clean + 8 * np.random.default_rng(seed).standard_normal(clean.shape)
        assert estimate_sigma(np.rint(noisy.clip(0, 255)).astype(np.uint8)) == pytest.approx(8, rel=0.35)


def test_a_noisy_photograph_with_a_blown_sky_is_no_graphic(photo):
    noisy = np.rint(add_noise(photo / 255, "gaussian", sigma=10).clip(0, 1) * 255).astype(np.uint8)
    noisy[: len(noisy) // 3] = 255
    assert estimate_sigma(noisy) == pytest.approx(10, rel=0.25)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float", "2-D", "PIL", "path", "tensor", "alpha"])
def test_the_estimate_takes_whatever_can_be_denoised(kind, tmp_path):
    picture = np.clip(128 + 25 * np.random.default_rng(0).standard_normal((96, 96, 3)), 0, 255).astype(np.uint8)
    unit = picture.astype(np.float32) / 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    given = {
        "uint8": picture,
        "uint16": picture.astype(np.uint16) * 257,
        "float": unit,
        "2-D": unit[..., 0],
        "PIL": Image.fromarray(picture),
        "path": tmp_path / "a.png",
        "tensor": torch.from_numpy(unit).permute(2, 0, 1),
        "alpha": np.dstack([unit, np.ones((96, 96), np.float32)]),
    }[kind]
    assert estimate_sigma(given) == pytest.approx(25, abs=3)
    if kind == "tensor":
        assert estimate_sigma(torch.stack([given, given])) == [estimate_sigma(given)] * 2


@pytest.mark.parametrize("sigma", [5, 25])
def test_a_large_picture_is_measured_by_parts_of_it(photo, sigma, monkeypatch):
    monkeypatch.setattr(measured_parts, "SAMPLE_SIDE", 192)
    noisy = add_noise(np.tile(clean(photo, 3), (5, 5, 1)), "gaussian", sigma=sigma)
    by_parts = estimate_sigma(noisy)
    monkeypatch.setattr(measured_parts, "SAMPLE_SIDE", 10_000)
    assert by_parts == pytest.approx(estimate_sigma(noisy), rel=0.1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["pixel art", "line art"])
@pytest.mark.parametrize("sigma", [0.5, 1, 2, 3])
def test_weak_noise_of_drawn_pictures_is_not_overestimated(kind, sigma, channels):
    """Line art in color with a noise of 1 was read as 60 levels, pixel art with 0.5 as 1.9."""
    clean = np.asarray(drawn.DRAWN[kind](3).convert("L" if channels == 1 else "RGB"), np.float32)[40:232, 40:232]
    noise = sigma * np.random.default_rng(3).standard_normal(clean.shape)
    assert estimate_sigma(np.rint(clean + noise).clip(0, 255).astype(np.uint8)) < 1.25 * sigma + 0.1


@pytest.mark.parametrize("kind", list(drawn.DRAWN))
@pytest.mark.parametrize("sigma", [0, 1, 4, 20])
def test_a_quarter_of_the_brightness_has_a_quarter_of_the_noise(kind, sigma):
    clean = np.asarray(drawn.DRAWN[kind](1).convert("RGB"), np.float32)[:160, :160] / 255
    noisy = np.clip(0.1 + 0.6 * clean, 0, 1) + sigma / 255 * np.random.default_rng(0).standard_normal(clean.shape)
    whole, quarter = (estimate_sigma(np.float32(scale * noisy)) for scale in (1, 0.25))
    assert quarter == pytest.approx(whole / 4, rel=0.1, abs=0.1)


@pytest.mark.parametrize("sigma", [0.8, 3, 8])
def test_texture_without_a_quiet_place_is_told_from_noise_by_the_color_that_has_least_of_it(sigma):
    """As in crops of water and foliage. Read as brightness, the texture has a level of 7.8."""
    random = np.random.default_rng(0)
    texture = gaussian_filter(random.standard_normal((96, 96, 1)), (0.7, 0.7, 0))
    color = gaussian_filter(random.standard_normal((96, 96, 3)), (1, 1, 0))
    noise = sigma * random.standard_normal(color.shape)
    noisy = np.rint(120 + 60 * texture + 8 * color + noise).clip(0, 255).astype(np.uint8)
    assert estimate_sigma(noisy) == pytest.approx(sigma, abs=0.3)


@pytest.mark.parametrize("channels", [1, 3])
def test_strong_texture_all_over_is_told_from_noise_that_was_smoothed(channels):
    """Both fall with frequency. Crops of foliage were read as noise of 8 to 13 levels, and lost it."""
    random, tint = np.random.default_rng(0), np.array([0.9, 1, 0.8])[:channels]
    white, uneven = random.standard_normal((2, 128, 128, 1))
    uneven = np.exp(6 * gaussian_filter(uneven, (6, 6, 0)))
    texture = (120 + 25 * uneven * gaussian_filter(white, (0.6, 0.6, 0)) * tint).clip(0, 255)
    smoothed = 120 + 20 * gaussian_filter(white, (0.5, 0.5, 0)) * tint
    assert np.std(np.diff(texture, 2, 0)) > 0.8 * np.std(np.diff(smoothed, 2, 0))  # alike, as neighbors differ
    assert estimate_sigma(texture.astype(np.float32) / 255) < 1
    assert 6 < estimate_sigma(smoothed.astype(np.float32) / 255) < 20
    noisy = texture + 2 * random.standard_normal(texture.shape)
    assert estimate_sigma(noisy.astype(np.float32) / 255) < 2.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [0, 2, 5, 25])
def test_the_dots_of_a_dithered_picture_are_not_its_noise(photo, channels, sigma):
    """They were read as 150 levels, and the picture lost 36 dB."""
    random, tones = np.random.default_rng(0), photo[:128, :128, :channels]
    dots = 255.0 * (tones > 255 * random.random(tones.shape))
    noisy = np.rint(dots + sigma * random.standard_normal(dots.shape)).clip(0, 255).astype(np.uint8)
    assert estimate_sigma(noisy) == pytest.approx(sigma, rel=0.15)
    found = estimate_noise(read(noisy))
    assert isinstance(found, float) and found == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("blur", [0.6, 0.7, 0.8, 1])
@pytest.mark.parametrize("deviation", [10, 25])
def test_a_clean_gray_picture_that_one_texture_fills_comes_back(blur, deviation):
    """As sand or cloth does. It was read as noise of 5 to 13 levels."""
    random = np.random.default_rng(0)
    texture = gaussian_filter(random.standard_normal((128, 128)), blur)
    picture = np.rint(120 + deviation * texture / texture.std()).clip(0, 255).astype(np.uint8)
    assert psnr(picture / 255, Denoiser.from_pretrained("gray-base", device="cpu")(picture) / 255) >= 45
    noisy = picture + 15 * random.standard_normal(picture.shape)
    assert 11 < estimate_sigma(np.rint(noisy).clip(0, 255).astype(np.uint8)) < 21


@pytest.mark.parametrize("pitch", [3, 5, 6, 8])
@pytest.mark.parametrize("sigma", [40, 50])
def test_the_dots_of_a_printed_picture_are_not_photons(photo, pitch, sigma):
    rows, columns = np.mgrid[:192, :192]
    screen = (np.cos((rows + columns) / pitch * np.pi) * np.cos((rows - columns) / pitch * np.pi) + 1) / 2
    dots = 255.0 * (photo[:192, :192].mean(2) / 255 > screen)
    noisy = dots + sigma * np.random.default_rng(0).standard_normal(dots.shape)
    found = estimate_noise(read(np.rint(noisy).clip(0, 255).astype(np.uint8)))
    assert isinstance(found, float) and found == pytest.approx(sigma, rel=0.1)
