import copy
import importlib
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from denoiser import (
    DEFAULT_CHECKPOINT,
    CheckpointNotFound,
    Denoiser,
    ImageUnreadable,
    PoissonGaussian,
    add_noise,
    bundled_checkpoints,
    estimate_sigma,
    pipeline,
    read_frames,
    save_image,
)
from denoiser.analysis.metrics import psnr
from denoiser.images.frame import Frame
from denoiser.images.picture import read
from denoiser.inference import Inference
from denoiser.models import ARCHITECTURES, Unet, UnetConfig
from denoiser.pipeline import MARGIN


@pytest.fixture(scope="module")
def default() -> Denoiser:
    return Denoiser.from_pretrained()


@pytest.fixture(scope="module")
def tiny(tiny_model) -> Denoiser:
    return Denoiser(tiny_model, dtype="float32")


def noisy_bytes(photo, sigma=25):
    return np.rint(add_noise(photo / 255, "gaussian", sigma=sigma).clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("name", bundled_checkpoints())
def test_every_bundled_checkpoint_loads_and_has_a_card(name):
    denoiser = Denoiser.from_pretrained(name)
    assert type(denoiser.model) in ARCHITECTURES.values()
    assert denoiser.model.config.channels in (1, 3) and denoiser.sigma_range[1] >= 50


@pytest.mark.parametrize(("sigma", "gain"), [(15, 4), (25, 6), (50, 8)])
def test_the_default_checkpoint_denoises_a_photograph(default, photo, sigma, gain):
    clean = photo.astype(np.float32) / 255
    noisy = add_noise(clean, "gaussian", sigma=sigma)
    assert psnr(clean, default(noisy, sigma)) > psnr(clean, noisy) + gain - 1


@pytest.mark.parametrize("sigma", [25, None], ids=["given", "estimated"])
@pytest.mark.parametrize("value", [0, 20, 128, 255])
def test_clipped_noise_shifts_no_tone(default, value, sigma):
    noisy = noisy_bytes(np.full((96, 96, 3), value, np.uint8))
    assert abs(default(noisy, sigma).mean() - value) < 4


def test_the_level_is_estimated_when_not_given(default, photo):
    clean = photo.astype(np.float32) / 255
    noisy = add_noise(clean, "gaussian", sigma=25)
    assert psnr(clean, default(noisy)) > psnr(clean, default(noisy, 25)) - 0.5


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 3), (4, 4)])
def test_pictures_too_small_to_estimate_still_come_back(tiny, size):
    assert tiny(np.full(size, 99, np.uint8)).shape == size


def kinds(photo):
    small = photo[:40, :56]
    alpha = np.arange(40 * 56, dtype=np.uint32).reshape(40, 56, 1) % 256
    return {
        "rgb array": small,
        "gray array": small[..., 0],
        "gray array with channel": small[..., :1],
        "rgba array": np.concatenate([small, alpha.astype(np.uint8)], axis=2),
        "uint16 array": small.astype(np.uint16) * 257,
        "float array": small.astype(np.float32) / 255,
        "double array": small / 255,
        "chw tensor": torch.from_numpy(small.copy()).permute(2, 0, 1),
        "float batch": torch.rand(2, 3, 24, 24),
        "gray image": Image.fromarray(small[..., 0]),
        "rgb image": Image.fromarray(small),
        "rgba image": Image.fromarray(np.concatenate([small, alpha.astype(np.uint8)], axis=2)),
        "16-bit image": Image.fromarray(small[..., 0].astype(np.uint16) * 257),
    }


@pytest.mark.parametrize("kind", kinds(np.zeros((64, 64, 3), np.uint8)))
@pytest.mark.parametrize("channels", [1, 3])
def test_what_goes_in_comes_out_of_the_same_kind(photo, kind, channels):
    torch.manual_seed(0)
    denoiser = Denoiser(Unet(UnetConfig(channels=channels, widths=(8, 8), blocks=(1, 1))))
    source = kinds(photo)[kind]
    result = denoiser(source, 25)
    assert type(result) is type(source) or isinstance(source, Image.Image)
    if isinstance(source, Image.Image):
        assert (result.mode, result.size) == (source.mode, source.size)
    else:
        assert (result.dtype, result.shape) == (source.dtype, source.shape)
    before, after = np.asarray(source), np.asarray(result)
    assert not np.array_equal(before, after)
    if "rgba" in kind:
        assert np.array_equal(before[..., 3], after[..., 3])


