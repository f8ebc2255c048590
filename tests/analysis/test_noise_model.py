import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from denoiser import Denoiser, PoissonGaussian, add_noise, estimate_sigma
from denoiser.analysis.metrics import psnr
from denoiser.analysis.noise_model import Stabilizer
from denoiser.analysis.signal_dependence import estimate_noise
from denoiser.images.picture import read


def as_file(pixels):
    return np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)


models = st.builds(PoissonGaussian, st.floats(0.3, 26), st.floats(0, 30), st.floats(0, 0.3))


@given(models)
@settings(deadline=None, max_examples=20)
def test_the_transform_keeps_black_and_white_and_rises(model):
    stabilizer = Stabilizer(model)
    values = np.linspace(0, 1, 300, dtype=np.float32)
    transformed = stabilizer.apply(values)
    assert transformed.dtype == np.float32 and transformed[0] == 0 and transformed[-1] == pytest.approx(1, abs=1e-6)
    assert (np.diff(transformed) > 0).all() and 0 < stabilizer.sigma < 1


@pytest.mark.parametrize("model", [PoissonGaussian(8.5, 0), PoissonGaussian(3, 6), PoissonGaussian(0, 2, 0.1)])
def test_the_transformed_noise_has_one_level(model):
    stabilizer, random = Stabilizer(model, -1, 2), np.random.default_rng(0)
    for value in (0.3, 0.5, 0.9):
        electrons = model.gain / 255 * random.poisson(value * 255 / model.gain, 40_000) if model.gain else value
        noisy = electrons + random.standard_normal(40_000) * np.hypot(model.read / 255, model.relative * value)
        assert stabilizer.apply(noisy).std() == pytest.approx(stabilizer.sigma, rel=0.06)


@given(models, st.floats(0.01, 0.97), st.booleans())
@settings(deadline=None, max_examples=30)
def test_the_mean_of_transformed_noise_is_brought_back_to_the_true_value(model, value, clipped):
    """Also where counts are few and where a file cuts the noise off."""
    random = np.random.default_rng(0)
    counts = random.poisson(value * 255 / model.gain, 100_000)
    noisy = model.gain / 255 * counts + random.standard_normal(100_000) * np.hypot(
        model.read / 255, model.relative * value
    )
    noisy = noisy.clip(0, 1) if clipped else noisy
    stabilizer = Stabilizer(model, float(noisy.min()), float(noisy.max()))
    restored = stabilizer.invert(np.array([stabilizer.apply(noisy).mean()]))[0]
    tolerance = 0.01 + 0.06 * float(model.deviation(np.array(value)))
    assert abs(restored - value) < tolerance


@given(models, st.floats(0, 0.97), st.floats(0.001, 0.9))
@settings(deadline=None, max_examples=20)
def test_what_a_file_holds_of_a_value_has_the_mean_variance_and_shares_that_are_computed(model, value, end):
    random = np.random.default_rng(0)
    noisy = model.gain / 255 * random.poisson(value * 255 / model.gain, 100_000)
    noisy = noisy + random.standard_normal(100_000) * np.hypot(model.read / 255, model.relative * value)
    held, values = noisy.clip(0, 1), np.array([value])
    mean, variance = (float(one[0]) for one in model.moments(values))
    deviation = float(model.deviation(values)[0]) + 1e-3
    assert held.mean() == pytest.approx(mean, abs=0.03 * deviation)
    assert held.var() == pytest.approx(variance, abs=0.05 * deviation**2)
    if model.read > 2:  # else a count may lie at the very end
        assert (noisy < end).mean() == pytest.approx(float(model.share_below(values, end)[0]), abs=0.04)


@pytest.mark.parametrize("model", [PoissonGaussian(8, 0), PoissonGaussian(0, 2), PoissonGaussian(0, 0, 0.01)])
def test_a_numpy_that_raises_on_underflow_is_no_obstacle(model):
    values = np.linspace(0, 1, 40)
    with np.errstate(all="raise"):
        assert model.moments(values)[0] == pytest.approx(values, abs=0.1)
        assert model.share_below(values, 0.5)[[0, -1]] == pytest.approx([1, 0], abs=0.01)


@pytest.mark.parametrize(("gain", "read", "relative"), [(-1, 0, 0), (0, 300, 0), (0, 0, 1.5), (float("nan"), 0, 0)])
def test_models_out_of_range_are_refused(gain, read, relative):
    with pytest.raises(ValueError, match="must be from 0 to"):
        PoissonGaussian(gain, read, relative)


@pytest.mark.parametrize(("channels", "peak"), [(1, 10), (1, 30), (1, 60), (3, 10), (3, 30), (3, 60), (3, 255)])
def test_photon_noise_is_found_and_its_gain(photo, channels, peak):
    noisy = as_file(add_noise(photo[..., :channels] / 255, "poisson", peak=peak))
    found = estimate_noise(read(noisy))
    assert isinstance(found, PoissonGaussian)
    middle = found.deviation(np.array([0.25, 0.5]))
    assert middle == pytest.approx((np.array([0.25, 0.5]) / peak) ** 0.5, rel=0.2 if channels == 3 else 0.45)


