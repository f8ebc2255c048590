import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from denoiser import Denoiser, add_noise
from denoiser.analysis.metrics import psnr
from tests.conftest import ROOT, free_port
from tests.train.conftest import TINY, weights
from train.__main__ import main
from train.evaluate import main as evaluate
from train.publish import main as publish


def test_training_learns_and_leaves_a_checkpoint(config, photographs, tmp_path, photo, capsys, arguments):
    assert main(arguments(config(budget={"steps": 250}), photographs, tmp_path / "run")) == 0
    out, err = capsys.readouterr()
    assert "skipped" in err and "broken.jpg" in err and "held out" in out
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 250 and records[-1]["psnr_50"] > 15
    clean = photo.astype(np.float32) / 255
    noisy = add_noise(clean, "gaussian", sigma=50)
    denoiser = Denoiser.from_pretrained(tmp_path / "run" / "checkpoint", dtype="float32")
    assert psnr(clean, denoiser(noisy, 50)) > psnr(clean, noisy) + 2
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["steps"] == 250 and run["data"]["training"] + run["data"]["held_out"] == 4
    assert set(run["data"]["licenses"]) <= {"CC0", "CC BY"}
    for name in ("curve.png", "samples.png"):
        with Image.open(tmp_path / "run" / name) as drawn:
            assert np.asarray(drawn).std() > 5
    # The held-out crops are kept, so that what the run says of itself can be measured again.
    measured = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    held_out = str(tmp_path / "run" / "validation")
    assert evaluate([str(tmp_path / "run" / "checkpoint"), "--data", held_out, "--json", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again").read_text())
    assert [row["sigma"] for row in again] == [15, 25, 50] and run["data"]["places"] == [photographs.name]
    for first, second in zip(measured, again):
        assert first["psnr"] == pytest.approx(second["psnr"], abs=0.005)


def test_the_other_architecture_and_gray_networks_train_too(config, photographs, tmp_path, arguments):
    model = {"architecture": "bottleneck", "widths": [8, 16], "blocks": 1, "latent": 12, "channels": 1}
    assert main(arguments(config(model=model, budget={"steps": 4}), photographs, tmp_path / "run")) == 0
    trained = Denoiser.from_pretrained(tmp_path / "run" / "checkpoint").model.config
    assert (trained.architecture, trained.channels) == ("bottleneck", 1)


def test_weights_can_be_stored_in_half_the_size(config, photographs, tmp_path, arguments):
    data = TINY["data"] | {"permute_channels": 0.5, "flat": 0.5}
    path = config(budget={"steps": 2}, checkpoint_dtype="bfloat16", data=data)
    assert main(arguments(path, photographs, tmp_path / "run")) == 0
    assert {tensor.dtype for tensor in weights(tmp_path / "run").values()} == {torch.bfloat16}


def test_training_on_own_pairs(config, pairs, tmp_path, arguments):
    more = ["--clean", str(pairs / "gt"), "--noisy", str(pairs / "noise")]
    path = config(budget={"steps": 120}, data={"validation_share": 0.2})
    assert main(arguments(path, None, tmp_path / "run", *more)) == 0
    measured = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert len(measured) == 1 and measured[0]["sigma"] is None
    assert measured[0]["psnr"] > measured[0]["noisy_psnr"] + 1
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    facts["config"]["noise"] = [{"kind": "camera"}]  # which pairs have no use for
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    assert publish([str(tmp_path / "run"), "--folder", str(tmp_path / "mine"), "--force"]) == 0
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    assert "real pairs" in card and "--noisy NOISY" in card and "--sigma 15" not in card
    assert "noise like that it was trained on (that of its pairs)" in card and "Pictures from `gt`, `noise`." in card


@pytest.mark.parametrize("in_tar", [False, True])
def test_damaged_pictures_and_links_to_nothing_are_skipped_and_counted(
    config, photographs, tmp_path, arguments, capsys, in_tar
):
    folder = shutil.copytree(photographs, tmp_path / "photographs")
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "TIFF")
    damaged = bytearray(buffer.getvalue())
    entries = int.from_bytes(damaged[4:8], "little")
    damaged[entries + 2 : entries + 4] = b"\xff\xff"  # its width is called something else
    (folder / "damaged.tif").write_bytes(damaged)
    (folder / "gone.png").symlink_to("nowhere.png")
    if in_tar:
        with tarfile.open(folder / "all.tar", "w") as tar:
            tar.add(folder / "damaged.tif", "damaged.tif")
        (folder / "damaged.tif").unlink()
    assert main(arguments(config(budget={"steps": 1}), folder, tmp_path / "run")) == 0
    skipped = capsys.readouterr().err
    assert all(f"skipped {name}" in skipped for name in ("damaged.tif", "broken.jpg")) and "gone.png" in skipped
    data = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert data["training"] + data["held_out"] == 4 and sum(data["licenses"].values()) == data["training"]


def test_two_machines_with_caches_of_their_own_learn_what_one_process_learns(config, photographs, tmp_path, arguments):
    path = config(budget={"steps": 8})
    # As `accelerate launch --multi_gpu --num_machines 2` starts the program on each, after it has loaded torch itself.
    both = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
    started = []
    for machine in "01":
        of_its_own = ["--cache", str(tmp_path / f"cache-{machine}")]
        command = [sys.executable, "-m", "train", *arguments(path, photographs, tmp_path / "two", *of_its_own)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        environment = os.environ | both | {"OMP_NUM_THREADS": "1", "RANK": machine, "LOCAL_RANK": "0"}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
    outputs = [process.communicate(timeout=600)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert "2 process(es)" in outputs[0]
    assert main(arguments(path, photographs, tmp_path / "one")) == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_an_output_that_cannot_be_written_is_named_before_any_work(config, photographs, tmp_path, arguments, capsys):
    (tmp_path / "run").write_text("a file of mine")
    assert main(arguments(config(), photographs, tmp_path / "run")) == 2
    assert "File exists" in capsys.readouterr().err and (tmp_path / "run").read_text() == "a file of mine"


def test_a_tracker_that_is_not_there_is_named_before_any_work(config, photographs, tmp_path, arguments, capsys):
    assert main(arguments(config(), photographs, tmp_path / "run", "--tracker", "nonesuch")) == 2
    assert "--tracker nonesuch is not installed" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_space_is_for_trackio_only(config, photographs, tmp_path, arguments, capsys, monkeypatch):
    monkeypatch.setattr("train.plan.get_available_trackers", lambda: ["trackio", "wandb"])
    for name in ("wandb:user/space", "trackio:space"):
        assert main(arguments(config(), photographs, tmp_path / "run", "--tracker", name)) == 2
        assert "only trackio takes a Space" in capsys.readouterr().err


def test_metrics_go_to_a_tracker(config, photographs, tmp_path, arguments, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio", reason="a tracker is optional: pip install trackio")
    path = config(budget={"steps": 3})
    assert main(arguments(path, photographs, tmp_path / "run", "--tracker", "trackio")) == 0
    assert list((tmp_path / "trackio").rglob("*.db"))


def test_missing_and_empty_data_are_named_before_any_work(config, tmp_path, capsys, arguments):
    assert main(arguments(config(), tmp_path / "nowhere", tmp_path / "run")) == 2
    assert "there is no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(arguments(config(), tmp_path / "empty", tmp_path / "run")) == 2
    assert "no pictures" in capsys.readouterr().err


def test_each_kind_of_loss_is_averaged_and_logged_by_itself(config, photographs, tmp_path, arguments):
    stages = [TINY["stages"][0], TINY["stages"][1] | {"loss": "log_mse"}]
    path = config(stages=stages, budget={"steps": 40})
    assert main(arguments(path, photographs, tmp_path / "run", "--save-every", "0.01")) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["objective"] for record in log] == sorted(record["objective"] for record in log)  # l1, log_mse
    assert {record["objective"] for record in log} == {"l1", "log_mse"}
    assert all(record["loss"] > 0 if record["objective"] == "l1" else record["loss"] < -2 for record in log)
