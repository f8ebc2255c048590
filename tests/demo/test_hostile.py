"""Whatever a stranger can send to the running demo, or a Hub to the library: raw HTTP, not what the page sends."""

import base64
import contextlib
import dataclasses
import importlib.util
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.responses import JSONResponse

from denoiser import (
    DEFAULT_CHECKPOINT,
    NOISES,
    CheckpointInvalid,
    Denoiser,
    HubUnreachable,
    add_noise,
    bundled_checkpoints,
    pipeline,
)
from denoiser.demo import model_pool, pulls
from denoiser.demo.compute_gate import ComputeGate
from denoiser.demo.experiment_runner import ExperimentRunner
from denoiser.demo.model_pool import ModelPool
from denoiser.demo.pulls import Visitor
from denoiser.demo.settings import Settings
from denoiser.images.picture import read
from denoiser.images.tiling import computed_pixels, tiles
from tests.conftest import HUB_PORT, ROOT, Demo

API = "/gradio_api"
JSON = {"Content-Type": "application/json"}
REFUSED = "This picture is not one of the uploads here: upload it first."


class Stranger:
    """Someone who speaks HTTP to the demo and reads its configuration."""

    def __init__(self, url: str):
        self.http = httpx.Client(base_url=url, timeout=60)
        config = self.http.get("/config").json()
        self.components = {component["id"]: component for component in config["components"]}
        self.endpoints = config["dependencies"]
        self.example = next(
            component["props"]["value"]
            for component in config["components"]
            if component["type"] == "image" and component["props"].get("value")
        )

    def input_types(self, endpoint: dict) -> list[str]:
        return [self.components[identity]["type"] for identity in endpoint["inputs"]]

    def defaults(self, endpoint: dict) -> list:
        """What the page would send at its start, with a picture wherever one goes."""
        values = []
        for identity in endpoint["inputs"]:
            component = self.components[identity]
            if component["type"] == "image":
                values.append(self.example)
            elif component["type"] == "dataset":
                values.append(0)
            else:
                values.append(component["props"].get("value"))
        return values

    def endpoint(self, name: str) -> dict:
        return next(endpoint for endpoint in self.endpoints if endpoint["api_name"] == name)

    def join(self, endpoint: dict, data: list, session: str) -> httpx.Response:
        body = {"fn_index": endpoint["id"], "data": data, "session_hash": session}
        return self.http.post(f"{API}/queue/join", content=json.dumps(body), headers=JSON)  # NaN too

    def events(self, session: str):
        """What happens to a session's calls, until all of them are done."""
        with self.http.stream("GET", f"{API}/queue/data", params={"session_hash": session}, timeout=120) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def call(self, endpoint: dict, data: list) -> dict:
        """One call through the queue -> its last message: "success" and "output"."""
        session = uuid.uuid4().hex
        joined = self.join(endpoint, data, session)
        assert joined.status_code == 200, joined.text
        return next(event for event in self.events(session) if event["msg"] == "process_completed")

    def upload(self, path: Path) -> dict:
        with open(path, "rb") as file:
            path = self.http.post(f"{API}/upload", files={"files": file}).json()[0]
        return {"path": path, "meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def stranger(demo):
    return Stranger(demo.url)


def texts_of(message: dict) -> str:
    """Everything that a call's answer says, pictures aside."""
    return json.dumps(message["output"])


@pytest.fixture
def secret(tmp_path, photo):
    """A picture on the host that nobody uploaded, and what there is to probe beside it."""
    path = tmp_path / "secret.png"
    Image.fromarray(photo).save(path)
    return path


def file_payloads(path: Path) -> list[dict]:
    """The forms in which a client can name a file."""
    meta = {"meta": {"_type": "gradio.FileData"}}
    address = f"file://{path}"
    forms = [
        {"path": str(path)},
        {"path": address},
        {"path": "", "url": address},
        {"path": str(path), "is_stream": True},
    ]
    return forms + [form | meta for form in forms]


def test_no_endpoint_reads_a_file_that_was_not_uploaded_nor_tells_whether_it_is_there(stranger, demo, secret, tmp_path):
    inside = Path(stranger.example["path"]).parent / "link.png"
    inside.symlink_to(secret)  # no client can make one; if there is one it leads nowhere
    try:
        asked = [secret, tmp_path, tmp_path / "missing.png", inside, Path("/dev/zero"), Path("/etc/passwd")]
        tried = 0
        for endpoint in stranger.endpoints:
            for position, kind in enumerate(stranger.input_types(endpoint)):
                if kind != "image":
                    continue
                for form in [form for path in asked for form in file_payloads(path)]:
                    data = stranger.defaults(endpoint)
                    data[position] = form
                    answer = stranger.call(endpoint, data)
                    assert not answer["success"] and answer["output"]["error"] == REFUSED, (endpoint, form, answer)
                    tried += 1
        assert tried >= 3 * 6 * 8  # the page's run, its description of a photo, the public endpoint
    finally:
        inside.unlink()
    assert "Traceback" not in demo.log.read_text()


def test_a_picture_within_the_request_and_one_elsewhere_are_not_taken(stranger):
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    data_address = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    endpoint = stranger.endpoint("denoise")
    for form in (
        {"url": data_address},
        {"path": None, "url": data_address},
        {"path": "https://example.com/x.png", "meta": {"_type": "gradio.FileData"}},
        data_address,
        [stranger.example],
        7,
    ):
        answer = stranger.call(endpoint, [form, *stranger.defaults(endpoint)[1:]])
        assert answer["output"]["error"] == REFUSED


def test_examples_and_uploads_are_read(stranger, secret):
    endpoint = stranger.endpoint("denoise")
    for picture in (stranger.example, stranger.upload(secret), {"path": stranger.upload(secret)["path"]}):
        answer = stranger.call(endpoint, [picture, "none", *stranger.defaults(endpoint)[2:-1], 0])
        assert answer["success"] and answer["output"]["data"][3]["checkpoint"] == DEFAULT_CHECKPOINT


@pytest.mark.parametrize("route", ["run", "api"])
def test_a_direct_post_does_not_skip_the_queue(stranger, route):
    computing = [endpoint for endpoint in stranger.endpoints if endpoint["queue"]]
    assert len(computing) > 5
    for endpoint in computing:
        for body in ({"fn_index": endpoint["id"]}, {"fn_index": endpoint["id"], "session_hash": "mine"}, {}):
            answer = stranger.http.post(
                f"{API}/{route}/{endpoint['api_name']}", json=body | {"data": stranger.defaults(endpoint)}
            )
            assert answer.status_code == 404 and "join the queue" in answer.text
    for endpoint in stranger.endpoints:  # what needs no queue computes no picture
        if not endpoint["queue"]:
            assert not {"image", "imageslider"} & {
                stranger.components[identity]["type"] for identity in endpoint["outputs"]
            } or stranger.input_types(endpoint) == ["dataset"]


def test_a_visitor_has_a_few_calls_at_a_time_and_others_get_in(stranger):
    endpoint = stranger.endpoint("run")
    many, other = uuid.uuid4().hex, uuid.uuid4().hex
    answers = [stranger.join(endpoint, stranger.defaults(endpoint), many) for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert 10 <= len(refused) < 20 and "Too many of your calls" in refused[0].json()["detail"]
    assert stranger.join(endpoint, stranger.defaults(endpoint), other).status_code == 200
    done = [event for event in stranger.events(other) if event["msg"] == "process_completed"]
    assert done[0]["success"]
    assert sum(event["msg"] == "process_completed" for event in stranger.events(many)) == 20 - len(refused)


def test_slow_pulls_keep_nobody_from_computing_nor_from_the_page(stranger, hub, tiny_checkpoint):
    run = stranger.endpoint("run")
    choose = next(endpoint for endpoint in stranger.endpoints if stranger.input_types(endpoint) == ["textbox", "state"])
    for index in range(100):
        hub.put(f"user/slow-{index}", tiny_checkpoint)
    hub.faults = [("/api/models/user/slow", "wait")] * 100
    sessions = [uuid.uuid4().hex for _ in range(100)]
    with ThreadPoolExecutor(10) as pool:  # in the page and by program at once
        joined = list(
            pool.map(lambda index: stranger.join(choose, [f"user/slow-{index}", None], sessions[index]), range(100))
        )
    api = stranger.endpoint("denoise")
    for index in range(20):
        data = stranger.defaults(api)
        data[4] = f"user/slow-{index}"
        stranger.join(api, data, uuid.uuid4().hex)
    assert {answer.status_code for answer in joined} <= {200, 503}
    try:
        for endpoint, data in ((run, stranger.defaults(run)), (api, stranger.defaults(api))):
            answer = stranger.call(endpoint, data)
            assert answer["success"]
        assert stranger.http.get("/", timeout=10).status_code == stranger.http.get("/config").status_code == 200
    finally:
        hub.go_on.set()
    endings = []
    for answer, session in zip(joined, sessions):
        if answer.status_code == 200:
            endings += [json.dumps(event) for event in stranger.events(session) if event["msg"] == "process_completed"]
    assert endings and all('"success": true' in ending for ending in endings)
    assert any("user/slow-0 at" in ending for ending in endings)  # who was served, and who was told to wait
    assert any("Too many checkpoints are being pulled for you" in ending for ending in endings)


def test_monitoring_is_not_public(stranger):
    for address in ("/monitoring", "/monitoring/summary", "/monitoring/x"):
        assert stranger.http.get(address).status_code in (403, 404)


INVALID = [
    None,
    True,
    -1,
    2**64,
    -(2**70),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\0",
    "9" * 5000,
    [],
    ["x"],
    {},
]
INVALID += [
    {"value": 1},
    {"path": 1},
    {"path": "x\0y"},
    {"path": "x" * 5000},
    {"path": "x", "meta": 3},
    [[None]],
]


@pytest.mark.parametrize("part", range(4))
def test_anything_sent_for_any_input_gets_an_explanation(stranger, demo, part):
    written = len(demo.log.read_text())
    calls = []
    for endpoint in stranger.endpoints:
        kinds = stranger.input_types(endpoint)
        for position in range(len(kinds)):
            if kinds[position] == "state":
                continue
            if kinds[position] in kinds[:position] and len(kinds) > 10:
                continue  # the page's run has a slider for every number of every noise
            for value in INVALID:
                data = stranger.defaults(endpoint)
                data[position] = value
                calls.append((endpoint, data))
    for endpoint, data in calls[part::4]:
        answer = stranger.call(endpoint, data)
        if not answer["success"]:
            assert isinstance(answer["output"]["error"], str) and answer["output"]["error"].strip(), (endpoint, data)
            assert "went wrong on the server" not in answer["output"]["error"], (endpoint, data)
    assert len(calls) > 100
    assert "Traceback" not in demo.log.read_text()[written:]


@pytest.mark.parametrize(
    ("seed", "fits"), [(0, True), (2**64 - 1, True), (2**64, False), (-(2**70), False), (1e30, False)]
)
def test_a_seed_beyond_64_bits_gets_a_sentence_and_the_page_goes_on(stranger, seed, fits):
    endpoint = stranger.endpoint("denoise")
    data = stranger.defaults(endpoint)
    answer = stranger.call(endpoint, [*data[:3], seed, *data[4:]])
    assert answer["success"] is fits
    if fits:
        assert answer["output"]["data"][3]["seed"] == seed
    else:
        assert "seed must be" in answer["output"]["error"]
    endpoint = stranger.endpoint("run")
    data = stranger.defaults(endpoint)
    answer = stranger.call(endpoint, [*data[:3], seed, *data[4:]])
    # Not an error: after one the page's controls would rest until it is reloaded.
    assert answer["success"] and ("seed must be" in texts_of(answer)) is not fits


def test_a_request_that_fits_no_route_gets_an_explanation(stranger, demo):
    written = len(demo.log.read_text())
    session = uuid.uuid4().hex
    posts = [
        ("run/nothing", {"data": []}),
        ("call/nothing", {"data": []}),
        ("call/v2/nothing", {}),
        ("queue/join", {"data": [], "fn_index": 10**6, "session_hash": session}),
        ("queue/join", {"data": "x", "fn_index": 0, "session_hash": session}),
        ("queue/join", {"data": [], "fn_index": stranger.endpoint("denoise")["id"], "trigger_id": 10**6}),
        ("queue/join", ["x"] * 1000),
        ("component_server", {"component_id": 10**6, "fn_name": "x", "data": 1, "session_hash": session}),
        ("component_server", {"component_id": [], "fn_name": "x", "data": 1, "session_hash": session}),
        ("cancel", {"session_hash": session, "fn_index": 0, "event_id": "x"}),
        ("call/denoise", {"data": "x" * 2_000_000}),
    ]
    for route, body in posts:
        answer = stranger.http.post(f"{API}/{route}", json=body)
        assert answer.status_code < 500 and answer.text.strip(), (route, body, answer.text)
        if answer.status_code != 200:
            assert answer.json()["detail"]
    for route in ("call/denoise/x", "queue/data?session_hash=x", "file=/etc/passwd", "proxy=http://x", "stream/a/b/c"):
        with contextlib.suppress(httpx.RemoteProtocolError):  # a stream that says what is wrong and then breaks off
            stranger.http.get(f"{API}/{route}")
    answer = stranger.call(stranger.endpoint("denoise"), [])
    assert answer["output"]["error"] == "8 values are needed, 0 were sent."
    assert "Traceback" not in demo.log.read_text()[written:]


def test_a_visitors_pulls_are_few_and_leave_room_for_others(hub, tiny_checkpoint):
    for index in range(20):
        hub.put(f"user/slow-{index}", tiny_checkpoint)
    hub.faults = [("/api/models/user/slow", "wait")] * 20
    pool = ModelPool()
    visitor = Visitor("me", "1.1.1.1")
    started = [pool.start_pull(f"user/slow-{index}", visitor) for index in range(pulls.MAX_OF_SESSION)]
    with pytest.raises(HubUnreachable, match="for you already"):
        pool.start_pull("user/slow-10", Visitor("me", "2.2.2.2"))
    assert pool.start_pull("user/slow-0", Visitor("me", "1.1.1.1")) is started[0]  # to wait for one under way is free
    for index in range(pulls.MAX_OF_SESSION, pulls.MAX_OF_ADDRESS):
        started.append(pool.start_pull(f"user/slow-{index}", Visitor(f"me-{index}", "1.1.1.1")))
    with pytest.raises(HubUnreachable, match="for you already"):
        pool.start_pull("user/slow-10", Visitor("me-10", "1.1.1.1"))
    assert pool.start_pull("user/tiny", Visitor("other", "2.2.2.2")).future.result(20)  # a worker is free
    hub.go_on.set()
    assert all(pull.future.result(20) for pull in started)
    assert pool.start_pull("user/slow-10", Visitor("me", "1.1.1.1")).future.result(20)


@pytest.fixture(scope="module")
def denoiser():
    return Denoiser.from_pretrained()


@pytest.mark.parametrize(("height", "width"), [(8, 60_000), (60_000, 8), (100, 10_000), (900, 3000), (640, 1000)])
def test_a_thin_picture_costs_about_what_its_pixels_cost(denoiser, height, width):
    assert denoiser.computed_pixels(height, width) <= 1.5 * height * width


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
@settings(deadline=None)
def test_no_tile_is_larger_than_the_memory_allowed_for_and_the_estimate_is_what_is_computed(height, width):
    seen = []
    jobs = list(tiles(height, width, 64, 8, 8))
    for (rows, columns), _, _ in jobs:
        seen.append((-(-(rows.stop - rows.start) // 8) * 8) * (-(-(columns.stop - columns.start) // 8) * 8))
    assert max(seen) <= 80 * 80 and sum(seen) == computed_pixels(height, width, 64, 8, 8)


def test_a_thin_picture_is_the_same_tiled_and_whole(tiny_model, monkeypatch):
    strip = np.random.default_rng(0).integers(0, 256, (5, 3000, 3), np.uint8)
    whole = Denoiser(tiny_model)(strip, 25).astype(int)
    monkeypatch.setattr(pipeline, "TILE", 96)  # tiles of 5 x 6000 would be whole again
    tiled = Denoiser(tiny_model)(np.ascontiguousarray(strip[:, :]), 25).astype(int)
    assert computed_pixels(5, 3000, 96, pipeline.MARGIN, 8) > 0 and np.abs(whole - tiled).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 30_000), (3, 12_345), (9000, 2), (1, 1), (700, 900)])
def test_a_part_of_a_picture_is_never_larger_than_asked_for(height, width):
    picture = read(Image.new("RGB", (width, height)))
    for part in (picture.crop(5000), picture.downscale(5000)):
        assert part.pixels.shape[0] * part.pixels.shape[1] <= 5000


def test_a_photo_that_takes_too_long_is_refused_before_it_starts_and_stopped_if_it_overruns(tmp_path):
    settings = Settings()
    runner = ExperimentRunner(settings, ComputeGate())
    Image.new("L", (1, 400_000), 128).save(tmp_path / "thin.png")
    loaded = ModelPool().get(DEFAULT_CHECKPOINT)
    arguments = (str(tmp_path / "thin.png"), "all")
    slow = dataclasses.replace(loaded, seconds_per_megapixel=settings.max_seconds / 2)
    assert slow.seconds(400_000, 1) > settings.max_seconds  # though its pixels alone would take a fifth of it
    with pytest.raises(gr.Error, match="This would take"):
        runner.run(*arguments, slow, "gaussian", {}, 0, "known", 1)
    fast = dataclasses.replace(loaded, seconds_per_megapixel=0)
    impatient = ExperimentRunner(dataclasses.replace(settings, max_seconds=0.0), ComputeGate())
    with pytest.raises(gr.Error, match="Stopped after"):
        impatient.run(*arguments, fast, "gaussian", {}, 0, "known", 1)


@pytest.mark.parametrize("noise", NOISES)
def test_a_long_picture_gets_its_noise_or_a_sentence(noise):
    strip = np.full((1, 70_000, 1), 0.5, np.float32)
    try:
        assert add_noise(strip, noise).shape == strip.shape
    except ValueError as error:
        assert noise in ("jpeg", "camera") and "65500" in str(error)


def change_weights(folder, function):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors = {name: function(tensor) for name, tensor in tensors.items()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


def test_weights_that_overflow_are_refused_by_library_and_page(hub, tiny_checkpoint, photo):
    change_weights(tiny_checkpoint, lambda tensor: tensor * 1e30)
    with pytest.raises(CheckpointInvalid, match="not finite numbers"):
        Denoiser.from_pretrained(tiny_checkpoint)(photo[:32, :32], 25)
    hub.put("user/absurd", tiny_checkpoint)
    pool = ModelPool()
    pool.pull("user/tiny")  # the same network: its speed is known, what it computes is looked at all the same
    with pytest.raises(CheckpointInvalid, match="user/absurd computes values"):
        pool.pull("user/absurd")
    assert pool.names() == ["user/tiny"]


@pytest.mark.parametrize(("kind", "name"), [(torch.float64, "F64"), (torch.int32, "I32")])
def test_weights_of_another_type_are_called_what_they_are(tiny_checkpoint, kind, name):
    change_weights(tiny_checkpoint, lambda tensor: tensor.to(kind))
    with pytest.raises(CheckpointInvalid, match=rf"holds {name} values; only F32, F16 and BF16 are read"):
        Denoiser.from_pretrained(tiny_checkpoint)


def test_tags_of_one_commit_are_one_checkpoint(hub, monkeypatch):
    repository = hub.repositories["user/tiny"]
    repository.tags = {f"v{index}": repository.branches["main"] for index in range(30)}
    pool, measured = ModelPool(), []
    original = ModelPool._measure_speed
    monkeypatch.setattr(ModelPool, "_measure_speed", lambda *arguments: measured.append(1) or original(*arguments))
    loaded = [pool.pull(f"user/tiny@v{index}") for index in range(30)]
    assert len(measured) == 1 and len({id(one.denoiser) for one in loaded}) == 1
    assert [one.facts.name for one in loaded] == [f"user/tiny@v{index}" for index in range(30)]


def test_a_network_measured_once_is_only_looked_at_afterwards(hub, tiny_checkpoint):
    change_weights(tiny_checkpoint, lambda tensor: tensor / 2)
    hub.put("user/other-weights", tiny_checkpoint)
    pool = ModelPool()
    first = pool.pull("user/tiny")
    assert pool.pull("user/other-weights").seconds_per_megapixel == first.seconds_per_megapixel


def test_a_bundled_checkpoint_is_never_refused_for_its_speed(hub, monkeypatch):
    monkeypatch.setattr(model_pool, "MAX_SECONDS_PER_MEGAPIXEL", 1e-9)
    for name in bundled_checkpoints():
        assert ModelPool().pull(name).seconds_per_megapixel > 1e-9
    with pytest.raises(CheckpointInvalid, match="too slow"):
        ModelPool().pull("user/tiny")


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        "x",
        None,
        7,
        {"error": "Please log in"},
        {"id": "user/tiny"},
        {"id": "user/tiny", "sha": "../../x", "siblings": []},
        {"id": "user/tiny", "sha": "a" * 40, "siblings": 3},
        {"id": "user/tiny", "sha": "a" * 40, "siblings": [{}]},
        {"id": "user/tiny", "sha": "a" * 40, "siblings": [{"rfilename": "config.json", "size": "large"}]},
        {"id": "user/tiny", "sha": "a" * 40, "siblings": [{"rfilename": "config.json", "lfs": {"x": 1}}]},
        {"id": "user/tiny", "sha": "a" * 40, "siblings": [], "lastModified": "yesterday"},
    ],
)
def test_json_that_is_not_from_the_hub_counts_as_unreachable(hub, monkeypatch, answer, cached):
    if cached:
        Denoiser.from_pretrained("user/tiny")

    async def other(request):
        return JSONResponse(answer)

    monkeypatch.setattr(hub, "answer_info", other)
    if cached:
        assert "From the cache" in Denoiser.from_pretrained("user/tiny").note
        return
    with pytest.raises(HubUnreachable, match="was not the Hub"):
        Denoiser.from_pretrained("user/tiny")
    with pytest.raises(HubUnreachable, match="was not the Hub"):
        ModelPool().pull("user/tiny")


class ResettingProxy:
    """In front of the Hub: the first connections that ask for weights end in the middle, by a reset."""

    def __init__(self, port: int, resets: int):
        self.port, self.resets = port, resets
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client):
        request = b""
        while b"\r\n\r\n" not in request:
            if not (chunk := client.recv(65536)):
                return client.close()
            request += chunk
        line, rest = request.split(b"\r\n", 1)
        rest = re.sub(rb"(?im)^connection:.*\r\n", b"", rest)
        with socket.create_connection(("127.0.0.1", self.port)) as hub:
            hub.sendall(line + b"\r\nConnection: close\r\n" + rest)
            answer = b"".join(iter(lambda: hub.recv(65536), b""))
        if line.startswith(b"GET") and b"model.safetensors" in line and self.resets:
            self.resets -= 1
            client.sendall(answer[: len(answer) // 2])
            time.sleep(0.2)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            client.sendall(answer)
        client.close()


@pytest.mark.parametrize(("resets", "expected"), [(2, "loaded"), (9, "HubUnreachable")])
def test_a_connection_that_is_reset_is_tried_again(hub, tmp_path, resets, expected):
    proxy = ResettingProxy(HUB_PORT, resets)
    program = (
        "from denoiser import Denoiser, HubUnreachable\n"
        "try: print('loaded', Denoiser.from_pretrained('user/tiny').revision)\n"
        "except HubUnreachable as error: print('HubUnreachable', error)\n"
    )
    environment = os.environ | {"HF_ENDPOINT": proxy.url, "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=90
    )
    proxy.server.close()
    assert result.stdout.startswith(expected), result.stdout + result.stderr
    assert proxy.resets == max(0, resets - 4) and hub.fetched("user/tiny") >= min(resets + 1, 4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}, ""),
        ({"all_proxy": "http://127.0.0.1:9", "NO_PROXY": "example.com"}, ""),
        ({"ALL_PROXY": "socks5h://127.0.0.1:1080"}, "socksio"),
        ({"https_proxy": "socks5://127.0.0.1:1080"}, "socksio"),
    ],
)
def test_a_proxy_in_the_environment_keeps_the_page_from_nothing(tmp_path, settings, said):
    running = Demo(tmp_path, HF_HUB_OFFLINE="1", **settings)
    try:
        stranger = Stranger(running.url)
        assert stranger.call(stranger.endpoint("run"), stranger.defaults(stranger.endpoint("run")))["success"]
        if importlib.util.find_spec("socksio") is None:
            assert said in running.log.read_text()
    finally:
        running.stop()


