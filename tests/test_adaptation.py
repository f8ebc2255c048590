import functools
import re

import numpy as np
import pytest
import torch
from PIL import Image

from denoiser import Denoiser, Unet, add_noise
from denoiser.__main__ import main
from denoiser.adaptation import _is_certain, adapt
from denoiser.analysis.metrics import psnr
from denoiser.models import UnetConfig
from denoiser.self_supervised import Neighbor2Neighbor, Noise2Noise, Noise2Void, Sure


def network(channels=3, blind=False, seed=0):
    """A small network with random weights that passes most of its input."""
    torch.manual_seed(seed)
    return Denoiser(Unet(UnetConfig(channels=channels, widths=(8, 16), blocks=(1, 1), blind=blind)), device="cpu")


@pytest.fixture(scope="module")
def smooth():
    """A smooth color picture (96, 112, 3) within [0.2, 0.8], float32: nothing of its noise is cut off."""
    random = torch.randn(1, 3, 6, 7, generator=torch.Generator().manual_seed(1))
    planes = torch.nn.functional.interpolate(random, (96, 112), mode="bicubic", align_corners=False).sigmoid()
    return (0.2 + 0.6 * planes[0].permute(1, 2, 0)).numpy()


@functools.cache
def out_of_tune(blind):
    """A small network that has learned to remove noise of level 25, whose channels then got random gains."""
    model, generator = network(blind=blind).model.requires_grad_(True), torch.Generator().manual_seed(6)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(120):
        planes = torch.nn.functional.interpolate(torch.randn(4, 3, 4, 4, generator=generator), 48, mode="bicubic")
        clean = 0.2 + 0.6 * planes.sigmoid()
        noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=generator)
        loss = (model(noisy, None if blind else 25 / 255) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for kernel in model.parameters():
            if kernel.ndim == 4:
                kernel.mul_(1 + 1.6 * (torch.rand(kernel[:, :1, :1, :1].shape, generator=generator) - 0.5))
    return Denoiser(model, device="cpu")


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("objective", [None, Neighbor2Neighbor(), Noise2Void()], ids=["sure", "neighbors", "void"])
def test_a_picture_gets_better_weights_than_those_it_started_from(smooth, blind, objective):
    noisy = add_noise(smooth, "gaussian", seed=1, sigma=25)
    denoiser = out_of_tune(blind)
    before = {name: tensor.clone() for name, tensor in denoiser.model.state_dict().items()}
    adapted = adapt(denoiser, noisy, seconds=600, objective=objective, max_steps=40)
    assert 20 < adapted.steps <= 40 and not adapted.note and adapted.after > adapted.before
    assert psnr(smooth, adapted.denoiser(noisy)) > psnr(smooth, denoiser(noisy)) + 0.25
    assert all(torch.equal(before[name], tensor) for name, tensor in denoiser.model.state_dict().items())
    tuned = dict(adapted.denoiser.model.named_parameters())
    for name, kernel in denoiser.model.named_parameters():  # by one factor for each channel, and nothing else
        ratio = (tuned[name] / kernel).flatten(1) if kernel.ndim == 4 else torch.ones(1, 1)
        assert torch.allclose(ratio, ratio[:, :1], rtol=1e-3)
    assert adapted.denoiser.model is not denoiser.model and f"{adapted.after:.2f} dB" in str(adapted)


def test_the_score_of_sure_is_the_psnr_against_the_clean_picture(smooth):
    noisy = add_noise(smooth, "gaussian", seed=1, sigma=25)
    denoiser = out_of_tune(False)
    adapted = adapt(denoiser, noisy, seconds=600, sigma=25, max_steps=40)
    for score, used in ((adapted.before, denoiser), (adapted.after, adapted.denoiser)):
        assert score == pytest.approx(psnr(smooth, used(noisy, 25)), abs=0.5)


def test_a_gain_that_chance_may_have_made_is_not_claimed(smooth, monkeypatch):
    noisy = add_noise(smooth, "gaussian", seed=1, sigma=25)
    monkeypatch.setattr("denoiser.adaptation.CERTAIN", 100.0)
    adapted = adapt(out_of_tune(False), noisy, seconds=600, max_steps=40)
    assert adapted.after == adapted.before and str(adapted).startswith("gained nothing")
    monkeypatch.undo()
    planes = torch.from_numpy(noisy).permute(2, 0, 1)[None]
    pair = (lambda pixels, level: 0.9 * pixels, lambda pixels, level: 0.8 * pixels)  # far from, and farther from it
    for networks, expected in ((pair, False), (pair[::-1], True), ((pair[0], pair[0]), False)):
        assert _is_certain(Sure(), networks, planes, torch.tensor([25 / 255]), 1.02) == expected


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(40, 100), (96, 52, 1), (33, 107, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_picture_and_network(smooth, channels, shape, dtype):
    clean = smooth[: shape[0], : shape[1], : shape[2] if len(shape) == 3 else 1].reshape(shape)
    noisy = add_noise(clean, "gaussian", seed=2, sigma=20).clip(0, 1)
    if dtype != np.float32:
        noisy = np.rint(noisy * np.iinfo(dtype).max).astype(dtype)
    shares = []
    adapted = adapt(network(channels), noisy, seconds=600, max_steps=4, progress=shares.append)
    assert adapted.after >= adapted.before and shares[-1] == 1 and shares == sorted(shares)
    restored = adapted.denoiser(noisy)
    assert restored.shape == noisy.shape and restored.dtype == noisy.dtype


def test_the_default_dtype_of_torch_changes_nothing(smooth):
    denoiser, noisy = network(), add_noise(smooth, "gaussian", seed=1, sigma=25)
    expected = adapt(denoiser, noisy, seconds=600, max_steps=2)
    torch.set_default_dtype(torch.float64)
    try:
        adapted = adapt(denoiser, noisy, seconds=600, max_steps=2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert (adapted.before, adapted.after) == (expected.before, expected.after)


def test_bad_steps_are_thrown_away(smooth, monkeypatch):
    monkeypatch.setattr("denoiser.adaptation.RATE", 10.0)
    noisy = add_noise(smooth, "gaussian", seed=1, sigma=25)
    denoiser = network()
    adapted = adapt(denoiser, noisy, seconds=600, max_steps=24)
    assert adapted.after == adapted.before and str(adapted).startswith("gained nothing")
    assert adapted.denoiser is denoiser


@pytest.mark.parametrize(
    ("kind", "parameters", "objective", "reason"),
    [
        ("correlated", {"sigma": 25, "grain": 1}, None, "neighboring pixels share their noise"),
        ("correlated", {"sigma": 25, "grain": 1}, Noise2Void(), "which Noise2Void would keep"),
        ("gaussian", {"sigma": 0}, None, "no noise was found"),
    ],
)
def test_where_the_assumption_does_not_hold_nothing_is_done_and_said(smooth, kind, parameters, objective, reason):
    flat = np.full_like(smooth, 0.5) if parameters["sigma"] == 0 else smooth
    denoiser = network()
    adapted = adapt(denoiser, add_noise(flat, kind, seed=1, **parameters), 600, objective=objective)
    assert adapted.denoiser is denoiser and adapted.steps == 0
    assert reason in adapted.note and str(adapted).startswith("not adapted: ")


def test_a_level_that_cannot_be_is_said(smooth):
    denoiser, noisy = Denoiser.from_pretrained("color-small", device="cpu"), add_noise(smooth, "gaussian", 1, sigma=5)
    assert "weaker than it was told" in str(adapt(denoiser, noisy, seconds=600, sigma=50))
    with pytest.raises(ValueError, match="sigma is a map: give one level"):
        adapt(denoiser, noisy, seconds=600, sigma=np.full(smooth.shape[:2], 5.0))


def test_noise_that_is_cut_off_in_much_of_the_picture_is_left_alone(smooth):
    noisy = add_noise(smooth * 0.1, "gaussian", seed=1, sigma=25).clip(0, 1)
    adapted = adapt(network(), noisy, 600)
    assert "cut off at black or white" in adapted.note and adapted.steps == 0


def test_the_structured_variant_takes_noise_that_neighbors_share(smooth):
    noisy = add_noise(smooth, "correlated", seed=1, sigma=25, grain=1)
    adapted = adapt(network(blind=True), noisy, 600, objective=Noise2Void(structure=(3, 3)), max_steps=5)
    assert adapted.steps == 5


def test_impossible_requests_are_refused(smooth):
    for seconds in (0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="seconds must be positive and finite"):
            adapt(network(), smooth, seconds=seconds)
    with pytest.raises(ValueError, match="needs several shots of a scene"):
        adapt(network(), smooth, objective=Noise2Noise())
    for sigma in (-5, float("nan"), 300):
        with pytest.raises(ValueError, match="sigma must be from 0 to 255"):
            adapt(network(), smooth, sigma=sigma)
    assert "too small" in adapt(network(), smooth[:20, :20], objective=Sure()).note


def test_the_command_line_adapts_and_says_what_it_gained(smooth, tmp_path, capsys):
    noisy = add_noise(smooth, "gaussian", seed=1, sigma=25).clip(0, 1)
    Image.fromarray(np.rint(noisy * 255).astype(np.uint8)).save(tmp_path / "noisy.png")
    network().model.save_pretrained(tmp_path / "checkpoint")
    command = [str(tmp_path / "noisy.png"), "--checkpoint", str(tmp_path / "checkpoint"), "--device", "cpu"]
    assert main([*command, "-o", str(tmp_path / "plain.png")]) == 0
    assert main([*command, "-o", str(tmp_path / "adapted.png"), "--adapt", "0.5"]) == 0
    assert re.search("by SURE's (own )?measure", capsys.readouterr().err)
    assert (tmp_path / "adapted.png").exists()
    for wrong in (["--adapt", "0"], ["--adapt", "inf"], ["--adapt", "3", "--method", "median"]):
        assert main([*command, "-o", str(tmp_path / "x.png"), *wrong]) == 2
        assert "--adapt is for checkpoints" in capsys.readouterr().err
