import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, uniform_filter

from denoiser import PoissonGaussian, add_noise
from denoiser.analysis.metrics import mean_squared_error, psnr
from denoiser.analysis.residual import examine_residual
from denoiser.analysis.sure import (
    RiskEstimate,
    choose,
    clipping,
    estimate_risk,
    noise_variance,
)


def picture(seed: int, side: int = 96, channels: int = 3) -> np.ndarray:
    """Smooth blobs between 0.2 and 0.8."""
    noise = np.random.default_rng(seed).standard_normal((side, side, channels))
    smooth = gaussian_filter(noise, (4, 4, 0))
    return (0.5 + 0.3 * np.clip(smooth / smooth.std() / 2, -1, 1)).astype(np.float32)


def box(pixels):
    return uniform_filter(pixels, 3, axes=(0, 1))


@given(seed=st.integers(0, 1000), sigma=st.floats(5, 60), width=st.floats(0.3, 3), channels=st.sampled_from([1, 3]))
@settings(max_examples=40, deadline=None)
def test_the_estimate_is_near_the_true_error_of_a_linear_filter(seed, sigma, width, channels):
    clean = picture(seed, channels=channels)
    noisy = add_noise(clean, "gaussian", seed + 1, sigma=sigma)
    found = estimate_risk(lambda pixels: gaussian_filter(pixels, (width, width, 0)), noisy, sigma, seed)
    true = mean_squared_error(clean, found.restored)
    assert abs(found.mse - true) < 4.5 * found.standard_error
    low, high = found.psnr_range
    assert low <= found.psnr <= high and found.used == 1


def test_the_standard_error_is_that_of_the_estimate():
    clean, z = picture(0, 64, 1), []
    for seed in range(60):
        noisy = add_noise(clean, "gaussian", seed, sigma=25)
        found = estimate_risk(box, noisy, 25, seed)
        z.append((found.mse - mean_squared_error(clean, found.restored)) / found.standard_error)
    assert abs(np.mean(z)) < 0.5 and 0.6 < np.std(z) < 1.3  # 60 draws: 0.13 and 0.09 by chance


@pytest.mark.parametrize("model", [PoissonGaussian(3, 6), PoissonGaussian(8, 0), PoissonGaussian(0, 0, 0.2)])
def test_noise_that_depends_on_the_signal(model):
    clean, difference = picture(3), []
    for seed in range(8):
        if model.relative:
            noisy = add_noise(clean, "speckle", seed, sigma=model.relative)
        else:
            noisy = add_noise(clean, "sensor", seed, gain=model.gain, read=model.read)
        found = estimate_risk(box, noisy, model, seed)
        true = mean_squared_error(clean, found.restored)
        assert abs(found.mse - true) < 5 * found.standard_error
        difference.append(found.mse / true - 1)
    assert abs(np.mean(difference)) < 0.05


@given(gain=st.floats(0.1, 10), read=st.floats(0, 20), relative=st.floats(0, 1), value=st.floats(0.1, 0.9))
@settings(max_examples=40, deadline=None)
def test_the_variance_of_noisy_values_has_the_right_mean(gain, read, relative, value):
    clean, model = np.full((128, 128, 1), value, np.float32), PoissonGaussian(gain, read, relative)
    noisy = add_noise(clean, "sensor", 0, gain=gain, read=read)
    noisy += relative * value * np.random.default_rng(1).standard_normal(clean.shape)
    expected = float(model.deviation(np.array(value))) ** 2
    assert noise_variance(noisy, model).mean() == pytest.approx(expected, rel=0.08)


def test_the_best_strength_is_that_of_the_least_true_error():
    clean = picture(5)
    noisy = add_noise(clean, "gaussian", 0, sigma=10)

    def blur(pixels):
        return gaussian_filter(pixels, (4, 4, 0))

    found = estimate_risk(blur, noisy, 10)
    errors = [mean_squared_error(clean, noisy + s * (found.restored - noisy)) for s in np.linspace(0, 1, 101)]
    assert 0.1 < found.strength < 0.95
    assert found.strength == pytest.approx(np.argmin(errors) / 100, abs=0.05)
    assert estimate_risk(box, add_noise(clean, "gaussian", 0, sigma=40), 40).strength == pytest.approx(1, abs=0.02)


