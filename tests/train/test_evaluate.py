import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from denoiser import Denoiser
from denoiser.analysis.metrics import psnr
from tests.conftest import PHOTO
from train.evaluate import main as evaluate
from train.evaluate import name_of, peak_memory, reset_peak_memory, save_measurements


def test_evaluate_prints_the_protocols_figures(photographs, tiny_checkpoint, tmp_path, capsys):
    photographs = shutil.copytree(photographs, tmp_path / "whole", ignore=shutil.ignore_patterns("broken*"))
    command = [str(tiny_checkpoint), "--data", str(photographs), "--sigma", "25", "--dtype", "float32"]
    figures = []
    for name in ("a.json", "b.json"):
        assert evaluate([*command, "--json", str(tmp_path / name)]) == 0
        figures += json.loads((tmp_path / name).read_text())
    assert figures[0]["noisy_psnr"] == pytest.approx(20.17, abs=0.1)
    assert figures[0]["psnr"] == figures[1]["psnr"] and figures[0]["seconds_per_megapixel"] > 0
    assert f"| 25 | {figures[0]['noisy_psnr']:.2f} | {figures[0]['psnr']:.2f} |" in capsys.readouterr().out
    expected = []
    for index, path in enumerate(sorted(photographs.glob("*.png"))):
        with Image.open(path) as image:
            clean = np.asarray(image.convert("RGB"), np.float32) / 255
        noise = np.random.default_rng(index).standard_normal(clean.shape, dtype=np.float32)
        denoiser = Denoiser.from_pretrained(tiny_checkpoint, dtype="float32")
        restored = np.rint(denoiser(clean + noise * np.float32(25 / 255), 25).clip(0, 1) * 255) / 255
        expected.append(psnr(clean, restored))
    assert figures[0]["psnr"] == pytest.approx(np.mean(expected), abs=0.005)
    assert [image["psnr"] for image in figures[0]["images"].values()] == pytest.approx(expected, abs=0.005)
    assert figures[0]["peak_memory_mb"] > 50 and 0 < figures[0]["edge_fidelity"] < 1


def test_a_level_measured_again_replaces_the_earlier_figures(tmp_path):
    rows = [{"dataset": "set", "sigma": sigma, "gray": False, "estimate": False, "psnr": 1.0} for sigma in (15, 25.0)]
    save_measurements(tmp_path / "e.json", rows)
    save_measurements(tmp_path / "e.json", [rows[0] | {"sigma": 15.0, "self_ensemble": False, "psnr": 2.0}])
    save_measurements(tmp_path / "e.json", [rows[0] | {"estimate": True, "psnr": 3.0}])
    assert [row["psnr"] for row in json.loads((tmp_path / "e.json").read_text())] == [1.0, 2.0, 3.0]


def test_a_level_measured_in_float32_does_not_replace_the_one_in_bfloat16(tiny_checkpoint, tmp_path):
    Image.open(PHOTO).crop((0, 0, 24, 24)).save(tmp_path / "one.png")
    command = [str(tiny_checkpoint), "--data", str(tmp_path), "--json", str(tmp_path / "e.json"), "--sigma", "25"]
    for dtype in ("bfloat16", "float32", "float32"):
        assert evaluate([*command, "--dtype", dtype]) == 0
    assert [row["dtype"] for row in json.loads((tmp_path / "e.json").read_text())] == ["bfloat16", "float32"]


def test_a_set_is_called_as_its_folders_are_and_another_of_that_name_is_said(tmp_path, capsys):
    for folder in ("set.v1", "set.v2", "pairs/clean"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "photos.tar").touch()
    places = [str(tmp_path / name) for name in ("set.v1", "set.v2", "photos.tar")]
    assert name_of(places, False) == "set.v1 + set.v2 + photos"
    clean = [str(tmp_path / "pairs" / "clean")]
    assert name_of(clean, True) == "pairs" and name_of(clean, False) == "clean"
    row = {"dataset": "set", "sigma": 15, "pictures": 3}
    save_measurements(tmp_path / "e.json", [row])
    save_measurements(tmp_path / "e.json", [row])
    assert not capsys.readouterr().out
    save_measurements(tmp_path / "e.json", [row | {"pictures": 4}])
    assert "replaces what was measured on 3 pictures of set" in capsys.readouterr().out


def test_every_picture_is_measured_whatever_its_name(tiny_checkpoint, tmp_path):
    for index, folder in enumerate(("a/clean", "b/clean", "c")):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (24, 24), (60 * index, 90, 120)).save(tmp_path / folder / "same.png")
    command = [str(tiny_checkpoint), "--sigma", "25", "--json", str(tmp_path / "e.json"), "--data"]
    assert evaluate([*command, *(str(tmp_path / folder) for folder in ("a/clean", "b/clean", "c"))]) == 0
    (row,) = json.loads((tmp_path / "e.json").read_text())
    assert len(row["images"]) == row["pictures"] == 3
    assert row["psnr"] == pytest.approx(np.mean([image["psnr"] for image in row["images"].values()]))


def test_evaluate_measures_real_pairs(pairs, tiny_checkpoint, tmp_path):
    command = [str(tiny_checkpoint), "--data", str(pairs / "gt"), "--noisy", str(pairs / "noise")]
    assert evaluate([*command, "--json", str(tmp_path / "pairs.json")]) == 0
    (row,) = json.loads((tmp_path / "pairs.json").read_text())
    clean, noisy = (np.asarray(Image.open(pairs / role / f"00_{role}.png")) / 255 for role in ("gt", "noise"))
    assert row["images"]["00_gt.png"]["noisy_psnr"] == pytest.approx(psnr(clean, noisy), abs=0.005)
    assert row["sigma"] is None and row["pictures"] == 6
    assert row["peak_memory_mb"] == max(image["peak_memory_mb"] for image in row["images"].values()) > 50


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is of the process's whole life")
def test_peak_memory_counts_from_the_last_reset():
    processor = torch.device("cpu")
    reset_peak_memory(processor)
    before = peak_memory(processor)
    large = np.ones(25_000_000)  # 200 MB
    assert peak_memory(processor) > before + 150
    del large
    assert peak_memory(processor) > before + 150
    reset_peak_memory(processor)
    assert peak_memory(processor) < before + 50


def test_pictures_of_one_name_are_measured_apart_and_undefined_figures_are_dashes(tiny_checkpoint, tmp_path, capsys):
    for folder, value in (("a", 90), ("b", 160)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (9, 8), (value, value, 20)).save(tmp_path / folder / "01.png")
    command = [str(tiny_checkpoint), "--data", str(tmp_path / "a"), str(tmp_path / "b"), "--sigma", "0"]
    assert evaluate([*command, "--json", str(tmp_path / "row.json")]) == 0
    (row,) = json.loads((tmp_path / "row.json").read_text())
    assert list(row["images"]) == ["a/01.png", "b/01.png"] and row["noisy_psnr"] is None
    assert "| 0 | - |" in capsys.readouterr().out  # PSNR is infinite without noise


def test_evaluate_ends_with_a_sentence_on_a_bad_picture(photographs, tiny_checkpoint, capsys):
    assert evaluate([str(tiny_checkpoint), "--data", str(photographs)]) == 2
    assert "broken.jpg is not a picture" in capsys.readouterr().err


def test_evaluate_names_what_is_missing(tmp_path, capsys):
    assert evaluate(["color-small", "--data", str(tmp_path / "nowhere")]) == 2
    assert evaluate(["no-such-checkpoint", "--data", str(PHOTO.parent)]) == 2
    assert "no checkpoint 'no-such-checkpoint'" in capsys.readouterr().err
