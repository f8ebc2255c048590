import hashlib
import json
import re
import shutil

import torch

from denoiser.hub.card_sections import training_data
from tests.train.conftest import MIXTURE, TINY, weights
from train.__main__ import main
from train.publish import main as publish


def test_fine_tuning_starts_from_the_given_weights(config, photographs, trained, tmp_path, arguments, capsys):
    shutil.copytree(trained, tmp_path / "first")
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
    assert publish([str(tmp_path / "from run"), "--folder", str(tmp_path / "folder"), "--force"]) == 0
    card = (tmp_path / "folder" / "README.md").read_text()
    seconds = 60 * facts["init_run"]["minutes"]
    assert f"- Started from the weights of an earlier run: 30 steps in {seconds:.0f} seconds" in card
    assert "(recipe.yaml)" in card and "```yaml" not in card and "other pictures" not in card
    fewer = shutil.copytree(photographs, tmp_path / "fewer", ignore=shutil.ignore_patterns("p1*", "broken*"))
    assert main(arguments(path, fewer, tmp_path / "fewer run", "--init", str(tmp_path / "from run"))) == 0
    assert publish([str(tmp_path / "fewer run"), "--folder", str(tmp_path / "folder"), "--force"]) == 0
    card = (tmp_path / "folder" / "README.md").read_text()
    assert card.count("trained on other pictures") == 1 and card.count("Started from the weights") == 2
    # Of a checkpoint without its run the card tells: which weights, and on which pictures they were trained.
    end = "<!-- /denoiser:data -->"
    words = (tmp_path / "folder" / "README.md").read_text().replace(end, f"<b>By hand</b> <!-- x -->\n{end}")
    head = "| stated license | photographs |\n| --- | --- |\n"  # earlier versions listed every license
    words = words.replace(head, head + "".join(f"| license {number} | {9 - number} |\n" for number in range(6)))
    (tmp_path / "folder" / "README.md").write_text(words)
    assert main(arguments(path, photographs, tmp_path / "fourth", "--init", str(tmp_path / "folder"))) == 0
    assert publish([str(tmp_path / "fourth"), "--folder", str(tmp_path / "next"), "--force"]) == 0
    card = (tmp_path / "next" / "README.md").read_text()
    hashed = hashlib.sha256((tmp_path / "folder" / "model.safetensors").read_bytes()).hexdigest()
    assert f"Started from `folder` (weights with SHA-256 `{hashed[:16]}...`)" in card and str(tmp_path) not in card
    assert "By hand" in card and "<b>" not in card
    assert "| license 0 | 9 |" in card and "license 5" not in card and " others | " in card
    assert card.count("Started from") == 1 and card.count("curve.png") == 1
    assert card.count("trained on other pictures") == 2 and card.count("<!--") == 14
    other = config(model=TINY["model"] | {"widths": [8, 24]})
    assert main(arguments(other, photographs, tmp_path / "third", "--init", checkpoint)) == 2
    assert "only finer levels and the numbers of blocks may differ" in capsys.readouterr().err


def test_a_teacher_is_learned_from(config, photographs, trained, tmp_path, arguments, capsys):
    """At a share of 1 the clean crops do not count: whoever starts as the teacher has nothing to learn."""
    shutil.copytree(trained, tmp_path / "teacher")
    teacher = weights(tmp_path / "teacher")
    ways = {}
    for share in (0.0, 1.0):
        stages = [{"until": 1.0, "patch": 32, "batch": 4, "distill": share}]
        path = config(budget={"steps": 3}, stages=stages)
        start = ["--init", str(tmp_path / "teacher"), *(["--teacher", str(tmp_path / "teacher")] if share else [])]
        assert main(arguments(path, photographs, tmp_path / str(share), *start)) == 0
        learned = weights(tmp_path / str(share))
        ways[share] = max(float((learned[name] - teacher[name]).abs().max()) for name in teacher)
    assert ways[1.0] < 1e-6 < 1e-4 < ways[0.0]
    assert publish([str(tmp_path / "1.0"), "--folder", str(tmp_path / "folder"), "--force"]) == 0
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
    assert publish([str(run), "--folder", str(tmp_path / "folder"), "--force"]) == 0
    assert main(arguments(config(budget={"steps": 1}), photographs, tmp_path / "next", "--init", str(run))) == 0
    assert publish([str(tmp_path / "next"), "--folder", str(tmp_path / "folder"), "--force"]) == 0
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


def test_a_blind_network_starts_from_one_that_is_given_the_level(config, photographs, trained, tmp_path, arguments):
    model, data = TINY["model"] | {"blind": True}, TINY["data"] | {"clip": 0.5}
    path = config(budget={"steps": 1}, optimizer={"rate": 1e-12}, model=model, noise=MIXTURE[:3], data=data)
    start = ["--init", str(trained / "checkpoint")]
    assert main(arguments(path, photographs, tmp_path / "blind", *start)) == 0
    told, blind = weights(trained), weights(tmp_path / "blind")
    assert blind["head.weight"].shape[1] == 12
    for name, tensor in blind.items():
        assert torch.allclose(tensor, told[name][:, : tensor.shape[1]], atol=1e-6)
    (record,) = [json.loads(line) for line in (tmp_path / "blind" / "log.jsonl").read_text().splitlines()]
    assert {name for name in record if name.startswith("psnr_")} == {f"psnr_{noise['kind']}" for noise in MIXTURE[:3]}


def test_a_run_goes_on_only_with_what_it_was_started_with(config, photographs, trained, tmp_path, capsys, arguments):
    shutil.copytree(trained, tmp_path / "first")
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
    assert facts["init"] == str(tmp_path / "first") and facts["init_run"]["steps"] == 30 and facts["steps"] == 4


def test_the_pictures_of_an_earlier_card_are_named_only_if_they_are_others():
    """Cards of earlier versions have another heading, and more of the licenses."""
    licenses = {"CC BY-SA 4.0": 217, "Unsplash": 117, "FAL": 59, "CC0": 47, "Pexels": 20, "Pixabay": 10, "MIT": 1}
    data = {"training": 471, "held_out": 24, "megapixels": 457.0, "apart": True, "licenses": licenses}
    run = {"config": {}, "data": data}
    rows = "\n".join(f"| {name} | {count} |" for name, count in list(licenses.items())[:5])
    stated = "471 photographs (300 megapixels after scaling) for training, 24 others held out for validation by name."
    stated += f"\n\n| license, as stated where it is from | photographs |\n| --- | --- |\n{rows}\n| 2 others | 11 |"
    text = training_data(run | {"init_card": {"data": stated}})
    assert text == training_data(run) and "| 3 others | 31 |" in text
    assert "other pictures" in training_data(run | {"init_card": {"data": stated.replace("471", "300")}})
