import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import uniform_filter

from benchmarks.noise_level import DRAWN
from denoiser import Denoiser, add_noise, bundled_checkpoints, estimate_sigma
from denoiser.analysis.metrics import psnr
from denoiser.analysis.weak_noise import FULL_BLEND, NO_BLEND, blend, blind_share, make_probe
from denoiser.network_input import MIN_SHARE


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.floats(0, 0.1), st.integers(0, 99))
@settings(deadline=None)
def test_the_blend_lies_between_input_and_estimate(height, width, channels, level, seed):
    random = np.random.default_rng(seed)
    noisy, restored = random.random((2, height, width, channels), dtype=np.float32)
    change = level * random.standard_normal(noisy.shape, dtype=np.float32)
    mixed = blend(restored.copy(), noisy, level, change, 1 / 255)
    assert mixed.shape == noisy.shape and mixed.dtype == np.float32
    assert (mixed >= np.minimum(noisy, restored) - 1e-6).all() and (mixed <= np.maximum(noisy, restored) + 1e-6).all()
    assert np.allclose(blend(restored.copy(), noisy, 0.0, change), noisy, atol=1e-7)
    if level >= NO_BLEND:
        assert np.array_equal(mixed, restored)


def apply_blend(estimate, noisy, level):
    """What the blend makes of a function of a picture."""
    probe = make_probe(noisy, np.arange(noisy.shape[0]), np.arange(noisy.shape[1]))
    restored = estimate(noisy)
    change = probe * (estimate(noisy + np.float32(level) * probe) - restored)
    return blend(restored, noisy, level, change)


def test_an_estimate_that_removed_only_noise_is_kept_and_one_that_removed_texture_is_not():
    random = np.random.default_rng(0)
    clean = random.random((64, 64, 3), dtype=np.float32)
    noise = random.standard_normal(clean.shape, dtype=np.float32) * np.float32(FULL_BLEND)
    noisy = clean + noise
    perfect = apply_blend(lambda _: clean.copy(), noisy, FULL_BLEND)
    assert psnr(clean, perfect) > psnr(clean, noisy) + 10
    flat = apply_blend(lambda _: np.full_like(clean, clean.mean()), noisy, FULL_BLEND)
    assert psnr(clean, flat) > psnr(clean, noisy) - 0.1


@pytest.mark.parametrize("kind", list(DRAWN))
@pytest.mark.parametrize("sigma", [1, 3])
def test_a_filter_that_blurs_drawn_pictures_makes_none_worse(kind, sigma):
    """Most of their values are clipped, where half of the noise is missing."""
    clean = np.asarray(DRAWN[kind](0).convert("L"), np.float32)[:160, :160, None]
    noise = sigma * np.random.default_rng(0).standard_normal(clean.shape)
    noisy = np.rint(clean + noise).clip(0, 255).astype(np.float32) / 255
    blurred = apply_blend(lambda pixels: uniform_filter(pixels, (3, 3, 0)), noisy, sigma / 255)
    assert psnr(clean / 255, uniform_filter(noisy, (3, 3, 0))) < psnr(clean / 255, noisy) - 1
    assert psnr(clean / 255, blurred) > psnr(clean / 255, noisy) - 0.02


@pytest.mark.parametrize("sigma", [0.5, 1, 2, 3])
@pytest.mark.parametrize("name", [name for name in bundled_checkpoints() if name != "photo"])
def test_no_checkpoint_makes_a_nearly_clean_file_worse(photo, name, sigma):
    """At the network's own estimate color-base loses 4 dB on the photograph at sigma 1, and 9 dB on line art."""
    denoiser = Denoiser.from_pretrained(name, device="cpu")
    for kind in ("photograph", "text", "line art", "pixel art"):
        clean = photo[:160, :160] if kind == "photograph" else np.asarray(DRAWN[kind](0).convert("RGB"))[:160, :160]
        if denoiser.model.config.channels == 1:
            clean = clean[..., 1]
        noise = sigma * np.random.default_rng(0).standard_normal(clean.shape)
        noisy = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
        before, after = (psnr(clean / 255, picture / 255) for picture in (noisy, denoiser(noisy, sigma)))
        assert after > before - 0.02, kind
        if sigma >= 2 and kind == "photograph":
            assert after > before + 0.1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [0, 0.5, 1])
def test_the_level_of_nearly_clean_pictures_is_not_overestimated(channels, sigma):
    """White paper with a noise of half a level was read as 60 levels, from the letters."""
    for kind in ("text", "sheet music", "scans", "screenshots"):
        page = np.asarray(DRAWN[kind](1).convert("L" if channels == 1 else "RGB"), np.float32)
        noise = sigma * np.random.default_rng(0).standard_normal(page.shape)
        assert estimate_sigma(np.rint(page + noise).clip(0, 255).astype(np.uint8)) <= 1.2, kind


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 3]), st.floats(0, 20))
@settings(deadline=None, max_examples=30)
def test_an_estimate_that_removes_nothing_counts_by_the_level_of_white_noise_alone(height, width, channels, level):
    pixels = np.random.default_rng(0).random((height, width, channels), dtype=np.float32)
    share = blind_share(pixels, level, lambda parts, _: parts)
    assert share == pytest.approx(1 / (1 + (2.5 / level) ** 6) if level > 0.1 else 0, abs=1e-6)


