"""Who is served when many ask: bounds for one visitor, places behind a full queue, who leaves, what takes too long."""

import asyncio
import dataclasses
import json
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from denoiser import HubUnreachable
from denoiser.demo import denoise_tab, pulls
from denoiser.demo.checkpoint_picker import SessionChoices
from denoiser.demo.compute_gate import ComputeGate
from denoiser.demo.control_values import PARAMETERS, ControlValues
from denoiser.demo.denoise_tab import DenoiseTab
from denoiser.demo.experiment_runner import ExperimentRunner
from denoiser.demo.inside_tab import InsideTab
from denoiser.demo.mcp import MAX_CALLS, MCP_ROUTE, McpLimits
from denoiser.demo.model_pool import ModelPool
from denoiser.demo.noise_sweep import NoiseSweep
from denoiser.demo.pulls import Visitor
from denoiser.demo.settings import Settings
from tests.conftest import run_async

from .stranger import API, JSON


def test_a_visitor_has_a_few_calls_at_a_time_and_others_get_in(stranger):
    endpoint = stranger.endpoint("run")
    many, other = uuid.uuid4().hex, uuid.uuid4().hex
    data = stranger.defaults(endpoint)
    accepted, refused = [], []
    for seed in range(1000):  # a quick machine answers some before the next come
        answer = stranger.join(endpoint, [*data[:3], seed, *data[4:]], many)
        (refused if answer.status_code == 503 else accepted).append(answer)
        if len(refused) == 10:
            break
    assert accepted and len(refused) == 10 and "Too many of your calls" in refused[0].json()["detail"]
    assert stranger.join(endpoint, stranger.defaults(endpoint), other).status_code == 200
    done = [event for event in stranger.events(other) if event["msg"] == "process_completed"]
    assert done[0]["success"]
    assert sum(event["msg"] == "process_completed" for event in stranger.events(many)) == len(accepted)


NAMES = [one.name for one in dataclasses.fields(ControlValues)][:-1] + [f"level {i}" for i in range(len(PARAMETERS))]


def bare(tab: DenoiseTab) -> None:
    """Give a tab without a page what its runs need."""
    tab.layout = SimpleNamespace(controls=[])
    tab._running, tab._newest, tab._lock = set(), {}, threading.Lock()
    tab._places = {"strength": NAMES.index("strength")}


def values_of(**given) -> list:
    """The values of all controls, None for those that are not given."""
    return [given.get(name) for name in NAMES]


def test_what_is_under_way_is_not_computed_twice(monkeypatch):
    computed = []

    def compute(tab, controls, others):
        computed.append((controls, others))
        return {"part": len(computed)}, None

    monkeypatch.setattr(DenoiseTab, "__init__", lambda tab: None)
    monkeypatch.setattr(DenoiseTab, "_compute", compute)
    tab = DenoiseTab()
    bare(tab)
    values = values_of(photo="photo")
    mine, other = SimpleNamespace(session_hash="a"), SimpleNamespace(session_hash="b")
    first = tab.run(mine, *values, 0)
    assert next(first) == {"part": 1}
    assert list(tab.run(mine, *values, 0)) == [gr.skip()]
    assert list(tab.run(other, *values, 0)) == [{"part": 2}]
    assert list(tab.run(mine, *values, 1)) == [{"part": 3}]  # which ends what was under way, for what comes after
    assert list(first) == [] and not tab._running
    abandoned = tab.run(mine, *values, 0)
    next(abandoned)
    abandoned.close()  # as when the visitor is gone
    assert list(tab.run(mine, *values, 0)) == [{"part": 5}]


def test_of_two_runs_the_later_one_is_shown_whichever_begins_or_ends_first(monkeypatch):
    newer = []

    def compute(tab, controls, others):
        if newer:
            assert [*newer.pop()] == [{"part": "newer"}]
        return {"part": "newer" if controls.seed == 2 else "older"}, None

    calls = iter([SimpleNamespace(number=number) for number in (2, 1, 3, 4, 3)])
    monkeypatch.setattr(DenoiseTab, "__init__", lambda tab: None)
    monkeypatch.setattr(DenoiseTab, "_compute", compute)
    monkeypatch.setattr(denoise_tab, "current_call", lambda: next(calls))
    tab, mine = DenoiseTab(), SimpleNamespace(session_hash="a")
    bare(tab)

    def run(seed):
        return tab.run(mine, *values_of(seed=seed))

    begun = run(2)
    assert next(begun) == {"part": "newer"}
    assert list(run(1)) == [gr.skip()]  # was called before, and comes to a thread after it
    assert list(begun) == []
    newer.append(run(2))  # is called while the older one computes, and ends before it
    assert list(run(1)) == [gr.skip()] and not newer and not tab._running
    assert list(run(1)) == [gr.skip()]  # comes to a thread when all others have ended