def test_the_uncertainty_of_the_best_linear_estimate_is_its_error():
    random = np.random.default_rng(0)
    clean = (0.5 + 0.1 * random.standard_normal((128, 128, 1))).astype(np.float32)  # white: the best is to shrink
    noisy = add_noise(clean, "gaussian", 1, sigma=25.5)
    found = estimate_risk(lambda pixels: 0.5 + (pixels - 0.5) / 2, noisy, 25.5)
    assert found.uncertainty.shape == (128, 128)
    assert np.mean(found.uncertainty**2) ** 0.5 == pytest.approx(255 * 0.1 / 2**0.5, rel=0.03)


def test_areas_where_noise_is_cut_off_are_left_out():
    clean = picture(7)
    clean[:, :40] = 0
    noisy = add_noise(clean, "gaussian", 0, sigma=20).clip(0, 1)
    found = estimate_risk(box, noisy, 20)
    assert 0.4 < found.used < 0.65
    mask = clipping(torch.from_numpy(noisy).permute(2, 0, 1)[None])[0][0].permute(1, 2, 0).numpy() > 0
    true = float(((found.restored - clean) ** 2)[mask].mean())
    assert abs(found.mse - true) < 5 * found.standard_error
    with pytest.raises(ValueError, match="cut off at black or white everywhere"):
        estimate_risk(box, np.zeros((32, 32, 3), np.float32), 20)
    with pytest.raises(ValueError, match="level of the noise, which is above 0"):
        estimate_risk(box, noisy, 0)


@pytest.mark.parametrize("sigma", [10, 20, 40])
def test_what_clipping_leaves_of_the_noise_is_taken_into_account(sigma):
    """Without, the error of a file with noise of level 40 was estimated below zero."""
    differences = []
    for seed in range(6):
        clean = (picture(seed) - 0.2) / 0.6  # from black to white
        noisy = np.rint(add_noise(clean, "gaussian", seed, sigma=sigma).clip(0, 1) * 255).astype(np.float32) / 255
        found = estimate_risk(lambda pixels: gaussian_filter(pixels, (1, 1, 0)), noisy, sigma)
        assert found.used > 0.75
        differences.append(found.psnr - psnr(clean, found.restored))
    assert abs(np.mean(differences)) < 0.6


def test_the_best_of_several_is_chosen_and_it_can_be_stopped():
    clean = picture(9)
    noisy, shares = add_noise(clean, "gaussian", 0, sigma=30), []
    widths = (0.3, 0.8, 1.5, 3, 8)
    filters = [lambda pixels, width=width: gaussian_filter(pixels, (width, width, 0)) for width in widths]
    best, found = choose(filters, noisy, 30, shares.append)
    assert best == int(np.argmax([psnr(clean, one(noisy)) for one in filters])) and len(found) == 5
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])

    def stop(share):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        choose(filters, noisy, 30, stop)


def test_what_it_says():
    one = RiskEstimate(np.zeros(1), 1e-3, 1e-4, 1.0, 1e-3, 1.0, np.zeros(1))
    assert str(one) == "estimated PSNR 30.0 dB (29.2 to 31.0)"
    negative = RiskEstimate(np.zeros(1), -1e-3, 1e-4, 1.0, -1e-3, 1.0, np.zeros(1))
    assert negative.psnr == float("inf") and "less noise than its level says" in str(negative)


@pytest.mark.parametrize("shape", [(24, 24), (1, 1, 24, 24)])
@pytest.mark.parametrize("noise", [-1, 300, float("nan"), float("inf")])
def test_what_is_no_picture_and_no_level_is_said(shape, noise):
    pixels = np.full((24, 24, 1), 0.5, np.float32)
    for examine in (lambda *given: estimate_risk(lambda noisy: noisy, *given), lambda x, n: examine_residual(x, x, n)):
        with pytest.raises(ValueError, match=r"\(H, W, C\)"):
            examine(pixels.reshape(shape), 25)
        with pytest.raises(ValueError, match=r"\(H, W, C\) of finite"):
            examine(pixels * np.float32("nan"), 25)
        with pytest.raises(ValueError, match="from 0 to 255"):
            examine(pixels, noise)