def run_app(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "app.py"), *arguments],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HOME": str(folder), "TMPDIR": str(folder)} | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("address", ["127.0.0.1:x", "nonsense://a", "http://a:b:c"])
def test_a_proxy_that_is_no_address_is_named_in_a_sentence(tmp_path, address):
    result = run_app(tmp_path, http_proxy=address)
    assert result.returncode == 1 and "http_proxy" in result.stderr and "Traceback" not in result.stderr


def test_a_port_in_use_is_said_in_a_sentence_and_the_next_one_serves(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = Demo(tmp_path, port=port, HF_HUB_OFFLINE="1")
        try:
            found = re.search(rf"Port {port} is in use; the page is on port (\d+)\.", running.log.read_text())
            assert found and int(found[1]) > port and Stranger(running.url).endpoint("run")
        finally:
            running.stop()


def test_where_no_port_is_free_a_sentence_says_so(tmp_path):
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # the last one: in use by us or by another
            stack.enter_context(socket.create_server(("127.0.0.1", 65535)))
        result = run_app(tmp_path, "--port", "65535")
    assert (
        result.returncode == 1
        and "is in use; name another with --port" in result.stderr
        and "Traceback" not in result.stderr
    )


def test_the_folder_of_another_user_is_not_used(tmp_path):
    (tmp_path / "gradio").write_text("somebody else's: nothing can be put here")
    running = Demo(tmp_path, temporary=None)
    try:
        stranger = Stranger(running.url)
        assert Path(stranger.upload(ROOT / "examples" / "pier.jpg")["path"]).is_relative_to(tmp_path)
        folder = next(tmp_path.glob("denoiser-*"))
        assert folder.stat().st_mode & 0o077 == 0
    finally:
        running.stop()
    assert not list(tmp_path.glob("denoiser-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_computing_exits_with_status_zero_and_soon(tmp_path, number):
    running = Demo(tmp_path, HF_HUB_OFFLINE="1")
    try:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), np.uint8)).save(tmp_path / "a.bmp")
        stranger = Stranger(running.url)
        endpoint = stranger.endpoint("denoise")
        session = uuid.uuid4().hex
        picture = stranger.upload(tmp_path / "a.bmp")
        (tmp_path / "a.bmp").unlink()
        for name in (session, f"{session}-2"):
            assert stranger.join(endpoint, [picture, *stranger.defaults(endpoint)[1:]], name).status_code == 200
        next(event for event in stranger.events(session) if event["msg"] == "process_starts")
        time.sleep(1)
        running.process.send_signal(number)
        assert running.process.wait(5) == 0
        assert "Traceback" not in running.log.read_text() and "terminate" not in running.log.read_text()
        assert not [path for path in tmp_path.rglob("*.bmp")]
    finally:
        running.stop()


