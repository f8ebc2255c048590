"""A run to the Hub and back, with the real client against a Hub on the loopback."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from denoiser import Denoiser
from denoiser.hub import card, card_text
from denoiser.hub.catalogue import Catalogue
from denoiser.hub.evaluation_files import evaluation_files
from denoiser.hub.facts import facts_from_listing
from tests.conftest import PHOTO, ROOT, free_port
from tests.hub_server import Repository
from tests.train.conftest import TINY
from train.__main__ import main as train
from train.config import Budget, load_config
from train.evaluate import weights_hash
from train.publish import main as publish


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    """A short run on a few photographs, measured on its held-out crops."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "photographs").mkdir()
    with Image.open(PHOTO) as image:
        for index in range(3):
            image.crop((index * 90, 0, index * 90 + 160, 160)).save(folder / "photographs" / f"p{index}.png")
    (folder / "about.tsv").write_text("file\tlicence\np0.png\tCC0\np1.png\tCC BY\np2.png\tCC0\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(TINY | {"budget": {"steps": 40}}))
    arguments = ["--config", folder / "config.yaml", "--data", folder / "photographs", "--output", folder / "run"]
    assert train([*map(str, arguments), "--cpu", "--cache", str(folder / "cache")]) == 0
    return folder / "run"


@pytest.fixture(scope="module", autouse=True)
def no_graph():
    """A name for the weights in place of the graph, whose tracing takes seconds: it is in tests/export."""

    def export(checkpoint, path):
        path.parent.mkdir(exist_ok=True)
        path.write_text(weights_hash(checkpoint.folder))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.publish.export_onnx", export)
        yield


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.fixture
def hub(hub_server, monkeypatch):
    """An empty Hub that this process's client talks to, as "user"."""
    hub_server.repositories.clear()
    hub_server.blobs.clear()
    hub_server.faults.clear()
    monkeypatch.setenv("HF_TOKEN", "token-of-user")
    return hub_server


def elsewhere(hub, tmp_path, *command, **more):
    """Run a command in a new process with an empty cache, against the Hub."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"PYTHONPATH": str(ROOT)} | more
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def pushed(hub, repo_id="user/mine") -> dict[str, bytes]:
    """The files on the main branch."""
    repository = hub.repositories[repo_id]
    return repository.commits[repository.branches["main"]]


def readme(hub, repo_id="user/mine") -> str:
    return pushed(hub, repo_id)["README.md"].decode()


def test_what_was_pushed_gives_the_same_output_bit_for_bit_elsewhere_and_the_cards_code_runs(
    run, hub, tmp_path, photo, capsys
):
    assert publish([str(run), "user/mine"]) == 0
    out, err = capsys.readouterr()
    assert "publishing as user" in out and "token-of-user" not in out + err
    assert sorted(pushed(hub)) == [
        ".gitattributes",
        "README.md",
        "config.json",
        "curve.png",
        "failure.webp",
        "model.safetensors",
        "onnx/model.onnx",
        "recipe.yaml",
        "samples.webp",
    ]
    assert publish([str(run), "user/mine"]) == 0
    blocks = re.findall(r"```python\n(.*?)```", readme(hub), re.DOTALL)
    assert len(blocks) == 2
    np.save(tmp_path / "noisy.npy", photo[:64, :64])
    Image.fromarray(photo[:64, :64]).save(tmp_path / "noisy.jpg")
    program = (
        "import numpy as np; from denoiser import Denoiser\n"
        "np.save('out.npy', Denoiser.from_pretrained('user/mine')(np.load('noisy.npy'), 25))\n"
    )
    result = elsewhere(hub, tmp_path, "-c", "\n".join([program, *blocks, "assert clean.size == (64, 64)"]))
    assert result.returncode == 0, result.stderr
    expected = Denoiser.from_pretrained(run / "checkpoint")(photo[:64, :64], 25)
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)


def test_training_can_end_on_the_hub(finished_run, hub, tmp_path, capsys):
    source = finished_run.parent
    arguments = ["--config", source / "config.yaml", "--data", source / "photographs", "--output", tmp_path / "run"]
    arguments += ["--cpu", "--cache", source / "cache", "--push-to-hub", "user/trained"]
    assert train([*map(str, arguments)]) == 0
    assert "token-of-user" not in "".join(capsys.readouterr())
    weights = (tmp_path / "run" / "checkpoint" / "model.safetensors").read_bytes()
    assert pushed(hub, "user/trained")["model.safetensors"] == weights


def test_the_card_says_what_was_measured_and_on_what(run, hub):
    assert publish([str(run), "user/mine"]) == 0
    text, content = readme(hub), ModelCard(readme(hub))
    measured = json.loads((run / "evaluation.json").read_text())
    assert {25, 50, 15} == {row["sigma"] for row in measured}
    for row in measured:
        assert f"| {row['sigma']:g} | {row['noisy_psnr']:.2f} | {row['psnr']:.2f} | {row['ssim']:.4f} |" in text
    levels = {(result.dataset_config, result.metric_type) for result in content.data.eval_results}
    assert levels == {(f"sigma={sigma}", metric) for sigma in (15, 25, 50) for metric in ("psnr", "ssim")}
    assert {"denoising-autoencoder", "image-to-image"} <= set(content.data.tags)
    assert content.data.license == "apache-2.0" and content.data.library_name == "denoiser"
    assert re.search(r"\| CC0 \| [12] \|", text) and "neither clipped nor rounded" in text
    assert "40 steps" in text and "{{" not in text
    assert content.data.metrics == ["psnr", "ssim"] and "failure.webp" in card_text.section(text, "limits")
    (run / "recipe.yaml").write_bytes(pushed(hub)["recipe.yaml"])
    config = load_config(run / "recipe.yaml")
    assert "(recipe.yaml)" in text and config.budget == Budget(steps=40)
    assert config.model == TINY["model"] | {"widths": [8, 16], "blocks": [1, 1]}


@pytest.mark.parametrize("share", ["grayscale", "permute_channels", "flat", "drawings", "quantize"])
def test_each_share_of_changed_crops_is_in_the_card(run, share):
    facts, measured = (json.loads((run / name).read_text()) for name in ("run.json", "evaluation.json"))
    facts["config"]["data"][share] = 0.37
    assert "37%" in card_text.section(card.render(facts, measured, "user/mine"), "procedure")


@pytest.mark.parametrize(
    ("minutes", "text"), [(0.4, "in 24 seconds on"), (1.9, "in 114 seconds"), (93.6, "in 94 minutes")]
)
def test_the_card_says_how_long_a_run_took(run, minutes, text):
    facts, measured = (json.loads((run / name).read_text()) for name in ("run.json", "evaluation.json"))
    assert text in card.render(facts | {"minutes": minutes}, measured, "user/mine")


@pytest.mark.parametrize(
    ("noise", "levels"),
    [
        ([], "0 to 55"),
        ([{"kind": "gaussian", "sigma": [20, 30]}], "20 to 30"),
        ([{"kind": "gaussian", "sigma": 25}], "25"),
        ([{"kind": "gaussian", "sigma": [20, 30]}, {"kind": "gaussian", "sigma": [40, 50], "share": 2}], "20 to 50"),
    ],
)
def test_the_card_says_which_levels_of_noise_the_training_saw(run, noise, levels):
    facts, measured = (json.loads((run / name).read_text()) for name in ("run.json", "evaluation.json"))
    facts["config"]["noise"] = noise
    text = card.render(facts, measured, "user/mine")
    assert f"with a standard deviation of {levels} (8-bit units)" in card_text.section(text, "limits")
    assert f"noise levels sigma {levels}." in card_text.section(text, "about")


def test_the_index_has_the_protocol_alone_and_the_table_everything(run):
    facts, measured = (json.loads((run / name).read_text()) for name in ("run.json", "evaluation.json"))
    more = [row | {"estimate": True} for row in measured] + [row | {"gray": True, "sigma": 15} for row in measured[:1]]
    text = card.render(facts, measured + more, "user/mine")
    assert len(ModelCard(text).data.eval_results) == 2 * len(measured)  # PSNR and SSIM
    table = card_text.section(text, "evaluation")
    assert table.count("estimated |") == len(measured) and table.count(" (grey) |") == 1
    assert "--sigma 15 25 50`, also with `--estimate`" in table and "--sigma 15 --gray`" in table


def test_a_level_measured_with_two_kinds_of_numbers_has_two_rows_and_is_once_in_the_index(run):
    facts, measured = (json.loads((run / name).read_text()) for name in ("run.json", "evaluation.json"))
    measured = [row | {"dataset": "cbsd68", "pictures": 68, "sigma": 25} for row in measured[:1]]
    other = {"bfloat16": "float32", "float32": "bfloat16"}[measured[0]["dtype"]]
    measured.append(measured[0] | {"dtype": other, "psnr": 33.333})
    text = card.render(facts, measured, "user/mine")
    table = card_text.section(text, "evaluation")
    assert "| cbsd68 | 68 | 25, float32 |" in table and "| cbsd68 | 68 | 25, bfloat16 |" in table
    assert "--sigma 25`, also with `--dtype=" in table and table.count("`--dtype=") == 2
    results = ModelCard(text).data.eval_results
    assert [result.metric_value for result in results if result.metric_type == "psnr"] == [33.333]
    (entry,) = yaml.safe_load(evaluation_files(measured)["cbsd68.yaml"])
    assert entry["value"] == 33.333


def test_the_words_of_a_person_stay_in_the_card(run, hub):
    assert publish([str(run), "user/mine"]) == 0
    api = huggingface_hub.HfApi()
    mine = ModelCard(readme(hub))
    mine.data.tags = [*mine.data.tags, "astronomy"]
    mine.data.license = "cc-by-4.0"
    mine.text = mine.text.replace("## Use\n", "## Why I made this\n\nFor my telescope.\n\n## Use\n")
    mine.text = card_text.SECTION.sub(lambda match: "" if match[1] == "limits" else match[0], mine.text)
    api.upload_file(path_or_fileobj=str(mine).encode(), path_in_repo="README.md", repo_id="user/mine")
    measured = json.loads((run / "evaluation.json").read_text())
    measured[0]["psnr"] = 33.333
    (run / "evaluation.json").write_text(json.dumps(measured))
    assert publish([str(run), "user/mine"]) == 0
    text = readme(hub)
    assert "For my telescope." in text and "medicine, forensics" not in text
    assert "33.33" in text and text.count("## Use") == 1
    data = ModelCard(text).data
    assert "astronomy" in data.tags and data.license == "cc-by-4.0" and len(data.eval_results) == 6


def test_repeating_a_push_makes_no_commit(run, hub):
    for _ in range(2):
        assert publish([str(run), "user/mine"]) == 0
    assert len(hub.repositories["user/mine"].commits) == 2  # the initial one and ours


def test_branch_tag_and_private(run, hub):
    assert publish([str(run), "user/mine", "--private", "--branch", "next", "--tag", "v1"]) == 0
    repository = hub.repositories["user/mine"]
    assert repository.private and repository.tags["v1"] == repository.branches["next"] != repository.branches["main"]


def test_a_dry_run_says_what_would_be_pushed_and_pushes_nothing(run, hub, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    assert publish([str(run), "user/mine", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "would push to user/mine" in out and "model.safetensors" in out
    assert not hub.repositories


@pytest.mark.parametrize(
    ("token", "repo_id", "message"),
    [
        (None, "user/mine", "there is no token"),
        ("token-of-nobody", "user/mine", "does not take this token"),
        ("token-of-guest", "user/mine", "user/mine is not guest's to write: the token is for guest, use guest/mine"),
        ("token-of-user", "mine", "mine is no name for a repository: it must be user/name"),
        ("token-of-user", "user/mine/too", "must be user/name"),
        ("token-of-user", "user/my photographs", "user/my photographs is no name for a repository"),
    ],
)
def test_without_the_right_token_nothing_happens_and_it_says_why(
    run, hub, monkeypatch, capsys, token, repo_id, message
):
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert publish([str(run), repo_id]) != 0
    out, err = capsys.readouterr()
    assert message in err and (token is None or token not in out + err)
    assert not hub.repositories
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_hub_that_is_down_is_not_taken_for_a_wrong_token(run, hub, capsys):
    hub.faults = [("whoami", 503)] * 9
    assert publish([str(run), "user/mine"]) == 2
    assert "the Hub answered 503: try again later" in capsys.readouterr().err


def test_a_token_that_may_not_write_is_named(run, hub, capsys):
    hub.faults = [("POST /api/repos/create", 403)]
    assert publish([str(run), "user/mine"]) == 1
    assert "may not write to user/mine" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["---\nlicense: mit\n---\n", "---\nlicense: mit\n---\n# My telescope\n\nFor stars.\n", "Only words.\n"]
)
def test_a_card_without_our_sections_gets_them_below_its_words(run, hub, words):
    hub.repositories["user/mine"] = Repository()
    hub.repositories["user/mine"].commit({"README.md": words.encode()})
    assert publish([str(run), "user/mine"]) == 0
    text = readme(hub)
    assert all(line in text for line in words.splitlines()) and {
        match[1] for match in card_text.SECTION.finditer(text)
    } >= {
        "about",
        "use",
        "limits",
        "data",
        "evaluation",
    }
    before = text
    assert publish([str(run), "user/mine"]) == 0 and readme(hub) == before
    assert ModelCard(text).data.license == ("mit" if "mit" in words else "apache-2.0")


def test_measurements_that_a_person_added_stay(run, hub):
    assert publish([str(run), "user/mine"]) == 0
    mine = ModelCard(readme(hub))
    theirs = [
        huggingface_hub.EvalResult("image-to-image", "stars", "Stars", metric, 0.1, task_name="Image denoising")
        for metric in ("lpips", "psnr")
    ]
    mine.data.eval_results = [*mine.data.eval_results, *theirs]
    huggingface_hub.HfApi().upload_file(
        path_or_fileobj=str(mine).encode(), path_in_repo="README.md", repo_id="user/mine"
    )
    for _ in range(2):
        assert publish([str(run), "user/mine"]) == 0
    results = ModelCard(readme(hub)).data.eval_results
    assert sorted(result.metric_type for result in results if result.dataset_name == "Stars") == ["lpips", "psnr"]
    assert len(results) == 8


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda index: index[0]["results"][1].pop("dataset"), "result 2 in the model-index of the README.md that is"),
        (lambda index: index[0].pop("results"), "the model-index in the README.md that is there has no list"),
    ],
)
def test_a_measurement_that_cannot_be_read_is_named_and_none_is_lost(run, hub, capsys, damage, message):
    assert publish([str(run), "user/mine"]) == 0
    _, block, text = readme(hub).split("---\n", 2)
    metadata = yaml.safe_load(block)
    damage(metadata["model-index"])
    mine = f"---\n{yaml.safe_dump(metadata)}---\n{text}"
    hub.repositories["user/mine"].commit(pushed(hub) | {"README.md": mine.encode()})
    assert publish([str(run), "user/mine"]) == 2
    assert message in capsys.readouterr().err and readme(hub) == mine


def test_metadata_that_is_not_yaml_is_named(run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("---\na: [\n---\nMy words.\n")
    assert publish([str(run), "--folder", str(tmp_path / "mine")]) == 2
    assert "not YAML" in capsys.readouterr().err and [path.name for path in (tmp_path / "mine").iterdir()] == [
        "README.md"
    ]


def test_a_card_that_is_not_utf_8_is_named(run, hub, tmp_path, capsys):
    folder, words = tmp_path / "mine", "Für Sterne.\n".encode("latin-1")
    assert publish([str(run), "--folder", str(folder)]) == 0
    (folder / "README.md").write_bytes(words)
    for source, target in ((run, ["--folder", str(folder)]), (folder, ["user/mine"])):
        assert publish([str(source), *target]) == 2
        assert f"{folder / 'README.md'} is not text in UTF-8" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"README\.md is not text in UTF-8"):
        Denoiser.from_pretrained("color-small").save_pretrained(folder)
    assert (folder / "README.md").read_bytes() == words
    hub.repositories["user/mine"] = Repository()
    hub.repositories["user/mine"].commit({"README.md": words})
    for more in ([], ["--dry-run"]):
        assert publish([str(run), "user/mine", *more]) == 2
        assert "README.md of user/mine is not text in UTF-8" in capsys.readouterr().err


def test_figures_of_other_weights_are_not_published(run, hub, capsys):
    rows = json.loads((run / "evaluation.json").read_text())
    rows.append(rows[0] | {"dataset": "cbsd68", "weights": "0123456789abcdef"})
    (run / "evaluation.json").write_text(json.dumps(rows))
    assert publish([str(run), "user/mine"]) == 2 and not hub.repositories
    assert "cbsd68 was measured with other weights" in capsys.readouterr().err


def test_a_card_edited_during_the_push_is_not_overwritten(run, hub, monkeypatch, capsys):
    assert publish([str(run), "user/mine"]) == 0
    upload = huggingface_hub.HfApi.upload_folder

    def edited_meanwhile(api, **arguments):
        hub.repositories["user/mine"].commit(pushed(hub) | {"README.md": readme(hub).encode() + b"\nFor stars.\n"})
        return upload(api, **arguments)

    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"steps": 41}))
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", edited_meanwhile)
    assert publish([str(run), "user/mine"]) == 1
    assert "was changed meanwhile" in capsys.readouterr().err and "For stars." in readme(hub)
    monkeypatch.undo()
    monkeypatch.setenv("HF_TOKEN", "token-of-user")
    assert publish([str(run), "user/mine"]) == 0
    assert "For stars." in readme(hub) and "41 steps" in readme(hub)


def test_a_new_branch_keeps_the_words_on_main(run, hub):
    assert publish([str(run), "user/mine"]) == 0
    hub.repositories["user/mine"].commit(pushed(hub) | {"README.md": readme(hub).encode() + b"\nFor stars.\n"})
    assert publish([str(run), "user/mine", "--branch", "next"]) == 0
    repository = hub.repositories["user/mine"]
    assert b"For stars." in repository.commits[repository.branches["next"]]["README.md"]


def test_what_the_hub_would_silently_not_do_is_refused(run, hub, capsys):
    for _ in range(2):
        assert publish([str(run), "user/mine", "--tag", "v1"]) == 0  # repeated as it is
    assert publish([str(run), "user/mine", "--private"]) == 2
    assert "is there and public" in capsys.readouterr().err
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"steps": 41}))
    assert publish([str(run), "user/mine", "--tag", "v1"]) == 2
    assert "v1 is the tag of an earlier commit" in capsys.readouterr().err
    assert publish([str(run), "user/mine", "--tag", "v1"]) == 2
    assert "has a tag v1 already" in capsys.readouterr().err
    assert publish([str(run), "user/mine", "--tag", "v2"]) == 0


@pytest.mark.parametrize(
    "fault",
    [
        ("POST /api/models/user/mine/commit", 500),
        ("POST /api/models/user/mine/commit", "cut"),
        ("PUT /_lfs/", 403),
    ],
)
def test_a_push_that_broke_off_can_be_repeated(run, hub, capsys, fault):
    hub.faults = [fault] * 8
    assert publish([str(run), "user/mine"]) == 1
    assert "can be repeated" in capsys.readouterr().err
    hub.faults = []
    assert publish([str(run), "user/mine"]) == 0
    assert "model.safetensors" in pushed(hub)


@pytest.fixture
def no_hub(monkeypatch):
    """The Hub that this process's client asks cannot be reached."""
    monkeypatch.setenv("HF_TOKEN", "token-of-user")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{free_port()}")


def test_a_hub_that_is_not_there_is_named(run, no_hub, capsys):
    assert publish([str(run), "user/mine"]) == 2
    assert "cannot be reached" in capsys.readouterr().err


def test_training_finds_out_before_any_work_that_there_is_no_hub(finished_run, no_hub, tmp_path, capsys):
    source = finished_run.parent
    arguments = ["--config", source / "config.yaml", "--data", source / "photographs", "--output", tmp_path / "run"]
    assert train([*map(str, arguments), "--cpu", "--push-to-hub", "user/mine"]) == 2
    assert "the Hub cannot be reached" in capsys.readouterr().err and not (tmp_path / "run").exists()


def no_measurement(run):
    (run / "evaluation.json").unlink()


def other_tensors(run):
    (run / "checkpoint" / "model.safetensors").write_bytes(b"broken")


def unfinished(run):
    (run / "run.json").unlink()


def no_curve(run):
    (run / "curve.png").unlink()


def test_a_name_that_holds_something_else_is_not_overwritten(run, hub, capsys):
    hub.repositories["user/mine"] = Repository()
    hub.repositories["user/mine"].commit({"pytorch_model.bin": b"a language model"})
    assert publish([str(run), "user/mine"]) == 2
    assert "user/mine is taken: it holds pytorch_model.bin" in capsys.readouterr().err
    assert list(pushed(hub)) == ["pytorch_model.bin"]


def test_training_finds_out_before_any_work_that_it_cannot_publish(finished_run, hub, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    source = finished_run.parent
    arguments = ["--config", source / "config.yaml", "--data", source / "photographs", "--output", tmp_path / "run"]
    assert train([*map(str, arguments), "--cpu", "--push-to-hub", "user/mine"]) == 2
    assert "there is no token" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_measurement, "no measurements"),
        (other_tensors, "does not load"),
        (unfinished, "run.json is missing"),
        (no_curve, "curve.png is missing"),
    ],
)
def test_what_should_not_be_published_is_refused(run, hub, capsys, damage, message):
    damage(run)
    assert publish([str(run), "user/mine"]) == 2
    assert message in capsys.readouterr().err and not hub.repositories