def test_a_path_gives_a_pil_image(default, photo, tmp_path):
    Image.fromarray(noisy_bytes(photo)).save(tmp_path / "noisy.png")
    result = default(tmp_path / "noisy.png", 25)
    assert isinstance(result, Image.Image) and result.size == (256, 256)
    assert np.array_equal(np.asarray(result), default(noisy_bytes(photo), 25))


def test_strength_blends(tiny, photo):
    picture = photo.astype(np.float32) / 255
    none, half, full = (tiny(picture, 25, strength) for strength in (0, 0.5, 1))
    assert np.array_equal(none, picture)
    inside = (full > 0) & (full < 1)
    assert np.allclose(half[inside], (none[inside] + full[inside]) / 2, atol=1e-6)


def test_gray_pictures_are_denoised_by_a_color_network(default, photo):
    clean = photo.astype(np.float32).mean(-1) / 255
    noisy = add_noise(clean, "gaussian", sigma=25)
    assert psnr(clean, default(noisy, 25)) > psnr(clean, noisy) + 5


def test_bfloat16_makes_no_visible_difference(default, photo):
    clean = photo.astype(np.float32) / 255
    noisy = add_noise(clean, "gaussian", sigma=25)
    full, half = (Denoiser(default.model, dtype=dtype)(noisy, 25) for dtype in ("float32", "bfloat16"))
    assert psnr(clean, half) > psnr(clean, full) - 0.02
    assert full.dtype == half.dtype == np.float32


def test_bfloat16_makes_no_visible_difference_to_a_narrow_picture(default, photo):
    noisy = np.tile(photo[:64, :5], (10, 1, 1))
    full = Denoiser(default.model, dtype="float32")(noisy, 25).astype(int)
    half = Denoiser(default.model, dtype="bfloat16")
    assert all(np.abs(half(noisy, 25) - full).max() <= 2 for _ in range(8))  # it was wrong now and then


def test_tiles_leave_no_visible_seam(default, monkeypatch):
    monkeypatch.setattr(pipeline, "TILE", 96)
    side = 136 + 2 * MARGIN
    clean = np.tile(np.linspace(0, 1, side, dtype=np.float32)[None, :, None], (side, 1, 3))
    noisy = add_noise(clean, "gaussian", sigma=25)
    exact = Denoiser(default.model, dtype="float32")
    seen = []
    tiled = exact(noisy, 25, progress=seen.append)
    assert len(seen) == 4 and seen[-1] == 1
    whole = exact._infer(noisy[:, :, None], np.float32([25 / 255]))[:, :, 0]
    assert np.abs(tiled - whole).max() < 0.5 / 255


def test_threads_share_one_denoiser(tiny, photo):
    pictures = [photo[i : i + 64, i : i + 64] for i in range(0, 80, 10)]
    alone = [tiny(picture, 25) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda picture: tiny(picture, 25), pictures))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": -1}, "sigma must be from 0 to 255"),
        ({"sigma": (level for level in (5, 9))}, "sigma must be a number"),
        ({"sigma": 256}, "sigma must be from 0 to 255"),
        ({"sigma": float("nan")}, "sigma must be"),
        ({"sigma": 255.0001}, "got 255.0001"),
        ({"strength": 1.2}, "strength must be from 0 to 1"),
        ({"strength": np.ones((8, 8))}, "strength must be one number, from 0 to 1, got ndarray"),
        ({"strength": None}, "strength must be one number"),
    ],
)
def test_parameters_out_of_range_are_refused(tiny, photo, arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(photo, **arguments)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((8, 8), np.int64),
        np.array(0.5),
        torch.zeros(3, 8, 8, device="meta"),
        torch.zeros(8, 8).to_sparse(),
        torch.nested.nested_tensor([torch.zeros(8, 8), torch.zeros(9, 8)], layout=torch.strided),
    ],
    ids=lambda picture: f"{picture.dtype}, {getattr(picture, 'device', 'cpu')}",
)
def test_a_bad_picture_is_refused(tiny, picture):
    with pytest.raises(ImageUnreadable):
        tiny(picture)


def test_a_clean_picture_is_done_too(tiny):
    done = []
    tiny(torch.stack([torch.rand(24, 32), torch.zeros(24, 32)])[:, None].expand(2, 3, 24, 32), None, 1.0, done.append)
    assert done[-1] == 1
    tiny(torch.zeros(3, 24, 32), 0, 1.0, done.append)
    assert done[-1] == 1


