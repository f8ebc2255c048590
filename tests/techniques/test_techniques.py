import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from denoiser import Denoiser, DenoiserError, add_noise
from denoiser.__main__ import main
from denoiser.analysis.metrics import psnr
from denoiser.techniques import TECHNIQUES, Technique, apply_technique, compare, learned, sweep

NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(not technique.available, reason=f"{technique.package} is not installed, an extra"),
    )
    for name, technique in TECHNIQUES.items()
]


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
def test_each_takes_noise_that_leaves_the_range_and_gray(clean, name):
    gray = clean[:48, :64].mean(2, keepdims=True)
    for pixels in (gray, gray.repeat(3, axis=2)):
        noisy = add_noise(pixels, "gaussian", sigma=30)
        noisy = noisy[..., :1].repeat(pixels.shape[2], axis=2)
        denoised = TECHNIQUES[name].denoise(noisy, 30)
        assert denoised.dtype == np.float32 and denoised.shape == pixels.shape and np.isfinite(denoised).all()
        assert psnr(pixels, denoised) > psnr(pixels, noisy)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("space", [0.5, 1.3, 2.74])
def test_the_bilateral_filter_weighs_by_distance_and_by_difference(channels, space):
    noisy, sigma, color = np.random.default_rng(0).random((13, 11, channels)), 25.5, 1.5
    denoised = apply_technique(noisy.astype(np.float32), "bilateral", sigma, color=color, space=space)
    reach = max(1, round(2 * space))
    padded = np.pad(noisy, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    for row, column in np.ndindex(13, 11):
        total = weights = 0.0
        for y, x in itertools.product(range(-reach, reach + 1), repeat=2):
            other = padded[row + reach + y, column + reach + x]
            away = ((other - noisy[row, column]) ** 2).mean() / (color * sigma / 255) ** 2 + (y**2 + x**2) / space**2
            weight = np.exp(-away / 2) * (y**2 + x**2 <= reach**2)
            total, weights = total + weight * other, weights + weight
        assert np.allclose(denoised[row, column], total / weights, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [3, 7])
def test_nonlocal_means_weighs_by_the_difference_of_whole_patches(channels, side):
    noisy, sigma, decay, reach = np.random.default_rng(0).random((11, 13, channels)), 38.25, 0.6, 3
    options = {"decay": decay, "side": side, "reach": reach}
    denoised = apply_technique(noisy.astype(np.float32), "nlm", sigma, **options)
    half = side // 2
    around = [(reach + half, reach + half)] * 2 + [(0, 0)]
    patches = np.lib.stride_tricks.sliding_window_view(np.pad(noisy, around, "symmetric"), (side, side), axis=(0, 1))
    for row, column in np.ndindex(11, 13):
        near = patches[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        away = ((near - near[reach, reach]) ** 2).mean((2, 3, 4)) - 2 * (sigma / 255) ** 2
        weights = np.exp(-away.clip(0) / (decay * sigma / 255) ** 2)[..., None]
        weights[reach, reach] = 1
        expected = (weights * near[..., half, half]).sum((0, 1)) / weights.sum()
        assert np.allclose(denoised[row, column], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["bilateral", "nlm"])
def test_bands_leave_no_seam(monkeypatch, photo, name):
    noisy = add_noise(photo[:80, :60] / 255, sigma=25)
    whole = apply_technique(noisy, name, 25)
    monkeypatch.setattr("denoiser.techniques.classical.BAND", 32)
    assert np.allclose(apply_technique(noisy, name, 25), whole, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_each_leaves_a_flat_picture_flat(name):
    flat = np.full((24, 30, 3), 100, np.uint8)
    assert np.array_equal(apply_technique(flat, name, 25), flat)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_kind_comes_back(name, tmp_path):
    gray = np.random.default_rng(0).integers(0, 256, (9, 31), np.uint8)
    Image.fromarray(gray).save(tmp_path / "a.png")
    assert apply_technique(tmp_path / "a.png", name, 10).size == (31, 9)
    for given_one in (gray, gray[..., None].repeat(4, 2), gray.astype(np.uint16) * 257, torch.from_numpy(gray)):
        result = apply_technique(given_one, name, 10)
        assert type(result) is type(given_one) and result.shape == given_one.shape and result.dtype == given_one.dtype
    assert apply_technique(gray, name).shape == gray.shape  # the level is estimated


@pytest.mark.parametrize("name", [one for one in NAMES if one.values != ("bm3d",)])
def test_each_takes_any_size_from_8_on(name):
    random = np.random.default_rng(0)
    for height, width, channels in itertools.product((8, 13, 40), (8, 17), (1, 3)):
        pixels = random.random((height, width, channels), np.float32)
        assert TECHNIQUES[name].denoise(pixels, 20).shape == pixels.shape


@given(sigma=st.floats(0.5, 100), name=st.sampled_from(list(TECHNIQUES)))
@settings(deadline=None, max_examples=60)
def test_rules_stay_within_their_ranges_and_steps(sigma, name):
    technique = TECHNIQUES[name]
    for parameter in technique.parameters:
        value = technique.settings(sigma)[parameter.name]
        assert parameter.low <= value <= parameter.high and parameter.nearest(value) == pytest.approx(value)
        moved = technique.settings(sigma, {parameter.name: parameter.high})
        assert moved[parameter.name] == pytest.approx(parameter.high)


def test_every_technique_says_what_it_is():
    for technique in TECHNIQUES.values():
        assert technique.family in ("spatial", "variational", "transform", "non-local")
        assert technique.principle.count(". ") >= 1 and technique.principle.endswith(".")
        assert technique.cost and technique.source and technique.parameters


def test_parameters_can_be_moved(clean):
    weak, strong = (apply_technique(clean, "gaussian", 25, width=width) for width in (0.2, 3))
    assert np.abs(np.diff(strong, axis=0)).mean() < np.abs(np.diff(weak, axis=0)).mean() / 2
    with pytest.raises(ValueError, match="gaussian has no parameter reach; it has width"):
        apply_technique(clean, "gaussian", 25, reach=3)
    with pytest.raises(ValueError, match=r"width must be from 0\.1 to 4, got 9"):
        apply_technique(clean, "gaussian", 25, width=9)


def test_large_pictures_are_computed_in_tiles_without_seams_and_can_be_stopped():
    pixels = np.random.default_rng(0).random((1000, 1100, 1), np.float32)
    shares = []
    tiled = TECHNIQUES["median"].denoise(pixels, 25, shares.append)
    assert len(shares) > 1 and shares == sorted(shares) and shares[-1] == 1
    assert np.array_equal(tiled, TECHNIQUES["median"].apply(pixels, 25 / 255, **TECHNIQUES["median"].settings(25)))

    def stop(share):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        TECHNIQUES["median"].denoise(pixels, 25, stop)


def test_a_missing_package_is_one_sentence(clean, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bm3d", None)  # as if it were not installed
    with pytest.raises(DenoiserError, match=r"non-commercial use only: pip install 'denoising-autoencoder\[bm3d\]'"):
        apply_technique(clean, "bm3d", 25)
    assert not dataclasses.replace(TECHNIQUES["bm3d"], package="no_such_package").available


def test_techniques_and_checkpoints_are_compared_one_by_one(clean, tiny_model):
    denoiser = Denoiser(tiny_model, dtype="float32")
    noisy, shares = add_noise(clean, "gaussian", sigma=25), []
    chosen = [TECHNIQUES["tv"], TECHNIQUES["gaussian"], learned(denoiser, "tiny")]
    outcomes = compare(noisy, 25, chosen, clean, shares.append, {"gaussian": {"width": 0.1}})
    first = next(outcomes)
    assert first.technique.name == "tv" and shares == pytest.approx([1 / 3])  # the others wait
    others = list(outcomes)
    assert [one.technique.family for one in others] == ["spatial", "learned"] and shares[-1] == 1
    assert first.figures["psnr"] == psnr(clean, first.pixels) > psnr(clean, noisy) + 3
    assert others[0].figures["psnr"] == pytest.approx(psnr(clean, noisy.clip(0, 1)), abs=0.1)  # its width was moved
    expected = np.rint(denoiser(noisy, 25).clip(0, 1) * 255) / 255
    assert np.abs(others[1].pixels - expected).max() < 1e-6
    assert not next(compare(noisy, 25, chosen)).figures


def test_outcomes_are_assessed_without_a_clean_picture(clean):
    noisy = add_noise(clean, "gaussian", sigma=20)
    (outcome,) = compare(noisy, 20, [TECHNIQUES["tv"]], noise=20)
    assert outcome.risk.psnr == pytest.approx(psnr(clean, outcome.pixels), abs=0.7) and not outcome.figures
    assert outcome.residual.expected == pytest.approx(20)
    (measured,) = compare(noisy, 20, [TECHNIQUES["gaussian"]], clean, parameters={"gaussian": {"width": 3}}, noise=20)
    assert measured.risk is None and not measured.residual.looks_like_noise
    assert next(compare(np.zeros_like(noisy), 20, [TECHNIQUES["tv"]], noise=20)).risk is None  # black everywhere


def test_a_sweep_gives_every_technique_at_every_level(clean):
    chosen = [TECHNIQUES["gaussian"], TECHNIQUES["tv"]]
    found = [(level, one.technique.name, one.figures["psnr"]) for level, one in sweep(clean, (5, 50), chosen, seed=3)]
    assert [one[:2] for one in found] == [(5, "gaussian"), (5, "tv"), (50, "gaussian"), (50, "tv")]
    assert all(weak[2] > strong[2] + 3 for weak, strong in zip(found, found[2:]))


def test_a_technique_of_ones_own_needs_four_things():
    double = Technique("double", "Double", "spatial", lambda pixels, sigma: 2 * pixels)
    assert double.denoise(np.ones((9, 9, 1), np.float32), 5).mean() == 2


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


@pytest.mark.parametrize("name", ["gaussian", "median", "nlm", "tv", "wiener"])
def test_what_nobody_sees_reaches_no_visible_pixel_and_stays(name):
    planes = np.random.default_rng(0).integers(60, 200, (40, 60, 4), np.uint8)
    planes[..., 3] = np.where(np.arange(60) < 30, 255, 0)
    results = []
    for color in ((255, 0, 255), (0, 255, 0)):
        planes[:, 30:, :3] = color
        results.append(apply_technique(planes, name, 15))
        assert np.array_equal(results[-1][:, 30:], planes[:, 30:])
    assert np.array_equal(results[0][:, :30], results[1][:, :30])


@pytest.mark.parametrize("sigma", [np.ones((9, 9)), [3, 4], "x", torch.ones(2)])
def test_techniques_take_one_level(sigma):
    with pytest.raises(ValueError, match="one noise level or None"):
        apply_technique(np.zeros((9, 9), np.uint8), "gaussian", sigma)
    assert apply_technique(np.zeros((9, 9), np.uint8), "gaussian", torch.tensor(3.0)).shape == (9, 9)