def test_what_is_shown_inside_the_autoencoder_ends_with_its_photo(monkeypatch):
    monkeypatch.setattr(InsideTab, "__init__", lambda tab: None)
    tab, page = InsideTab(), SimpleNamespace(session_hash="a")
    tab._runs, tab._message, tab._path, tab._filters, tab._latent = (
        SessionChoices(),
        "message",
        "path",
        "filters",
        "latent",
    )
    tab._looked, tab._sweep = "looked", SimpleNamespace(plot="plot", empty=None, end=lambda session: None)
    loaded = SimpleNamespace(facts=SimpleNamespace(name="tiny"))
    tab._crop = SimpleNamespace(
        wanted=lambda *_: SimpleNamespace(key="k"), loaded=lambda _: loaded, take=lambda _: "crop"
    )
    tab._show_path = lambda loaded, crop: {"path": "of the photo"}
    tab._show_latent = lambda crop, kept: {"latent": "of the photo"}
    tab._show_filters = lambda key, loaded, crop: {"filters": "of the photo", "looked": key}
    *_, latent, filters = tab.run(page, 1, None)
    assert "latent" in latent and "looked" in filters  # or a tab opened again before would lack what comes after
    tab._show_latent = lambda crop, kept: tab._runs.begin("a") and {"latent": "of the photo"}
    shown = [*tab.run(page, 1, None)]
    assert shown[-1] == {"message": "", "path": "of the photo"}  # not what was computed when a newer run had begun


def test_a_sweep_over_levels_ends_with_its_crop_and_shows_nothing_of_it(monkeypatch):
    monkeypatch.setattr(NoiseSweep, "__init__", lambda card: None)
    card, page = NoiseSweep(), SimpleNamespace(session_hash="a")
    card._runs, card._crops, card._crop = SessionChoices(), SessionChoices(), SimpleNamespace(wanted=lambda: None)
    card.plot, card._start, card._cancel, card.empty = "plot", "start", "cancel", "nothing"

    def compute(wanted, found):
        for level in (5, 10, 15):
            found.setdefault("tiny", {})[level] = 30.0
            yield f"{level} is next"

    card._compute = compute
    shown = card.run(page)
    assert "5 is next" in next(shown)["plot"]
    card.end("a")
    assert [one["plot"] for one in shown] == ["nothing"]
    assert "5 is next" in next(ended := card.run(page))["plot"]
    card.on_cancelled(page)
    assert ["30.00" in one["plot"] for one in ended] == [True]  # what was computed of this crop stays


@pytest.mark.parametrize("begins", ["before the run", "while it computes", "after it"])
def test_what_a_moving_slider_asked_for_is_not_shown_after_the_run_of_its_release(monkeypatch, begins):
    def compute(tab, controls, others, is_late=None):
        if is_late and begins == "before the run":  # its turn comes when the run of the release has ended
            assert not is_late() and [*final] == [shows(0.75, "clean")]
        return {"part": controls.strength, "noise": controls.noise, "others": others}, None

    numbers = {"before the run": (2, 3), "while it computes": (3, 2), "after it": (3, 2)}[begins]
    calls = iter([SimpleNamespace(number=number) for number in (1, *numbers, 4)])
    monkeypatch.setattr(DenoiseTab, "__init__", lambda tab: None)
    monkeypatch.setattr(DenoiseTab, "_compute", compute)
    monkeypatch.setattr(denoise_tab, "current_call", lambda: next(calls))
    tab, mine = DenoiseTab(), SimpleNamespace(session_hash="a")
    bare(tab)

    def shows(strength, shown):
        return {"part": strength, "noise": "camera", "others": ("missing", shown)}

    values = [*values_of(noise="camera", strength=0.5), "missing"]
    assert [*tab.run(mine, *values, "clean")] == [shows(0.5, "clean")]  # before anything moves
    final = tab.run(mine, *values_of(noise="camera", strength=0.75), "missing", "clean")
    if begins == "while it computes":
        assert next(final) == shows(0.75, "clean")
    elif begins == "after it":
        assert [*final] == [shows(0.75, "clean")]
    assert tab.run_live(mine, "noisy", "strength 0.7") == gr.skip()
    begins = ""
    assert tab.run_live(mine, "noisy", "strength 0.8") == shows(0.8, "noisy")  # the next move


