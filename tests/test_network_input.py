"""What a network never sees stays exactly as it is, and spoils nothing around it."""

import numpy as np
import pytest

from denoiser import Denoiser
from denoiser.analysis.metrics import psnr

ROWS, COLUMNS = np.mgrid[:160, :160]
FEW = {
    "hot pixel": (ROWS == 40) & (COLUMNS == 70),
    "star": (ROWS - 60) ** 2 + (COLUMNS - 90) ** 2 < 10,
    "scale bar": (abs(ROWS - 140) < 2) & (abs(COLUMNS - 40) < 20),
}


@pytest.mark.parametrize("name", ["color-base", "gray-base", "photo"])
@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize(("brightness", "dtype"), [(0.01, np.uint16), (0.05, np.float32)])
def test_a_few_bright_values_leave_a_dim_picture_dim(name, kind, brightness, dtype):
    """Its brightness was taken from its highest value, and nothing of its noise was found."""
    white = 65535 if dtype == np.uint16 else 1
    clean = brightness * (1 + 0.3 * np.sin(COLUMNS / 9))
    noise = 0.1 * brightness * np.random.default_rng(0).standard_normal(clean.shape)
    noisy = (white * (clean + noise)).clip(0).astype(dtype)
    noisy[FEW[kind]] = white
    result = Denoiser.from_pretrained(name)(noisy)
    others = ~FEW[kind]
    assert np.array_equal(result[~others], noisy[~others])
    before, after = (psnr(clean[others], one[others] / white) for one in (noisy, result))
    assert after > before + 10


@pytest.mark.parametrize("value", [-9999, -3.4e38, 9999, 1000.123, 20])
@pytest.mark.parametrize("sigma", [None, 10])
@pytest.mark.parametrize("name", ["color-base", "photo"])
def test_values_that_mean_no_data_stay(photo, value, sigma, name):
    """They came back as -9999.11 and the like, and a column of them hid the noise of the rest."""
    clean = photo[:160, :160].astype(np.float32) / 255
    noisy = clean + np.float32(10 / 255) * np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    missing = (COLUMNS < 8) | ((ROWS > 60) & (ROWS < 80) & (COLUMNS > 100)) | ((ROWS % 40 == 3) & (COLUMNS % 50 == 20))
    noisy[missing] = value
    result = Denoiser.from_pretrained(name)(noisy, sigma)
    assert (result[missing] == np.float32(value)).all()
    before, after = (psnr(clean[~missing], one[~missing]) for one in (noisy, result))
    assert after > before + 4


@pytest.mark.parametrize("sigma", [None, 20])
@pytest.mark.parametrize("name", ["color-base", "photo"])
def test_a_picture_of_which_nothing_is_seen_stays(photo, sigma, name):
    picture = np.dstack([photo[:64, :64], np.zeros((64, 64), np.uint8)])
    assert np.array_equal(Denoiser.from_pretrained(name)(picture, sigma), picture)
