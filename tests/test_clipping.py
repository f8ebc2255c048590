import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoiser import add_noise
from denoiser.clipping import undo_clipping


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


def test_dark_tones_without_clipped_noise_keep_their_values():
    picture = np.full((64, 128, 3), 5 / 255, np.float32)
    picture[:, :32] = 0  # black beside dark grey, no noise at all, and a level that says otherwise
    corrected = undo_clipping(picture, picture, 25 / 255)
    assert np.array_equal(corrected[:, 48:], picture[:, 48:]) and corrected[:, :16].max() == 0


def test_each_channel_and_each_end_is_its_own():
    red = np.zeros((64, 64, 3), np.float32)
    red[..., 0], red[..., 1] = 1, 0.5
    noisy = add_noise(red, "gaussian", sigma=25).clip(0, 1)
    restored = np.broadcast_to(noisy.mean((0, 1)), red.shape)
    assert np.abs(restored - red).max() * 255 > 9
    assert np.abs(undo_clipping(restored, noisy, 25 / 255) - red).max() * 255 < 1
