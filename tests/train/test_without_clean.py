import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from denoiser import Denoiser, PoissonGaussian, add_noise
from denoiser.analysis.metrics import psnr
from denoiser.self_supervised import OBJECTIVES
from tests.conftest import ROOT
from tests.train.conftest import TINY, weights
from train.__main__ import main
from train.config import ConfigError, load_config
from train.data.noisy import NoisyPictures, find_scenes, read_shots
from train.data.sampler import BatchSampler
from train.data.sources import split_held_out
from train.publish import main as publish
from train.without_clean import NoisyValidation

STAGE = [{"until": 1.0, "patch": 48, "batch": 4, "loss": "mse"}]


def scenes(kind="gaussian", **parameters):
    """Smooth clean pictures that noise does not reach beyond black or white, and a function for noisy shots of each."""
    for index in range(4):
        random = torch.randn(1, 3, 12, 13, generator=torch.Generator().manual_seed(index))
        planes = torch.nn.functional.interpolate(random, (120, 130), mode="bicubic", align_corners=False).sigmoid()
        clean = (0.35 + 0.3 * planes[0].permute(1, 2, 0)).numpy()
        yield clean, lambda seed, clean=clean: add_noise(clean, kind, seed=seed, **(parameters or {"sigma": 25}))


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noisy")
    for index, (_, shoot) in enumerate(scenes()):
        save(shoot(index), folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shots")
    for index, (_, shoot) in enumerate(scenes()):
        for shot in range(2 + index % 2):
            save(shoot(10 * shot + index), folder / f"scene {index}" / f"{shot}.png")
    return folder


@pytest.fixture(scope="module")
def grainy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grainy")
    for index, (_, shoot) in enumerate(scenes("correlated", sigma=25, grain=1)):
        save(shoot(index), folder / f"{index}.png")
    return folder


def without_clean(kind, **changes):
    return {"objective": {"kind": kind} | changes.pop("parameters", {}), "stages": STAGE, "data": {}} | changes


@pytest.mark.parametrize("kind", sorted(OBJECTIVES))
def test_each_method_learns_from_noisy_pictures_alone(kind, config, noisy, shots, tmp_path, arguments, capsys):
    path = config(**without_clean(kind, budget={"steps": 130}, optimizer=TINY["optimizer"] | {"rate": 5e-3}))
    places = ["--noisy", str(shots if kind == "noise2noise" else noisy)]
    assert main(arguments(path, None, tmp_path / "run", *places)) == 0
    assert OBJECTIVES[kind].label in capsys.readouterr().out
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert records[-1]["objective"] == kind and np.isfinite(records[-1][f"psnr_{kind}"])
    denoiser = Denoiser.from_pretrained(tmp_path / "run" / "checkpoint", device="cpu", dtype="float32")
    gains = []
    for clean, shoot in scenes():
        picture = np.rint(shoot(77).clip(0, 1) * 255).astype(np.uint8)
        gains.append(psnr(clean, denoiser(picture) / np.float32(255)) - psnr(clean, picture / np.float32(255)))
    assert np.mean(gains) > 1.5
    about = json.loads((tmp_path / "run" / "run.json").read_text())["self_supervised"]
    assert about["score"] > about["noisy_score"] + 0.5 and about["kind"] == kind and not about["doubtful"]
    for name in ("curve.png", "samples.png"):
        with Image.open(tmp_path / "run" / name) as drawn:
            assert np.asarray(drawn).std() > 5


@pytest.mark.parametrize("kind", ["noise2noise", "noise2void"])  # draw pairs of shots, and masks
def test_a_stopped_run_goes_on_to_the_same_weights(kind, config, noisy, shots, tmp_path, arguments, stop_at):
    path = config(**without_clean(kind, budget={"steps": 6}))
    more = ["--noisy", str(shots if kind == "noise2noise" else noisy)]
    assert main(arguments(path, None, tmp_path / "whole", *more)) == 0
    stop_at(3)
    assert main(arguments(path, None, tmp_path / "cut", *more)) == 130
    stop_at(-1)
    assert main(arguments(path, None, tmp_path / "cut", *more)) == 0
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_recipe_starts_from_a_checkpoint(config, photographs, noisy, tmp_path, arguments, capsys):
    first = tmp_path / "first"
    model = TINY["model"] | {"sigma_range": [0, 40]}
    assert main(arguments(config(model=model, budget={"steps": 2}), photographs, first)) == 0
    for recipe in ("neighbor2neighbor", "sure"):
        command = ["--config", str(ROOT / f"train/configs/{recipe}.yaml"), "--noisy", str(noisy), "--init", str(first)]
        command += ["--output", str(tmp_path / recipe), "--steps", "2", "--cpu"]
        assert main(command) == 0 and "noisy pictures alone, by " in capsys.readouterr().out
        config_file = json.loads((tmp_path / recipe / "checkpoint" / "config.json").read_text())
        assert config_file["widths"] == [8, 16] and config_file["sigma_range"] == [0, 40]
    assert main(command) == 0 and "is finished" in capsys.readouterr().out
    assert main(["--config", str(ROOT / "train/configs/sure.yaml"), "--noisy", str(noisy), "--output", str(first)]) == 2


def test_the_shots_of_a_scene_are_cropped_at_the_same_place(shots):
    found = find_scenes([shots], 2)
    assert [len(scene.files) for scene in found] == [2, 3, 2, 3]
    read = {scene.name: read_shots(scene, 3, 16, blind=True) for scene in found}
    pictures = NoisyPictures(found, lambda scene: read[scene.name], torch.device("cpu"))
    assert len(pictures) == 10 and pictures.pixels.dtype == torch.uint8 and not pictures.skipped
    crops, levels = pictures.crops(200, 16, 2, True, torch.Generator().manual_seed(0))
    first, second = crops.chunk(2, dim=1)
    assert not (first == second).flatten(1).all(1).any()  # another shot
    assert (first - second).std() < 1.6 * 25 / 255 and levels.shape == (200,)  # of the same place: noise alone
    level = {round(shot.level, 6) for shots_of_one in read.values() for shot in shots_of_one}
    assert {round(float(value), 6) for value in levels} == level
    assert min(level) > 15 / 255 and max(level) < 30 / 255


def test_pages_are_shots_and_deep_pictures_keep_their_depth(tmp_path):
    random = np.random.default_rng(0)
    dim = 300 + np.cumsum(random.normal(size=(64, 64)), axis=1)
    pages = [np.rint(dim + 20 * random.normal(size=dim.shape)).astype(np.uint16) for _ in range(3)]
    images = [Image.fromarray(page) for page in pages]
    images[0].save(tmp_path / "stack.tif", save_all=True, append_images=images[1:])
    for shots, scenes_found, per_scene in ((2, 1, 3), (1, 1, 3)):
        found = find_scenes([tmp_path], shots)
        read = read_shots(found[0], 1, 16, blind=True)
        assert len(found) == scenes_found and len(read) == per_scene
        for shot, page in zip(read, pages):
            assert shot.pixels.dtype == np.float32 and np.array_equal(np.rint(shot.pixels[..., 0] * 65535), page)
    pictures = NoisyPictures(found, lambda scene: read_shots(scene, 1, 16, blind=True), torch.device("cpu"))
    crops, _ = pictures.crops(8, 16, 1, True, torch.Generator().manual_seed(0))
    assert crops.shape == (8, 1, 16, 16) and len(crops.unique()) > 100  # 8 bits would leave two values


def test_a_sensors_noise_is_brought_to_one_level(tmp_path):
    clean = np.repeat(np.linspace(0.02, 0.98, 160, dtype=np.float32)[None], 160, axis=0)
    _save_gray(add_noise(clean, "sensor", seed=1, gain=6, read=3), tmp_path / "ramp.png")
    (scene,) = find_scenes([tmp_path], 1)
    for blind in (False, True):
        for known in (None, PoissonGaussian(6, 3)):
            (shot,) = read_shots(scene, 1, 16, blind, known)
            dark, bright = (shot.pixels[:, part, 0] for part in (slice(20, 40), slice(110, 130)))
            spread = [(part - part.mean(0)).std() / shot.level for part in (dark, bright)]
            assert shot.pixels.dtype == np.float32 and all(0.8 < value < 1.25 for value in spread)


def _save_gray(pixels, path):
    Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)).save(path)


