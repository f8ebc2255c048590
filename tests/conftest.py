"""What several tests need: a picture, a small checkpoint with random weights, and the running demo."""

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.gradio_stubs import keep_stubs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# huggingface_hub reads these when it is imported: all tests talk to a Hub of ours on the loopback, or to nobody.
HUB_PORT = free_port()
HUB_HOME = tempfile.TemporaryDirectory(prefix="denoiser-tests-")
os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{HUB_PORT}", "HF_HOME": HUB_HOME.name, "HF_HUB_DISABLE_XET": "1"}
for _name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
    os.environ.pop(_name, None)

keep_stubs()

# Workers share the cores, and so do the processes they start: more threads than cores wait for each other.
if WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // WORKERS))

PATIENT = {"timeout": 600}
"""Of httpx, which waits for 5 s: no verdict depends on the machine's speed."""
# What is large is imported where it is needed: the process that only hands tests out to the workers needs none of it.
ROOT = Path(__file__).parent.parent
PHOTO = ROOT / "examples" / "temple.jpg"


def share_blobs(cache_dir: Path) -> None:
    """Lay a cache out as downloads over Xet leave it: blobs are links into a store shared between repositories."""
    from huggingface_hub.utils._shared_blobs import publish_blob_to_shared_store

    for blob in Path(cache_dir).glob("models--*/blobs/*"):
        if not blob.is_symlink():
            name = hashlib.sha256(b"xet" + blob.read_bytes()).hexdigest()
            size = blob.stat().st_size
            assert publish_blob_to_shared_store(
                blob_path=str(blob), xet_hash=name, cache_dir=str(cache_dir), expected_size=size
            )
            assert blob.is_symlink()


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph, uint8 (256, 256, 3)."""
    from PIL import Image

    with Image.open(PHOTO) as image:
        return np.asarray(image.convert("RGB"))[128:384, 128:384].copy()


@pytest.fixture(scope="session")
def tiny_model():
    """A network with random weights that is quick to run and does change its input."""
    import torch

    from denoiser.models import Unet, UnetConfig

    torch.manual_seed(0)
    return Unet(UnetConfig(widths=(8, 12, 16), blocks=(1, 1, 1))).eval()


@pytest.fixture
def tiny_checkpoint(tiny_model, tmp_path) -> Path:
    folder = tmp_path / "tiny"
    tiny_model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def hub_server():
    """The Hub that this process's huggingface_hub talks to."""
    from tests.hub_server import Hub

    server = Hub(HUB_PORT)
    yield server
    server.stop()


@pytest.fixture
def hub(hub_server, tiny_checkpoint, monkeypatch):
    """That Hub, holding one small checkpoint, user/tiny, and asked anonymously; on a busy machine it is waited for."""
    from denoiser.download import fetch
    from denoiser.hub import catalogue

    for module, name in ((fetch, "TIMEOUT"), (fetch, "TIMEOUT_IF_CACHED"), (catalogue, "TIMEOUT")):
        monkeypatch.setattr(module, name, 600.0)
    hub_server.repositories.clear()
    hub_server.collections.clear()
    hub_server.faults.clear()
    hub_server.go_on.clear()
    hub_server.renamed.clear()
    hub_server.requests.clear()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    hub_server.put("user/tiny", tiny_checkpoint)
    yield hub_server
    hub_server.faults.clear()
    hub_server.go_on.set()
    for name in ("hub", "denoiser-visitors"):
        shutil.rmtree(Path(HUB_HOME.name, name), ignore_errors=True)


