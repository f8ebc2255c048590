"""The comparison of runtimes, on a small network."""

import re

from PIL import Image

from benchmarks import runtimes
from denoiser.models import Unet, UnetConfig
from tests.conftest import PHOTO


def test_every_combination_has_figures_or_a_reason(tmp_path):
    Unet(UnetConfig(widths=(8, 12), blocks=(1, 1))).save_pretrained(tmp_path / "small")
    (tmp_path / "pictures").mkdir()
    with Image.open(PHOTO) as image:
        image.crop((0, 0, 60, 50)).save(tmp_path / "pictures" / "a.png")
    table = runtimes.report(str(tmp_path / "small"), tmp_path / "pictures", pictures=1, size=64, runs=1)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [row[:2] for row in rows if row[0] == "torch"] == [["torch", p] for p in ("float32", "bfloat16", "int8")]
    reasons = {(row[0], row[1]) for row in rows if row[2].startswith("no: ")}
    assert reasons == {("torch", "int8"), ("onnxruntime", "bfloat16")}
    lost = {(row[0], row[1]): row[4] for row in rows if not row[2].startswith("no: ")}
    assert len(lost) == 9 and all(re.fullmatch(r"(-?\d\.\d{3}(, |$)){4}", text) for text in lost.values())
    for runtime in ("torch", "onnxruntime", "openvino"):
        assert all(abs(float(value)) < 0.002 for value in lost[runtime, "float32"].split(", "))


def test_a_blind_checkpoint_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["runtimes", "photo", "--data", str(tmp_path)])
    assert runtimes.main() == 2 and "takes no noise level" in capsys.readouterr().err