def test_a_tensor_that_is_negated_when_it_is_read(tiny):
    negated = torch.complex(torch.zeros(3, 16, 16), -torch.rand(3, 16, 16)).conj().imag
    assert negated.is_neg() and torch.equal(tiny(negated, 25), tiny(negated.clone().resolve_neg(), 25))


def test_a_batch_takes_a_noise_of_its_own_for_each_picture(tiny):
    batch = torch.rand(3, 3, 16, 24)
    noises = [PoissonGaussian(2.0, 5.0), np.full((16, 24), 12.0), 25]
    together = tiny(batch, noises)
    alone = [tiny(picture, noise) for picture, noise in zip(batch, noises)]
    assert (together - torch.stack(alone)).abs().max() < 1e-2  # bfloat16, of other batches


@pytest.mark.parametrize("dtype", ["float16", "int8", "nonsense", torch.float64])
def test_dtypes_that_do_not_work_are_refused(tiny_model, dtype):
    with pytest.raises(ValueError, match="dtype must be"):
        Denoiser(tiny_model, dtype=dtype)


def test_names_are_tried_as_folder_then_bundled(tiny_checkpoint, monkeypatch, tmp_path):
    assert Denoiser.from_pretrained(tiny_checkpoint).model.config.widths == (8, 12, 16)
    monkeypatch.chdir(tmp_path)
    assert Denoiser.from_pretrained("tiny").model.config.widths == (8, 12, 16)
    tiny_checkpoint.rename(tmp_path / DEFAULT_CHECKPOINT)
    assert Denoiser.from_pretrained(DEFAULT_CHECKPOINT).model.config.widths == (8, 12, 16)
    (tmp_path / DEFAULT_CHECKPOINT).rename(tmp_path / "elsewhere")
    assert Denoiser.from_pretrained(DEFAULT_CHECKPOINT).model.config.widths != (8, 12, 16)


@pytest.mark.parametrize("name", ["nothing-like-it", "../up/one", "/no/such/folder", "a/b/c", "", "a" * 500])
def test_an_unknown_name_is_not_found(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointNotFound, match="no checkpoint"):
        Denoiser.from_pretrained(name)


def test_a_self_ensemble_is_the_mean_over_flips_and_turns(tiny_model, photo):
    picture = 0.1 + 0.8 * photo[:40, :56].astype(np.float32) / 255  # nothing clipped: that is undone after the mean
    plain = Denoiser(tiny_model, dtype="float32")
    views = []
    for turns in range(4):
        for flip in (False, True):
            view = np.rot90(picture[:, ::-1] if flip else picture, turns)
            back = np.rot90(plain.denoise_pixels(read(view.copy()), 25), -turns)
            views.append(back[:, ::-1] if flip else back)
    ensemble = Denoiser(tiny_model, dtype="float32", self_ensemble=True).denoise_pixels(read(picture), 25)
    assert np.allclose(ensemble, np.mean(views, axis=0), atol=1e-5)
    assert not np.allclose(ensemble, views[0], atol=1e-3)


@pytest.mark.parametrize("name", [name for name in bundled_checkpoints() if name != "gray-base"])
def test_gray_in_three_planes_stays_gray_and_is_denoised_as_one_plane(photo, name):
    gray = noisy_bytes(photo[:64, :80, :1].repeat(3, axis=2))[..., 0]
    denoiser = Denoiser.from_pretrained(name)
    three = denoiser(gray[..., None].repeat(3, axis=2), 25)
    assert (three == three[..., :1]).all() and np.array_equal(three[..., 0], denoiser(gray, 25))


@pytest.fixture
def cutout(photo):
    """Clean colors (H, W, 3) and the disc that is visible."""
    rows, columns = np.ogrid[:128, :128]
    return photo[:128, :128], (rows - 64) ** 2 + (columns - 64) ** 2 < 50**2


def with_alpha(colors, visible, hidden):
    return np.dstack([np.where(visible[..., None], colors, hidden), 255 * visible]).astype(np.uint8)


def test_hidden_colors_change_nothing_that_is_visible(default, cutout):
    clean, visible = cutout
    noisy = noisy_bytes(clean)
    garbage = np.random.default_rng(0).integers(0, 256, clean.shape)
    for sigma in (25, None):
        results = [default(with_alpha(noisy, visible, hidden), sigma) for hidden in (0, 255, garbage)]
        assert all(np.array_equal(result[visible], results[0][visible]) for result in results[1:])
        assert np.array_equal(results[2][~visible, :3], garbage[~visible])  # nor are they changed
    whole = default(noisy, 25)[visible].astype(float)
    cut, original = results[0][visible][:, :3].astype(float), clean[visible].astype(float)
    assert np.mean((cut - original) ** 2) < 1.3 * np.mean((whole - original) ** 2)


