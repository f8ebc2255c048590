"""The running demo over its public endpoint, as a program calls it."""

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import safetensors.torch
import torch
from gradio_client import Client, handle_file
from PIL import Image

from denoiser import DEFAULT_CHECKPOINT, NOISES, Denoiser, add_noise
from denoiser.analysis.metrics import psnr
from denoiser.demo import result_files
from denoiser.demo.result_files import ResultFiles
from denoiser.images.picture import read
from denoiser.models import Unet, UnetConfig
from tests.conftest import PATIENT, PHOTO


@pytest.fixture(scope="module", autouse=True)
def downloads(tmp_path_factory):
    """gradio's client leaves an empty folder in the temporary folder for each file that it downloads."""
    folder = tmp_path_factory.mktemp("downloads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        yield


@pytest.fixture(scope="module")
def client(demo, tmp_path_factory):
    return Client(
        demo.url, download_files=str(tmp_path_factory.mktemp("client")), verbose=False, httpx_kwargs={**PATIENT}
    )


@pytest.fixture(scope="module")
def photo(photo):
    return photo[64:192, 64:192]


@pytest.fixture(scope="module")
def small_photo(photo, tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(photo).save(path)
    return path


def test_the_page_comes_compressed_to_who_reads_that(demo):
    packed = httpx.get(demo.url, headers={"accept-encoding": "gzip"}, **PATIENT)
    plain = httpx.get(demo.url, headers={"accept-encoding": "identity"}, **PATIENT)
    assert packed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 3
    assert int(plain.headers["content-length"]) == len(plain.content)
    assert packed.text.index("statustracker") < packed.text.index('type="module"')


def call_denoise(
    client,
    picture,
    noise="gaussian",
    parameters=None,
    seed=0,
    sigma=None,
    sigma_mode="known",
    strength=1.0,
    checkpoint=DEFAULT_CHECKPOINT,
):
    return client.predict(
        image=handle_file(str(picture)),
        noise=noise,
        parameters=parameters or {},
        seed=seed,
        checkpoint=checkpoint,
        sigma=sigma,
        sigma_mode=sigma_mode,
        strength=strength,
        api_name="/denoise",
    )


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_the_figures_are_those_of_the_pictures_returned(client, photo, small_photo):
    noisy, denoised, difference, figures = call_denoise(client, small_photo)
    clean = photo / 255
    assert psnr(clean, pixels(noisy) / 255) == pytest.approx(figures["psnr"]["noisy"], abs=0.01)
    assert psnr(clean, pixels(denoised) / 255) == pytest.approx(figures["psnr"]["denoised"], abs=0.01)
    assert figures["psnr"]["denoised"] > figures["psnr"]["noisy"] + 3
    assert figures["sigma_added"] == pytest.approx(25, abs=0.2) and figures["sigma_used"] == figures["sigma_added"]
    delta = pixels(noisy).astype(int) - pixels(denoised)
    assert np.array_equal(pixels(difference), np.clip(128 + figures["difference_gain"] * delta, 0, 255))


def test_the_page_denoises_what_the_library_denoises(client, small_photo):
    noisy, denoised, _, figures = call_denoise(client, small_photo, sigma=30)
    assert np.array_equal(pixels(denoised), Denoiser.from_pretrained()(pixels(noisy), 30))
    assert figures["sigma_used"] == 30


@pytest.mark.parametrize("noise", NOISES)
def test_every_noise_can_be_asked_for(client, small_photo, noise):
    _, _, _, figures = call_denoise(client, small_photo, noise=noise)
    assert figures["sigma_added"] > 1 and figures["psnr"]["noisy"] < 45


def test_the_seed_decides_the_noise(client, small_photo):
    first, again, other = (pixels(call_denoise(client, small_photo, seed=seed)[0]) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_noisy_photo_gets_no_noise_and_no_psnr(client, photo, tmp_path):
    given = np.rint(add_noise(photo.astype(np.float32) / 255, sigma=20).clip(0, 1) * 255).astype(np.uint8)
    Image.fromarray(given).save(tmp_path / "noisy.png")
    noisy, denoised, _, figures = call_denoise(client, tmp_path / "noisy.png", noise="none")
    assert np.array_equal(pixels(noisy), given) and psnr(photo / 255, pixels(denoised) / 255) > 28
    assert "psnr" not in figures and figures["sigma_added"] is None and figures["sigma_used"] > 0


def test_strength_zero_changes_nothing(client, small_photo):
    noisy, denoised, _, _ = call_denoise(client, small_photo, strength=0)
    assert np.array_equal(pixels(noisy), pixels(denoised))


def test_sixteen_bits_stay_sixteen_bits_and_the_figures_are_theirs(client, photo, tmp_path):
    deep = photo[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    noisy, denoised, _, figures = call_denoise(client, tmp_path / "deep.png", parameters={"sigma": 1})
    assert pixels(denoised).dtype == np.uint16 and len(np.unique(pixels(denoised))) > 256
    for name, path in (("noisy", noisy), ("denoised", denoised)):
        assert psnr(deep / 65535, pixels(path) / 65535) == pytest.approx(figures["psnr"][name], abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (50, 1), (7, 7)])
def test_tiny_pictures_work(client, tmp_path, size):
    Image.new("RGB", size, (90, 120, 30)).save(tmp_path / "tiny.png")
    _, denoised, difference, figures = call_denoise(client, tmp_path / "tiny.png", parameters={"sigma": 0})
    assert pixels(denoised).shape == pixels(difference).shape == (size[1], size[0], 3)
    assert figures["psnr"]["noisy"] is None and figures["ssim"]["denoised"] is None


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_gray_stays_gray_and_alpha_stays(client, photo, tmp_path, mode):
    image = Image.fromarray(photo).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "picture.png")
    noisy, denoised, _, _ = call_denoise(client, tmp_path / "picture.png")
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
        call_denoise(client, tmp_path / "bad.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {"sigma": 1000}}, "sigma must be from 0 to 100"),
        ({"noise": "camera", "parameters": {"quality": 0}}, "quality must be from 1 to 100"),
        ({"parameters": {"peak": 3}}, "gaussian noise has no parameter peak; it has sigma"),
        ({"parameters": {"sigma": "x"}}, "parameters: .* cannot be used"),
        ({"noise": "none", "parameters": {"sigma": 3}}, "has none"),
        ({"noise": "snow"}, "snow"),
        ({"strength": 3}, "strength must be from 0 to 1, got 3"),
        ({"sigma": 900}, "sigma must be from 0 to 255"),
        ({"sigma": -1}, "sigma must be from 0 to 255"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 1.5}, "seed: 1.5 is not a whole number"),
    ],
)
def test_a_value_out_of_range_gets_a_sentence_and_nothing_in_the_log(demo, client, small_photo, change, message):
    written = len(demo.log.read_text())
    with pytest.raises(Exception, match=message):
        call_denoise(client, small_photo, **change)
    assert "Traceback" not in demo.log.read_text()[written:]


