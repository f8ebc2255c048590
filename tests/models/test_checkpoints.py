"""What every bundled checkpoint must keep to, whatever it was trained on."""

import functools
import re

import numpy as np
import pytest

from denoiser import Denoiser, add_noise, bundled_checkpoints
from denoiser.analysis.metrics import psnr
from denoiser.hub.checkpoints import find_bundled
from denoiser.models import Bottleneck

COLORS = {
    "black": (0, 0, 0),
    "white": (1, 1, 1),
    "gray": (0.5, 0.5, 0.5),
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "magenta": (1, 0, 1),
    "skin": (0.9, 0.7, 0.6),
}
load = functools.cache(Denoiser.from_pretrained)


# A latent smaller than the picture cannot hold every picture, and the card of the bottleneck says so.
MODELS = {name: load(name).model for name in bundled_checkpoints()}


@pytest.mark.parametrize("name", MODELS)
def test_the_card_is_short_and_its_pictures_are_there(name):
    folder = find_bundled(name).folder
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 9_000
    pictures = re.findall(r"!\[.*?\]\((.+?)\)", text)
    assert "failure.webp" in pictures and all((folder / picture).exists() for picture in pictures)


BLIND = [name for name, model in MODELS.items() if model.config.blind]
NON_BLIND = [name for name, model in MODELS.items() if not model.config.blind and not isinstance(model, Bottleneck)]


@pytest.fixture(params=BLIND)
def blind(request):
    return load(request.param)


@pytest.fixture(params=NON_BLIND)
def non_blind(request):
    return load(request.param)


def picture_for(denoiser, photo):
    clean = photo.astype(np.float32) / 255
    return clean.mean(2, keepdims=True) if denoiser.model.config.channels == 1 else clean


def flat(denoiser, color):
    picture = np.empty((64, 64, 3), np.float32)
    picture[:] = COLORS[color]
    return picture[..., :1] if denoiser.model.config.channels == 1 else picture


def test_at_sigma_zero_nothing_visible_changes(non_blind, photo):
    clean = picture_for(non_blind, photo)
    assert psnr(clean, non_blind(clean, 0)) >= 45


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("sigma", [0, 15, 50])
@pytest.mark.parametrize("clip", [False, True], ids=["unclipped", "as a file"])
def test_flat_areas_gain_no_texture_and_no_tint(non_blind, color, sigma, clip):
    clean = flat(non_blind, color)
    noisy = add_noise(clean, "gaussian", 1, sigma=sigma)
    restored = non_blind(noisy.clip(0, 1) if clip else noisy, sigma)
    shift = np.abs((restored - clean).mean((0, 1))).max() * 255
    assert shift <= 2 + 0.06 * sigma
    assert restored.std((0, 1)).max() * 255 <= 2 + 0.1 * sigma


@pytest.mark.parametrize("sigma", [75, 100])
def test_beyond_the_trained_range_it_still_denoises(non_blind, photo, sigma):
    clean = picture_for(non_blind, photo)
    noisy = add_noise(clean, "gaussian", sigma=sigma)
    assert psnr(clean, non_blind(noisy, sigma)) > psnr(clean, noisy.clip(0, 1)) + 7


@pytest.mark.parametrize("color", COLORS)
def test_a_blind_checkpoint_leaves_clean_flat_areas(blind, color):
    clean = flat(blind, color)
    added = (blind(clean) - clean) * 255
    assert np.abs(added.mean((0, 1))).max() <= 0.5 and added.std((0, 1)).max() <= 1


def test_a_blind_checkpoint_leaves_a_clean_photograph_nearly_as_it_is(blind, photo):
    clean = picture_for(blind, photo)
    assert psnr(clean, blind(clean)) >= 33
    assert np.array_equal(blind(clean, strength=0), clean)
