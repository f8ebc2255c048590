import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from denoiser import add_noise
from denoiser.analysis import metrics
from denoiser.analysis.metrics import edge_fidelity, psnr, ssim


@given(st.floats(0.001, 1))
@settings(deadline=None)
def test_psnr_of_a_constant_error_is_its_definition(error):
    clean = np.zeros((4, 5, 3), np.float32)
    assert psnr(clean, clean + np.float32(error)) == pytest.approx(-20 * np.log10(error), abs=1e-3)


def test_psnr_of_sigma_25_is_the_known_figure():
    clean = np.full((512, 512), 0.5, np.float32)
    assert psnr(clean, add_noise(clean, "gaussian", sigma=25)) == pytest.approx(20.17, abs=0.02)


@pytest.mark.parametrize("gray", [False, True])
def test_equal_pictures_are_perfect(photo, gray):
    picture = photo.astype(np.float32) / 255
    picture = picture[..., 0] if gray else picture
    assert psnr(picture, picture) == float("inf")
    assert ssim(picture, picture) == pytest.approx(1) and edge_fidelity(picture, picture) == pytest.approx(1)


@pytest.mark.parametrize("measure", [psnr, ssim, edge_fidelity])
def test_more_noise_and_more_blur_are_worse(photo, measure):
    clean = photo.astype(np.float32) / 255
    noisy = [measure(clean, add_noise(clean, "gaussian", sigma=sigma)) for sigma in (2, 10, 30, 80)]
    blurred = [measure(clean, gaussian_filter(clean, (s, s, 0))) for s in (0.4, 1, 2, 4)]
    assert noisy == sorted(noisy, reverse=True) and blurred == sorted(blurred, reverse=True)


def test_edge_fidelity_punishes_smoothing_that_psnr_rewards(photo):
    clean = photo.astype(np.float32) / 255
    noisy = add_noise(clean, "gaussian", sigma=50)
    smooth = gaussian_filter(noisy, (3, 3, 0))
    assert psnr(clean, smooth) > psnr(clean, noisy)
    assert edge_fidelity(clean, smooth) < edge_fidelity(clean, noisy)


def test_undefined_metrics_are_nan():
    assert np.isnan(ssim(np.zeros((8, 30)), np.zeros((8, 30))))
    assert np.isnan(edge_fidelity(np.zeros((20, 20)), np.ones((20, 20))))


@pytest.mark.parametrize("measure", [psnr, ssim, edge_fidelity])
def test_pictures_of_different_shape_are_refused(measure):
    with pytest.raises(ValueError, match="differ in shape"):
        measure(np.zeros((20, 20)), np.zeros((20, 21)))


@pytest.mark.parametrize("gray", [False, True])
def test_figures_by_bands_are_those_of_the_whole_picture(photo, gray, monkeypatch):
    clean = (photo[:, :, 0] if gray else photo).astype(np.float32) / 255
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 0.1, clean.shape).astype(np.float32), 0, 1)
    measures = (psnr, ssim, edge_fidelity)
    whole = [measure(clean, noisy) for measure in measures]
    pauses: list[int] = []
    for rows in (1, 7, 100):
        monkeypatch.setattr(metrics, "BAND", rows * clean[0].size)
        by_bands = [measure(clean, noisy, lambda: pauses.append(1)) for measure in measures]
        assert by_bands == pytest.approx(whole, abs=1e-6)
    assert len(pauses) > 3 * 256
