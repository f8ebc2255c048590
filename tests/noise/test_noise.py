import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from denoiser import NOISES, ImageUnreadable, add_noise
from denoiser.noise import TorchRandom, mosaic
from denoiser.noise.mosaic import demosaic

KINDS = sorted(NOISES)
DRAWN = [kind for kind in KINDS if kind != "jpeg"]
GRAY = np.full((256, 256, 3), 0.5, np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_noise_in_numpy_and_torch(kind, photo):
    picture = photo[:40, :56].astype(np.float32) / 255
    first = add_noise(picture, kind, seed=7)
    assert np.array_equal(first, add_noise(picture, kind, seed=7))
    planes = torch.from_numpy(picture).permute(2, 0, 1)
    assert np.array_equal(first, add_noise(planes, kind, seed=7).permute(1, 2, 0).numpy())
    batch = add_noise(torch.stack([planes, planes]), kind, seed=6)
    assert torch.equal(batch[1], add_noise(planes, kind, seed=7))
    if kind in DRAWN:
        assert not np.array_equal(first, add_noise(picture, kind, seed=8))


@pytest.mark.parametrize("kind", KINDS)
def test_what_torch_is_told_for_all_changes_no_noise(kind, photo):
    picture, parameters = photo[:40, :56].astype(np.float32) / 255, {"scale": 1.5} if kind == "raw" else {}
    first = add_noise(picture, kind, seed=7, **parameters)
    mosaic._filters.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            assert np.array_equal(first, add_noise(picture, kind, seed=7, **parameters))
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (5, 3), (3, 5, 1), (16, 9, 3)])
def test_every_shape_comes_back_in_its_shape(kind, shape):
    picture = np.random.default_rng(0).random(shape, dtype=np.float32)
    noisy = add_noise(picture, kind)
    assert noisy.shape == shape and noisy.dtype == np.float32 and np.isfinite(noisy).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_of_every_range_work_and_beyond_them_is_refused(kind):
    for parameter in NOISES[kind].parameters:
        assert parameter.low <= parameter.default <= parameter.high
        for value in (parameter.low, parameter.high):
            assert np.isfinite(add_noise(GRAY[:16, :16], kind, **{parameter.name: value})).all()
        for value in (parameter.low - 1, parameter.high * 1.01 + 1, float("nan")):
            with pytest.raises(ValueError, match=f"{parameter.name} must be from"):
                add_noise(GRAY[:16, :16], kind, **{parameter.name: value})


@pytest.mark.parametrize("kind", KINDS)
def test_training_draws_the_same_kind_of_noise_on_tensors(kind, photo):
    """The torch path of training, with its own generator, has the mean and deviation of the numpy path."""
    picture = photo.astype(np.float32) / 255
    noise = NOISES[kind]
    values = {parameter.name: parameter.default for parameter in noise.parameters}
    x = torch.from_numpy(picture).permute(2, 0, 1)[None]
    torch_error = noise.apply(x, TorchRandom(torch.Generator().manual_seed(0)), **values) - x
    numpy_error = add_noise(picture, kind) - picture
    assert float(torch_error.std()) == pytest.approx(numpy_error.std(), rel=0.05)
    assert float(torch_error.mean()) == pytest.approx(numpy_error.mean(), abs=2e-3)


@given(arrays(np.float32, (6, 7, 3), elements=st.floats(0, 1, width=32)), st.integers(0, 2**31), st.floats(0, 100))
@settings(max_examples=25, deadline=None)
def test_gaussian_noise_is_the_protocols(picture, seed, sigma):
    drawn = np.random.default_rng(seed).standard_normal(picture.shape, dtype=np.float32)
    assert np.allclose(add_noise(picture, "gaussian", seed, sigma=sigma), picture + drawn * (sigma / 255), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "parameters", "deviation"),
    [
        ("gaussian", {"sigma": 25}, 25 / 255),
        ("poisson", {"peak": 40}, (0.5 / 40) ** 0.5),
        ("sensor", {"gain": 2, "read": 5}, (2 * 127.5 + 25) ** 0.5 / 255),
        ("speckle", {"sigma": 0.2}, 0.1),
        ("salt_and_pepper", {"amount": 10}, (0.1 * 0.25) ** 0.5),
        ("uniform", {"width": 30}, 30 / 255 / 3**0.5),
        ("correlated", {"sigma": 25, "grain": 2}, 25 / 255),
        ("correlated", {"sigma": 25, "grain": 0}, 25 / 255),
    ],
)
def test_each_noise_has_the_deviation_of_its_formula(kind, parameters, deviation):
    errors = [add_noise(GRAY, kind, seed, **parameters) - GRAY for seed in range(4)]
    assert np.std(errors) == pytest.approx(deviation, rel=0.04)
    assert np.mean(errors) == pytest.approx(0, abs=0.005)


