"""Whatever a stranger can send to the running demo: files that are not theirs, values of every kind, other routes."""

import base64
import contextlib
import io
import itertools
import json
import uuid
from pathlib import Path

import httpx
import pytest
from PIL import Image

from denoiser import DEFAULT_CHECKPOINT

from .stranger import API, Stranger

REFUSED = "This picture is not one of the uploads here, which are deleted after a while: upload it again."


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
        forms = [form for path in asked for form in file_payloads(path)]
        endpoints = [one for one in stranger.handlers() if "image" in stranger.input_types(one)]
        assert len(endpoints) > 9 and len(forms) == 6 * 8
        session = uuid.uuid4().hex  # one for all: to begin one takes longer than to refuse a call
        for number, endpoint in enumerate(endpoints):
            everything = endpoint["api_name"] in ("run", "denoise")
            for form in forms if everything else forms[number % 5 :: 5]:  # of the others a fifth each
                data = stranger.defaults(endpoint)
                data[stranger.input_types(endpoint).index("image")] = form
                answer = stranger.call(endpoint, data, session)
                assert not answer["success"] and answer["output"]["error"] == REFUSED, (endpoint, form, answer)
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


def test_anything_sent_for_any_input_gets_an_explanation(demo, photo, tmp_path):
    Image.fromarray(photo[:32, :32]).save(tmp_path / "small.png")
    stranger = Stranger(demo.url)
    stranger.example = stranger.upload(tmp_path / "small.png")
    written = len(demo.log.read_text())
    calls, values = [], itertools.cycle(INVALID)
    for endpoint in stranger.handlers():
        kinds, session = stranger.input_types(endpoint), uuid.uuid4().hex  # to begin one takes longer than a call
        for position in range(len(kinds)):
            if kinds[position] == "state":
                continue
            if kinds[position] in kinds[:position] and len(kinds) > 10:
                continue  # the page's run has a slider for every number of every noise
            # Some each, in turn: every kind of input is there many times.
            for value in itertools.islice(values, 2 if len(kinds) > 10 else 4):
                data = stranger.defaults(endpoint)
                data[position] = value
                calls.append((endpoint, data, session))
    for endpoint, data, session in calls:
        answer = stranger.call(endpoint, data, session)
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


@pytest.mark.parametrize(("sent", "named"), [({"bogus": 3}, "`bogus` is not"), ({"noise": "none"}, "argument: image")])
def test_parameters_that_are_misspelled_or_missing_are_named(stranger, sent, named):
    answer = stranger.http.post("/gradio_api/call/v2/denoise", json=sent)
    assert answer.status_code == 400 and named in answer.json()["detail"]


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
