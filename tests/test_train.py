import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image

from denoiser import Denoiser, add_noise
from denoiser.metrics import psnr
from train.__main__ import main
from train.config import ConfigError, load_config
from train.data import Photographs, find_images, split_by_name
from train.evaluate import main as evaluate

from .conftest import PHOTO, ROOT

TINY = {
    "model": {"architecture": "unet", "widths": [8, 16], "blocks": [1, 1]},
    "data": {"scale": [0.5, 1.0], "copies": 1, "candidates": 2},
    "stages": [{"until": 0.5, "patch": 32, "batch": 4}, {"until": 1.0, "patch": 40, "batch": 2, "loss": "mse"}],
    "optimizer": {"rate": 2e-3, "warmup": 5, "ema": 0.9},
    "budget": {"steps": 60},
    "bfloat16": False,
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Four crops of a photograph, one of them small, and two files that are no pictures."""
    folder = tmp_path_factory.mktemp("photographs")
    with Image.open(PHOTO) as image:
        for index in range(3):
            image.crop((index * 64, 0, index * 64 + 300, 300)).save(folder / f"p{index}.png")
        image.crop((0, 0, 20, 30)).save(folder / "small.png")
    (folder / "broken.jpg").write_bytes(b"broken")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def config(tmp_path):
    def write(**changes):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(TINY | changes))
        return path

    return write


def arguments(config, photographs, run, *more):
    return ["--config", str(config), "--data", str(photographs), "--output", str(run), "--device", "cpu", *more]


@pytest.mark.parametrize("path", sorted((ROOT / "train" / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_that_ship_are_valid(path):
    assert load_config(path).build_model().config.sigma_range == (0, 55)


def test_training_learns_and_leaves_a_checkpoint(config, photographs, tmp_path, photo, capsys):
    assert main(arguments(config(budget={"steps": 250}), photographs, tmp_path / "run")) == 0
    out, err = capsys.readouterr()
    assert "skipped" in err and "broken.jpg" in err and "held out" in out
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 250 and records[-1]["psnr_50"] > 15
    clean = photo.astype(np.float32) / 255
    noisy = add_noise(clean, "gaussian", sigma=50)
    denoiser = Denoiser.from_pretrained(tmp_path / "run" / "checkpoint", dtype="float32")
    assert psnr(clean, denoiser(noisy, 50)) > psnr(clean, noisy) + 2


@pytest.mark.parametrize("architecture", ["bottleneck"])
def test_the_other_architectures_train_too(config, photographs, tmp_path, architecture):
    model = {"architecture": architecture, "widths": [8, 16], "blocks": 1, "latent": 12}
    assert main(arguments(config(model=model, budget={"steps": 4}), photographs, tmp_path / "run")) == 0
    assert Denoiser.from_pretrained(tmp_path / "run" / "checkpoint").model.config.architecture == architecture


def test_grey_networks_train_on_grey_crops(config, photographs, tmp_path):
    model = TINY["model"] | {"channels": 1}
    assert main(arguments(config(model=model, budget={"steps": 4}), photographs, tmp_path / "run")) == 0


def test_a_wall_clock_budget_ends_the_run(config, photographs, tmp_path):
    assert main(arguments(config(), photographs, tmp_path / "run", "--minutes", "0.03")) == 0
    record = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert 1.8 <= record["seconds"] < 10 and record["rate"] < 2e-4


def weights(run):
    return safetensors.torch.load_file(run / "checkpoint" / "model.safetensors")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_to_the_same_weights(config, photographs, tmp_path, number):
    path = config(budget={"steps": 200})
    command = [sys.executable, "-m", "train", *arguments(path, photographs, tmp_path / "cut", "--save-every", "0.3")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 100
    while not (tmp_path / "cut" / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), output
    reached = torch.load(tmp_path / "cut" / "state.pt", weights_only=True)["step"]
    assert 0 < reached < 200
    resumed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert resumed.returncode == 0 and f"at step {reached}" in resumed.stdout, resumed.stderr
    command[command.index(str(tmp_path / "cut"))] = str(tmp_path / "whole")
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=100)
    cut, whole = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert all(torch.equal(cut[name], whole[name]) for name in whole)
    assert not list((tmp_path / "cut").rglob("*.partial"))


def test_seeds_decide(config, photographs, tmp_path):
    for run, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(arguments(config(budget={"steps": 3}), photographs, tmp_path / run, "--seed", seed)) == 0
    a, b, c = (weights(tmp_path / run)["head.weight"] for run in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_run_of_another_configuration_is_not_touched(config, photographs, tmp_path, capsys):
    assert main(arguments(config(budget={"steps": 2}), photographs, tmp_path / "run")) == 0
    before = weights(tmp_path / "run")
    assert main(arguments(config(budget={"steps": 9}), photographs, tmp_path / "run")) == 2
    assert "another configuration" in capsys.readouterr().err
    assert torch.equal(weights(tmp_path / "run")["head.weight"], before["head.weight"])


def test_divergence_stops_with_a_message_and_keeps_the_last_good_state(config, photographs, tmp_path, capsys):
    wild = TINY["optimizer"] | {"rate": 0.99, "clip": 1e9, "warmup": 0, "weight_decay": 0.0}
    model = {"architecture": "unet", "widths": [8, 16], "blocks": [8, 8]}
    status = main(arguments(config(optimizer=wild, model=model, budget={"steps": 200}), photographs, tmp_path / "run"))
    assert status == 1 and "the loss is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"architecture": "resnet"}}, "architecture 'resnet'"),
        ({"model": {"architecture": "unet", "width": [8]}}, "unknown fields \\['width'\\]"),
        ({"stages": [{"until": 0.5, "patch": 32, "batch": 4}]}, "until must rise to 1.0"),
        ({"stages": [{"until": 1, "patch": 32, "batch": 4, "loss": "l3"}]}, "loss must be l1 or mse"),
        ({"stages": [{"until": 1, "patch": 32}]}, "batch"),
        ({"optimizer": {"rate": "fast"}}, "optimizer.rate must be a float"),
        ({"optimizer": {"speed": 1}}, "unknown speed"),
        ({"budget": {}}, "either minutes or steps"),
        ({"data": {"scale": [0.9, 0.2]}}, "scale must rise"),
        ({"colour": True}, "unknown colour"),
    ],
)
def test_mistakes_in_a_configuration_are_named_before_any_work(config, photographs, tmp_path, capsys, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_config(config(**changes))
    assert main(arguments(config(**changes), photographs, tmp_path / "run")) == 2
    assert "error:" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_missing_and_empty_data_are_named_before_any_work(config, tmp_path, capsys):
    assert main(arguments(config(), tmp_path / "nowhere", tmp_path / "run")) == 2
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(arguments(config(), tmp_path / "empty", tmp_path / "run")) == 2
    assert "no pictures" in capsys.readouterr().err


def test_crops_are_flips_and_turns_of_what_is_there(tmp_path):
    places = np.stack(np.broadcast_arrays(*np.ogrid[:60, :90], 7), axis=-1).astype(np.uint8)  # each pixel its place
    Image.fromarray(places).save(tmp_path / "places.png")
    data = Photographs([tmp_path / "places.png"], 3, (1.0, 1.0), 1, 32, torch.device("cpu"))
    crops = (data.crops(64, 32, 1, torch.Generator().manual_seed(0)) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    forms_seen, corners = set(), set()
    for crop in crops:
        top, left = crop[..., 0].min(), crop[..., 1].min()
        there = places[top : top + 32, left : left + 32]
        forms = [np.rot90(form, turns) for form in (there, there[:, ::-1]) for turns in range(4)]
        matches = [index for index, form in enumerate(forms) if np.array_equal(form, crop)]
        assert len(matches) == 1
        forms_seen.update(matches)
        corners.add((int(top), int(left)))
    assert forms_seen == set(range(8)) and len(corners) > 50
    assert max(top for top, _ in corners) > 24 and max(left for _, left in corners) > 50


def test_livelier_crops_are_preferred(photographs):
    data = Photographs(find_images([photographs])[1:4], 3, (1.0, 1.0), 1, 32, torch.device("cpu"))

    def texture(candidates):
        crops = data.crops(64, 32, candidates, torch.Generator().manual_seed(0))
        return float((crops[..., 1:] - crops[..., :-1]).abs().mean())

    assert texture(4) > texture(1) * 1.1


def test_the_split_depends_on_names_alone(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(400)]
    training, held_out = split_by_name(paths, 0.1)
    assert 20 < len(held_out) < 60 and sorted(training + held_out) == sorted(paths)
    assert set(split_by_name(paths[::2], 0.1)[1]) == set(held_out) & set(paths[::2])
    assert [len(part) for part in split_by_name(paths[:2], 0.001)] == [1, 1]


def test_evaluate_prints_the_protocols_figures(photographs, tiny_checkpoint, tmp_path, capsys):
    (photographs / "broken.jpg").unlink(missing_ok=True)
    command = [str(tiny_checkpoint), "--data", str(photographs), "--sigma", "25", "--dtype", "float32"]
    figures = []
    for name in ("a.json", "b.json"):
        assert evaluate([*command, "--json", str(tmp_path / name)]) == 0
        figures.append(json.loads((tmp_path / name).read_text())["25"])
    assert figures[0]["noisy_psnr"] == pytest.approx(20.17, abs=0.1)
    assert figures[0]["psnr"] == figures[1]["psnr"] and figures[0]["seconds_per_megapixel"] > 0
    assert f"| 25 | {figures[0]['noisy_psnr']:.2f} | {figures[0]['psnr']:.2f} |" in capsys.readouterr().out
    expected = []
    for index, path in enumerate(sorted(photographs.glob("*.png"))):
        with Image.open(path) as image:
            clean = np.asarray(image.convert("RGB"), np.float32) / 255
        noise = np.random.default_rng(index).standard_normal(clean.shape, dtype=np.float32)
        denoiser = Denoiser.from_pretrained(tiny_checkpoint, dtype="float32")
        restored = np.rint(denoiser(clean + noise * np.float32(25 / 255), 25) * 255) / 255
        expected.append(psnr(clean, restored))
    assert figures[0]["psnr"] == pytest.approx(np.mean(expected), abs=0.005)


def test_evaluate_names_what_is_missing(tmp_path, capsys):
    assert evaluate(["color-small", "--data", str(tmp_path / "nowhere")]) == 2
    assert evaluate(["no-such-checkpoint", "--data", str(PHOTO.parent)]) == 2
    assert "no checkpoint 'no-such-checkpoint'" in capsys.readouterr().err