@pytest.mark.parametrize(("noise", "sent"), [("poisson", "denoised noisy"), ("gaussian", "denoised")])
def test_noise_that_the_browser_cannot_make_is_sent_where_it_may_compute(monkeypatch, noise, sent):
    def run(photo, area, loaded, answer, **options):
        return answer(SimpleNamespace(clean=None), None)

    monkeypatch.setattr(DenoiseTab, "__init__", lambda tab: None)
    monkeypatch.setattr(DenoiseTab, "_show", lambda tab, result, pictures, loaded, controls: pictures)
    monkeypatch.setattr(denoise_tab, "save_pictures", lambda result, request, save, pause: request.shown)
    tab = DenoiseTab()
    runner = SimpleNamespace(run=run, is_long=lambda photo, area: False)
    tab.state = SimpleNamespace(
        settings=Settings(on_device=Path("site")), experiment_runner=runner, results=SimpleNamespace(save=None)
    )
    tab.picker = SimpleNamespace(loaded=lambda selection: None)
    controls, _ = ControlValues.read(values_of(photo="photo", noise=noise, area="shrunk"))
    assert tab._compute(controls, ("removed", "denoised"))[0] == sent


def test_a_move_without_a_run_before_it_or_of_no_slider_is_not_answered(monkeypatch):
    monkeypatch.setattr(DenoiseTab, "__init__", lambda tab: None)
    monkeypatch.setattr(DenoiseTab, "_compute", lambda tab, controls, others, is_late=None: ({"part": 1}, None))
    tab, mine = DenoiseTab(), SimpleNamespace(session_hash="a")
    bare(tab)
    assert tab.run_live(mine, "noisy", "strength 0.7") == gr.skip()  # the server was started anew
    assert [*tab.run(mine, *values_of(), "missing", "clean")] == [{"part": 1}]
    assert tab.run_live(mine, "noisy", "strength 0.7") == {"part": 1}
    for moving in ("", "photo 3", "strength", "strength x", ["strength 0.7"]):
        assert tab.run_live(mine, "noisy", moving) == gr.skip()


def test_visitors_beyond_the_queue_get_their_place_and_all_get_a_result(stranger, photo, tmp_path):
    endpoint = stranger.endpoint("denoise")
    Image.fromarray(photo[:64, :64]).save(tmp_path / "small.png")
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
                # All of them: a stream that one thread leaves early is closed under another's connection.
                events = list(stranger.events(session))
                return [event["success"] for event in events if event["msg"] == "process_completed"] == [True]
            found = re.fullmatch(
                r"You are number (\d+) in the queue: the page tries again by itself\.", answer.json()["detail"]
            )
            with lock:
                places.append(int(found[1]))
            time.sleep(1)
        return False

    visitors = Settings().max_queued_calls + 8
    with ThreadPoolExecutor(visitors) as pool:
        assert all(pool.map(visit, range(1, visitors + 1)))
    assert places and all(Settings().max_queued_calls < place <= visitors for place in places)


def test_who_closes_the_page_is_not_computed_for_and_others_are(stranger, demo, tmp_path):
    written, endpoint = len(demo.log.read_text()), stranger.endpoint("denoise")
    large = np.random.default_rng(0).integers(0, 256, (1001, 1101, 3), np.uint8)
    Image.fromarray(large).save(tmp_path / "large.bmp")
    data = [stranger.upload(tmp_path / "large.bmp"), *stranger.defaults(endpoint)[1:]]
    data[4] = "color-small"
    gone, waiting, cancelled, stays = (uuid.uuid4().hex for _ in range(4))
    demo.hold.touch()  # none ends by itself
    try:
        event = stranger.join(endpoint, data, cancelled).json()["event_id"]
        for session in (gone, waiting, stays):  # large ones take turns, in this order
            assert stranger.join(endpoint, data, session).status_code == 200
        for session in (gone, waiting):
            next(message for message in stranger.events(session) if message["msg"] == "process_starts")
        told = stranger.events(stays)
        for kind in ("process_starts", "estimation"):  # it has a thread, and waits for its turn
            next(message for message in told if message["msg"] == kind)
        body = {"session_hash": cancelled, "fn_index": endpoint["id"], "event_id": event}
        assert stranger.http.post(f"{API}/cancel", json=body).status_code == 200
        next(message for message in told if message["msg"] == "process_starts")  # its turn: the others have ended
    finally:
        demo.hold.unlink()
    done = [message for message in told if message["msg"] == "process_completed"]
    assert done[0]["success"]
    results = [Image.open(path).size for path in demo.log.parent.glob("denoiser-*/results/*/denoised.png")]
    assert results.count((1101, 1001)) == 1
    assert "Traceback" not in demo.log.read_text()[written:]


