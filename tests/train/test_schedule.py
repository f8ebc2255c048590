import json

import pytest
import torch

from tests.train.conftest import ONE_STAGE, TINY, weights
from train.__main__ import main
from train.config import Optimizer
from train.optim import learning_rate
from train.trainer import Trainer


def test_a_wall_clock_budget_ends_the_run(config, photographs, tmp_path, arguments, monkeypatch):
    """The last step begins within the budget, at the rate of that moment, and only it may end beyond it."""
    seen = []

    def train_step(trainer, batches, original=Trainer._train_step):
        seen.append((trainer.step, trainer.progress))
        original(trainer, batches)

    monkeypatch.setattr(Trainer, "_train_step", train_step)
    assert main(arguments(config(), photographs, tmp_path / "run", "--minutes", "0.01")) == 0
    record = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert record["seconds"] >= 0.6 and seen[-1][1] < 1 and record["step"] == len(seen)
    assert record["rate"] == pytest.approx(learning_rate(Optimizer(**TINY["optimizer"]), *seen[-1]))


def test_the_rate_warms_up_stays_and_decays():
    settings = Optimizer(rate=1e-3, warmup=9, decay=0.2)
    rates = [learning_rate(settings, step, step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-4) and rates[9:800] == pytest.approx([1e-3] * 791)
    assert rates[800:] == sorted(rates[800:], reverse=True) and rates[850] == pytest.approx(5e-4)
    assert rates[1000] == pytest.approx(0)


def test_a_run_in_its_constant_phase_goes_on_with_another_budget(
    config, photographs, tmp_path, arguments, stop_at, capsys
):
    path = config(stages=ONE_STAGE)
    assert main(arguments(path, photographs, tmp_path / "at once", "--steps", "20")) == 0
    stop_at(9)
    assert main(arguments(path, photographs, tmp_path / "run", "--steps", "12")) == 130
    # One that would end it at once is a mistake.
    assert main(arguments(path, photographs, tmp_path / "run", "--steps", "8")) == 2
    assert "of 8 steps 112% are used already" in capsys.readouterr().err
    assert main(arguments(path, photographs, tmp_path / "run", "--decay-from", str(tmp_path / "run"))) == 2
    assert "holds a run already" in capsys.readouterr().err
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
