import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoiser import add_noise
from denoiser.analysis import clipping
from denoiser.analysis.clipping import undo_clipping


def clipped(value, sigma, size=64, seed=0):
    """A flat picture's noise as a file holds it, and what a denoiser without a fault makes of it: its local mean."""
    noisy = add_noise(np.full((size, size, 1), value, np.float32), "gaussian", seed, sigma=sigma).clip(0, 1)
    return np.full_like(noisy, noisy.mean()), noisy


@given(value=st.floats(0, 1), sigma=st.floats(1, 60))
@settings(deadline=None, max_examples=60)
def test_the_mean_of_clipped_noise_is_brought_back(value, sigma):
    restored, noisy = clipped(value, sigma)
    corrected = undo_clipping(restored, noisy, sigma / 255)
    before, after = abs(restored.mean() - value), abs(corrected.mean() - value)
    # Where the ends are beyond reach nothing happens; near them a mean of 4,096 values is all there is to go by.
    assert after <= before + 0.1 * sigma / 255
    assert after * 255 <= 0.1 * sigma


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("sigma", [5, 25, 50])
def test_black_is_black_and_white_white(value, sigma):
    restored, noisy = clipped(value, sigma)
    assert abs(restored.mean() - value) * 255 == pytest.approx(0.4 * sigma, rel=0.1)
    assert abs(undo_clipping(restored, noisy, sigma / 255).mean() - value) * 255 < 0.02 * sigma


def test_a_picture_that_was_not_clipped_is_left_alone(photo):
    clean = photo / np.float32(255)
    unclipped = add_noise(clean, "gaussian", sigma=25)
    assert undo_clipping(clean, unclipped, 25 / 255) is clean
    inside = 0.2 + 0.6 * clean
    assert undo_clipping(clean, inside, 25 / 255) is clean
    assert undo_clipping(clean, clean.clip(0, 1), 0) is clean


@pytest.mark.parametrize("tone", [2, 5, 12])
@pytest.mark.parametrize("noise", [0, 1, 4])
def test_dark_tones_beside_clean_black_keep_their_values(tone, noise):
    """A letterbox, a scan's margin: all of it clipped, and no noise that would have clipped it."""
    picture = np.full((64, 128, 3), tone / 255, np.float32)
    picture[:, :32] = 0
    noisy = add_noise(picture, "gaussian", sigma=noise)
    noisy[:, :32] = 0
    corrected = undo_clipping(picture, noisy.clip(0.5 / 255 * (picture > 0), 1), 25 / 255)
    assert np.abs(corrected - picture).max() * 255 <= 0.05 * tone + 0.01 * noise


def test_tiles_leave_no_seam(monkeypatch, photo):
    dark = np.tile(photo / np.float32(255) * 0.2, (2, 2, 1))
    noisy = add_noise(dark, "gaussian", sigma=25).clip(0, 1)
    whole = undo_clipping(dark, noisy, 25 / 255)
    monkeypatch.setattr(clipping, "TILE", 64)
    assert np.allclose(undo_clipping(dark, noisy, 25 / 255), whole, atol=1e-6) and not np.allclose(whole, dark)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 5), (9, 7)])
@pytest.mark.parametrize("level", [1e-34, 1e-5, 0.1, 1])
def test_odd_sizes_levels_and_values_raise_nothing(size, level):
    noisy = np.zeros((*size, 3), np.float32)
    broken = np.full_like(noisy, np.nan)
    assert undo_clipping(noisy + 0.01, noisy, level).shape == noisy.shape
    assert np.isnan(undo_clipping(broken, noisy, level)).all()


def test_each_channel_and_each_end_is_its_own():
    red = np.zeros((64, 64, 3), np.float32)
    red[..., 0], red[..., 1] = 1, 0.5
    noisy = add_noise(red, "gaussian", sigma=25).clip(0, 1)
    restored = np.broadcast_to(noisy.mean((0, 1)), red.shape)
    assert np.abs(restored - red).max() * 255 > 9
    assert np.abs(undo_clipping(restored, noisy, 25 / 255) - red).max() * 255 < 2
