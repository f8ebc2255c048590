import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoiser import add_noise, estimate_sigma
from denoiser.analysis.noise_level import MAX_PATCHES


def as_file(pixels):
    return np.rint(pixels.clip(0, 1) * 255).astype(np.float32) / 255


def clean(photo, channels):
    pixels = photo.astype(np.float32) / 255
    return pixels if channels == 3 else pixels.mean(2, keepdims=True)


@pytest.mark.parametrize("sigma", [5, 10, 25, 50])
def test_on_a_detailed_color_photograph_it_is_within_a_tenth(photo, sigma):
    noisy = add_noise(clean(photo, 3), "gaussian", sigma=sigma)
    assert estimate_sigma(noisy) == pytest.approx(sigma, rel=0.1)
    assert estimate_sigma(as_file(noisy)) == pytest.approx(sigma, rel=0.12)


@pytest.mark.parametrize("sigma", [2, 10, 25, 50])
def test_on_a_grey_one_texture_adds_some(photo, sigma):
    noisy = add_noise(clean(photo, 1), "gaussian", sigma=sigma)
    assert sigma * 0.95 < estimate_sigma(noisy) < sigma + 8
    assert sigma * 0.9 < estimate_sigma(as_file(noisy)) < sigma + 8


@given(sigma=st.floats(0, 75), low=st.floats(0.3, 0.5), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_on_a_smooth_picture_it_is_the_noise(sigma, low, seed):
    smooth = np.repeat(np.linspace(low, low + 0.2, 96, dtype=np.float32)[None], 96, axis=0)[..., None].repeat(3, 2)
    assert estimate_sigma(add_noise(smooth, "gaussian", seed, sigma=sigma)) == pytest.approx(sigma, rel=0.06, abs=0.1)


@pytest.mark.parametrize("sigma", [2, 10, 25, 50])
def test_on_a_smooth_grey_picture_it_is_the_noise_too(sigma):
    smooth = np.repeat(np.linspace(0.2, 0.8, 256, dtype=np.float32)[None], 256, axis=0)[..., None]
    assert estimate_sigma(add_noise(smooth, "gaussian", sigma=sigma)) == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("sigma", [10, 25, 50])
def test_a_grey_picture_in_three_planes_is_read_as_grey(photo, sigma):
    gray = add_noise(clean(photo, 1), "gaussian", sigma=sigma)
    three = gray.repeat(3, axis=2)
    assert estimate_sigma(three) == pytest.approx(estimate_sigma(gray), rel=1e-4)
    rounded = as_file(three) + np.random.default_rng(0).integers(0, 2, three.shape).astype(np.float32) / 255
    assert estimate_sigma(rounded) == pytest.approx(estimate_sigma(as_file(gray)), rel=0.1)


@pytest.mark.parametrize("weights", [(1, 0.9, 0.7), (1, 0.5, 0), (0, 0, 1)])
def test_toned_pictures_and_single_planes_hide_no_noise(photo, weights):
    """Their planes are not independent: some directions of color hold no noise at all, which says nothing."""
    gray = add_noise(clean(photo, 1), "gaussian", sigma=25)
    toned = as_file(gray * np.float32(weights))
    assert 0.8 * 25 * np.mean([weight for weight in weights if weight]) < estimate_sigma(toned) < 33


def test_an_even_plane_hides_no_noise(photo):
    noisy = add_noise(clean(photo, 3), "gaussian", sigma=25)
    noisy[..., 2] = 0.5
    assert 20 < estimate_sigma(as_file(noisy)) < 33


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [5, 25, 50])
@pytest.mark.parametrize("value", [0, 10, 245, 255])
def test_a_picture_all_of_it_at_one_end_is_allowed_for(value, sigma, channels):
    flat = add_noise(np.full((128, 128, channels), value / 255, np.float32), "gaussian", sigma=sigma)
    assert estimate_sigma(as_file(flat)) == pytest.approx(sigma, rel=0.2)


def test_noise_that_jpeg_smoothed_is_still_seen(photo):
    noisy = add_noise(clean(photo, 3), "gaussian", sigma=20)
    assert 8 < estimate_sigma(add_noise(noisy, "jpeg", quality=90)) < 22


def test_print_and_flat_graphics_have_no_noise():
    page = np.ones((200, 300, 3), np.float32)
    page[::7, ::5] = 0
    assert estimate_sigma(page) == 0
    page[50:150] = (0.2, 0.4, 0.6)
    assert estimate_sigma(page) < 2


def test_many_pixels_are_sampled_not_all(photo):
    large = np.tile(clean(photo, 3), (4, 4, 1))
    assert large[..., 0].size > 10 * MAX_PATCHES
    assert estimate_sigma(add_noise(large, "gaussian", sigma=12)) == pytest.approx(12, rel=0.1)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 3), (3, 500)])
def test_pictures_too_small_to_tell_have_none(size):
    assert estimate_sigma(np.full((*size, 3), 0.3, np.float32)) == 0


@pytest.mark.parametrize("size", [(4, 4), (5, 30), (8, 8), (33, 9), (64, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_pictures_give_a_number(size, channels):
    noisy = add_noise(np.full((*size, channels), 0.5, np.float32), "gaussian", sigma=20)
    assert 5 < estimate_sigma(noisy) < 40
    assert estimate_sigma(np.zeros((*size, channels), np.float32)) == 0