@pytest.mark.parametrize("alpha", [0, 255])
def test_a_picture_that_is_all_hidden_or_all_visible_comes_back(default, photo, alpha):
    picture = np.dstack([photo[:40, :40], np.full((40, 40), alpha, np.uint8)])
    assert default(picture, 10).shape == picture.shape


def test_a_map_of_levels_counts_where_it_says(tiny, photo):
    picture = photo[:64, :96].astype(np.float32) / 255
    levels = np.full((64, 96), 25.0)
    assert np.allclose(tiny(picture, levels), tiny(picture, 25), atol=1e-6)
    levels[:, 48:] = 0
    mixed = tiny(picture, levels)
    assert np.array_equal(mixed[:, 56:], picture[:, 56:]) and not np.allclose(mixed[:, :40], picture[:, :40])


def test_tiles_of_a_map_of_levels_leave_no_seam(photo, monkeypatch):
    side, seen = 136 + 2 * MARGIN, []
    noisy = noisy_bytes(np.tile(photo, (2, 2, 1)))[:side, :side]
    levels = np.linspace(0.5, 40, side * side).reshape(side, side)
    exact = Denoiser.from_pretrained("color-small", device="cpu", dtype="float32")
    whole = exact(noisy, levels).astype(int)
    monkeypatch.setattr(pipeline, "TILE", 96)
    assert np.abs(exact(noisy, levels, progress=seen.append) - whole).max() <= 1
    assert len(seen) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_level_may_be_a_tensor_of_any_precision(tiny, photo, dtype):
    assert np.array_equal(tiny(photo[:40, :48], torch.tensor(25, dtype=dtype)), tiny(photo[:40, :48], 25))


def test_pixels_that_stay_as_they_are_are_not_the_pictures_own(tiny, photo):
    picture = read(photo[:40, :48])
    pixels = tiny.denoise_pixels(picture, 0)
    assert np.array_equal(pixels, picture.pixels) and not np.shares_memory(pixels, picture.pixels)