def test_a_folder_holds_what_a_push_would_hold(run, hub, tmp_path):
    assert publish([str(run), "--folder", str(tmp_path / "mine")]) == 0
    assert publish([str(run), "user/mine"]) == 0
    for path in (tmp_path / "mine").iterdir():
        if path.name != "README.md":  # its code names the repository
            assert pushed(hub)[path.name] == path.read_bytes()
    assert Denoiser.from_pretrained(tmp_path / "mine").model.config.widths == (8, 16)

    # What another version has left says nothing of these weights; what a person has put there stays.
    for name in (".eval_results/other.yaml", "onnx/model.onnx", "notes.txt"):
        (tmp_path / "mine" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "mine" / name).write_text("of before")
    assert publish([str(run), "--folder", str(tmp_path / "mine")]) == 0
    left = {str(path.relative_to(tmp_path / "mine")) for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    assert "notes.txt" in left and not {".eval_results/other.yaml", "onnx/model.onnx"} & left


def test_a_data_set_on_the_hub_can_be_trained_on(hub, tmp_path):
    from train.data.sources import find_images

    hub.repositories["user/photographs"] = repository = Repository()
    repository.commit({"a.jpg": PHOTO.read_bytes(), "notes.txt": b"x"})
    (source,) = find_images(["hf://datasets/user/photographs"])
    assert source.name == "a.jpg" and source.read(3).size == (512, 512)
    with pytest.raises(FileNotFoundError, match="cannot be downloaded"):
        find_images(["hf://datasets/user/nothing"])


def test_the_demo_lists_what_was_pushed_with_its_facts(run, hub):
    assert publish([str(run), "user/listed"]) == 0
    assert publish([str(run), "user/hidden", "--private"]) == 0
    catalogue = Catalogue(author="user")
    catalogue.refresh()
    catalogue._worker.join(600)
    facts = {facts.name: facts for facts in catalogue.entries()}
    assert "user/hidden" not in facts
    told = json.loads((run / "run.json").read_text())
    assert facts["user/listed"].architecture == "unet" and facts["user/listed"].parameters == told["parameters"]
    assert facts["user/listed"].sigma_range == (0, 55) and facts["user/listed"].license == "apache-2.0"
    measured = {entry["sigma"]: entry["psnr"] for entry in json.loads((run / "evaluation.json").read_text())}
    listed = dict(facts["user/listed"].psnr)
    assert listed["held-out photographs, sigma=25"] == pytest.approx(measured[25], abs=1e-3)


def test_a_dry_run_needs_no_hub(run, no_hub, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    assert publish([str(run), "user/mine", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "would push to user/mine" in out and "The Hub was not asked" in out
    assert publish([str(run), "bad name", "--dry-run"]) == 2
    assert "bad name is no name for a repository" in capsys.readouterr().err


def unimproved(run):
    rows = json.loads((run / "evaluation.json").read_text())
    changed = [row | {"psnr": row["noisy_psnr"] + 0.5} for row in rows]
    (run / "evaluation.json").write_text(json.dumps(changed))


def test_what_has_learned_next_to_nothing_is_published_only_when_that_is_asked_for(run, hub, capsys):
    unimproved(run)
    assert publish([str(run), "user/mine"]) == 2 and not hub.repositories
    assert "improves its noisy input by 0.50 dB on the mean" in capsys.readouterr().err
    assert publish([str(run), "user/mine", "--force"]) == 0
    assert "by 0.50 dB only: it has learned next to nothing" in card_text.section(readme(hub), "limits")


def test_a_checkpoint_folder_is_published_with_its_card_and_nothing_else_in_it(run, hub, tmp_path, photo, capsys):
    folder = tmp_path / "mine"
    assert publish([str(run), "--folder", str(folder)]) == 0
    (folder / "secret.env").write_text("token")
    assert publish([str(folder), "user/copy"]) == 0
    assert not set(pushed(hub, "user/copy")) & {"secret.env"} and "recipe.yaml" in pushed(hub, "user/copy")
    text = readme(hub, "user/copy")
    assert 'from_pretrained("user/copy")' in text and "train.evaluate user/copy " in text
    mine = text.replace("## Use\n", "## Use\n\nFor my telescope.\n")
    hub.repositories["user/copy"].commit(pushed(hub, "user/copy") | {"README.md": mine.encode()})
    assert publish([str(folder), "user/copy"]) == 0
    assert "For my telescope." in readme(hub, "user/copy")
    (folder / "README.md").unlink()
    assert publish([str(folder), "user/copy"]) == 2
    assert "README.md is missing" in capsys.readouterr().err


def test_the_words_in_a_checkpoint_folders_card_replace_those_on_the_hub(run, hub, tmp_path, capsys):
    folder = tmp_path / "mine"
    assert publish([str(run), "--folder", str(folder)]) == 0
    assert publish([str(folder), "user/mine"]) == 0 and "replaced" not in capsys.readouterr().out
    theirs = (
        readme(hub).replace("## Use\n", "## Use\n\nFor my telescope.\n").replace("- pytorch", "- pytorch\n- astronomy")
    )
    hub.repositories["user/mine"].commit(pushed(hub) | {"README.md": theirs.encode()})
    mine = (folder / "README.md").read_text().replace("license: apache-2.0", "license: other\nlicense_name: stars")
    mine = mine.replace("## Training data", "## Nights\n\nTwo of them.\n\n## Pictures").replace(
        "- pytorch", "- pytorch\n- night"
    )
    (folder / "README.md").write_text(mine)
    assert publish([str(folder), "user/mine"]) == 0
    text, data = readme(hub), ModelCard(readme(hub)).data
    assert (data.license, data.license_name) == ("other", "stars") and {"astronomy", "night"} <= set(data.tags)
    assert "## Nights\n\nTwo of them.\n\n## Pictures" in text and "## Use\n\nFor my telescope.\n" in text
    assert "license: apache-2.0 / ## Training data\n" in capsys.readouterr().out
    assert publish([str(folder), "user/mine"]) == 0
    assert readme(hub) == text and "replaced" not in capsys.readouterr().out


def test_a_license_file_is_published_and_other_linked_files_that_are_not_are_named(run, hub, tmp_path, capsys):
    folder = tmp_path / "mine"
    assert publish([str(run), "--folder", str(folder)]) == 0
    for name in ("LICENSE.md", "stars.jpg", "secret.env"):
        (folder / name).write_text("mine")
    card = (folder / "README.md").read_text().replace("license: apache-2.0", "license: other\nlicense_link: LICENSE.md")
    (folder / "README.md").write_text(card + "\n![Stars](stars.jpg) [further](https://example.com) [use](#use)\n")
    assert publish([str(folder), "user/mine"]) == 0
    assert "LICENSE.md" in pushed(hub) and not {"stars.jpg", "secret.env"} & pushed(hub).keys()
    assert f"the card links to files of {folder} that are not published: stars.jpg\n" in capsys.readouterr().out


def test_a_pull_request_leaves_the_main_branch_as_it_is(run, hub, monkeypatch, capsys):
    assert publish([str(run), "user/mine"]) == 0
    before = dict(hub.repositories["user/mine"].branches)
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"steps": 41}))
    monkeypatch.setenv("HF_TOKEN", "token-of-guest")
    assert publish([str(run), "user/mine", "--create-pr"]) == 0
    assert "/user/mine/discussions/1" in capsys.readouterr().out
    repository = hub.repositories["user/mine"]
    assert repository.branches["main"] == before["main"]
    assert b"41 steps" in repository.commits[repository.branches["refs/pr/1"]]["README.md"]
    assert publish([str(run), "user/nothing", "--create-pr"]) == 2
    assert "user/nothing is not there" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        publish([str(run), "user/mine", "--create-pr", "--tag", "v1"])


def test_measurements_on_a_data_set_of_the_hub_are_in_its_own_form_too(run, hub):
    rows = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(
        json.dumps(rows + [row | {"dataset": "cbsd68", "pictures": 68} for row in rows])
    )
    assert publish([str(run), "user/mine"]) == 0
    entries = huggingface_hub.hf_api.parse_eval_result_entries(yaml.safe_load(pushed(hub)[".eval_results/cbsd68.yaml"]))
    expected = {f"psnr_sigma_{row['sigma']:g}": row["psnr"] for row in rows}
    assert {entry.task_id: entry.value for entry in entries} == pytest.approx(expected, abs=1e-4)
    assert {entry.dataset_id for entry in entries} == {"deepinv/CBSD68"}
    assert ModelCard(readme(hub)).data.datasets == ["deepinv/CBSD68"]
    listed = [{"filename": "x.yaml", "data": item} for item in yaml.safe_load(pushed(hub)[".eval_results/cbsd68.yaml"])]
    facts = facts_from_listing("user/mine", {"cardData": {}, "evalResults": [*listed, {"error": "bad"}, None, 3]})
    assert dict(facts.psnr)["cbsd68, sigma=25"] == pytest.approx(expected["psnr_sigma_25"], abs=1e-4)


def train_from(start, output, folder, *more, **changes):
    """A run of two steps on the photographs in ``folder``."""
    (folder / "tuned.yaml").write_text(yaml.safe_dump(TINY | {"budget": {"steps": 2}} | changes))
    if not (folder / "photographs").exists():
        (folder / "photographs").mkdir()
        for index in range(3):
            crop = Image.open(PHOTO).crop((index * 90, 0, index * 90 + 160, 160))
            crop.save(folder / "photographs" / f"{index}.png")
    arguments = ["--config", folder / "tuned.yaml", "--data", folder / "photographs", "--output", folder / output]
    assert train([*map(str, [*arguments, "--cpu", "--cache", folder / "cache"]), "--init", str(start), *more]) == 0
    return folder / output


def test_measurements_that_are_deleted_go_from_the_hub_too(run, hub):
    rows = json.loads((run / "evaluation.json").read_text())
    theirs = {".eval_results/stars.yaml": b"[]"}
    for left in ([], [row | {"dataset": "cbsd68", "pictures": 9} for row in rows]):
        whole = [row | {"dataset": "cbsd68", "pictures": 68} for row in rows]
        (run / "evaluation.json").write_text(json.dumps(rows + whole))
        assert publish([str(run), "user/mine"]) == 0
        hub.repositories["user/mine"].commit(pushed(hub) | theirs)
        fetched = Denoiser.from_pretrained("user/mine", device="cpu")
        fetched.push_to_hub("user/mine")  # without these files, with the same card
        assert ".eval_results/cbsd68.yaml" in pushed(hub)
        (run / "evaluation.json").write_text(json.dumps(rows + left))
        assert publish([str(run), "user/mine"]) == 0
        assert {name for name in pushed(hub) if name.startswith(".eval")} == theirs.keys()
        assert not ModelCard(readme(hub)).data.datasets


def test_a_part_of_a_data_set_of_the_hub_is_not_published_as_the_whole(run, hub):
    rows = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(
        json.dumps(rows + [row | {"dataset": "cbsd68", "pictures": 3} for row in rows])
    )
    assert publish([str(run), "user/mine"]) == 0
    assert ".eval_results/cbsd68.yaml" not in pushed(hub) and "| cbsd68 | 3 | 15 |" in readme(hub)
    assert not ModelCard(readme(hub)).data.datasets


def test_the_license_of_the_weights_it_started_from_is_taken_over(run, hub, tmp_path):
    assert publish([str(run), "user/base"]) == 0 and publish([str(run), "user/mine"]) == 0
    theirs = "license: other\nlicense_name: stars\nlicense_link: LICENSE.md"
    stated = readme(hub, "user/base").replace("license: apache-2.0", theirs)
    hub.repositories["user/base"].commit(pushed(hub, "user/base") | {"README.md": stated.encode()})
    tuned = train_from(train_from("user/base", "tuned", tmp_path), "again", tmp_path)
    commit = hub.repositories["user/base"].branches["main"]
    expected = ("other", "stars", f"https://huggingface.co/user/base/blob/{commit}/LICENSE.md")
    for command in (["--folder", str(tmp_path / "folder")], ["user/mine"]):
        assert publish([str(tuned), *command, "--force"]) == 0
    changed = Denoiser.from_pretrained("user/base", device="cpu")
    changed.save_pretrained(tmp_path / "copy")
    with torch.no_grad():
        changed.model.head.weight.mul_(1.01)
    changed.save_pretrained(tmp_path / "changed")
    folders = [(tmp_path / name / "README.md").read_text() for name in ("folder", "copy", "changed")]
    for data in (ModelCard(text).data for text in (readme(hub), *folders)):
        assert (data.license, data.license_name) == expected[:2]
        assert data.license_link.replace("/resolve/", "/blob/") == expected[2]


def test_the_card_names_what_the_weights_come_from_on_the_hub(run, hub, tmp_path):
    assert publish([str(run), "user/base"]) == 0
    stages = {"stages": [{"until": 1.0, "patch": 32, "batch": 4, "distill": 0.5}]}
    tuned = train_from("user/base", "tuned", tmp_path, "--teacher", "user/base", **stages)
    for source in (tuned, train_from(tuned, "again", tmp_path)):
        folder = tmp_path / f"{source.name} folder"
        assert publish([str(source), "--folder", str(folder), "--force"]) == 0
        text = (folder / "README.md").read_text()
        assert ModelCard(text).data.base_model == ["user/base"] and len(text) < 9000


def test_an_origin_of_former_weights_goes_with_them_and_one_that_a_person_added_stays(run, hub, tmp_path):
    assert publish([str(run), "user/base"]) == 0
    assert publish([str(train_from("user/base", "tuned", tmp_path)), "user/mine", "--force"]) == 0
    assert ModelCard(readme(hub)).data.base_model == ["user/base"]
    edited = readme(hub).replace("- user/base\n", "- user/base\n- other/theirs\n").encode()
    hub.repositories["user/mine"].commit(pushed(hub) | {"README.md": edited})
    assert publish([str(run), "user/mine"]) == 0
    assert ModelCard(readme(hub)).data.base_model == ["other/theirs"]