def test_a_sampler_without_clean_pictures_shares_its_batch_among_processes(noisy):
    found = find_scenes([noisy], 1)
    pictures = NoisyPictures(found, lambda scene: read_shots(scene, 3, 16, blind=False), torch.device("cpu"))
    stage = load_stage()
    objective = OBJECTIVES["neighbor2neighbor"]()
    whole = BatchSampler(pictures, None, None, 0, 0, 1, objective)[3, stage]
    halves = [BatchSampler(pictures, None, None, 0, process, 2, objective)[3, stage] for process in (0, 1)]
    assert whole[0].shape[1] == 0
    for part in (1, 2):
        assert torch.equal(whole[part], torch.cat([half[part] for half in halves]))


def load_stage():
    from train.config import Stage

    return Stage(1.0, 32, 4, "mse")


def test_one_shot_of_a_scene_is_too_few_for_noise2noise(config, noisy, tmp_path, arguments, capsys):
    path = config(**without_clean("noise2noise", budget={"steps": 2}))
    assert main(arguments(path, None, tmp_path / "run", "--noisy", str(noisy))) == 2
    said = capsys.readouterr().err
    assert "is one shot, and noise2noise needs several" in said and "sub-folder" in said


def test_shots_that_differ_in_size_are_named(config, tmp_path, arguments, capsys):
    for index, (_, shoot) in enumerate(scenes()):
        save(shoot(0), tmp_path / "in" / f"s{index}" / "a.png")
        save(shoot(1)[:-3], tmp_path / "in" / f"s{index}" / "b.png")
    path = config(**without_clean("noise2noise", budget={"steps": 2}))
    assert main(arguments(path, None, tmp_path / "run", "--noisy", str(tmp_path / "in"))) == 2
    assert "differ in size" in capsys.readouterr().err