def test_shot_noise_grows_with_brightness():
    ramp = np.repeat(np.linspace(0, 1, 5, dtype=np.float32), 20_000).reshape(1, -1)
    variances = ((add_noise(ramp, "poisson", peak=100) - ramp) ** 2).reshape(5, -1).mean(1)
    assert np.allclose(variances, np.linspace(0, 1, 5) / 100, atol=4e-4) and variances[0] == 0


def test_correlated_noise_agrees_between_neighbors_and_white_noise_does_not():
    def correlation(grain):
        noise = add_noise(GRAY, "correlated", sigma=25, grain=grain) - GRAY
        return np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]

    assert abs(correlation(0)) < 0.02
    assert correlation(1.5) > 0.8


def camera_noise(level, **parameters):
    """The noise on a flat gray, as brightness (H, W) and color (H, W, 3)."""
    values = {"sigma": 8, "chroma": 1, "grain": 2, "quality": 100} | parameters
    noise = np.mean([add_noise(GRAY * 2 * level, "camera", 0, **values)], axis=0) - level
    luma = noise.mean(-1, keepdims=True)
    return luma[..., 0], noise - luma


def correlation(noise, distance):
    return (noise[:, distance:] * noise[:, :-distance]).mean() / (noise**2).mean()


def test_camera_noise_has_coarse_color_grain_and_depends_on_brightness():
    luma, chroma = camera_noise(0.5)
    assert luma.std() * 255 == pytest.approx(8, rel=0.1)
    assert 0.45 < correlation(luma, 1) < 0.65 and abs(correlation(luma, 4)) < 0.1
    assert correlation(chroma[..., 0], 1) > 0.8 and 0.25 < correlation(chroma[..., 0], 4) < 0.55
    assert camera_noise(0.5, chroma=0)[1].std() * 255 < 1
    assert camera_noise(0.95)[0].std() < luma.std()  # the curve flattens there
    gray = add_noise(GRAY[..., 0], "camera", 0, sigma=8, quality=100) - 0.5
    assert gray.std() * 255 == pytest.approx(8, rel=0.1)


def test_white_balance_makes_red_and_blue_noisier_than_green():
    channels = np.mean([camera_channels(seed) for seed in range(6)], axis=0)
    assert channels[0] > 1.1 * channels[1] and channels[2] > 1.1 * channels[1]


def camera_channels(seed):
    noisy = add_noise(GRAY, "camera", seed, sigma=8, grain=0, quality=100)
    return noisy.std((0, 1))


@pytest.mark.parametrize("kind", ["camera", "raw"])
def test_a_camera_without_noise_leaves_the_picture(photo, kind):
    picture = photo.astype(np.float32) / 255
    left = add_noise(picture, kind, sigma=0, quality=100)
    assert np.abs(left - picture).mean() * 255 < 3  # the JPEG's halved color


def raw_noise(level=0.5, side=128, channels=3, seeds=4, **parameters):
    """The noise on a flat gray, (seeds, H, W, C)."""
    values = {"sigma": 8, "chroma": 1, "smoothing": 0, "sharpening": 0, "quality": 100} | parameters
    flat = np.full((side, side, channels), level, np.float32)
    return np.stack([add_noise(flat, "raw", seed, **values) - level for seed in range(seeds)])


