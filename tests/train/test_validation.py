import json
import shutil

import numpy as np
import pytest
from PIL import Image

from denoiser import add_noise
from tests.train.conftest import TINY
from train.__main__ import main
from train.config import ConfigError, load_config
from train.validation import Validation


def test_pictures_all_smaller_than_the_crops_are_told(tmp_path, config, capsys):
    for folder in ("clean", "noisy"):
        (tmp_path / folder).mkdir()
        for index in range(4):
            Image.new("RGB", (24, 24), (index * 9, 50, 90)).save(tmp_path / folder / f"{index}.png")
    path = config(stages=[{"until": 1.0, "patch": 64, "batch": 4}])
    folders = ["--clean", str(tmp_path / "clean"), "--noisy", str(tmp_path / "noisy")]
    assert main(["--config", str(path), "--output", str(tmp_path / "run"), "--cpu", *folders]) == 2
    said = capsys.readouterr().err
    assert "none of the pictures could be used" in said and "smaller than the crops" in said


def test_names_to_hold_out_that_are_not_there_are_said_and_all_of_them_is_an_error(
    config, photographs, tmp_path, arguments, capsys
):
    names = sorted(path.name for path in photographs.glob("*.[pj]*g"))
    path = config(budget={"steps": 1}, data=TINY["data"] | {"held_out": {"crisp": ["p1.png", "elsewhere.png"]}})
    assert main(arguments(path, photographs, tmp_path / "run")) == 0
    assert "not held out: elsewhere.png" in capsys.readouterr().err
    path = config(budget={"steps": 1}, data=TINY["data"] | {"held_out": {"all": names}})
    assert main(arguments(path, photographs, tmp_path / "none")) == 2
    assert "none is left to train on" in capsys.readouterr().err


def test_held_out_groups_are_scored_apart_and_as_a_mean(config, photographs, tmp_path, arguments):
    (tmp_path / "names.yaml").write_text("crisp: [p0.png]\nsmooth: [p1.png]\n")
    path = config(budget={"steps": 1}, data=TINY["data"] | {"held_out": "names.yaml"})
    assert main(arguments(path, photographs, tmp_path / "run")) == 0
    (record,) = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    scores = record["groups"]["25"]
    assert scores.keys() == {"crisp", "smooth"} and record["psnr_25"] == pytest.approx(sum(scores.values()) / 2)
    images = {row["sigma"]: row["images"] for row in json.loads((tmp_path / "run" / "evaluation.json").read_text())}
    assert images[25]["000-crisp.png"]["psnr"] == pytest.approx(scores["crisp"], abs=0.01)
    (tmp_path / "names.yaml").write_text("crisp: p0.png\n")
    with pytest.raises(ConfigError, match=r"held_out\.crisp must be a list of file names"):
        load_config(path)


def test_a_run_without_a_usable_picture_is_refused(config, tmp_path, arguments, capsys):
    (tmp_path / "bad").mkdir()
    for index in range(3):
        (tmp_path / "bad" / f"{index}.png").write_bytes(b"bad")
    assert main(arguments(config(), tmp_path / "bad", tmp_path / "run")) == 2
    assert "none of the pictures could be used; the first: 0.png" in capsys.readouterr().err


def test_an_unreadable_held_out_picture_is_replaced_by_the_next(config, photographs, tmp_path, arguments, capsys):
    folder = shutil.copytree(photographs, tmp_path / "photographs", ignore=shutil.ignore_patterns("broken*"))
    (folder / "p0.png").write_bytes(b"bad")
    path = config(budget={"steps": 1}, data=TINY["data"] | {"held_out": {"one": ["p0.png"]}})
    assert main(arguments(path, folder, tmp_path / "run")) == 0
    assert "skipped p0.png" in capsys.readouterr().err
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["data"]["training"] == 2 and facts["data"]["held_out"] == 1


def test_noise_far_above_white_does_not_end_a_run(tiny_model):
    white = np.full((1100, 1100, 3), 255, np.uint8)
    assert add_noise(white / np.float32(255), "poisson", seed=0, peak=1).max() > 8  # more than a picture may hold
    validation = Validation({"white": [white]}, {"dim": ("poisson", {"peak": 1})})
    assert 0 < validation.measure(tiny_model)["dim"]["white"] < 40
