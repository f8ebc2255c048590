"""What holds no noise of a picture says nothing of its noise."""

import io

import numpy as np
import pytest
from PIL import Image

from denoiser import Denoiser, estimate_sigma
from denoiser.analysis.measured_parts import is_graphic
from denoiser.analysis.metrics import psnr
from denoiser.images.picture import read
from tests.conftest import PHOTO

TONES = [(230, 225, 210), (1, 1, 1), (0, 128, 255)]
PLACES = {
    "frame": lambda rows, columns: (np.minimum(rows, 287 - rows) < 24) | (np.minimum(columns, 287 - columns) < 24),
    "wide frame": lambda rows, columns: np.minimum(rows, 287 - rows) < 70,
    "caption": lambda rows, columns: rows > 260,
    "logo": lambda rows, columns: (abs(rows - 40) < 20) & (abs(columns - 90) < 60),
}


@pytest.fixture(scope="module")
def clean():
    with Image.open(PHOTO) as image:
        return np.asarray(image.convert("RGB"))[100:388, 100:388]


def noisy_of(clean, sigma):
    noise = sigma * np.random.default_rng(0).standard_normal(clean.shape)
    return np.rint(clean + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("tone", TONES)
@pytest.mark.parametrize("sigma", [3, 25])
def test_an_area_of_one_tone_hides_no_noise(clean, place, tone, sigma):
    """It is the quietest of the picture: the level was read as 0, and nothing was removed."""
    noisy = noisy_of(clean, sigma)
    alone = estimate_sigma(noisy[..., 0])
    noisy[PLACES[place](*np.mgrid[:288, :288])] = tone
    assert estimate_sigma(noisy) == pytest.approx(sigma, rel=0.1)
    assert estimate_sigma(noisy[..., 0]) == pytest.approx(alone, rel=0.25)


@pytest.mark.parametrize("name", ["color-base", "photo"])
@pytest.mark.parametrize("quality", [None, 90])
def test_a_framed_picture_is_denoised(clean, name, quality):
    noisy = noisy_of(clean, 25)
    frame = PLACES["frame"](*np.mgrid[:288, :288])
    noisy[frame] = (230, 225, 210)
    if quality:
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=quality)
        noisy = np.asarray(Image.open(file))
    before, after = (
        psnr(clean[~frame] / 255, one[~frame] / 255) for one in (noisy, Denoiser.from_pretrained(name)(noisy))
    )
    assert after > before + 2