def brightness_correlation(noise, distance=1):
    luma = noise.mean(-1)
    return (luma[:, :, distance:] * luma[:, :, :-distance]).mean() / (luma**2).mean()


@pytest.mark.parametrize("chance", [(0, 0, 0), (0, 0.9, 0), (0.9, 0, 0.9), (0.9, 0.9, 0.9)])
def test_demosaicing_keeps_gray_and_linear_gray_ramps(chance):
    """Both algorithms, wherever the red photosites lie."""
    ramp = torch.arange(14.0)[:, None] * 3 + torch.arange(12.0)
    full = demosaic(ramp[None, None], torch.tensor(chance).view(1, 3, 1, 1))
    assert torch.allclose(full, ramp[2:-2, 2:-2].expand(1, 3, 10, 8), atol=1e-4)


def test_demosaicing_leaves_what_the_mosaic_holds():
    mosaic = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    full = demosaic(mosaic, torch.tensor([0.9, 0.9, 0.9]).view(1, 3, 1, 1))  # red in the even rows and columns
    known = mosaic[0, 0, 2:-2, 2:-2]
    assert torch.equal(full[0, 0, ::2, ::2], known[::2, ::2]) and torch.equal(full[0, 2, 1::2, 1::2], known[1::2, 1::2])
    assert torch.equal(full[0, 1, ::2, 1::2], known[::2, 1::2]) and torch.equal(full[0, 1, 1::2, ::2], known[1::2, ::2])


def test_a_large_mosaic_is_demosaiced_without_seams(monkeypatch):
    picture = np.random.default_rng(0).random((37, 20, 3), dtype=np.float32)
    whole = add_noise(picture, "raw", seed=3, scale=1.5)
    monkeypatch.setattr("denoiser.noise.mosaic.STRIP", 8)
    assert np.allclose(add_noise(picture, "raw", seed=3, scale=1.5), whole, atol=1.01 / 255)
    assert np.mean(add_noise(picture, "raw", seed=3, scale=1.5) != whole) < 0.01


def test_raw_noise_keeps_the_mean_and_grows_with_its_level_and_towards_the_dark():
    weak, strong, dark = (raw_noise(**given) for given in ({"sigma": 4}, {"sigma": 8}, {"level": 0.2}))
    assert abs(strong.mean()) * 255 < 0.3
    assert strong.std() == pytest.approx(2 * weak.std(), rel=0.05)
    assert 0.4 < strong.std() * 255 / 8 < 1  # demosaicing averages neighbors
    assert dark.std() > strong.std()


def test_raw_noise_has_the_spread_of_cameras():
    plain = raw_noise()
    assert 0.2 < brightness_correlation(plain) < 0.6
    enlarged, reduced = raw_noise(scale=0.6), raw_noise(scale=2)
    assert brightness_correlation(enlarged) > brightness_correlation(plain) + 0.15
    assert brightness_correlation(reduced) < 0.2 and reduced.std() < 0.7 * plain.std()
    blotches = raw_noise(smoothing=0.9, grain=3)
    assert blotches.std() < 0.5 * plain.std()
    assert brightness_correlation(blotches, 2) > brightness_correlation(plain, 2) + 0.1
    sharpened = raw_noise(sharpening=1.5)
    assert sharpened.std() > 1.2 * plain.std() and brightness_correlation(sharpened) < brightness_correlation(plain)
    without_color = raw_noise(chroma=0)
    assert (without_color - without_color.mean(-1, keepdims=True)).std() < 0.5 * plain.std()


def test_each_picture_of_a_batch_has_raw_noise_of_its_own_parameters():
    batch = torch.full((4, 3, 64, 64), 0.5)
    given = {"sigma": [0.0, 4, 16, 16], "chroma": [1.0] * 4, "smoothing": [0.0] * 4, "grain": [2.0] * 4}
    given |= {"sharpening": [0.0] * 4, "scale": [1.0, 1, 1, 2], "quality": [100.0] * 4}
    values = {name: torch.tensor(value).view(4, 1, 1, 1) for name, value in given.items()}
    noisy = NOISES["raw"].apply(batch, TorchRandom(torch.Generator().manual_seed(0)), **values)
    deviation = (noisy - 0.5).std((1, 2, 3)) * 255
    assert deviation[0] < 0.6 and deviation[2] > 3 * deviation[1] and deviation[3] < 0.8 * deviation[2]
    alone = raw_noise(sigma=16, grain=2, seeds=8).std() * 255  # by the numpy path
    assert float(deviation[2]) == pytest.approx(alone, rel=0.25)