@pytest.mark.parametrize("brightness", [0.25, 1])
@pytest.mark.parametrize(("gain", "read_noise"), [(3, 6), (8, 12)])
def test_noise_of_a_sensor_that_is_not_cut_off_is_found(photo, brightness, gain, read_noise):
    noisy = add_noise(brightness * photo / 255, "sensor", gain=gain, read=read_noise)
    found, tones = estimate_noise(read(noisy)), brightness * np.array([0.3, 0.6])
    assert isinstance(found, PoissonGaussian)
    assert found.deviation(tones) == pytest.approx(PoissonGaussian(gain, read_noise).deviation(tones), rel=0.1)


def test_photon_noise_is_found_in_gray_where_some_tones_are_texture():
    random = np.random.default_rng(0)
    clean = np.linspace(0.05, 0.9, 256)[:, None, None] * np.ones((1, 256, 1))
    textured = (clean > 0.1) & (clean < 0.45)
    clean = (clean + textured * 0.3 * gaussian_filter(random.standard_normal(clean.shape), (0.8, 0.8, 0))).clip(0, 1)
    found = estimate_noise(read(as_file(add_noise(clean.astype(np.float32), "poisson", peak=255))))
    assert isinstance(found, PoissonGaussian) and found.gain == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("scale", [0.5, 1])
def test_speckle_is_found(photo, scale):
    found = estimate_noise(read(as_file(scale * add_noise(photo / 255, "speckle", sigma=0.2))))
    assert isinstance(found, PoissonGaussian) and found.relative == pytest.approx(0.2, rel=0.2)


@pytest.mark.parametrize("sigma", [2, 5, 15, 25, 50])
@pytest.mark.parametrize("clip", [False, True])
def test_noise_of_one_level_stays_one_level(photo, sigma, clip):
    noisy = add_noise(photo / 255, "gaussian", sigma=sigma)
    picture = read(as_file(noisy) if clip else noisy)
    assert estimate_noise(picture) == estimate_sigma(picture)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [3, 6])
def test_texture_that_grows_with_the_brightness_is_not_taken_for_photons(photo, channels, sigma):
    """Foliage against a dark ground: the blocks of bright areas have more energy, but hardly from noise."""
    random = np.random.default_rng(0)
    tone = np.repeat(np.linspace(0.1, 0.8, 8, dtype=np.float32), 32)[:, None]
    texture = random.random((256, 256)) < 0.5 * (random.random((32, 32)) < 0.8).repeat(8, 0).repeat(8, 1)
    scene = (tone + 0.1 * tone * texture.astype(np.float32))[..., None].repeat(channels, 2)
    picture = read(as_file(add_noise(scene, "gaussian", sigma=sigma)))
    assert estimate_noise(picture) == estimate_sigma(picture) < 1.3 * sigma


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (16, 16), (40, 30), (3, 900), (5, 900)])
def test_small_pictures_have_one_level(size):
    assert isinstance(estimate_noise(read(np.random.default_rng(0).random((*size, 3), np.float32))), float)


@pytest.fixture(scope="module", params=["color-small", "gray-base", "photo"])
def denoiser(request) -> Denoiser:
    return Denoiser.from_pretrained(request.param, device="cpu")


@pytest.mark.parametrize("photons", [8, 25, 80, 200])
@pytest.mark.parametrize("level", [0.015, 0.03, 0.06])
def test_a_dark_background_of_counts_keeps_its_mean(denoiser, photons, level):
    rows, columns = np.mgrid[:224, :224]
    scene = level + 0.6 * np.exp(-((rows - 90) ** 2 + (columns - 120) ** 2) / 900)
    counts = np.random.default_rng(5).poisson(scene * photons) / photons
    noisy = np.rint(counts.clip(0, 1) * 65535).astype(np.uint16)
    denoised, dark = denoiser(noisy).astype(float), scene < level + 0.001
    assert denoised.mean() == pytest.approx(noisy.mean(), rel=0.015)
    assert denoised[dark].mean() == pytest.approx(noisy[dark].mean(), rel=0.05)


FEW = [(60, 0.01), (20, 0.05), (40, 0.02), (255, 0.01), (20, 0.01), (8, 0.03)]


@pytest.mark.parametrize(
    ("photons", "level", "dtype"), [(*few, np.uint16) for few in FEW] + [(*few, np.float32) for few in FEW[:2]]
)
def test_a_frame_of_nothing_but_few_counts_keeps_its_mean(denoiser, photons, level, dtype):
    counts = (np.random.default_rng(3).poisson(np.full((192, 192), level * photons)) / photons).clip(0, 1)
    noisy = np.rint(counts * 65535).astype(dtype) if dtype == np.uint16 else counts.astype(dtype)
    assert denoiser(noisy).mean(dtype=float) == pytest.approx(noisy.mean(dtype=float), rel=0.01)