def test_who_closes_the_page_is_not_computed_for_and_others_are(tmp_path):
    running = Demo(tmp_path, temporary=None, HF_HUB_OFFLINE="1")
    try:
        stranger = Stranger(running.url)
        endpoint = stranger.endpoint("denoise")
        large = np.random.default_rng(0).integers(0, 256, (2500, 2500, 3), np.uint8)
        Image.fromarray(large).save(tmp_path / "large.bmp")
        data = [stranger.upload(tmp_path / "large.bmp"), *stranger.defaults(endpoint)[1:]]
        gone, waiting, cancelled, stays = (uuid.uuid4().hex for _ in range(4))
        event = stranger.join(endpoint, data, cancelled).json()["event_id"]
        for session in (gone, waiting, stays):  # large ones take turns, in this order
            assert stranger.join(endpoint, data, session).status_code == 200
        for session in (gone, waiting):
            next(message for message in stranger.events(session) if message["msg"] == "process_starts")
        body = {"session_hash": cancelled, "fn_index": endpoint["id"], "event_id": event}
        assert stranger.http.post(f"{API}/cancel", json=body).status_code == 200
        done = [message for message in stranger.events(stays) if message["msg"] == "process_completed"]
        assert done[0]["success"]
        assert len(list(tmp_path.glob("denoiser-*/results/*/denoised.png"))) == 1
        assert "Traceback" not in running.log.read_text()
    finally:
        running.stop()


