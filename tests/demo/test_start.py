"""The demo's process: proxies in the environment, ports in use, folders of others, and its end."""

import contextlib
import importlib.util
import os
import re
import signal
import socket
import time
import uuid
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
from PIL import Image

from denoiser import DEFAULT_CHECKPOINT
from denoiser.demo.__main__ import main
from denoiser.demo.page import GuardedBlocks, launch_page
from denoiser.demo.settings import Settings
from tests.conftest import Demo

from .stranger import Stranger


def ended(monkeypatch, *arguments: str, **settings: str) -> str:
    """The sentence with which ``python app.py`` ends; it exits with status 1 after it."""
    monkeypatch.setattr(os, "environ", os.environ | settings)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # those of this process stay
    with pytest.raises(SystemExit, match=r"^error: ") as raised:
        main([*arguments])
    return raised.value.code


@pytest.mark.parametrize(
    ("settings", "said", "number"),
    [
        (dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"), "", signal.SIGTERM),
        (dict.fromkeys(("ALL_PROXY", "https_proxy"), "socks5h://127.0.0.1:1080"), "socksio", signal.SIGINT),
    ],
    ids=["without network", "offline mode"],
)
def test_what_is_in_the_way_keeps_the_page_from_nothing_and_a_stop_while_computing_exits_with_status_zero(
    tmp_path, examples, settings, said, number
):
    (tmp_path / "gradio").write_text("somebody else's: nothing can be put here")
    settings = settings | {"NO_PROXY": "example.com", "DENOISER_CHECKPOINT": "user/elsewhere"}
    settings["DENOISER_EXAMPLES"] = str(examples)
    if said:
        settings["HF_HUB_OFFLINE"] = "1"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = Demo(tmp_path, temporary=None, port=port, **settings)
    try:
        log = running.log.read_text()
        assert said in log or importlib.util.find_spec("socksio")
        found = re.search(rf"Port {port} is in use; the page is on port (\d+)\.", log)
        assert found and int(found[1]) > port
        assert f"The page starts with {DEFAULT_CHECKPOINT}" in log
        stranger = Stranger(running.url)
        assert stranger.call(stranger.endpoint("run"), stranger.defaults(stranger.endpoint("run")))["success"]
        endpoint = stranger.endpoint("denoise")
        data = stranger.defaults(endpoint)
        figures = stranger.call(endpoint, [*data[:4], "", *data[5:]])["output"]["data"][3]
        assert figures["checkpoint"] == DEFAULT_CHECKPOINT and figures["psnr"]["denoised"] > 25
        assert "Hub" in stranger.call(endpoint, [*data[:4], "user/elsewhere", *data[5:]])["output"]["error"]
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)).save(tmp_path / "a.bmp")
        picture = stranger.upload(tmp_path / "a.bmp")
        (tmp_path / "a.bmp").unlink()
        assert Path(picture["path"]).is_relative_to(tmp_path)
        (folder,) = tmp_path.glob("denoiser-*")
        assert folder.stat().st_mode & 0o077 == 0
        session = uuid.uuid4().hex
        for name in (session, f"{session}-2"):
            assert stranger.join(endpoint, [picture, *stranger.defaults(endpoint)[1:]], name).status_code == 200
        next(event for event in stranger.events(session) if event["msg"] == "process_starts")
        time.sleep(0.5)
        running.process.send_signal(number)
        assert running.process.wait(600) == 0
        assert "Traceback" not in running.log.read_text() and "terminate" not in running.log.read_text()
        assert not list(tmp_path.glob("denoiser-*")) and not list(tmp_path.rglob("*.bmp"))
    finally:
        running.stop()


@pytest.mark.parametrize("address", ["127.0.0.1:x", "nonsense://a", "http://a:b:c"])
def test_a_proxy_that_is_no_address_is_named_in_a_sentence(monkeypatch, address):
    assert "http_proxy" in ended(monkeypatch, http_proxy=address)


def test_a_setting_that_cannot_be_used_is_named(monkeypatch):
    assert "in DENOISER_CHECKPOINT" in ended(monkeypatch, DENOISER_CHECKPOINT="../secret")


def test_where_no_port_is_free_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # the last one: in use by us or by another
            stack.enter_context(socket.create_server(("127.0.0.1", 65535)))
        assert "is in use; name another with --port" in ended(monkeypatch, "--port", "65535")
    assert not list(tmp_path.glob("denoiser-*"))


def test_a_machine_too_busy_to_answer_itself_in_time_starts_the_page_all_the_same(monkeypatch):
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: False)
    with GuardedBlocks(9, 9, 9, analytics_enabled=False) as page:
        gr.Markdown("the page")
    answers = []
    page.block_thread = lambda: answers.append(httpx.get(page.local_url).status_code)
    try:
        launch_page(page, Settings(), None)
    finally:
        page.close()
    assert answers == [200]