@pytest.mark.parametrize(
    "sigma", [30, [10, 30, 50], torch.tensor([10.0, 30, 50]), torch.full((3, 1, 40, 48), 20.0), None]
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_batch_is_what_its_pictures_are_one_by_one(photo, sigma, channels, dtype):
    torch.manual_seed(0)
    denoiser = Denoiser(Unet(UnetConfig(channels=channels, widths=(8, 8), blocks=(1, 1))), dtype=dtype)
    batch = torch.from_numpy(np.stack([photo[i : i + 40, i : i + 48] for i in (0, 60, 90)])).permute(0, 3, 1, 2) / 255
    batch[1] = batch[1].mean(0)  # gray in three planes
    together = denoiser(batch, sigma)
    each = sigma if isinstance(sigma, list | torch.Tensor) else [sigma] * 3
    alone = [
        denoiser(picture, one if one is None or isinstance(one, int) else np.asarray(one))
        for picture, one in zip(batch, each)
    ]
    assert together.shape == batch.shape and (together - torch.stack(alone)).abs().max() < 1e-3


def test_a_batch_goes_through_the_network_as_one(tiny_model, monkeypatch):
    denoiser, seen = Denoiser(tiny_model, dtype="float32"), []
    encode = Unet.encode
    monkeypatch.setattr(Unet, "encode", lambda self, x, level: seen.append(len(x)) or encode(self, x, level))
    done = []
    denoiser(torch.rand(5, 3, 24, 32), 20, progress=done.append)
    assert seen == [5] and done == [1]


@pytest.mark.parametrize(
    "sigma", [[10, 20], np.ones((3, 4)), [[10, 20]], np.full((64, 64), 300.0), np.full((64, 64), np.nan)]
)
def test_levels_of_another_shape_or_out_of_range_are_refused(tiny, photo, sigma):
    with pytest.raises(ValueError, match=r"sigma (has shape|must be)"):
        tiny(photo[:64, :64], sigma)


def test_a_denoiser_says_what_it_is(default, tiny_model):
    text = repr(default)
    weights = safetensors.torch.load_file(default.folder / "model.safetensors")
    millions = sum(tensor.numel() for tensor in weights.values()) / 1e6
    assert text.startswith(f"<Denoiser color-base: unet, color, noise level given, {millions:.2f} million parameters")
    assert "on cpu" in text or "on cuda" in text
    assert "self-ensemble" in repr(Denoiser(tiny_model, self_ensemble=True))


def test_copies_and_pickles_denoise_alike(default, photo):
    expected = default(photo[:64, :64], 25)
    for copied in (copy.deepcopy(default), pickle.loads(pickle.dumps(default))):
        assert np.array_equal(copied(photo[:64, :64], 25), expected) and repr(copied) == repr(default)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_default_dtype_of_torch_changes_nothing(photo, dtype):
    expected = Denoiser.from_pretrained("color-small", device="cpu", dtype="float32")(photo[:64, :64])
    torch.set_default_dtype(dtype)
    try:
        result = Denoiser.from_pretrained("color-small", device="cpu", dtype="float32")(photo[:64, :64])
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(result, expected)


PROCESSES = """
import multiprocessing
import os
import numpy as np
picture = np.random.default_rng(0).integers(60, 200, (96, 96, 3), np.uint8)
def work(denoiser): return int(denoiser(picture, 25).sum())
def work_and_fork(denoiser, answer):
    sums = [work(denoiser)]
    if hasattr(os, "fork"):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            sums += pool.map(work, [denoiser] * 2)
    answer.send(sums)
"""


def test_other_processes_denoise_too_forked_by_one_that_has_or_spawned(tmp_path, monkeypatch):
    """OpenMP in a forked child waited for threads that stay with the parent."""
    (tmp_path / "processes.py").write_text(PROCESSES)
    monkeypatch.syspath_prepend(tmp_path)
    processes = importlib.import_module("processes")
    denoiser = Denoiser.from_pretrained("color-small", device="cpu")
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=processes.work_and_fork, args=(denoiser, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.poll(600)
        there = ours.recv()
    finally:
        process.kill()
    here = processes.work(denoiser)
    assert len(there) == 3 and all(abs(one - here) < 100 for one in there)


def test_a_callback_that_raises_stops_before_the_next_tile(tiny, photo, monkeypatch):
    monkeypatch.setattr(pipeline, "TILE", 32)
    monkeypatch.setattr(pipeline, "MARGIN", 8)
    infer, computed = Inference.__call__, []
    monkeypatch.setattr(Inference, "__call__", lambda self, *given: computed.append(1) or infer(self, *given))

    def stop_at_the_third(share):
        if len(computed) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        tiny(photo[:128, :128], 20, progress=stop_at_the_third)
    assert len(computed) == 3


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_frame_becomes_a_frame(tiny, photo, tmp_path, depth):
    planes = photo[:40, :56].astype(depth) * (257 if depth == np.uint16 else 1)
    frame = Frame(planes, float(np.iinfo(depth).max), {"comment": "mine"})
    denoised = tiny(frame, 20)
    assert isinstance(denoised, Frame) and denoised.info == frame.info and denoised.maximum == frame.maximum
    assert np.array_equal(denoised.planes, tiny(planes, 20))
    save_image([denoised, frame], tmp_path / "a.tif")
    assert np.array_equal(read_frames(tmp_path / "a.tif")[0].planes, denoised.planes)


@pytest.mark.parametrize("mean", [0.0, -0.005, -0.01, -0.015])
def test_noise_around_and_below_zero_is_removed(mean):
    """As in a photograph of stars from which the sky was subtracted."""
    noisy = mean + 0.005 * np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
    assert estimate_sigma(noisy) == pytest.approx(255 * 0.005, rel=0.1)
    assert Denoiser.from_pretrained("gray-base", device="cpu")(noisy).std() < 0.0006


@pytest.mark.parametrize("sigma", [None, 20.0, PoissonGaussian(4, 6)])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_dim_picture_is_denoised_as_a_bright_one(tiny, photo, sigma, alpha):
    """Twelve bits in sixteen that do not say so had so little noise that none was removed."""
    bright = np.float32(add_noise(photo[:64, :64] / np.float32(255), "gaussian", sigma=20).clip(0, 0.99))
    if alpha:
        bright = np.dstack([bright, (np.arange(64 * 64).reshape(64, 64) % 5 > 0).astype(np.float32)])
    factor = np.float32([1 / 16] * 3 + [1] * alpha)
    dim = bright * factor
    if alpha:
        dim[dim[..., 3] == 0, :3] = 0.9  # nobody sees it
    told = sigma and (sigma.scaled(1 / 16) if isinstance(sigma, PoissonGaussian) else sigma / 16)
    visible = slice(None) if not alpha else bright[..., 3] > 0
    assert np.allclose((tiny(dim, told) / factor)[visible], tiny(bright, sigma)[visible], atol=2e-6)