def test_the_picture_alone_is_enough(demo, client, photo, small_photo):
    noisy, denoised, _, figures = client.predict(handle_file(str(small_photo)), api_name="/denoise")
    assert figures["sigma_added"] == pytest.approx(25, abs=0.2) and figures["checkpoint"] == DEFAULT_CHECKPOINT
    assert psnr(photo / 255, pixels(denoised) / 255) > psnr(photo / 255, pixels(noisy) / 255) + 3
    with open(small_photo, "rb") as file:  # and for curl, by names and in two requests
        path = httpx.post(f"{demo.url}/gradio_api/upload", files={"files": file}, **PATIENT).json()[0]
    call = f"{demo.url}/gradio_api/call"
    event = httpx.post(f"{call}/v2/denoise", json={"image": {"path": path}}, **PATIENT).json()["event_id"]
    answer = httpx.get(f"{call}/denoise/{event}", **PATIENT).text
    assert "event: complete" in answer and json.loads(answer.split("data: ")[1])[3]["psnr"] == figures["psnr"]


def test_every_parameter_of_a_noise_can_be_given(client, photo, small_photo):
    parameters = {"sigma": 20, "chroma": 0.5, "grain": 3, "quality": 60}
    noisy, _, _, figures = call_denoise(client, small_photo, noise="camera", parameters=parameters, seed=4)
    expected = add_noise(photo.astype(np.float32) / 255, "camera", 4, **parameters)
    assert np.array_equal(pixels(noisy), np.rint(np.clip(expected, 0, 1) * 255)) and figures["seed"] == 4


