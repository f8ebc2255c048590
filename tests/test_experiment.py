import numpy as np
import pytest
from PIL import Image

from denoiser import Denoiser, experiment
from denoiser.analysis.metrics import psnr
from denoiser.images.picture import read
from denoiser.models import Unet, UnetConfig


@pytest.fixture(scope="module")
def denoiser(tiny_model):
    return Denoiser(tiny_model, dtype="float32")


def test_figures_are_of_the_rounded_pictures(denoiser, photo):
    result = experiment.run(denoiser, read(Image.fromarray(photo)), "gaussian", {"sigma": 40}, seed=2)
    noisy, denoised = (np.asarray(picture.to_pil()) for picture in (result.noisy, result.denoised))
    assert noisy.dtype == denoised.dtype == np.uint8 and np.array_equal(np.asarray(result.clean.to_pil()), photo)
    expected = psnr(photo / 255, noisy / 255), psnr(photo / 255, denoised / 255)
    assert result.figures["psnr"] == pytest.approx(expected, abs=1e-4)
    assert result.sigma_added == pytest.approx(40, abs=0.3) and result.seconds > 0


@pytest.mark.parametrize(("sigma", "expected"), [("known", 40), ("estimate", None), (12, 12)])
def test_the_noise_level_given_to_the_denoiser(denoiser, photo, sigma, expected):
    result = experiment.run(denoiser, read(Image.fromarray(photo)), "gaussian", {"sigma": 40}, sigma=sigma)
    if expected is None:
        assert 20 < result.sigma_used < 60 and result.sigma_used != result.sigma_added
    else:
        assert result.sigma_used == pytest.approx(expected, abs=0.3)


def test_a_word_that_is_no_noise_level_is_refused(denoiser, photo):
    with pytest.raises(ValueError, match="got 'knwon'"):
        experiment.run(denoiser, read(Image.fromarray(photo)), sigma="knwon")


def test_a_picture_noisy_already_stays_as_it_is_and_has_no_figures(denoiser, photo):
    result = experiment.run(denoiser, read(Image.fromarray(photo)), noise=None)
    assert result.clean is None and result.figures == {} and result.sigma_added is None
    assert np.array_equal(np.asarray(result.noisy.to_pil()), photo)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("sigma", [1.5, 20])
def test_an_estimated_level_is_that_of_the_library(denoiser, photo, sigma, gray):
    noisy = experiment.degrade(read(Image.fromarray(photo)), "gaussian", {"sigma": sigma}).noisy.to_pil()
    noisy = noisy.convert("L").convert("RGB") if gray else noisy
    result = experiment.run(denoiser, read(noisy), noise=None, sigma="estimate")
    assert np.array_equal(np.asarray(result.denoised.to_pil()), np.asarray(denoiser(noisy)))


def test_a_blind_checkpoint_gets_no_noise_level_and_the_removed_deviation_is_reported(photo):
    blind = Denoiser(Unet(UnetConfig(widths=(8, 8), blocks=(0, 0), blind=True)), dtype="float32")
    result = experiment.run(blind, read(Image.fromarray(photo)), noise=None)
    removed = (result.noisy.pixels - result.denoised.pixels) * 255
    assert result.sigma_used is None and result.removed == pytest.approx(removed.std(), rel=1e-3)


def test_the_difference_is_signed_amplified_and_gray_where_there_is_none():
    first = read(np.array([[10, 20], [30, 40]], np.uint8))
    second = read(np.array([[10, 22], [27, 40]], np.uint8))
    delta, gain = experiment.difference(first, second, gain=5)
    assert gain == 5 and delta[..., 0].tolist() == [[128, 118], [143, 128]]


@pytest.mark.parametrize("spread", [1, 3, 10, 60, 200])
def test_the_gain_fills_the_range_without_leaving_it(spread):
    draw = np.random.default_rng(0).uniform(-spread / 2, spread / 2, (64, 64, 3))
    first = np.full((64, 64, 3), 0.5, np.float32)
    second = (first - draw / 255).astype(np.float32)
    delta, gain = experiment.difference(read(first), read(second))
    assert gain in experiment.GAINS
    assert np.mean((delta == 0) | (delta == 255)) < 0.02
    assert gain == max(experiment.GAINS) or gain == 1 or (gain * 2) * spread / 2 > 100


def test_deep_pictures_stay_deep(denoiser, photo):
    deep = Image.fromarray(photo[..., 0].astype(np.uint16) * 257)
    result = experiment.run(denoiser, read(deep), "gaussian", {"sigma": 10})
    assert result.noisy.to_pil().mode == result.denoised.to_pil().mode == "I;16"
