"""The running demo over its public endpoint, as a program calls it."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from denoiser import DEFAULT_CHECKPOINT, NOISES, Denoiser
from denoiser.metrics import psnr

from .conftest import PHOTO


@pytest.fixture(scope="module")
def client(demo, tmp_path_factory):
    return Client(demo.url, download_files=str(tmp_path_factory.mktemp("client")), verbose=False)


@pytest.fixture(scope="module")
def small_photo(photo, tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(photo).save(path)
    return path


def ask(client, picture, noise="gaussian", level=25, level2=None, seed=0, sigma=None, strength=1.0):
    return client.predict(
        image=handle_file(str(picture)),
        noise=noise,
        level=level,
        level2=level2,
        seed=seed,
        checkpoint=DEFAULT_CHECKPOINT,
        sigma=sigma,
        strength=strength,
        api_name="/denoise",
    )


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_the_figures_are_those_of_the_pictures_returned(client, photo, small_photo):
    noisy, denoised, difference, figures = ask(client, small_photo)
    clean = photo / 255
    assert psnr(clean, pixels(noisy) / 255) == pytest.approx(figures["psnr"]["noisy"], abs=0.01)
    assert psnr(clean, pixels(denoised) / 255) == pytest.approx(figures["psnr"]["denoised"], abs=0.01)
    assert figures["psnr"]["denoised"] > figures["psnr"]["noisy"] + 3
    assert figures["sigma_added"] == pytest.approx(25, abs=0.2) and figures["sigma_used"] == figures["sigma_added"]
    delta = pixels(noisy).astype(int) - pixels(denoised)
    assert np.array_equal(pixels(difference), np.clip(128 + figures["difference_gain"] * delta, 0, 255))


def test_the_page_denoises_what_the_library_denoises(client, small_photo):
    noisy, denoised, _, figures = ask(client, small_photo, sigma=30)
    assert np.array_equal(pixels(denoised), Denoiser.from_pretrained()(pixels(noisy), 30))
    assert figures["sigma_used"] == 30


@pytest.mark.parametrize("noise", NOISES)
def test_every_noise_can_be_asked_for(client, small_photo, noise):
    _, _, _, figures = ask(client, small_photo, noise=noise, level=None)
    assert figures["sigma_added"] > 1 and figures["psnr"]["noisy"] < 45


def test_the_seed_decides_the_noise(client, small_photo):
    first, again, other = (pixels(ask(client, small_photo, seed=seed)[0]) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_noisy_photo_gets_no_noise_and_no_psnr(client, photo, small_photo):
    noisy, denoised, _, figures = ask(client, small_photo, noise="none", level=None)
    assert np.array_equal(pixels(noisy), photo) and not np.array_equal(pixels(denoised), photo)
    assert "psnr" not in figures and figures["sigma_added"] is None and figures["sigma_used"] > 0


def test_strength_zero_changes_nothing(client, small_photo):
    noisy, denoised, _, _ = ask(client, small_photo, strength=0)
    assert np.array_equal(pixels(noisy), pixels(denoised))


def test_sixteen_bits_stay_sixteen_bits_and_the_figures_are_theirs(client, photo, tmp_path):
    deep = photo[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    noisy, denoised, _, figures = ask(client, tmp_path / "deep.png", level=1)
    assert pixels(denoised).dtype == np.uint16 and len(np.unique(pixels(denoised))) > 256
    for name, path in (("noisy", noisy), ("denoised", denoised)):
        assert psnr(deep / 65535, pixels(path) / 65535) == pytest.approx(figures["psnr"][name], abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (50, 1), (7, 7)])
def test_tiny_pictures_work(client, tmp_path, size):
    Image.new("RGB", size, (90, 120, 30)).save(tmp_path / "tiny.png")
    _, denoised, difference, figures = ask(client, tmp_path / "tiny.png", level=0)
    assert pixels(denoised).shape == pixels(difference).shape == (size[1], size[0], 3)
    assert figures["psnr"]["noisy"] is None and figures["ssim"]["denoised"] is None


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_stays_grey_and_alpha_stays(client, photo, tmp_path, mode):
    image = Image.fromarray(photo).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L"))
    image.save(tmp_path / "picture.png")
    noisy, denoised, _, _ = ask(client, tmp_path / "picture.png")
    assert pixels(denoised).shape == np.asarray(image).shape
    if mode == "RGBA":
        assert np.array_equal(pixels(denoised)[..., 3], np.asarray(image)[..., 3])
        assert np.array_equal(pixels(noisy)[..., 3], np.asarray(image)[..., 3])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"this is no picture", "not a picture"), (PHOTO.read_bytes()[:9000], "damaged or truncated")],
)
def test_a_bad_upload_gets_a_sentence(client, tmp_path, content, message):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(Exception, match=message):
        ask(client, tmp_path / "bad.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 1000}, "sigma must be from 0 to 100"),
        ({"noise": "snow"}, "snow"),
        ({"strength": 3}, "3"),
        ({"sigma": 900}, "900"),
    ],
)
def test_a_value_out_of_range_gets_a_sentence(client, small_photo, change, message):
    with pytest.raises(Exception, match=message):
        ask(client, small_photo, **change)


def test_only_the_documented_endpoint_is_public(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(endpoints) == ["/denoise"]
    named = [parameter["parameter_name"] for parameter in endpoints["/denoise"]["parameters"]]
    assert named == ["image", "noise", "level", "level2", "seed", "checkpoint", "sigma", "strength"]
    returned = [value["label"] for value in endpoints["/denoise"]["returns"]]
    assert returned == ["noisy", "denoised", "difference", "figures"]


def test_visitors_at_the_same_time_get_their_own_pictures(demo, photo, tmp_path):
    def visit(index):
        mine = np.roll(photo[:128, :128], index * 16, axis=0)
        path = tmp_path / f"photo-{index}.png"
        Image.fromarray(mine).save(path)
        client = Client(demo.url, download_files=str(tmp_path / f"client-{index}"), verbose=False)
        noisy = pixels(ask(client, path, level=5, seed=index)[0]).astype(int)
        return np.abs(noisy - mine).mean()

    with ThreadPoolExecutor(5) as pool:
        errors = list(pool.map(visit, range(5)))
    assert len(errors) == 5 and max(errors) < 10


def test_files_outside_the_uploads_cannot_be_asked_for(demo, small_photo):
    """A picture that is there and readable, only not a visitor's upload; asked for without the client's own upload."""

    def call(path):
        data = [{"path": str(path), "meta": {"_type": "gradio.FileData"}}, "none", None, None, 0, DEFAULT_CHECKPOINT]
        address = f"{demo.url}/gradio_api/call/denoise"
        event = httpx.post(address, json={"data": [*data, None, 1.0]}).json()["event_id"]
        return httpx.get(f"{address}/{event}", timeout=60).text

    with open(small_photo, "rb") as file:
        uploaded = httpx.post(f"{demo.url}/gradio_api/upload", files={"files": file}).json()[0]
    assert "event: complete" in call(uploaded)
    assert "event: error" in call(small_photo)


def test_the_demo_started_without_asking_any_other_machine(demo, client):
    assert not demo.refused.exists(), demo.refused.read_text()


def test_our_own_temporary_files_are_deleted():
    import app

    first, second = (app.save(Image.new("L", (4, 4)), f"{name}.png") for name in ("first", "second"))
    long_ago = time.time() - 2 * app.SCRATCH_SECONDS
    os.utime(Path(first).parent, (long_ago, long_ago))
    app.sweep()
    assert not Path(first).exists() and Path(second).exists()
    shutil.rmtree(Path(second).parent)