def test_visitors_beyond_the_queue_get_their_place_and_all_get_a_result(stranger, photo, tmp_path):
    endpoint = stranger.endpoint("denoise")
    Image.fromarray(photo).save(tmp_path / "small.png")
    small = [stranger.upload(tmp_path / "small.png"), *stranger.defaults(endpoint)[1:]]
    places, lock = [], threading.Lock()

    def visit(number: int) -> bool:
        session = uuid.uuid4().hex
        body = {"fn_index": endpoint["id"], "data": small, "session_hash": session}
        headers = JSON | {"X-Forwarded-For": f"10.1.1.{number}"}  # which the server believes from this machine
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            answer = stranger.http.post(f"{API}/queue/join", content=json.dumps(body), headers=headers)
            if answer.status_code == 200:
                return next(
                    event["success"] for event in stranger.events(session) if event["msg"] == "process_completed"
                )
            found = re.fullmatch(
                r"You are number (\d+) in the queue: the page tries again by itself\.", answer.json()["detail"]
            )
            with lock:
                places.append(int(found[1]))
            time.sleep(2)
        return False

    visitors = Settings().max_queued_calls + 40
    with ThreadPoolExecutor(visitors) as pool:
        assert all(pool.map(visit, range(1, visitors + 1)))
    assert places and all(Settings().max_queued_calls < place <= visitors for place in places)