def test_noise_that_neighbors_share_is_told(config, grainy, tmp_path, arguments, capsys):
    path = config(**without_clean("sure", budget={"steps": 2}))
    assert main(arguments(path, None, tmp_path / "sure", "--noisy", str(grainy))) == 2
    said = capsys.readouterr().err
    assert "sure cannot estimate its level" in said and "objective.sigma" in said
    path = config(**without_clean("sure", parameters={"sigma": 25}, budget={"steps": 2}))
    assert main(arguments(path, None, tmp_path / "told", "--noisy", str(grainy))) == 0
    assert "neighboring pixels share their noise" in capsys.readouterr().out
    assert publish([str(tmp_path / "told"), "--folder", str(tmp_path / "card"), "--force"]) == 0
    assert "against what SURE assumes" in (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    path = config(**without_clean("noise2void", parameters={"structure": [3, 3]}, budget={"steps": 2}))
    assert main(arguments(path, None, tmp_path / "structured", "--noisy", str(grainy))) == 0
    assert "share their noise" not in capsys.readouterr().out


def test_a_measure_that_cannot_be_is_no_success(config, noisy, tmp_path, arguments, capsys):
    path, run = config(**without_clean("sure", parameters={"sigma": 80}, budget={"steps": 60})), tmp_path / "run"
    assert main(arguments(path, None, run, "--noisy", str(noisy))) == 0  # noise of 25
    assert "weaker than it was told" in capsys.readouterr().out
    assert publish([str(run), "--folder", str(tmp_path / "card")]) == 2
    assert "weaker than it was told" in capsys.readouterr().err
    assert publish([str(run), "--folder", str(tmp_path / "card"), "--force"]) == 0
    assert "weaker than it was told" in (tmp_path / "card" / "README.md").read_text(encoding="utf-8")


class Truth(torch.nn.Module):
    """Gives the clean picture, which is gray."""

    config = SimpleNamespace(blind=True)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, noisy, sigma):
        return torch.full_like(noisy, 0.5)


def test_an_error_that_is_below_zero_by_chance_is_possible():
    below = 0
    for seed in range(8):
        noise = 0.1 * torch.randn(1, 6, 64, 64, generator=torch.Generator().manual_seed(seed))
        for second, impossible in ((1.0, False), (0.5, True)):
            shots = torch.cat([0.5 + noise[:, :3], 0.5 + second * noise[:, 3:]], dim=1)
            below += float(OBJECTIVES["noise2noise"]().error(Truth(), shots, None, None)) < 0 and not impossible
            validation = NoisyValidation(OBJECTIVES["noise2noise"](), "noise2noise", {"a": [(shots, torch.ones(1))]})
            assert validation.is_impossible(Truth()) == impossible
            assert validation.measure(Truth())["noise2noise"]["a"] < 50
    assert below