def test_what_a_blind_network_removes_counts_if_it_is_coarse_and_everywhere():
    random = np.random.default_rng(0)
    fine = random.standard_normal((128, 128, 1)).astype(np.float32).repeat(3, 2) / 255
    coarse = uniform_filter(fine, (4, 4, 0)) * 6
    half = coarse * (np.arange(128) < 64)[:, None, None]
    shares = [
        blind_share(np.full_like(fine, 0.5), 0.0, lambda parts, _, removed=removed: parts - removed[:, :, None])
        for removed in (fine, half, coarse)
    ]
    assert shares[0] < MIN_SHARE and shares[1] < MIN_SHARE and shares[2] > 0.9  # of less nothing is taken


@pytest.mark.parametrize("channels", [1, 3])
def test_a_blind_network_that_blurs_texture_as_much_as_noise_counts_for_noise_only(channels):
    """Texture that is left nowhere out is coarse, too, but what remains of it shows where it was."""
    random = np.random.default_rng(0)
    texture = uniform_filter(random.standard_normal((160, 160, channels)), (2, 2, 0)) * 10
    texture *= 0.1 + np.abs(np.linspace(-1, 1, 160))[:, None, None]
    noise = uniform_filter(random.standard_normal((160, 160, channels)), (4, 4, 0)) * 12
    removed = [np.std(one - uniform_filter(one, (9, 9, 0))) for one in (texture, noise)]
    clean, noisy = ((120 + one).astype(np.float32) / 255 for one in (texture, noise))
    shares = [blind_share(one, 0.0, lambda parts, _: uniform_filter(parts, (9, 9, 0, 0))) for one in (clean, noisy)]
    assert removed[0] > 0.9 * removed[1] and shares[0] < 0.1 and shares[1] > 0.9, shares


def test_a_blind_network_leaves_a_clean_photograph_and_denoises_one_from_a_camera(photo):
    """The network alone gives the clean ones back at 42 and 57 dB."""
    smooth = np.rint(uniform_filter(photo[:192, :192].astype(np.float32), (5, 5, 0)) * 0.4 + 40).astype(np.uint8)
    denoiser = Denoiser.from_pretrained("photo", device="cpu")
    for clean, low in ((photo[:192, :192], 60), (smooth, 100)):
        assert psnr(clean / 255, denoiser(clean) / 255) > low
    for sigma in (3, 8):
        noisy = np.rint(255 * add_noise(smooth / np.float32(255), "camera", sigma=sigma).clip(0, 1)).astype(np.uint8)
        assert psnr(smooth / 255, denoiser(noisy) / 255) > psnr(smooth / 255, noisy / 255) + 3


def strokes_of_a_pen(random) -> Image.Image:
    page = Image.new("L", (960, 960), 250)
    for x, y in random.uniform(-60, 960, (1800, 2)):
        across, down = random.choice([(70, 40), (-40, 75)]) + random.normal(0, 4, 2)
        ImageDraw.Draw(page).line((x, y, x + across, y + down), fill=10, width=4)
    return page.resize((240, 240), Image.Resampling.BOX)


def small_print(random) -> Image.Image:
    page = Image.new("L", (960, 960), 238)
    for top in range(0, 960, 31):
        line = "".join(map(chr, random.choice([*range(97, 123), 32, 32, 32], 120)))
        ImageDraw.Draw(page).text((0, top), line, fill=35, font=ImageFont.load_default(27))
    return page.resize((240, 240), Image.Resampling.BOX)


@pytest.mark.parametrize("draw", [strokes_of_a_pen, small_print])
def test_of_drawings_without_a_quiet_part_a_blind_network_takes_no_more_than_noise(draw):
    """The network alone gives the print back at 37 dB, and either with weak noise at 1.5 dB less than it had."""
    clean = np.asarray(draw(np.random.default_rng(0)).convert("RGB"))
    denoiser = Denoiser.from_pretrained("photo", device="cpu")
    assert psnr(clean / 255, denoiser(clean) / 255) > 48
    for sigma, gain in ((4, -0.1), (40, 1.5)):
        noisy = np.rint(255 * add_noise(clean / np.float32(255), "camera", sigma=sigma).clip(0, 1)).astype(np.uint8)
        assert psnr(clean / 255, denoiser(noisy) / 255) > psnr(clean / 255, noisy / 255) + gain
