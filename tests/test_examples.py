"""The example scripts, where what they need is installed."""

import runpy
import sys

import pytest
from PIL import Image

from tests.conftest import PHOTO, ROOT


def test_plug_and_play_restores_a_blurred_picture(tmp_path, monkeypatch, capsys):
    pytest.importorskip("deepinv", reason="deepinv is needed by this example alone: pip install deepinv")
    with Image.open(PHOTO) as image:
        image.crop((128, 128, 384, 384)).save(tmp_path / "photo.png")
    arguments = ["plug_and_play.py", str(tmp_path / "photo.png"), "-o", str(tmp_path / "restored.png")]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(ROOT / "examples" / "plug_and_play.py"), run_name="__main__")
    before, after = (float(line.split(": ")[1].split()[0]) for line in capsys.readouterr().out.splitlines()[:2])
    assert after > before + 1.5
    assert (tmp_path / "restored.png").is_file()