def test_the_noise_level_can_be_estimated(client, small_photo):
    known, estimated = (call_denoise(client, small_photo, sigma_mode=mode)[3] for mode in ("known", "estimate"))
    assert known["sigma_used"] == known["sigma_added"] != estimated["sigma_used"]
    assert estimated["sigma_used"] == pytest.approx(25, abs=4)


def test_only_the_documented_endpoint_is_public(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(endpoints) == ["/denoise"]
    parameters = {parameter["parameter_name"]: parameter for parameter in endpoints["/denoise"]["parameters"]}
    assert list(parameters) == ["image", "noise", "parameters", "seed", "checkpoint", "sigma", "sigma_mode", "strength"]
    assert [name for name, parameter in parameters.items() if not parameter["parameter_has_default"]] == ["image"]
    assert all(parameter["python_type"]["description"].endswith(".") for parameter in parameters.values())
    for name, low, high in (("seed", 0, 2**64 - 1), ("sigma", 0, 255), ("strength", 0, 1)):
        assert (parameters[name]["type"]["minimum"], parameters[name]["type"]["maximum"]) == (low, high)
    description = endpoints["/denoise"]["description"]
    for noise in NOISES.values():
        for parameter in noise.parameters:
            assert f"{parameter.name} {parameter.low:g}..{parameter.high:g} ({parameter.default:g};" in description
    returned = [value["label"] for value in endpoints["/denoise"]["returns"]]
    assert returned == ["noisy", "denoised", "difference", "figures"]


def test_files_outside_the_uploads_cannot_be_asked_for(demo, small_photo):
    """A picture that is there and readable, only not a visitor's upload; asked for without the client's own upload."""

    def call(path):
        data = [{"path": str(path), "meta": {"_type": "gradio.FileData"}}, "none", {}, 0, DEFAULT_CHECKPOINT]
        address = f"{demo.url}/gradio_api/call/denoise"
        event = httpx.post(address, json={"data": [*data, None, "known", 1.0]}, **PATIENT).json()["event_id"]
        return httpx.get(f"{address}/{event}", **PATIENT).text

    with open(small_photo, "rb") as file:
        uploaded = httpx.post(f"{demo.url}/gradio_api/upload", files={"files": file}, **PATIENT).json()[0]
    assert "event: complete" in call(uploaded)
    assert "event: error" in call(small_photo)


def test_a_checkpoint_from_the_hub_is_pulled_used_and_named_with_its_commit(
    client, hub, tiny_checkpoint, tiny_model, small_photo
):
    commit = next(iter(hub.put("user/by-program", tiny_checkpoint).commits))
    for _ in range(2):
        noisy, denoised, _, figures = call_denoise(client, small_photo, sigma=30, checkpoint="user/by-program")
        assert figures["checkpoint"] == "user/by-program" and figures["revision"] == commit
        assert np.array_equal(pixels(denoised), Denoiser(tiny_model)(pixels(noisy), 30))
    assert hub.fetched("user/by-program") == 1
    assert call_denoise(client, small_photo)[3]["revision"] is None


def test_ten_visitors_get_their_own_pictures_and_five_checkpoints_are_downloaded_once(demo, hub, photo, tmp_path):
    expected = {}
    for index in range(5):
        torch.manual_seed(index)
        model = Unet(UnetConfig(widths=(8, 12, 16), blocks=(1, 1, 1))).eval()
        model.save_pretrained(tmp_path / f"crowd-{index}")
        hub.put(f"user/crowd-{index}", tmp_path / f"crowd-{index}")
        expected[f"user/crowd-{index}"] = Denoiser(model)

    def visit(index):
        client = Client(
            demo.url, download_files=str(tmp_path / f"visitor-{index}"), verbose=False, httpx_kwargs={**PATIENT}
        )
        name, mine = f"user/crowd-{index % 5}", np.roll(photo, index * 12, axis=0)
        Image.fromarray(mine).save(tmp_path / f"photo-{index}.png")
        options = {"parameters": {"sigma": 5}, "sigma": 25, "seed": index, "checkpoint": name}
        noisy, denoised = (pixels(one) for one in call_denoise(client, tmp_path / f"photo-{index}.png", **options)[:2])
        return np.abs(noisy - mine.astype(float)).mean() < 10 and np.array_equal(denoised, expected[name](noisy, 25))

    with ThreadPoolExecutor(10) as pool:
        assert all(pool.map(visit, range(10)))
    assert [hub.fetched(name) for name in expected] == [1] * 5


def write_nan(folder):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors["tail.weight"].fill_(float("nan"))
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


def drop_tensor(folder):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    safetensors.torch.save_file({n: t for n, t in tensors.items() if n != "tail.weight"}, folder / "model.safetensors")


def add_tensor(folder):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    safetensors.torch.save_file(tensors | {"extra": torch.zeros(2)}, folder / "model.safetensors")


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


BAD_CHECKPOINTS = {
    "not-found": (None, "There is no repository user/not-found"),
    "private": ({"private": True}, "or it is private"),
    "gated": ({"gated": True}, "ask for access at https://huggingface.co/user/gated"),
    "no-denoiser": (lambda folder: (folder / "config.json").unlink(), "has no config.json: it is not a denoiser"),
    "stranger": ({"config_json": b'{"architecture": "bert"}'}, "asks for architecture 'bert'"),
    "oversized": ({"config_json": b" " * 200_000}, "more than 0.1 MB is not fetched"),
    "too-few": (drop_tensor, "missing tensors ['tail.weight']"),
    "too-many": (add_tensor, "unexpected tensors ['extra']"),
    "nan": (write_nan, "values that are not finite"),
    "cut-short": (truncate, "is cut short"),
    "damaged": ({"fault": "corrupt"}, "arrived damaged twice"),
    "down": ({"fault": 503}, "not working (status 503)"),
    "busy": ({"fault": 429}, "asked too often"),
    "stalled": ({"fault": "stall"}, "too slow to answer"),
}


def put_bad(hub, folder, case) -> str:
    """A checkpoint that something is wrong with, on the Hub; its name."""
    change, _ = BAD_CHECKPOINTS[case]
    name = f"user/{case}"
    if callable(change):
        change(folder)
    if change is not None:
        options = change if isinstance(change, dict) else {}
        fault = options.get("fault")
        hub.put(name, folder, **{key: value for key, value in options.items() if key != "fault"})
        where = f"GET /{name}/resolve" if fault == "corrupt" else f"/api/models/{name}"
        hub.faults = [(where, fault)] * 2 if fault else []
    return name


@pytest.mark.parametrize("case", BAD_CHECKPOINTS)
def test_a_bad_checkpoint_gets_a_sentence_of_its_own(client, hub, tiny_checkpoint, small_photo, case):
    with pytest.raises(Exception) as caught:
        call_denoise(client, small_photo, checkpoint=put_bad(hub, tiny_checkpoint, case))
    said = str(caught.value)
    assert BAD_CHECKPOINTS[case][1] in said
    assert not re.search(r"token-of|/tmp|/home|Traceback|site-packages", said)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../x", "~/x", "user/x@../../y", "a" * 5000, "denoiser/checkpoints"]
)
def test_a_name_is_not_a_way_to_files(client, hub, small_photo, name):
    with pytest.raises(Exception, match=r"repository|revision|characters|long"):
        call_denoise(client, small_photo, checkpoint=name)
    assert not any("resolve" in line for line in hub.requests)


def test_the_demo_started_without_asking_any_other_machine(demo, client):
    assert not demo.refused.exists(), demo.refused.read_text()


def test_stale_result_files_are_deleted(photo, tmp_path):
    results = ResultFiles(tmp_path, seconds=60)
    first, second = (results.save(read(photo), f"{name}.png") for name in ("first", "second"))
    long_ago = time.time() - 120
    os.utime(Path(first).parent, (long_ago, long_ago))
    results.delete_stale_files()
    assert not Path(first).exists() and Path(second).exists()


def test_result_files_are_deleted_in_time_while_the_demo_runs(photo, tmp_path, monkeypatch):
    monkeypatch.setattr(result_files, "CHECK_SECONDS", 0.01)
    results = ResultFiles(tmp_path, seconds=3600)
    results.start()
    old, new = (Path(results.save(read(photo), f"{name}.png")) for name in ("old", "new"))
    long_ago = time.time() - 7200
    os.utime(old.parent, (long_ago, long_ago))
    deadline = time.monotonic() + 600
    while old.parent.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    results.stop()
    assert new.exists() and not old.exists()
