import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image

from denoiser import Denoiser, ImageUnreadable, add_noise
from denoiser.analysis.metrics import psnr
from tests.conftest import PHOTO, ROOT
from train.__main__ import main
from train.config import ConfigError, Optimizer, load_config
from train.data.mixture import NoiseMixture
from train.data.photographs import Photographs
from train.data.sources import Source, find_images, match_pairs, split_held_out
from train.evaluate import forget_peak, peak_memory, record
from train.evaluate import main as evaluate
from train.optim import learning_rate
from train.publish import main as publish
from train.state import lock_run
from train.trainer import Trainer
from train.validation import Validation

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
    """Four crops of a photograph, one of them small, two files that are no pictures, and a table of licences."""
    folder = tmp_path_factory.mktemp("photographs")
    with Image.open(PHOTO) as image:
        for index in range(3):
            image.crop((index * 64, 0, index * 64 + 300, 300)).save(folder / f"p{index}.png")
        image.crop((0, 0, 20, 30)).save(folder / "small.png")
    (folder / "broken.jpg").write_bytes(b"broken")
    (folder / "notes.txt").write_text("no picture")
    (folder / "about.tsv").write_text("file\tlicence\np0.png\tCC0\np1.png\tCC BY\np2.png\tCC0\nsmall.png\tCC0\n")
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Six noisy/clean pairs, named as camera data sets name them."""
    folder = tmp_path_factory.mktemp("pairs")
    with Image.open(PHOTO) as image:
        whole = np.asarray(image)
    for index in range(6):
        clean = whole[index * 40 : index * 40 + 80, :90]
        noisy = add_noise(clean / 255, "sensor", seed=index, gain=4, read=10).clip(0, 1)
        for role, pixels in (("gt", clean), ("noise", np.rint(noisy * 255).astype(np.uint8))):
            (folder / role).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / role / f"{index:02d}_{role}.png")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def config(tmp_path):
    def write(**changes):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(TINY | changes))
        return path

    return write


@pytest.fixture
def arguments(cache):
    def arguments(config, photographs, run, *more):
        start = ["--config", str(config), "--output", str(run), "--cpu", "--cache", str(cache)]
        return [*start, *(["--data", str(photographs)] if photographs else []), *more]

    return arguments


@pytest.mark.parametrize("path", sorted((ROOT / "train" / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_that_ship_are_valid(path):
    assert load_config(path).build_model().config.sigma_range[1] >= 50


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


@pytest.mark.parametrize("architecture", ["bottleneck"])
def test_the_other_architectures_train_too(config, photographs, tmp_path, architecture, arguments):
    model = {"architecture": architecture, "widths": [8, 16], "blocks": 1, "latent": 12}
    assert main(arguments(config(model=model, budget={"steps": 4}), photographs, tmp_path / "run")) == 0
    assert Denoiser.from_pretrained(tmp_path / "run" / "checkpoint").model.config.architecture == architecture


def test_weights_can_be_stored_in_half_the_size(config, photographs, tmp_path, arguments):
    data = TINY["data"] | {"permute_channels": 0.5, "flat": 0.5}
    path = config(budget={"steps": 2}, checkpoint_dtype="bfloat16", data=data)
    assert main(arguments(path, photographs, tmp_path / "run")) == 0
    assert {tensor.dtype for tensor in weights(tmp_path / "run").values()} == {torch.bfloat16}


def test_grey_networks_train_on_grey_crops(config, photographs, tmp_path, arguments):
    model = TINY["model"] | {"channels": 1}
    assert main(arguments(config(model=model, budget={"steps": 4}), photographs, tmp_path / "run")) == 0


def test_a_wall_clock_budget_ends_the_run(config, photographs, tmp_path, arguments):
    assert main(arguments(config(), photographs, tmp_path / "run", "--minutes", "0.03")) == 0
    record = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert record["seconds"] >= 1.8
    assert 0 < record["rate"] < TINY["optimizer"]["rate"]  # in its decay, however few the steps


MIXTURE = [
    {"kind": "gaussian", "sigma": [0, 50]},
    {"kind": "sensor", "gain": [0.1, 4], "read": 3, "share": 2},
    {"kind": "correlated", "grain": [0.5, 2]},
    {"kind": "jpeg", "quality": [20, 90]},
    {"kind": "salt_and_pepper"},
    {"kind": "poisson"},
]


def test_a_mixture_of_noises_is_drawn_crop_by_crop():
    clean = torch.full((400, 3, 16, 16), 0.5)
    noisy, level = NoiseMixture(tuple(MIXTURE))(clean, torch.Generator().manual_seed(0))
    measured = (noisy - clean).square().mean((1, 2, 3)).sqrt()
    gaussian = ~torch.isclose(level, measured, atol=1e-6)  # for other noises the level is what was measured
    assert 0.08 < gaussian.float().mean() < 0.22
    assert torch.allclose(level[gaussian], measured[gaussian], rtol=0.15)
    again, _ = NoiseMixture(tuple(MIXTURE))(clean, torch.Generator().manual_seed(0))
    assert torch.equal(noisy, again)


def test_training_on_a_mixture_of_noises(config, photographs, tmp_path, arguments):
    assert main(arguments(config(noise=MIXTURE, budget={"steps": 3}), photographs, tmp_path / "run")) == 0


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
    assert publish([str(tmp_path / "run"), "--folder", str(tmp_path / "mine")]) == 0
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    assert "real pairs" in card and "--noisy NOISY" in card and "--sigma 15" not in card
    assert "noise like that it was trained on (that of its pairs)" in card and "Pictures from `gt`, `noise`." in card


def test_pairs_without_a_partner_are_named(config, pairs, tmp_path, arguments, capsys):
    (tmp_path / "lonely").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "lonely" / "99.png")
    more = ["--clean", str(pairs / "gt"), str(tmp_path / "lonely"), "--noisy", str(pairs / "noise")]
    assert main(arguments(config(), None, tmp_path / "run", *more)) == 2
    assert "no partner of the same name, such as 99" in capsys.readouterr().err
    assert main(arguments(config(), None, tmp_path / "run", "--clean", str(pairs / "gt"))) == 2
    assert "--clean and --noisy together" in capsys.readouterr().err


def test_tar_files_are_read_like_folders(photographs, tmp_path):
    with tarfile.open(tmp_path / "photographs.tar", "w") as tar:
        tar.add(photographs, "inside")
    from_folder, from_tar = find_images([photographs]), find_images([tmp_path / "photographs.tar"])
    assert [source.name for source in from_folder] == [source.name for source in from_tar]
    for a, b in zip(from_folder[1:], from_tar[1:]):  # the first is broken.jpg
        assert np.array_equal(np.asarray(a.read(3)), np.asarray(b.read(3)))
    with pytest.raises(ImageUnreadable):
        from_tar[0].read(3)
    (tmp_path / "wrong.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(ValueError, match=r"wrong\.tar is not an uncompressed tar"):
        find_images([tmp_path / "wrong.tar"])


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


def test_what_was_decoded_is_cached_until_the_files_change(photographs, tmp_path):
    def load(folder):
        return Photographs(find_images([folder]), 3, (0.5, 1), 2, 32, torch.device("cpu"), cache=tmp_path / "cache")

    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    first = load(folder)
    (entry,) = (tmp_path / "cache").iterdir()
    written = (entry / "pixels.npy").stat().st_mtime_ns
    second = load(folder)
    assert torch.equal(first.pixels, second.pixels) and torch.equal(first.offsets, second.offsets)
    assert first.skipped == second.skipped != [] and (entry / "pixels.npy").stat().st_mtime_ns == written
    (folder / "p0.png").write_bytes((folder / "p1.png").read_bytes())
    assert not torch.equal(load(folder).pixels[:1000], first.pixels[:1000])


def test_the_caches_used_last_are_kept_and_nothing_else_is_touched(photographs, tmp_path):
    caches = tmp_path / "cache"
    mine = caches / ("a" * 24)  # looks like a cache, holds something else
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    (caches / "elsewhere").mkdir()
    (caches / "elsewhere" / "table.json").write_text("{}")
    sources = find_images([photographs])

    def load(seed):
        Photographs(sources, 3, (0.5, 1), 1, 32, torch.device("cpu"), seed, cache=caches)
        tables = [folder / "table.json" for folder in caches.iterdir() if (folder / "pixels.npy").exists()]
        used = max(tables, key=lambda table: table.stat().st_mtime_ns)
        os.utime(used, (load.clock, load.clock))  # a second apart, whatever the disk resolves
        load.clock += 1
        return used.parent

    load.clock = 1_000_000_000
    kept = [load(seed) for seed in range(4)]
    assert load(0) == kept[0]  # used again, so the second is now the oldest
    kept.append(load(4))
    assert [entry.exists() for entry in kept] == [True, False, True, True, True]
    assert (mine / "notes.txt").read_text() == "mine" and (caches / "elsewhere" / "table.json").exists()


def test_training_goes_on_without_a_cache_that_cannot_be_used(photographs, tmp_path, capsys):
    def load(cache, folder=photographs):
        return Photographs(find_images([folder]), 3, (0.5, 1), 1, 32, torch.device("cpu"), cache=cache)

    (tmp_path / "file").write_text("not a folder")
    reference = load(None)
    assert torch.equal(load(tmp_path / "file").pixels, reference.pixels)
    assert f"not cached in {tmp_path / 'file'}" in capsys.readouterr().err
    caches = tmp_path / "cache"
    load(caches)
    (pixels,) = caches.glob("*/pixels.npy")
    for broken in (
        lambda: pixels.write_bytes(pixels.read_bytes()[:1000]),
        lambda: pixels.write_bytes(b""),
        pixels.unlink,
    ):
        broken()
        assert torch.equal(load(caches).pixels, reference.pixels)
    assert torch.equal(torch.from_numpy(np.load(pixels)), reference.pixels)
    assert [entry.name for entry in sorted(pixels.parent.iterdir())] == ["pixels.npy", "table.json"]


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


def test_sixteen_bit_grey_photographs_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    (source,) = find_images([tmp_path])
    assert np.abs(np.asarray(source.read(1)) - ramp / 257).max() <= 0.51


def test_fine_tuning_starts_from_the_given_weights(config, photographs, tmp_path, arguments, capsys):
    assert main(arguments(config(budget={"steps": 30}), photographs, tmp_path / "first")) == 0
    frozen = TINY["optimizer"] | {"rate": 1e-12}
    path = config(budget={"steps": 1}, optimizer=frozen, seed=5)
    checkpoint = str(tmp_path / "first" / "checkpoint")
    assert main(arguments(path, photographs, tmp_path / "second", "--init", checkpoint)) == 0
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    facts = json.loads((tmp_path / "second" / "run.json").read_text())
    assert facts["init_run"]["steps"] == 30  # the checkpoint in a run's folder is that run's
    assert main(arguments(path, photographs, tmp_path / "from run", "--init", str(tmp_path / "first"))) == 0
    assert all(torch.equal(tensor, second[name]) for name, tensor in weights(tmp_path / "from run").items())
    assert publish([str(tmp_path / "from run"), "--folder", str(tmp_path / "folder")]) == 0
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "- Started from the weights of an earlier run: 30 steps in 0 minutes" in card
    assert "Configuration of the run before" in card and "other pictures" not in card
    fewer = shutil.copytree(photographs, tmp_path / "fewer", ignore=shutil.ignore_patterns("p1*", "broken*"))
    assert main(arguments(path, fewer, tmp_path / "fewer run", "--init", str(tmp_path / "from run"))) == 0
    assert publish([str(tmp_path / "fewer run"), "--folder", str(tmp_path / "folder")]) == 0
    card = (tmp_path / "folder" / "README.md").read_text()
    assert card.count("trained on other pictures") == 1 and card.count("Started from the weights") == 2
    # Of a checkpoint without its run the card tells: which weights, and how they were trained.
    words = (tmp_path / "folder" / "README.md").read_text().replace("- Seed", "- <b>By hand</b> <!-- x -->\n- Seed")
    (tmp_path / "folder" / "README.md").write_text(words)
    assert main(arguments(path, photographs, tmp_path / "fourth", "--init", str(tmp_path / "folder"))) == 0
    assert publish([str(tmp_path / "fourth"), "--folder", str(tmp_path / "next")]) == 0
    card = (tmp_path / "next" / "README.md").read_text()
    hashed = hashlib.sha256((tmp_path / "folder" / "model.safetensors").read_bytes()).hexdigest()
    assert f"Started from `folder` (weights with SHA-256 `{hashed[:16]}...`)" in card and str(tmp_path) not in card
    assert "How the weights of folder that it started from were trained" in card and "- By hand \n" in card
    assert card.count("Started from") == 3 and card.count("curve.png") == 1
    assert card.count("trained on other pictures") == 1 and card.count("<!--") == 14
    other = config(model=TINY["model"] | {"widths": [8, 24]})
    assert main(arguments(other, photographs, tmp_path / "third", "--init", checkpoint)) == 2
    assert "only finer levels and the numbers of blocks may differ" in capsys.readouterr().err


def test_a_teacher_is_learnt_from(config, photographs, tmp_path, arguments, capsys):
    """At a share of 1 the clean crops do not count: whoever starts as the teacher has nothing to learn."""
    assert main(arguments(config(budget={"steps": 30}), photographs, tmp_path / "teacher")) == 0
    teacher = weights(tmp_path / "teacher")
    ways = {}
    for share in (0.0, 1.0):
        stages = [{"until": 1.0, "patch": 32, "batch": 4, "distill": share}]
        path = config(budget={"steps": 3}, stages=stages)
        start = ["--init", str(tmp_path / "teacher"), *(["--teacher", str(tmp_path / "teacher")] if share else [])]
        assert main(arguments(path, photographs, tmp_path / str(share), *start)) == 0
        learnt = weights(tmp_path / str(share))
        ways[share] = max(float((learnt[name] - teacher[name]).abs().max()) for name in teacher)
    assert ways[1.0] < 1e-6 < 1e-4 < ways[0.0]
    assert publish([str(tmp_path / "1.0"), "--folder", str(tmp_path / "folder")]) == 0
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "100% of it against the teacher" in card and "learned from beside the clean crops: `teacher` (w" in card
    assert str(tmp_path) not in card
    run = tmp_path / "begun"
    assert main(arguments(path, photographs, run, "--teacher", str(tmp_path / "teacher"))) == 0
    torch.save(torch.load(run / "state.pt", weights_only=True) | {"step": 2}, run / "state.pt")
    assert main(arguments(path, photographs, run, "--teacher", "color-small")) == 2
    assert "started with --teacher teacher, of other weights than color-small" in capsys.readouterr().err
    assert main(arguments(path, photographs, run)) == 0  # nor need it be said again
    torch.save(torch.load(run / "state.pt", weights_only=True) | {"step": 2}, run / "state.pt")
    moved = shutil.move(tmp_path / "teacher", tmp_path / "moved")
    assert main(arguments(path, photographs, run)) == 2 and "no checkpoint" in capsys.readouterr().err
    assert main(arguments(path, photographs, run, "--teacher", str(moved))) == 0
    assert publish([str(run), "--folder", str(tmp_path / "folder")]) == 0
    assert main(arguments(config(budget={"steps": 1}), photographs, tmp_path / "next", "--init", str(run))) == 0
    assert publish([str(tmp_path / "next"), "--folder", str(tmp_path / "folder")]) == 0
    card = (tmp_path / "folder" / "README.md").read_text()
    assert re.search(r"earlier run: 3 steps .* with `teacher` \(weights with SHA-256 `[0-9a-f]{16}\.\.\.`\) as", card)


def test_a_teacher_that_cannot_teach_is_named_before_any_work(config, photographs, tmp_path, arguments, capsys):
    plain = config(budget={"steps": 1})
    assert main(arguments(plain, photographs, tmp_path / "run", "--teacher", "color-small")) == 2
    assert "no stage has `distill`" in capsys.readouterr().err
    path = config(stages=[{"until": 1.0, "patch": 32, "batch": 4, "distill": 0.5}])
    assert main(arguments(path, photographs, tmp_path / "run")) == 2
    assert "give --teacher" in capsys.readouterr().err
    assert main(arguments(path, photographs, tmp_path / "run", "--teacher", "gray-base")) == 2
    assert "gray-base has 1 channels, the network 3" in capsys.readouterr().err
    assert main(arguments(path, photographs, tmp_path / "run", "--teacher", str(tmp_path / "nobody"))) == 2
    assert "nobody" in capsys.readouterr().err


def test_a_blind_network_starts_from_one_that_is_told_the_level(config, photographs, tmp_path, arguments):
    assert main(arguments(config(budget={"steps": 3}), photographs, tmp_path / "told")) == 0
    model, data = TINY["model"] | {"blind": True}, TINY["data"] | {"clip": 0.5}
    path = config(budget={"steps": 1}, optimizer={"rate": 1e-12}, model=model, noise=MIXTURE, data=data)
    start = ["--init", str(tmp_path / "told" / "checkpoint")]
    assert main(arguments(path, photographs, tmp_path / "blind", *start)) == 0
    told, blind = weights(tmp_path / "told"), weights(tmp_path / "blind")
    assert blind["head.weight"].shape[1] == 12
    for name, tensor in blind.items():
        assert torch.allclose(tensor, told[name][:, : tensor.shape[1]], atol=1e-6)
    (record,) = [json.loads(line) for line in (tmp_path / "blind" / "log.jsonl").read_text().splitlines()]
    assert {name for name in record if name.startswith("psnr_")} == {f"psnr_{noise['kind']}" for noise in MIXTURE}


def test_two_processes_learn_what_one_learns(config, photographs, tmp_path, arguments):
    path = config(budget={"steps": 8})
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m"]
    command = [sys.executable, "-m", *launch, "train", *arguments(path, photographs, tmp_path / "two")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert main(arguments(path, photographs, tmp_path / "one")) == 0
    assert "2 process(es)" in done.stdout
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def weights(run):
    return safetensors.torch.load_file(run / "checkpoint" / "model.safetensors")


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


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, "adamw"), (signal.SIGTERM, "adamw"), (signal.SIGKILL, "muon")]
)
def test_a_stopped_run_goes_on_to_the_same_weights(config, photographs, tmp_path, arguments, number, kind):
    path = config(budget={"steps": 150}, optimizer=TINY["optimizer"] | {"kind": kind})
    more = ["--save-every", "0.05", "--workers", "1"]
    command = [sys.executable, "-m", "train", *arguments(path, photographs, tmp_path / "cut", *more)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)
    deadline = time.monotonic() + 100
    while not (tmp_path / "cut" / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    if number == signal.SIGTERM:  # as a service manager or a scheduler sends it: to every process
        for child in psutil.Process(process.pid).children(recursive=True):
            child.send_signal(number)
    if number == signal.SIGINT:  # as a terminal sends it: to every process of the group
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), output
    reached = torch.load(tmp_path / "cut" / "state.pt", weights_only=True)["step"]
    with open(tmp_path / "cut" / "log.jsonl", "a") as log:
        log.write('{"step": 12, "lo')  # as a kill in the middle of a line leaves it
    assert 0 < reached < 150
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the process above, so that sums are taken in the same order
    try:
        assert main(arguments(path, photographs, tmp_path / "cut")) == 0
        assert main(arguments(path, photographs, tmp_path / "whole", "--workers", "0")) == 0
    finally:
        torch.set_num_threads(threads)
    log = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == sorted(record["step"] for record in log)
    assert log[-1]["step"] == 150
    cut, whole = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert all(torch.equal(cut[name], whole[name]) for name in whole)
    assert not list((tmp_path / "cut").rglob(".partial*"))


def test_seeds_decide(config, photographs, tmp_path, arguments):
    for run, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(arguments(config(budget={"steps": 3}), photographs, tmp_path / run, "--seed", seed)) == 0
    a, b, c = (weights(tmp_path / run)["head.weight"] for run in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_the_rate_warms_up_stays_and_decays():
    settings = Optimizer(rate=1e-3, warmup=9, decay=0.2)
    rates = [learning_rate(settings, step, step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-4) and rates[9:800] == pytest.approx([1e-3] * 791)
    assert rates[800:] == sorted(rates[800:], reverse=True) and rates[850] == pytest.approx(5e-4)
    assert rates[1000] == pytest.approx(0)


@pytest.fixture
def stop_at(monkeypatch):
    def stop_at(step):
        def train_step(trainer, batches, original=Trainer._train_step):
            original(trainer, batches)
            if trainer.step == step:
                trainer._signals.append(signal.SIGTERM)

        monkeypatch.setattr(Trainer, "_train_step", train_step)

    yield stop_at


ONE_STAGE = [{"until": 1.0, "patch": 32, "batch": 4}]


def test_a_run_in_its_constant_phase_goes_on_with_another_budget(config, photographs, tmp_path, arguments, stop_at):
    path = config(stages=ONE_STAGE)
    assert main(arguments(path, photographs, tmp_path / "at once", "--steps", "20")) == 0
    stop_at(9)
    assert main(arguments(path, photographs, tmp_path / "run", "--steps", "12")) == 130
    assert main(arguments(path, photographs, tmp_path / "run", "--steps", "20")) == 0
    at_once, run = weights(tmp_path / "at once"), weights(tmp_path / "run")
    assert all(torch.equal(tensor, run[name]) for name, tensor in at_once.items())


def test_a_decay_branches_off_a_run_and_leaves_it_as_it_was(config, photographs, tmp_path, arguments, stop_at, capsys):
    path, run, branch = config(stages=ONE_STAGE), tmp_path / "run", tmp_path / "branch"
    assert main(arguments(path, photographs, tmp_path / "at once", "--steps", "12")) == 0
    stop_at(3)
    assert main(arguments(path, photographs, run, "--steps", "1000")) == 130
    assert main(arguments(path, photographs, branch, "--decay-from", str(run))) == 2
    assert "its rate is not constant" in capsys.readouterr().err
    stop_at(9)
    assert main(arguments(path, photographs, run, "--steps", "1000")) == 130
    before = (run / "state.pt").read_bytes()
    stop_at(11)
    assert main(arguments(path, photographs, branch, "--decay-from", str(run))) == 130
    assert main(arguments(path, photographs, branch, "--decay-from", str(run))) == 0
    at_once, decayed = weights(tmp_path / "at once"), weights(branch)
    assert all(torch.equal(tensor, decayed[name]) for name, tensor in at_once.items())
    assert (run / "state.pt").read_bytes() == before
    records = [json.loads(line) for line in (branch / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [3, 9, 11, 12] and records[1]["rate"] > records[2]["rate"]
    assert main(arguments(path, photographs, tmp_path / "x", "--decay-from", str(tmp_path / "nothing"))) == 2
    assert "no run that was saved" in capsys.readouterr().err


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


def test_a_run_of_another_configuration_is_not_touched(config, photographs, tmp_path, capsys, arguments):
    assert main(arguments(config(budget={"steps": 2}), photographs, tmp_path / "run")) == 0
    before = weights(tmp_path / "run")
    other = config(budget={"steps": 2}, optimizer=TINY["optimizer"] | {"rate": 1e-3})
    assert main(arguments(other, photographs, tmp_path / "run")) == 2
    assert "another configuration" in capsys.readouterr().err
    assert main(arguments(config(budget={"steps": 9}), photographs, tmp_path / "run")) == 2
    assert "its rate is falling already, for 2 steps" in capsys.readouterr().err
    assert torch.equal(weights(tmp_path / "run")["head.weight"], before["head.weight"])


def test_divergence_stops_with_a_message_and_keeps_the_last_good_state(
    config, photographs, tmp_path, capsys, arguments
):
    wild = TINY["optimizer"] | {"rate": 0.99, "clip": 1e9, "warmup": 0, "weight_decay": 0.0}
    model = {"architecture": "unet", "widths": [8, 16], "blocks": [8, 8]}
    status = main(arguments(config(optimizer=wild, model=model, budget={"steps": 200}), photographs, tmp_path / "run"))
    assert status == 1 and "the run diverged by step" in capsys.readouterr().err


def test_a_run_that_ruins_good_weights_before_its_first_save_stops_too(
    config, photographs, tmp_path, capsys, arguments
):
    assert main(arguments(config(), photographs, tmp_path / "good")) == 0
    wild = TINY["optimizer"] | {"rate": 0.1, "warmup": 0}
    path, run = config(optimizer=wild, budget={"steps": 12}), tmp_path / "run"
    assert main(arguments(path, photographs, run, "--init", str(tmp_path / "good"))) == 1
    assert "diverged by step 12" in capsys.readouterr().err
    assert not (run / "state.pt").exists() and not (run / "checkpoint").exists()


def test_a_run_that_falls_far_behind_its_best_stops_and_keeps_its_last_good_state(
    config, photographs, tmp_path, capsys, arguments
):
    path, run = config(budget={"steps": 8}), tmp_path / "run"
    assert main(arguments(path, photographs, run)) == 0
    state = torch.load(run / "state.pt", weights_only=True)
    torch.save(state | {"step": 4, "best": state["best"] + 5}, run / "state.pt")
    kept = (run / "state.pt").read_bytes(), (run / "checkpoint" / "model.safetensors").read_bytes()
    assert main(arguments(path, photographs, run)) == 1
    message = capsys.readouterr().err
    assert "diverged by step 8" in message and f"--init {run}" in message
    assert kept == ((run / "state.pt").read_bytes(), (run / "checkpoint" / "model.safetensors").read_bytes())


def test_a_run_goes_on_only_with_what_it_was_started_with(config, photographs, tmp_path, capsys, arguments):
    assert main(arguments(config(budget={"steps": 2}), photographs, tmp_path / "first")) == 0
    path, run, start = config(budget={"steps": 4}), tmp_path / "run", ["--init", str(tmp_path / "first")]
    assert main(arguments(path, photographs, run, *start)) == 0
    torch.save(torch.load(run / "state.pt", weights_only=True) | {"step": 2}, run / "state.pt")
    other = shutil.copytree(photographs, tmp_path / "other", ignore=shutil.ignore_patterns("p1*"))
    assert main(arguments(path, other, run)) == 2
    assert "started with other pictures" in capsys.readouterr().err
    assert main(arguments(path, photographs, run, "--init", "color-small")) == 2
    assert f"started with --init {tmp_path / 'first'}" in capsys.readouterr().err
    shutil.move(tmp_path / "first", tmp_path / "elsewhere")  # no longer needed, nor is saying it again
    moved = shutil.copytree(photographs, tmp_path / "moved")
    assert main(arguments(path, moved, run)) == 0
    facts = json.loads((run / "run.json").read_text())
    assert facts["init"] == str(tmp_path / "first") and facts["init_run"]["steps"] == 2 and facts["steps"] == 4


def test_a_finished_run_is_left_as_it_is(config, photographs, tmp_path, capsys, arguments):
    command = arguments(config(budget={"steps": 2}), photographs, tmp_path / "run")
    assert main(command) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert main(command) == 0 and "is finished" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"architecture": "resnet"}}, "architecture 'resnet'"),
        ({"model": {"architecture": "unet", "width": [8]}}, "unknown fields \\['width'\\]"),
        ({"stages": [{"until": 0.5, "patch": 32, "batch": 4}]}, "until must rise to 1.0"),
        ({"stages": [{"until": 1, "patch": 32, "batch": 4, "loss": "l3"}]}, "loss must be l1, mse, charbonnier"),
        ({"stages": [{"until": 1, "patch": 32}]}, "batch"),
        ({"stages": [{"until": 1, "patch": 32, "batch": 4, "distill": 2}]}, "distill must be a share"),
        ({"optimizer": {"rate": "fast"}}, "optimizer.rate must be a float"),
        ({"optimizer": {"speed": 1}}, "unknown speed"),
        ({"budget": {}}, "either minutes or steps"),
        ({"data": {"scale": [0.9, 0.2]}}, "scale must rise"),
        ({"colour": True}, "unknown colour"),
        ({"data": {"clip": 0.5}}, "clip is for blind networks"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_mistakes_in_a_configuration_are_named_before_any_work(
    config, photographs, tmp_path, capsys, changes, message, arguments
):
    with pytest.raises(ConfigError, match=message):
        load_config(config(**changes))
    assert main(arguments(config(**changes), photographs, tmp_path / "run")) == 2
    assert "error:" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("component", "message"),
    [
        ({"kind": "snow"}, "unknown kind 'snow'"),
        ({"kind": "gaussian", "sigma": [0, 500]}, "sigma must rise within 0..100"),
        ({"kind": "gaussian", "gain": 1}, "gaussian has no parameter gain"),
        ({"kind": "gaussian", "share": 0}, "share must be a positive number"),
        ({"kind": "sensor", "gain": "high"}, "gain must be a number or"),
    ],
)
def test_mistakes_in_a_noise_are_named(config, photographs, tmp_path, arguments, capsys, component, message):
    assert main(arguments(config(noise=[component]), photographs, tmp_path / "run")) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_an_output_that_cannot_be_written_is_named_before_any_work(config, photographs, tmp_path, arguments, capsys):
    (tmp_path / "run").write_text("a file of mine")
    assert main(arguments(config(), photographs, tmp_path / "run")) == 2
    assert "File exists" in capsys.readouterr().err and (tmp_path / "run").read_text() == "a file of mine"


def test_a_tracker_that_is_not_there_is_named_before_any_work(config, photographs, tmp_path, arguments, capsys):
    assert main(arguments(config(), photographs, tmp_path / "run", "--tracker", "nonesuch")) == 2
    assert "--tracker nonesuch is not installed" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_metrics_go_to_a_tracker(config, photographs, tmp_path, arguments, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio", reason="a tracker is optional: pip install trackio")
    path = config(budget={"steps": 3})
    assert main(arguments(path, photographs, tmp_path / "run", "--tracker", "trackio")) == 0
    assert list((tmp_path / "trackio").rglob("*.db"))


def test_pictures_that_are_all_unusable_end_in_a_sentence(config, tmp_path, arguments, capsys):
    (tmp_path / "bad").mkdir()
    for index in range(3):
        (tmp_path / "bad" / f"{index}.png").write_bytes(b"bad")
    assert main(arguments(config(), tmp_path / "bad", tmp_path / "run")) == 2
    assert "none of the pictures could be used; the first: 0.png" in capsys.readouterr().err


def test_a_held_out_picture_that_is_broken_gives_way_to_the_next(config, photographs, tmp_path, arguments, capsys):
    folder = shutil.copytree(photographs, tmp_path / "photographs", ignore=shutil.ignore_patterns("broken*"))
    (folder / "p0.png").write_bytes(b"bad")
    path = config(budget={"steps": 1}, data=TINY["data"] | {"held_out": {"one": ["p0.png"]}})
    assert main(arguments(path, folder, tmp_path / "run")) == 0
    assert "skipped p0.png" in capsys.readouterr().err
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["data"]["training"] == 2 and facts["data"]["held_out"] == 1


def test_a_handler_of_signals_is_given_back(config, photographs, tmp_path, arguments):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert main(arguments(config(budget={"steps": 1}), photographs, tmp_path / "run")) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_missing_and_empty_data_are_named_before_any_work(config, tmp_path, capsys, arguments):
    assert main(arguments(config(), tmp_path / "nowhere", tmp_path / "run")) == 2
    assert "there is no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(arguments(config(), tmp_path / "empty", tmp_path / "run")) == 2
    assert "no pictures" in capsys.readouterr().err


def test_crops_are_flips_and_turns_of_what_is_there(tmp_path):
    places = np.stack(np.broadcast_arrays(*np.ogrid[:60, :90], 7), axis=-1).astype(np.uint8)  # each pixel its place
    Image.fromarray(places).save(tmp_path / "places.png")
    data = Photographs(find_images([tmp_path]), 3, (1.0, 1.0), 1, 32, torch.device("cpu"))
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


def test_subsampled_copies_lose_fine_colour_and_keep_fine_brightness(tmp_path):
    squares = np.indices((96, 96)).sum(0) % 2
    colours = np.where(squares[..., None], np.uint8([168, 112, 112]), np.uint8([88, 144, 144]))  # nearly equal in luma
    for index in range(8):
        Image.fromarray(colours + np.uint8(squares * 20)[..., None]).save(tmp_path / f"{index}.png")

    def contrasts(share):
        """Of neighbouring pixels, for each copy: in colour (red - green) and brightness (luma)."""
        data = Photographs(find_images([tmp_path]), 3, (1.0, 1.0), 1, 32, torch.device("cpu"), chroma_subsampling=share)
        planes = data.pixels.view(-1, 96, 96, 3).float()
        colour, luma = planes[..., 0] - planes[..., 1], planes @ torch.tensor([0.299, 0.587, 0.114])
        return [plane.diff(dim=2).abs().mean((1, 2)) for plane in (colour, luma)]

    colour, luma = contrasts(0.0)
    assert colour.min() > 100 and luma.min() > 15
    colour, luma = contrasts(1.0)
    assert colour.max() < 10 and luma.min() > 15
    colour, _ = contrasts(0.5)
    assert 0 < (colour < 10).sum() < 8 and ((colour < 10) | (colour > 100)).all()


def test_the_split_depends_on_names_alone(tmp_path):
    sources = [Source(tmp_path / f"{index}.png", f"{index}.png") for index in range(400)]

    def split(sources, share, groups=None):
        training, held_out = split_held_out(sources, share, groups or {})
        return training, [source for members in held_out.values() for source in members]

    training, held_out = split(sources, 0.1)
    assert 20 < len(held_out) < 60 and set(training) | set(held_out) == set(sources)
    assert set(split(sources[::2], 0.1)[1]) == set(held_out) & set(sources[::2])
    assert [len(part) for part in split(sources[:2], 0.001)] == [1, 1]
    # Where named ones are there, they alone are held out, by group.
    groups = {"crisp": ["3.png", "not there.png"], "smooth": ["7.png"], "gone": ["x.png"]}
    training, held_out = split_held_out(sources, 0.1, groups)
    assert held_out == {"crisp": [sources[3]], "smooth": [sources[7]]} and len(training) == 398
    assert split(sources, 0.1, {"gone": ["x.png"]}) == split(sources, 0.1)


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
        restored = np.rint(denoiser(clean + noise * np.float32(25 / 255), 25) * 255) / 255
        expected.append(psnr(clean, restored))
    assert figures[0]["psnr"] == pytest.approx(np.mean(expected), abs=0.005)
    assert [image["psnr"] for image in figures[0]["images"].values()] == pytest.approx(expected, abs=0.005)
    assert figures[0]["peak_memory_mb"] > 50 and 0 < figures[0]["edge_fidelity"] < 1


def test_a_level_measured_again_replaces_the_earlier_figures(tmp_path):
    rows = [{"dataset": "set", "sigma": sigma, "gray": False, "estimate": False, "psnr": 1.0} for sigma in (15, 25.0)]
    record(tmp_path / "e.json", rows)
    record(tmp_path / "e.json", [rows[0] | {"sigma": 15.0, "self_ensemble": False, "psnr": 2.0}])
    record(tmp_path / "e.json", [rows[0] | {"estimate": True, "psnr": 3.0}])
    assert [row["psnr"] for row in json.loads((tmp_path / "e.json").read_text())] == [1.0, 2.0, 3.0]


def test_every_picture_is_measured_whatever_its_name(tiny_checkpoint, tmp_path):
    for index, folder in enumerate(("a/clean", "b/clean", "c")):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (24, 24), (60 * index, 90, 120)).save(tmp_path / folder / "same.png")
    command = [str(tiny_checkpoint), "--sigma", "25", "--json", str(tmp_path / "e.json"), "--data"]
    assert evaluate([*command, *(str(tmp_path / folder) for folder in ("a/clean", "b/clean", "c"))]) == 0
    (row,) = json.loads((tmp_path / "e.json").read_text())
    assert len(row["images"]) == row["pictures"] == 3
    assert row["psnr"] == pytest.approx(np.mean([image["psnr"] for image in row["images"].values()]))


def test_noise_far_beyond_white_does_not_end_a_run(tiny_model):
    white = np.full((1100, 1100, 3), 255, np.uint8)
    assert add_noise(white / np.float32(255), "poisson", seed=0, peak=1).max() > 8  # more than a picture may hold
    validation = Validation({"white": [white]}, {"dim": ("poisson", {"peak": 1})})
    assert 0 < validation.measure(tiny_model)["dim"]["white"] < 40


def test_evaluate_measures_real_pairs(pairs, tiny_checkpoint, tmp_path):
    command = [str(tiny_checkpoint), "--data", str(pairs / "gt"), "--noisy", str(pairs / "noise")]
    assert evaluate([*command, "--json", str(tmp_path / "pairs.json")]) == 0
    (row,) = json.loads((tmp_path / "pairs.json").read_text())
    clean, noisy = (np.asarray(Image.open(pairs / role / f"00_{role}.png")) / 255 for role in ("gt", "noise"))
    assert row["images"]["00_gt.png"]["noisy_psnr"] == pytest.approx(psnr(clean, noisy), abs=0.005)
    assert row["sigma"] is None and row["pictures"] == 6
    assert row["peak_memory_mb"] == max(image["peak_memory_mb"] for image in row["images"].values()) > 50


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is of the process's whole life")
def test_peak_memory_is_that_since_it_was_last_forgotten():
    processor = torch.device("cpu")
    forget_peak(processor)
    before = peak_memory(processor)
    large = np.ones(25_000_000)  # 200 MB
    assert peak_memory(processor) > before + 150
    del large
    assert peak_memory(processor) > before + 150
    forget_peak(processor)
    assert peak_memory(processor) < before + 50


def test_evaluate_tells_pictures_of_one_name_apart_and_shows_what_is_no_number(tiny_checkpoint, tmp_path, capsys):
    for folder, value in (("a", 90), ("b", 160)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (9, 8), (value, value, 20)).save(tmp_path / folder / "01.png")
    command = [str(tiny_checkpoint), "--data", str(tmp_path / "a"), str(tmp_path / "b"), "--sigma", "0"]
    assert evaluate([*command, "--json", str(tmp_path / "row.json")]) == 0
    (row,) = json.loads((tmp_path / "row.json").read_text())
    assert list(row["images"]) == ["a/01.png", "b/01.png"] and row["noisy_psnr"] is None
    assert "| 0 | - |" in capsys.readouterr().out  # PSNR is infinite without noise


def test_pairs_of_which_two_have_one_name_are_refused(pairs, tmp_path):
    shutil.copytree(pairs / "gt", tmp_path / "scene" / "gt")
    with pytest.raises(ValueError, match="both pictures are called 00"):
        match_pairs([pairs / "gt", tmp_path / "scene"], [pairs / "noise"])


def test_each_kind_of_loss_is_averaged_and_logged_by_itself(config, photographs, tmp_path, arguments):
    stages = [TINY["stages"][0], TINY["stages"][1] | {"loss": "log_mse"}]
    path = config(stages=stages, budget={"steps": 40})
    assert main(arguments(path, photographs, tmp_path / "run", "--save-every", "0.01")) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["objective"] for record in log] == sorted(record["objective"] for record in log)  # l1, log_mse
    assert {record["objective"] for record in log} == {"l1", "log_mse"}
    assert all(record["loss"] > 0 if record["objective"] == "l1" else record["loss"] < -2 for record in log)


def test_evaluate_ends_with_a_sentence_on_a_bad_picture(photographs, tiny_checkpoint, capsys):
    assert evaluate([str(tiny_checkpoint), "--data", str(photographs)]) == 2
    assert "broken.jpg is not a picture" in capsys.readouterr().err


def test_evaluate_names_what_is_missing(tmp_path, capsys):
    assert evaluate(["color-small", "--data", str(tmp_path / "nowhere")]) == 2
    assert evaluate(["no-such-checkpoint", "--data", str(PHOTO.parent)]) == 2
    assert "no checkpoint 'no-such-checkpoint'" in capsys.readouterr().err


def run_apart(*command, **options):
    """A command in a process of its own, as people start it."""
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, timeout=240, **options)


def test_a_rate_may_be_written_without_a_point(tmp_path, config):
    path = tmp_path / "exponent.yaml"
    text = config().read_text().replace("rate: 0.002", "rate: 2e-3")
    assert "2e-3" in text
    path.write_text(text)
    assert load_config(path).optimizer.rate == 0.002


def test_names_that_are_not_unicode_and_consoles_that_are_not_utf_8(config, photographs, tmp_path, arguments):
    folder = shutil.copytree(photographs, tmp_path / "photographs")
    shutil.copy(os.fsencode(folder / "p0.png"), os.fsencode(folder) + b"/caf\xe9.png")
    shutil.copy(os.fsencode(folder / "broken.jpg"), os.fsencode(folder) + b"/\xe9.jpg")
    run, environment = tmp_path / "\u5199\u771f", os.environ | {"PYTHONIOENCODING": "cp1252"}
    command = arguments(config(budget={"steps": 2}), folder, run)
    for _ in range(2):  # the second call says that it is finished
        done = run_apart("train", *command, env=environment)
        assert done.returncode == 0, done.stderr
    assert b"\\u5199" in done.stdout
    folder = str(run / "validation")
    assert run_apart("train.evaluate", str(run), "--data", folder, env=environment).returncode == 0


def test_a_run_in_use_is_refused(config, photographs, tmp_path, arguments, capsys):
    path, run = config(budget={"steps": 2}), tmp_path / "run"
    run.mkdir()
    held = lock_run(run)
    assert main(arguments(path, photographs, run)) == 2
    assert "is in use: another process trains there" in capsys.readouterr().err
    held.release()
    assert main(arguments(path, photographs, run)) == 0


def test_damaged_files_of_a_run_are_named_with_the_way_on(config, photographs, tmp_path, arguments, capsys):
    path, run = config(budget={"steps": 2}), tmp_path / "run"
    assert main(arguments(path, photographs, run)) == 0
    for content in (b"", b"half a file"):
        (run / "state.pt").write_bytes(content)
        assert main(arguments(path, photographs, run)) == 2
        said = capsys.readouterr().err
        assert "state.pt is empty or damaged" in said and f"--init {run / 'checkpoint'}" in said
    (run / "evaluation.json").write_bytes(b"")
    assert evaluate([str(run), "--data", str(run / "validation"), "--sigma", "25"]) == 2
    assert "evaluation.json is empty or damaged" in capsys.readouterr().err
    (run / "run.json").write_bytes(b"{")
    assert publish([str(run), "--folder", str(tmp_path / "folder")]) == 2
    assert "run.json is empty or damaged" in capsys.readouterr().err
    assert main(arguments(path, photographs, tmp_path / "next", "--init", str(run))) == 2
    assert "run.json is empty or damaged" in capsys.readouterr().err


def test_a_full_disk_at_a_save_is_said_and_the_run_goes_on(
    config, photographs, tmp_path, arguments, capsys, monkeypatch
):
    import train.trainer

    attempts, write = [], train.trainer.save_state

    def save_state(run, **state):
        attempts.append(state["step"])
        if len(attempts) < 3:
            raise OSError(28, "No space left on device")
        write(run, **state)

    monkeypatch.setattr(train.trainer, "save_state", save_state)
    path = config(budget={"steps": 6})
    assert main(arguments(path, photographs, tmp_path / "run", "--save-every", "0")) == 0
    assert "not saved at step 1" in capsys.readouterr().err and attempts[:3] == [1, 2, 3]
    monkeypatch.setattr(train.trainer, "save_state", lambda run, **_: (_ for _ in ()).throw(RuntimeError("full")))
    assert main(arguments(path, photographs, tmp_path / "never")) == 1
    assert "the last steps are not saved" in capsys.readouterr().err
    assert not (tmp_path / "never" / "state.pt").exists() and not list((tmp_path / "never").rglob(".partial*"))


def test_a_run_stopped_before_its_first_step_begins_again(
    config, photographs, tmp_path, arguments, monkeypatch, capsys
):
    path, run = config(budget={"steps": 3}), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_should_stop", lambda trainer: True)
        assert main(arguments(path, photographs, run)) == 130
    assert "before the first step" in capsys.readouterr().out and not (run / "state.pt").exists()
    assert main(arguments(path, photographs, run)) == 0
    assert main(arguments(path, photographs, run)) == 0