def test_slow_pulls_keep_nobody_from_computing_nor_from_the_page(stranger, hub, tiny_checkpoint):
    run = stranger.endpoint("run")
    choose = next(endpoint for endpoint in stranger.endpoints if stranger.input_types(endpoint) == ["textbox", "state"])
    for index in range(40):
        hub.put(f"user/slow-{index}", tiny_checkpoint)
    hub.faults = [("/api/models/user/slow", "wait")] * 40
    sessions = [uuid.uuid4().hex for _ in range(40)]
    with ThreadPoolExecutor(10) as pool:  # in the page and by program at once
        joined = list(
            pool.map(lambda index: stranger.join(choose, [f"user/slow-{index}", None], sessions[index]), range(40))
        )
    api = stranger.endpoint("denoise")
    for index in range(10):
        data = stranger.defaults(api)
        data[4] = f"user/slow-{index}"
        stranger.join(api, data, uuid.uuid4().hex)
    assert {answer.status_code for answer in joined} <= {200, 503}
    try:
        for endpoint, data in ((run, stranger.defaults(run)), (api, stranger.defaults(api))):
            answer = stranger.call(endpoint, data)
            assert answer["success"]
        assert stranger.http.get("/").status_code == stranger.http.get("/config").status_code == 200
    finally:
        hub.go_on.set()
    endings = []
    for answer, session in zip(joined, sessions):
        if answer.status_code == 200:
            endings += [json.dumps(event) for event in stranger.events(session) if event["msg"] == "process_completed"]
    assert endings and all('"success": true' in ending for ending in endings)
    assert any("Too many checkpoints are being pulled for you" in ending for ending in endings)
    served = stranger.call(choose, ["user/slow-0", None])  # on a busy machine, the Hub was too slow for all of them
    assert "user/slow-0 at" in json.dumps(served)


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
    assert pool.start_pull("user/tiny", Visitor("other", "2.2.2.2")).future.result(600)  # a worker is free
    hub.go_on.set()
    assert all(pull.future.result(600) for pull in started)
    assert pool.start_pull("user/slow-10", Visitor("me", "1.1.1.1")).future.result(600)


def test_a_photo_that_takes_too_long_is_refused_before_it_starts_and_stopped_if_it_overruns(tmp_path):
    settings = Settings()
    runner = ExperimentRunner(settings, ComputeGate())
    Image.new("L", (1, 400_000), 128).save(tmp_path / "thin.png")
    loaded = ModelPool().get("color-small")
    arguments = (str(tmp_path / "thin.png"), "all")
    slow = dataclasses.replace(loaded, seconds_per_megapixel=settings.max_seconds / 2)
    assert slow.seconds(400_000, 1) > settings.max_seconds  # though its pixels alone would take a fifth of it
    with pytest.raises(gr.Error, match="This would take"):
        runner.run(*arguments, slow, "gaussian", {}, 0, "known", 1)
    fast = dataclasses.replace(loaded, seconds_per_megapixel=0)
    impatient = ExperimentRunner(dataclasses.replace(settings, max_seconds=0.0), ComputeGate())
    with pytest.raises(gr.Error, match="Stopped after"):
        impatient.run(*arguments, fast, "gaussian", {}, 0, "known", 1)


class HeldCalls:
    """An application whose answers wait, behind the limits of MCP calls."""

    def __init__(self):
        self.limits, self.go_on, self.headers, self.statuses = McpLimits(self.answer, 1000), asyncio.Event(), [], []

    async def answer(self, scope, receive, send):
        self.headers.append(scope["headers"])
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def call(self, *headers):
        scope = {
            "type": "http",
            "method": "POST",
            "path": f"{MCP_ROUTE}/",
            "headers": headers,
            "client": ("10.1.1.1", 80),
        }

        async def send(message):
            self.statuses.append(message.get("status"))

        await self.limits(scope, None, send)


def test_mcp_calls_under_way_are_bounded_and_those_after_them_are_answered():
    async def talk():
        held = HeldCalls()
        under_way = [asyncio.create_task(held.call()) for _ in range(MAX_CALLS)]
        await asyncio.sleep(0)  # all of them wait now
        await held.call()
        assert len(held.headers) == MAX_CALLS and held.statuses[0] == 503
        held.go_on.set()
        await asyncio.gather(*under_way)
        await held.call()
        assert len(held.headers) == MAX_CALLS + 1 and held.statuses[-1] == 200

    run_async(talk())


def test_the_address_of_an_mcp_caller_is_the_one_that_the_server_sees():
    async def talk():
        held = HeldCalls()
        held.go_on.set()
        await held.call((b"X-Forwarded-For", b"1.2.3.4"), (b"x-forwarded-for", b"5.6.7.8"), (b"accept", b"x"))
        assert held.headers == [[(b"accept", b"x"), (b"x-forwarded-for", b"10.1.1.1")]]

    run_async(talk())
