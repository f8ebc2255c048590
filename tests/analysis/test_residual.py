import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from denoiser import PoissonGaussian, add_noise
from denoiser.analysis.regions import REGIONS, regions
from denoiser.analysis.residual import CHANCE, examine_residual


@pytest.fixture(scope="module")
def clean(photo):
    return photo[:160, :176].astype(np.float32) / 255


@pytest.mark.parametrize("sigma", [5, 25, 60])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_alone_looks_like_noise(clean, sigma, channels):
    for seed in range(3):
        noisy = add_noise(clean[..., :channels], "gaussian", seed, sigma=sigma)
        found = examine_residual(noisy, clean[..., :channels], sigma)
        assert found.looks_like_noise and str(found) == "What was removed looks like noise."
        assert found.deviation == pytest.approx(sigma, rel=0.03) and found.expected == pytest.approx(sigma)
        assert abs(found.correlation) < 0.03 and found.distance < 0.02 and found.share < 0.005
        assert np.abs(found.density - found.gaussian).max() < 0.03


def test_noise_of_a_sensor_looks_like_noise_if_its_model_is_given(clean):
    noisy = add_noise(clean, "sensor", 0, gain=4, read=4)
    assert examine_residual(noisy, clean, PoissonGaussian(4, 4)).looks_like_noise


@pytest.mark.parametrize("relative", [0.2, 0.6, 1.0])
def test_speckle_looks_like_noise_if_its_model_is_given(clean, relative):
    found = examine_residual(add_noise(clean, "speckle", 0, sigma=relative), clean, PoissonGaussian(0, 0, relative))
    assert found.looks_like_noise and found.deviation == pytest.approx(found.expected, rel=0.02)


def test_an_outline_that_was_removed_is_on_the_map(clean):
    lost = np.zeros_like(clean)
    lost[40:120, 60:64] = 0.25
    noisy = add_noise(clean + lost, "gaussian", 0, sigma=20)
    found = examine_residual(noisy, clean, 20)
    assert not found.looks_like_noise and str(found).startswith("Structure was removed in ")
    on_it, beside = found.structure[45:115, 60:64], found.structure[:, 100:]
    assert (on_it > CHANCE).mean() > 0.95 and (beside > CHANCE).mean() < 0.01


def test_a_strong_blur_removes_structure(clean):
    noisy = add_noise(clean, "gaussian", 0, sigma=15)
    found = examine_residual(noisy, gaussian_filter(noisy, (2, 2, 0)), 15)
    assert found.share > 0.05 and "see the map" in str(found)


def test_noise_that_stays_and_noise_that_neighbors_share_are_said(clean):
    noisy = add_noise(clean, "gaussian", 0, sigma=20)
    assert str(examine_residual(noisy, (noisy + clean) / 2, 20)).startswith("Only part of the noise was removed: 10")
    coarse = add_noise(clean, "correlated", 0, sigma=20, grain=1)
    found = examine_residual(coarse, clean, 20)
    assert found.correlation > 0.5 and not found.looks_like_noise
    assert "shared by neighboring pixels" in str(found)
    assert "More was removed than the noise level says: 20" in str(examine_residual(noisy, clean, 10))


def test_heavy_tails_show_in_the_histogram(clean):
    noisy = add_noise(clean, "salt_and_pepper", 0, amount=10)
    level = float(255 * np.std(noisy - clean))
    assert examine_residual(noisy, clean, level).distance > 0.2


def test_what_cannot_be_examined_is_said(clean):
    with pytest.raises(ValueError, match="differ in shape"):
        examine_residual(clean, clean[:5], 10)
    with pytest.raises(ValueError, match="level of the noise, which is above 0"):
        examine_residual(clean, clean, 0)


def test_regions_are_what_they_are_called():
    random = np.random.default_rng(0)
    image = np.full((90, 120, 3), 0.4, np.float32)
    image[:, 60:] = 0.8
    image[45:, 90:] += gaussian_filter(random.standard_normal((45, 30)), 1)[..., None].astype(np.float32)
    found = regions(image)
    names = np.array(REGIONS)[found]
    assert found.shape == (90, 120) and found.dtype == np.uint8
    assert (names[:, :50] == "flat").all() and (names[:, 59:61] == "edge").all()
    assert (names[52:83, 97:113] == "texture").mean() > 0.6
    assert (regions(np.full((20, 20, 1), 0.5, np.float32)) == 0).all()
