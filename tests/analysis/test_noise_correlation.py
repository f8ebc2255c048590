"""Noise that neighbors share is told from the texture of photographs, at any size."""

import numpy as np
import pytest

from denoiser import add_noise
from denoiser.analysis.noise_correlation import SHARED, neighbor_correlation
from denoiser.techniques import apply_technique

PLACES = [(0, 0), (40, 90), (100, 30)]


def crops(photo, side, channels):
    pixels = photo.astype(np.float32) / 255
    pixels = pixels if channels == 3 else pixels.mean(2, keepdims=True)
    return [pixels[top : top + side, left : left + side] for top, left in PLACES]


def as_file(pixels):
    return np.rint(pixels.clip(0, 1) * 255).astype(np.float32) / 255


@pytest.mark.parametrize("side", [64, 96, 150])
@pytest.mark.parametrize(("channels", "sigma"), [(3, 4), (3, 10), (3, 25), (1, 10), (1, 25)])
def test_texture_is_not_taken_for_shared_noise(photo, side, channels, sigma):
    for seed, clean in enumerate(crops(photo, side, channels)):
        noisy = add_noise(clean, "gaussian", seed, sigma=sigma)
        assert -SHARED < neighbor_correlation(noisy) < SHARED
        assert -SHARED < neighbor_correlation(as_file(noisy)) < SHARED


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("side", "sigma", "grain"),
    [(64, 10, 0.5), (64, 25, 0.5), (96, 10, 0.5), (96, 10, 1), (96, 25, 2), (150, 10, 1), (150, 25, 2)],
)
def test_shared_noise_is_found_in_the_same_crops(photo, side, channels, sigma, grain):
    for seed, clean in enumerate(crops(photo, side, channels)):
        noisy = add_noise(clean, "correlated", seed, sigma=sigma, grain=grain)
        assert neighbor_correlation(as_file(noisy)) > SHARED


@pytest.mark.parametrize("channels", [1, 3])
def test_the_noise_of_a_finished_photograph_is_shared(photo, channels):
    for seed, clean in enumerate(crops(photo, 150, channels)):
        noisy = add_noise(clean, "camera", seed, sigma=10, chroma=1, grain=1, quality=90)
        assert neighbor_correlation(as_file(noisy)) > 2 * SHARED


def test_gray_noise_on_a_color_picture_counts_and_so_does_what_a_filter_left(photo):
    clean = crops(photo, 150, 3)[0]
    shared, white = (add_noise(clean[..., :1] * 0, "correlated", sigma=25, grain=grain) for grain in (1, 0))
    assert neighbor_correlation(as_file(clean + shared)) > SHARED > neighbor_correlation(as_file(clean + white))
    noisy = as_file(add_noise(clean, sigma=25))
    assert neighbor_correlation(apply_technique(noisy, "gaussian", sigma=25)) > 2 * SHARED


@pytest.mark.parametrize("shape", [(1, 1, 1), (15, 200, 3), (16, 16, 1), (64, 64, 2), (70, 90, 4)])
def test_pictures_of_any_shape(shape):
    random = np.random.default_rng(0)
    assert neighbor_correlation(np.full(shape, 0.5, np.float32)) == 0
    assert abs(neighbor_correlation(random.random(shape, np.float32))) < SHARED