def test_noise_below_black_that_is_not_cut_off_keeps_its_mean(denoiser):
    noise = np.random.default_rng(1).standard_normal((192, 192, denoiser.model.config.channels))
    assert denoiser((0.02 + 10 / 255 * noise).astype(np.float32)).mean() == pytest.approx(0.02, rel=0.03)


@pytest.mark.parametrize("seed", [0, 7, 12])
def test_gaussian_noise_on_gray_squares_is_no_photons(seed):
    """The edges in them make the noise look as if it grew with the brightness."""
    random = np.random.default_rng(seed)
    squares = random.integers(90, 160, 8)[random.integers(0, 8, (80, 60))].repeat(4, 0).repeat(4, 1)
    noisy = squares + 10 * random.standard_normal(squares.shape)
    assert estimate_noise(read(np.rint(noisy).clip(0, 255).astype(np.uint8))) == pytest.approx(10, rel=0.15)


@pytest.mark.parametrize("photons", [10, 30, 100])
def test_counts_on_a_dark_ground_are_not_taken_for_read_noise(photons):
    """Zeros are counts there: with read noise they would be values cut off, and the ground would lose its mean."""
    rows, columns = np.mgrid[:256, :256]
    scene = 0.02 + 0.5 * np.exp(-((rows - 128) ** 2 + (columns - 128) ** 2) / 800)
    for seed in range(4):
        counts = np.random.default_rng(seed).poisson(scene * photons) / photons
        found = estimate_noise(read(np.rint(counts.clip(0, 1) * 65535).astype(np.uint16)))
        assert isinstance(found, PoissonGaussian) and found.gain == pytest.approx(255 / photons, rel=0.15)
        assert found.read < 255 / photons / 2


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("gain", "read"), [(8, 2), (8, 5), (4, 3)])
@pytest.mark.parametrize("mean", [0.03, 0.06])
def test_a_dark_picture_keeps_its_mean_though_read_noise_is_cut_off_at_black(photo, mean, gain, read, deep):
    """The file's own mean is up to an eighth too high."""
    clean, random = photo * (mean / photo.mean()), np.random.default_rng(2)
    noisy = random.poisson(clean * 255 / gain) * gain / 255 + random.standard_normal(clean.shape) * read / 255
    noisy = np.rint(noisy.clip(0, 1) * 65535).astype(np.uint16) if deep else as_file(noisy)
    denoised = (
        Denoiser.from_pretrained("color-small", device="cpu")(noisy).mean(dtype=float) / np.iinfo(noisy.dtype).max
    )
    assert denoised == pytest.approx(clean.mean(), rel=0.02)


@pytest.mark.parametrize(
    ("kind", "parameters", "model"),
    [
        ("poisson", {"peak": 30}, PoissonGaussian(8.5, 0)),
        ("sensor", {"gain": 3, "read": 6}, PoissonGaussian(3, 6)),
        ("speckle", {"sigma": 0.25}, PoissonGaussian(0, 0, 0.25)),
    ],
)
def test_a_model_is_better_than_one_level_known_or_estimated(photo, kind, parameters, model):
    clean = photo / np.float32(255)
    degraded = add_noise(clean, kind, **parameters)
    denoiser, noisy = Denoiser.from_pretrained("color-small", device="cpu"), as_file(degraded)
    level = 255 * float(np.sqrt(np.mean((degraded - clean) ** 2)))
    one, known, estimated = (psnr(clean, denoiser(noisy, sigma) / 255) for sigma in (level, model, None))
    assert known > one + 0.3 and estimated > one + 0.3
    assert abs(denoiser(noisy).mean() / 255 - clean.mean()) < 0.01 * clean.mean()


def test_a_model_without_signal_dependence_is_one_level(photo):
    denoiser = Denoiser.from_pretrained("color-small", device="cpu")
    assert np.array_equal(denoiser(photo[:64], PoissonGaussian(0, 20)), denoiser(photo[:64], 20))


@pytest.mark.parametrize("model", [PoissonGaussian(25.5, 0), PoissonGaussian(3, 6), PoissonGaussian(0, 0, 0.5)])
def test_what_a_denoiser_loses_of_the_light_is_given_back(model):
    """With 10 photons at white 8 of 100 values are cut off, and single results were darker by 1.3 %."""
    random, clean = np.random.default_rng(0), np.zeros((161, 150, 3), np.float32)
    clean[:100] = np.linspace(0.2, 0.9, 150, dtype=np.float32)[:, None]
    counted = random.poisson(clean / (model.gain / 255)) * (model.gain / 255) if model.gain else clean
    spread = np.hypot(model.read / 255 * (clean > 0), model.relative * clean)
    noisy = np.float32(counted + spread * random.standard_normal(clean.shape)).clip(0, 1)
    transform = Stabilizer(model)
    for loss in (0.97, 1.0, 1.03):
        kept = transform.keep_flux(np.float32(loss) * clean, noisy)
        assert kept.mean() == pytest.approx(clean.mean(), rel=0.006) and not kept[clean == 0].any()
