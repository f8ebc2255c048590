"""The level and the strength that Stein's estimate chooses, without the clean picture."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from denoiser import Denoiser, PoissonGaussian, Unet, add_noise, tune
from denoiser.__main__ import main
from denoiser.analysis.metrics import psnr
from denoiser.models import UnetConfig


class Blur:
    """A denoiser that blurs by ``width`` pixels for each level of noise it is told, and takes what it is told."""

    def __init__(self, width: float, blind: bool = False):
        self.width, self.model = width, SimpleNamespace(config=SimpleNamespace(blind=blind))

    def in_float32(self):
        return self

    def __call__(self, pixels, sigma, strength=1.0):
        level = sigma.read if isinstance(sigma, PoissonGaussian) else sigma
        width = self.width * (20 if self.model.config.blind else level)
        return pixels + strength * (gaussian_filter(pixels, (width, width, 0)) - pixels)


@pytest.fixture(scope="module")
def smooth():
    noise = gaussian_filter(np.random.default_rng(1).standard_normal((112, 96, 3)), (3, 3, 0))
    return (0.5 + 0.25 * np.clip(noise / noise.std() / 2, -1, 1)).astype(np.float32)


@given(width=st.floats(0.01, 0.5), sigma=st.floats(8, 40), blind=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_chosen_setting_is_the_better_one_and_its_psnr_is_known(smooth, width, sigma, blind, seed):
    denoiser, noisy = Blur(width, blind), add_noise(smooth, "gaussian", seed, sigma=sigma)
    tuned = tune(denoiser, noisy, sigma)
    own = psnr(smooth, denoiser(noisy, sigma))
    chosen = psnr(smooth, denoiser(noisy, tuned.sigma, tuned.strength))
    for estimated, true in ((tuned.before, own), (tuned.after, chosen)):
        error, level = 10 ** (-true / 10), sigma / 255
        assert 10 ** (-estimated / 10) == pytest.approx(error, abs=level * (0.06 * level + 0.06 * error**0.5))
    assert (chosen > own and "better by SURE" in str(tuned)) or (tuned.sigma, tuned.strength) == (sigma, 1)
    assert not blind or tuned.sigma == sigma


def test_what_removes_too_much_is_told_less_and_weakened(smooth):
    noisy = add_noise(smooth, "gaussian", 0, sigma=20)
    tuned = tune(Blur(0.3), noisy, 20)
    assert tuned.sigma == pytest.approx(16) and 0 < tuned.strength < 1 and tuned.after > tuned.before + 0.2
    strength = tune(Blur(0.3), noisy, PoissonGaussian(0, 20))
    assert strength.sigma == PoissonGaussian(0, 20) and strength.strength < tuned.strength


def network(blind):
    torch.manual_seed(0)
    return Denoiser(Unet(UnetConfig(channels=3, widths=(8, 16), blocks=(1, 1), blind=blind)), device="cpu")


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("shape", [(70, 90), (64, 81, 3), (40, 100, 4)])
@pytest.mark.parametrize("noise", [None, 12.0, PoissonGaussian(2, 4)])
def test_any_picture_network_and_noise(smooth, blind, shape, noise):
    noisy = np.random.default_rng(1).normal(255 * np.resize(smooth, shape), 12).clip(0, 255).astype(np.uint8)
    shares = []
    tuned = tune(network(blind), noisy, noise, shares.append)
    assert 0 <= tuned.strength <= 1 and (tuned.note or (shares[-1] == 1 and str(tuned)))
    assert noise is None or isinstance(tuned.sigma, type(noise))


@pytest.mark.parametrize(
    ("kind", "parameters", "sigma", "reason"),
    [
        ("correlated", {"sigma": 25, "grain": 1}, None, "neighboring pixels share their noise"),
        ("gaussian", {"sigma": 0}, 0.0, "the level of its noise is given as 0"),
        ("gaussian", {"sigma": 10}, 60.0, "less noise than its level says"),
    ],
)
def test_where_it_cannot_be_told_nothing_is_chosen(smooth, kind, parameters, sigma, reason):
    tuned = tune(Blur(0.02), add_noise(smooth, kind, 1, **parameters), sigma)
    assert reason in tuned.note and str(tuned).startswith("not tuned: ") and tuned.strength == 1
    assert tune(Blur(0.02), np.full_like(smooth, 0.5)).note == "no noise was found"


@pytest.mark.parametrize("sigma", [-5, float("nan"), 300])
def test_a_level_that_cannot_be_is_refused(smooth, sigma):
    with pytest.raises(ValueError, match="sigma must be from 0 to 255"):
        tune(Blur(0.02), smooth, sigma)
    with pytest.raises(ValueError, match="sigma is a map: give one level"):
        tune(Blur(0.02), smooth, np.full(smooth.shape[:2], 25.0))


def test_the_command_line_says_what_it_chose(smooth, tmp_path, capsys):
    noisy = np.rint(add_noise(smooth, "gaussian", 1, sigma=25).clip(0, 1) * 255).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "noisy.png")
    network(False).model.save_pretrained(tmp_path / "checkpoint")
    command = [str(tmp_path / "noisy.png"), "--checkpoint", str(tmp_path / "checkpoint"), "--device", "cpu", "--tune"]
    assert main([*command, "-o", str(tmp_path / "tuned.png"), "--sigma", "25"]) == 0
    said, tuned = capsys.readouterr().err, tune(network(False), noisy, 25)
    assert str(tuned) in said
    expected = network(False)(noisy, tuned.sigma, tuned.strength)
    assert np.abs(np.asarray(Image.open(tmp_path / "tuned.png")).astype(int) - expected).max() <= 1
    for wrong in (["--strength", "0.5"], ["--method", "median"]):
        assert main([*command, "-o", str(tmp_path / "x.png"), *wrong]) == 2
        assert "--tune is for checkpoints" in capsys.readouterr().err
