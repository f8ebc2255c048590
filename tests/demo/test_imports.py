"""What comes in from outside comes in through ``main``: importing the demo's modules does nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import denoiser.demo
from denoiser.demo.settings import Settings
from tests.conftest import ROOT

MODULES = sorted(f"denoiser.demo.{path.stem}" for path in Path(denoiser.demo.__file__).parent.glob("[!_]*.py"))
MODULES.append("denoiser.demo.__main__")

# Packages that the demo needs are imported first: what they do at their import is theirs.
PROGRAM = """
import importlib, json, os, sys, threading
import gradio, jinja2, skimage.metrics, torch, denoiser

read = []
class Watched(dict):
    def __getitem__(self, name):
        read.append(name)
        return super().__getitem__(name)
    def get(self, name, default=None):
        read.append(name)
        return super().get(name, default)
    def __contains__(self, name):
        read.append(name)
        return super().__contains__(name)

before, made, connected, watching = set(threading.enumerate()), [], [], True
def hook(event, arguments):
    if watching and event in ("os.mkdir", "tempfile.mkdtemp", "tempfile.mkstemp"):
        made.append(str(arguments[0]))
    if watching and event in ("socket.connect", "subprocess.Popen"):
        connected.append(event)
sys.addaudithook(hook)
original, os.environ = os.environ, Watched(os.environ)
for name in sys.argv[1:]:
    importlib.import_module(name)
os.environ, watching = original, False
threads = [thread.name for thread in threading.enumerate() if thread not in before]
read = [name for name in read if name.startswith(("DENOISER_", "GRADIO_")) or name.lower().endswith("_proxy")]
print(json.dumps({"read": read, "made": made, "connected": connected, "threads": threads}))
"""


def test_importing_any_module_starts_nothing_and_reads_no_setting(tmp_path):
    poison = {"DENOISER_CHECKPOINT": "../x", "DENOISER_CHECKPOINTS": "/", "DENOISER_MAX_MB": "much"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *MODULES],
        env=os.environ | poison | {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found == {"read": [], "made": [], "connected": [], "threads": []}
    assert not list(tmp_path.glob("denoiser-*"))


WITHOUT = """
import runpy, sys
sys.modules |= {"gradio": None, "jinja2": None}  # as where they are not installed
app = sys.argv.pop()
for _ in range(2):
    try:
        runpy.run_path(app, run_name="__main__")
    except SystemExit as ended:
        print(ended.code)
    sys.modules.pop("jinja2", None)
"""


def test_without_the_extra_a_sentence_names_the_command(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(ROOT / "app.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    for line, missing in zip(result.stdout.splitlines(), ("jinja2", "gradio"), strict=True):
        assert missing in line and "pip install 'denoising-autoencoder[demo]'" in line
    assert not list(tmp_path.glob("denoiser-*"))


def test_settings_come_from_the_environment_that_is_passed():
    assert Settings.from_environment({}) == Settings()
    settings = Settings.from_environment(
        {
            "DENOISER_CHECKPOINT": "user/one",
            "DENOISER_CHECKPOINTS": "color-small, user/two@v1 user/one",
            "DENOISER_AUTHOR": "user",
            "DENOISER_COLLECTION": "user/list",
            "DENOISER_TAG": "",
            "DENOISER_MAX_MB": "0.5",
            "DENOISER_LIVE_MP": "0.25",
        }
    )
    assert settings.checkpoint == "user/one" and settings.trusted_names == ("user/one", "user/two@v1")
    assert (settings.author, settings.collection, settings.tag) == ("user", "user/list", "")
    assert settings.max_weights_bytes == 500_000 and settings.interactive_pixels == 250_000


NUMBERS = ["DENOISER_MAX_MB", "DENOISER_LIVE_MP", "DENOISER_TEMP_MB"]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, "../x") for name in ("DENOISER_CHECKPOINT", "DENOISER_CHECKPOINTS", "DENOISER_EXAMPLES", *NUMBERS)]
    + [(name, value) for name in NUMBERS for value in ("0", "-5", "nan", "inf", "1e300")]
    + [("GRADIO_SERVER_PORT", value) for value in ("abc", "0", "-1", "70000", "78.5")],
)
def test_a_variable_that_cannot_be_used_is_named(name, value):
    with pytest.raises(ValueError, match=f"^in {name}: "):
        Settings.from_environment({name: value})