@pytest.mark.parametrize("change", [lambda x: x, lambda x: x // 4, lambda x: x // 16 * 16, lambda x: x * 0 + 90])
@pytest.mark.parametrize("band", [2, 5, 20])
def test_a_clean_picture_with_a_smooth_sky_stays_whole(clean, change, band):
    """Without the sky only texture would be measured."""
    rows = np.arange(288, dtype=np.uint8)[:, None, None]
    picture = change(np.concatenate([clean, np.broadcast_to(100 + rows // band, clean.shape)], axis=1))
    assert estimate_sigma(picture) < 0.5


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
@pytest.mark.parametrize("name", ["color-base", "photo"])
def test_of_a_cutout_what_is_seen_is_measured(clean, share, name):
    """Its hidden part is replaced by streaks of the visible one, which were read as no noise."""
    rows, columns = np.ogrid[:288, :288]
    visible = (rows - 144) ** 2 + (columns - 144) ** 2 < share * 288**2 / np.pi
    noisy = np.dstack([noisy_of(clean, 25) * visible[..., None], 255 * visible]).astype(np.uint8)
    assert estimate_sigma(noisy) == pytest.approx(25, rel=0.1)
    result = Denoiser.from_pretrained(name)(noisy)
    before, after = (psnr(clean[visible] / 255, one[visible][:, :3] / 255) for one in (noisy, result))
    assert after > before + 4 and np.array_equal(result[~visible], noisy[~visible])


def test_a_strip_of_a_picture_at_its_edge_is_measured(clean):
    visible = np.zeros((288, 288, 1), np.uint8)
    visible[:, :24] = 255
    assert estimate_sigma(np.dstack([noisy_of(clean, 25), visible])) == pytest.approx(25, rel=0.1)


PATTERNS = {
    "hatching": lambda y, x: 128 + 90 * np.clip(3 * np.cos(2 * np.pi * (x + 0.37 * y) / 5), -1, 1),
    "moire": lambda y, x: 128 + 60 * np.cos(2 * np.pi * (x / 3.1 + y / 7.3)),
    "screen": lambda y, x: 128 + 100 * np.clip(4 * np.cos(np.pi * (x + y) / 4) * np.cos(np.pi * (x - y) / 4), -1, 1),
    "tiles": lambda y, x: np.random.default_rng(0).integers(90, 115, (16, 16))[y % 16, x % 16],
}


@pytest.mark.parametrize("kind", PATTERNS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_drawn_pattern_beside_a_flat_area_is_no_noise(kind, channels):
    """As in comics and games: nothing of it is quiet, but it is the same everywhere."""
    assert kind == "tiles" or estimate_sigma(PATTERNS[kind](*np.mgrid[:60, :80])[..., None].astype(np.uint8)) == 0
    picture = np.full((300, 300, channels), 200, np.uint8)
    picture[50:260, 50:260] = PATTERNS[kind](*np.mgrid[:210, :210])[..., None].astype(np.uint8)
    assert estimate_sigma(picture) == 0


def weave(y, x):
    return 40 + 30 * ((x + y) // 4 % 2) + 8 * np.sin(2 * np.pi * x / 4)


def display(y, x):
    """The dots of a display, each of one color, as a camera sees them."""
    return np.stack([90 + 80 * np.cos(2 * np.pi * (x + shift) / 5.2) * (y % 5 > 0) for shift in range(3)], axis=2)


def printed(y, x):
    """A screen of dots that grow with the darkness of what is printed, scanned at another size."""
    tone = 0.5 + 0.3 * np.sin(2 * np.pi * x / 300) * np.sin(2 * np.pi * y / 170)
    dots = (np.cos(np.pi * (x + y) / 4) * np.cos(np.pi * (x - y) / 4) + 1) / 2 < tone
    return np.asarray(Image.fromarray(dots).convert("L").resize((216, 216), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("name", ["color-base", "gray-base", "photo"])
def test_a_pattern_that_is_repeated_is_no_noise(name, clean):
    """It was read as noise of 6 to 47 levels, and taken away; noise upon a photographed fabric is noise."""
    denoiser = Denoiser.from_pretrained(name)
    for draw in (weave, display, printed):
        picture = draw(*np.mgrid[:288, :288]).astype(np.uint8)
        assert estimate_sigma(picture) == 0 and np.array_equal(denoiser(picture), picture)
    stripes = 20 * np.sin(2 * np.pi * np.mgrid[:288, :288].sum(0) / 6)[..., None]
    for noisy in (noisy_of(0.7 * clean + 40 + stripes, 10), noisy_of(120 + 3 * stripes + 0 * clean, 10)):
        assert estimate_sigma(noisy) == pytest.approx(10, rel=0.15)


@pytest.mark.parametrize("colors", [3, 6, 16, 60])
@pytest.mark.parametrize("ground", [0, 90, 255])
def test_drawings_of_few_colors_are_no_noise_and_counts_of_few_values_are(colors, ground):
    draw = np.random.default_rng(0)
    palette = draw.integers(0, 256, (colors, 3), np.uint8)
    sheet = palette[draw.integers(0, colors, (160, 160))]
    sheet[draw.random((160, 160)) < 0.3] = (ground, 0, ground)
    assert is_graphic(read(sheet).pixels) and estimate_sigma(sheet) == 0
    for mean in (0.2, 1, 3):
        counts = np.rint(draw.poisson(mean, (160, 160, 3)) * 255 / 40).astype(np.uint8)
        assert not is_graphic(read(counts).pixels)


@pytest.mark.parametrize("colors", [8, 16, 32])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_areas_of_a_palette_are_no_frames(clean, colors, mode):
    image = Image.fromarray(clean).convert(mode).quantize(colors, dither=Image.Dither.NONE).convert(mode)
    assert estimate_sigma(image) < 1.5


def test_what_means_no_data_is_not_measured(clean):
    for scale in (1, 0.05):
        noisy = clean.astype(np.float32) / 255 + np.float32(0.06) * np.random.default_rng(0).standard_normal(
            clean.shape
        )
        noisy = np.float32(scale) * noisy.astype(np.float32)
        noisy[60:120, 60:120] = 1e6
        noisy[200:220, 60:120, 1] = -9999
        assert estimate_sigma(noisy) == pytest.approx(scale * 0.06 * 255, rel=0.1)