@contextlib.contextmanager
def chromium(flags: list[str]):
    """A running Chromium; the test is skipped where there is none, and fails under CI=true."""
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("the browser tests need Debian's chromium package")
        pytest.skip("there is no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


SITECUSTOMIZE = """
import os, socket, sys, threading, time

def guarded(name):
    original = getattr(socket.socket, name)
    def connect(self, address):
        if isinstance(address, tuple) and str(address[0]) not in ('127.0.0.1', '::1', 'localhost'):
            open({refused!r}, 'a').write(f'{{address}}\\n')
            raise OSError(101, 'Network is unreachable')
        return original(self, address)
    setattr(socket.socket, name, connect)
guarded('connect'); guarded('connect_ex')

def hold_long_calls():
    while not hasattr(sys.modules.get('denoiser.demo.experiment_runner'), 'ExperimentRunner'):
        time.sleep(0.05)
    Runner = sys.modules['denoiser.demo.experiment_runner'].ExperimentRunner
    original = Runner._progress
    def progress(self, turn, *given):
        check = original(self, turn, *given)
        def held(share):
            check(share)
            while turn.long and 0 < share < 1 and os.path.exists({hold!r}):
                time.sleep(0.01)
                turn.pause()
        return held
    Runner._progress = progress
threading.Thread(target=hold_long_calls, daemon=True).start()

found = {{}}
exec(open({stubs!r}).read(), found)
found["keep_stubs"]()
"""
"""Python imports it first thing: every connection beyond loopback is refused and noted, and while there is a file
``hold``, what is computed in tiles stays between two of them, where others pass, as if it had tiles without end."""


class Demo:
    """``python app.py`` in a process of its own, with a home and caches of its own and no way out but loopback."""

    def __init__(self, folder: Path, temporary: Path | None = Path("gradio"), port: int | None = None, **settings: str):
        self.log, self.refused, self.hold = folder / "app.log", folder / "refused.txt", folder / "hold"
        self.url = f"http://127.0.0.1:{port or free_port()}"
        self.temporary = temporary and folder / temporary
        (folder / "guard").mkdir()
        paths = {"refused": self.refused, "hold": self.hold, "stubs": ROOT / "tests" / "gradio_stubs.py"}
        guard = SITECUSTOMIZE.format(**{name: str(path) for name, path in paths.items()})
        (folder / "guard" / "sitecustomize.py").write_text(guard)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "GRADIO_"))}
        environment |= {
            "PYTHONPATH": str(folder / "guard"),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder),
            "PYTHONUNBUFFERED": "1",
        } | settings
        if self.temporary:
            environment["GRADIO_TEMP_DIR"] = str(self.temporary)
        (folder / "home").mkdir()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "app.py"), "--port", self.url.rsplit(":", 1)[1]],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 600  # a process that ended is noticed at once
        while True:
            if port and (other := re.search(r"the page is on port (\d+)", self.log.read_text())):
                self.url = f"http://127.0.0.1:{other[1]}"
            try:
                urllib.request.urlopen(self.url, timeout=5).read()
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"the demo did not start:\n{self.log.read_text()}") from None
                time.sleep(0.2)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def examples(tmp_path_factory) -> Path:
    """A folder of the middles of the example photos, 128 x 128: a sixteenth of the time for each visitor."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("examples")
    for path in PHOTO.parent.glob("*.jpg"):
        with Image.open(path) as image:
            left, top = (image.width - 128) // 2, (image.height - 128) // 2
            image.crop((left, top, left + 128, top + 128)).save(folder / path.name, quality=97, subsampling=0)
    return folder


@pytest.fixture(scope="session")
def on_device(tmp_path_factory) -> Path:
    """The folder of the page for the browser, which the demo serves and tests/web builds."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "models").mkdir()
    (folder / "models" / "models.json").write_text("[]")
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory, hub_server, examples, on_device):
    """The demo as a host runs it, with examples and a token of their own; its Hub is ours."""
    folder = tmp_path_factory.mktemp("demo")
    settings = {"DENOISER_EXAMPLES": str(examples), "DENOISER_ON_DEVICE": str(on_device)}
    settings |= {"HF_TOKEN": "token-of-user", "HF_HUB_DISABLE_XET": "1"}
    settings["DENOISER_LIVE_MP"] = "0.066"  # a photo of an eighth of a megapixel is large then
    running = Demo(folder, HF_ENDPOINT=hub_server.url, **settings)
    yield running
    running.stop()
    left = sorted(folder.rglob("*.png"))
    shutil.rmtree(folder, ignore_errors=True)
    assert not left, "visitors' pictures stay on the disk of a demo that was stopped"


def run_async(coroutine):
    """The result of a coroutine, in a thread of its own: where a browser has been used, this one has a loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