def test_for_a_held_out_picture_that_is_broken_comes_one_that_is_not_trained_on(config, noisy, tmp_path, arguments):
    shutil.copytree(noisy, tmp_path / "noisy")
    _, groups = split_held_out(find_scenes([tmp_path / "noisy"], 1), 0.1, {})
    (held_out,) = [scene for scenes in groups.values() for scene in scenes]
    held_out.path.write_bytes(b"broken")
    path, run = config(**without_clean("noise2void", budget={"steps": 1})), tmp_path / "run"
    assert main(arguments(path, None, run, "--noisy", str(tmp_path / "noisy"))) == 0
    data = json.loads((run / "run.json").read_text())["data"]
    assert data["apart"] and data["held_out"] == 1 and data["training"] == 2

    broken, *others = sorted((tmp_path / "noisy").iterdir())
    broken.write_bytes(b"broken")
    for other in others[1:]:
        other.unlink()
    run = tmp_path / "two"  # one of them broken: the other is both, as a single picture is
    assert main(arguments(path, None, run, "--noisy", str(tmp_path / "noisy"))) == 0
    data = json.loads((run / "run.json").read_text())["data"]
    assert not data["apart"] and data["held_out"] == data["training"] == 1


def test_the_middle_of_held_out_crops_is_drawn(tiny_model, tmp_path):
    noisy = torch.zeros(1, 3, 256, 256)
    noisy[..., 32:224, 32:224] = 0.5
    crop = noisy, torch.tensor([0.1])
    NoisyValidation(OBJECTIVES["noise2void"](), "noise2void", {"a": [crop]}).draw(tmp_path, tiny_model)
    with Image.open(tmp_path / "samples.png") as drawn:
        assert drawn.size == (3 * 192, 192) and np.asarray(drawn)[:, :192].min() == 255


def test_the_card_says_what_is_known_and_what_is_not(config, noisy, tmp_path, arguments, capsys):
    path, run = config(**without_clean("neighbor2neighbor", budget={"steps": 2})), tmp_path / "run"
    assert main(arguments(path, None, run, "--noisy", str(noisy))) == 0
    assert "has learned next to nothing" in capsys.readouterr().out
    assert publish([str(run), "--folder", str(tmp_path / "no")]) == 2
    assert "has learned next to nothing" in capsys.readouterr().err and not (tmp_path / "no").exists()
    assert publish([str(run), "--folder", str(tmp_path / "card"), "--force"]) == 0
    card = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    method = OBJECTIVES["neighbor2neighbor"]
    for text in (method.label, method.source, method.assumption, "No clean picture was used", "is not known"):
        assert text in card
    assert "| sigma |" not in card and "learned next to nothing" in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"kind": "noise2self"}}, "unknown kind 'noise2self'; there are: noise2noise"),
        ({"objective": {"kind": "sure", "level": 3}}, "objective: unknown level; there are: sigma, gain"),
        ({"objective": {"kind": "sure", "gain": 2}}, "with gain, give sigma too"),
        ({"objective": {"kind": "noise2void", "structure": [40, 0]}}, "structure must be two numbers"),
        ({"objective": {"kind": "sure"}, "bfloat16": True}, "SURE needs `bfloat16: false`"),
        ({"objective": {"kind": "sure"}, "noise": [{"kind": "gaussian"}]}, "leave `noise` out"),
        ({"objective": {"kind": "sure"}, "stages": TINY["stages"]}, "every stage has `loss: mse`"),
    ],
)
def test_mistakes_in_the_configuration_are_named(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_config(config(**{"stages": STAGE} | changes))


def test_options_that_do_not_fit_are_named(config, noisy, tmp_path, arguments, capsys):
    assert main(arguments(config(), None, tmp_path / "run", "--noisy", str(noisy))) == 2
    said = capsys.readouterr().err
    assert "--noisy alone needs a configuration with an `objective`" in said and "neighbor2neighbor" in said
    path = config(**without_clean("sure"))
    assert main(arguments(path, noisy, tmp_path / "run")) == 2
    assert "give --noisy only" in capsys.readouterr().err
    path = config(**without_clean("sure", model={"blind": True}))
    assert main(arguments(path, None, tmp_path / "run", "--noisy", str(noisy))) == 2
    assert "takes its network from --init" in capsys.readouterr().err
    names = [picture.name for picture in noisy.iterdir()]
    path = config(**without_clean("sure", data={"held_out": {"all": names}}))
    assert main(arguments(path, None, tmp_path / "run", "--noisy", str(noisy))) == 2
    assert "data.held_out names all 4 pictures; none is left to train on" in capsys.readouterr().err