def test_raw_noise_of_a_gray_picture_is_that_of_brightness():
    gray, color = (raw_noise(channels=channels, side=64, seeds=16) for channels in (1, 3))
    assert gray.shape == (16, 64, 64, 1)
    assert gray.std() == pytest.approx(color.mean(-1).std(), rel=0.15)


def test_salt_and_pepper_hits_whole_pixels():
    noisy = add_noise(GRAY, "salt_and_pepper", amount=20)
    hit = noisy != 0.5
    assert np.array_equal(hit.all(-1), hit.any(-1)) and set(np.unique(noisy)) == {0, 0.5, 1}


def test_lower_jpeg_quality_is_worse(photo):
    picture = photo.astype(np.float32) / 255
    errors = [np.mean((add_noise(picture, "jpeg", quality=q) - picture) ** 2) for q in (5, 30, 95)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (18, 5), (33, 47), (64, 96)])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_on_tensors_is_what_a_jpeg_file_holds(photo, size, channels):
    """To the bit, but for a rare green that libjpeg rounds otherwise."""
    picture = photo[: size[0], : size[1], :channels].astype(np.float32) / 255
    qualities = [1, 10, 49, 50, 75, 95]
    batch = torch.from_numpy(picture).permute(2, 0, 1).expand(len(qualities), -1, -1, -1)
    drawn = NOISES["jpeg"].apply(batch, None, torch.tensor(qualities, dtype=torch.float32).view(-1, 1, 1, 1))
    for quality, one in zip(qualities, drawn):
        stored = add_noise(picture, "jpeg", quality=quality)
        away = np.abs(one.permute(1, 2, 0).numpy() - stored) * 255
        assert away.max() < 1.01 and (away > 0.01).mean() < 0.002, quality
        assert np.allclose(one * 255, (one * 255).round(), atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "snow"}, "unknown noise 'snow'"),
        ({"kind": "gaussian", "gain": 3}, "no parameter gain; it has sigma"),
        ({"image": np.zeros((8, 8, 3), np.uint8)}, "floating point in \\[0, 1\\], not uint8"),
        ({"image": torch.zeros(3, 8, 8, dtype=torch.uint8)}, "floating point"),
        ({"image": np.zeros((8, 8, 4), np.float32)}, "take alpha off first"),
        ({"image": np.zeros((8,), np.float32)}, "neither"),
        ({"image": np.zeros((0, 5, 3), np.float32), "kind": "correlated"}, "no pixels"),
        ({"image": torch.zeros(0, 3, 8, 8)}, "no pixels"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        add_noise(**{"image": GRAY} | arguments)


def test_the_registry_says_everything_a_page_needs():
    for kind, noise in NOISES.items():
        assert noise.name == kind and noise.label and "Source" in noise.apply.__doc__
        assert all(parameter.unit and parameter.step > 0 for parameter in noise.parameters)
        assert len(noise.summary) < 120


@pytest.mark.parametrize("noise", NOISES)
def test_a_long_picture_gets_its_noise_or_a_sentence(noise):
    strip = np.full((1, 70_000, 1), 0.5, np.float32)
    try:
        assert add_noise(strip, noise).shape == strip.shape
    except ValueError as error:
        assert noise in ("jpeg", "camera", "raw") and "65500" in str(error)


@pytest.mark.parametrize(("image", "error"), [("a.png", TypeError), (np.full((9, 9), 200.0), ImageUnreadable)])
def test_what_is_no_clean_picture_is_refused(image, error):
    with pytest.raises(error, match=r"array or a torch tensor|white at 1"):
        add_noise(image)
    with pytest.raises(ImageUnreadable, match="finite"):
        add_noise(torch.full((9, 9), torch.nan))
