"""The demo's process: proxies in the environment, ports in use, folders of others, and its end."""

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, Demo

from .stranger import Stranger


@pytest.mark.parametrize(
    ("proxy", "said", "names"),
    [
        ("http://127.0.0.1:9", "", ("http_proxy", "https_proxy", "all_proxy")),
        ("socks5h://127.0.0.1:1080", "socksio", ("ALL_PROXY", "https_proxy")),
    ],
)
def test_a_proxy_in_the_environment_keeps_the_page_from_nothing(tmp_path, proxy, said, names):
    settings = dict.fromkeys(names, proxy) | {"NO_PROXY": "example.com"}
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
def test_a_stop_while_computing_exits_with_status_zero(tmp_path, number):
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
        assert running.process.wait(60) == 0
        assert "Traceback" not in running.log.read_text() and "terminate" not in running.log.read_text()
        assert not [path for path in tmp_path.rglob("*.bmp")]
    finally:
        running.stop()
