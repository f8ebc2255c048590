import numpy as np
import pytest
import torch
from PIL import Image

from denoiser import add_noise
from denoiser.__main__ import main
from denoiser.analysis.metrics import psnr
from denoiser.techniques import TECHNIQUES, apply_technique

NAMES = list(TECHNIQUES)


@pytest.fixture(scope="module")
def clean(photo):
    return photo[:96, :112].astype(np.float32) / 255


@pytest.mark.parametrize("sigma", [25, 40])
@pytest.mark.parametrize("name", NAMES)
def test_each_is_better_than_nothing_at_its_noise_and_keeps_the_mean(clean, name, sigma):
    noisy = add_noise(clean, "gaussian", sigma=sigma).clip(0, 1)
    denoised = apply_technique(noisy, name, sigma)
    assert psnr(clean, denoised) > psnr(clean, noisy) + 0.3
    assert abs(denoised.mean() - noisy.mean()) < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_each_leaves_a_flat_picture_flat(name):
    flat = np.full((24, 30, 3), 100, np.uint8)
    assert np.array_equal(apply_technique(flat, name, 25), flat)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_kind_comes_back(name, tmp_path):
    gray = np.random.default_rng(0).integers(0, 256, (9, 31), np.uint8)
    Image.fromarray(gray).save(tmp_path / "a.png")
    assert apply_technique(tmp_path / "a.png", name, 10).size == (31, 9)
    for given in (gray, gray[..., None].repeat(4, 2), gray.astype(np.uint16) * 257, torch.from_numpy(gray)):
        result = apply_technique(given, name, 10)
        assert type(result) is type(given) and result.shape == given.shape and result.dtype == given.dtype
    assert apply_technique(gray, name).shape == gray.shape  # the level is estimated


def test_what_cannot_be_done_is_said(clean):
    with pytest.raises(ValueError, match="unknown technique 'magic'; there are: gaussian"):
        apply_technique(clean, "magic")
    with pytest.raises(ValueError, match="sigma must be from 0 to 255"):
        apply_technique(clean, "tv", 300)
    with pytest.raises(ValueError, match="at least 8 pixels a side"):
        apply_technique(clean[:7], "nlm", 10)


def test_on_the_command_line(clean, tmp_path, capsys):
    Image.fromarray((clean * 255).astype(np.uint8)).save(tmp_path / "a.png")
    assert main([str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--method", "tv", "--sigma", "20"]) == 0
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (112, 96)
    assert main([str(tmp_path / "a.png"), "-o", str(tmp_path / "c.png"), "--method", "tv", "--strength", "0.5"]) == 2
    assert "--strength is for checkpoints" in capsys.readouterr().err
