import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.train.conftest import ONE_STAGE, TINY, weights
from train.__main__ import main
from train.evaluate import main as evaluate
from train.publish import main as publish
from train.report import read_log
from train.state import lock_run
from train.trainer import Trainer


@pytest.fixture(scope="module")
def whole_runs():
    """The weights of runs that nobody stopped, by their optimizer."""
    return {}


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, "adamw"), (signal.SIGTERM, "adamw"), (signal.SIGKILL, "muon")]
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    config, photographs, tmp_path, arguments, whole_runs, monkeypatch, number, kind
):
    path = config(budget={"steps": 20}, optimizer=TINY["optimizer"] | {"kind": kind})
    more = ["--save-every", "0", "--workers", "1"]  # after each step: there is time to be stopped before the last
    given = arguments(path, photographs, tmp_path / "cut", *more)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a process of its own has, so that sums are taken in the same order
    try:
        if number == signal.SIGTERM:
            with monkeypatch.context() as patch:
                patch.setattr(Trainer, "_train_step", terminate_at_the_third)
                assert main(given) == 130
        else:
            stop_a_process(given, tmp_path / "cut", number)
        check_that_it_goes_on(path, photographs, tmp_path, arguments, whole_runs, kind)
    finally:
        torch.set_num_threads(threads)


def terminate_at_the_third(trainer, batches, original=Trainer._train_step):
    """As a service manager or a scheduler does: every process."""
    original(trainer, batches)
    if trainer.step == 3:
        assert multiprocessing.active_children()
        for process in (*multiprocessing.active_children(), multiprocessing.current_process()):
            os.kill(process.pid, signal.SIGTERM)


def stop_a_process(arguments, run, number):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = [sys.executable, "-m", "train", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)
    deadline = time.monotonic() + 600
    while not (run / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    if number == signal.SIGINT:  # as a terminal sends it: to every process of the group
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output = process.communicate(timeout=600)[0].decode()
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), output


def check_that_it_goes_on(path, photographs, tmp_path, arguments, whole_runs, kind):
    reached = torch.load(tmp_path / "cut" / "state.pt", weights_only=True)["step"]
    with open(tmp_path / "cut" / "log.jsonl", "a") as log:
        log.write('{"step": 12, "lo')  # as a kill in the middle of a line leaves it
    assert 0 < reached < 20
    assert main(arguments(path, photographs, tmp_path / "cut", "--workers", "1")) == 0
    if kind not in whole_runs:
        assert main(arguments(path, photographs, tmp_path / "whole")) == 0
        whole_runs[kind] = weights(tmp_path / "whole")
    log = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == sorted(record["step"] for record in log)
    assert log[-1]["step"] == 20
    cut, whole = weights(tmp_path / "cut"), whole_runs[kind]
    assert all(torch.equal(cut[name], whole[name]) for name in whole)
    assert not list((tmp_path / "cut").rglob(".partial*"))


@pytest.mark.parametrize("calls", [0, 5], ids=["before the first step", "at the second stage"])
def test_a_run_stops_while_it_compiles_and_goes_on(
    config, photographs, tmp_path, capsys, arguments, monkeypatch, calls
):
    path, run = config(budget={"steps": 10}, compile=True), tmp_path / "cut"
    seen = []

    def compile_until_stopped(network, dynamic):
        def compiled(*given):
            if len(seen) == calls and not seen.append(given):
                os.kill(os.getpid(), signal.SIGTERM)
                pytest.fail("it went on compiling")
            seen.append(given)
            return network(*given)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_until_stopped)
    assert main(arguments(path, photographs, run)) == 130
    said = capsys.readouterr().out
    assert (f"stopped at step {calls}," if calls else "stopped before the first step") in said
    assert calls == 0 or torch.load(run / "state.pt", weights_only=True)["step"] == calls
    assert main(arguments(path, photographs, run)) == 0
    assert main(arguments(path, photographs, tmp_path / "whole")) == 0
    cut, whole = weights(run), weights(tmp_path / "whole")
    assert all(torch.equal(cut[name], whole[name]) for name in whole)


def test_without_a_compiler_a_run_goes_on_uncompiled(config, photographs, tmp_path, arguments, monkeypatch, capsys):
    monkeypatch.setattr("train.step.has_compiler", lambda: False)
    monkeypatch.setattr("train.facts.has_compiler", lambda: False)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    assert main(arguments(config(budget={"steps": 1}, compile=True), photographs, tmp_path / "run")) == 0
    assert "needs a C++ compiler" in capsys.readouterr().out


def test_seeds_decide_and_signal_handlers_are_restored(config, photographs, tmp_path, arguments):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for seed in "12":  # of one seed the weights are the same: see above
        assert main(arguments(config(budget={"steps": 3}), photographs, tmp_path / seed, "--seed", seed)) == 0
    one, two = (weights(tmp_path / seed)["head.weight"] for seed in "12")
    assert not torch.equal(one, two)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_divergence_stops_with_a_message_and_keeps_the_last_good_state(
    config, photographs, tmp_path, capsys, arguments
):
    wild = TINY["optimizer"] | {"rate": 0.99, "clip": 1e9, "warmup": 0, "weight_decay": 0.0}
    model = {"architecture": "unet", "widths": [8, 16], "blocks": [8, 8]}
    status = main(arguments(config(optimizer=wild, model=model, budget={"steps": 200}), photographs, tmp_path / "run"))
    assert status == 1 and "the run diverged by step" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--save-every", "0"], ["--steps", "15"]], ids=["at a save", "at the end"])
def test_a_run_whose_output_is_no_picture_any_more_has_diverged(config, photographs, tmp_path, capsys, arguments, more):
    wild = {"rate": 0.99, "warmup": 0, "clip": 1e30, "ema": 0.0, "weight_decay": 1e5}
    path = config(optimizer=wild, stages=[ONE_STAGE[0] | {"loss": "mse"}])
    assert main(arguments(path, photographs, tmp_path / "run", *more)) == 1
    assert "the run diverged by step" in capsys.readouterr().err


def test_a_run_that_ruins_good_weights_before_its_first_save_stops_too(
    config, photographs, trained, tmp_path, capsys, arguments
):
    wild = TINY["optimizer"] | {"rate": 0.1, "warmup": 0}
    path, run = config(optimizer=wild, budget={"steps": 12}), tmp_path / "run"
    assert main(arguments(path, photographs, run, "--init", str(trained))) == 1
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


def test_names_that_are_not_unicode_and_consoles_that_are_not_utf_8(
    config, photographs, tmp_path, arguments, monkeypatch
):
    folder = shutil.copytree(photographs, tmp_path / "photographs")
    shutil.copy(os.fsencode(folder / "p0.png"), os.fsencode(folder) + b"/caf\xe9.png")
    shutil.copy(os.fsencode(folder / "broken.jpg"), os.fsencode(folder) + b"/\xe9.jpg")
    run = tmp_path / "\u5199\u771f"
    console = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(console, encoding="cp1252", write_through=True))
    command = arguments(config(budget={"steps": 2}), folder, run)
    for _ in range(2):  # the second call says that it is finished
        assert main(command) == 0
    said = console.getvalue()
    assert b"\\u5199" in said and b"\\udce9.jpg" in said and b"is finished" in said
    assert evaluate([str(run), "--data", str(run / "validation")]) == 0


def test_a_run_in_use_is_refused(config, photographs, tmp_path, arguments, capsys):
    path, run = config(budget={"steps": 2}), tmp_path / "run"
    run.mkdir()
    held = lock_run(run)
    assert main(arguments(path, photographs, run)) == 2
    assert "is in use: another process trains there" in capsys.readouterr().err
    held.release()
    assert main(arguments(path, photographs, run)) == 0


def test_a_finished_run_is_left_alone_and_damaged_files_are_named(config, photographs, tmp_path, arguments, capsys):
    path, run = config(budget={"steps": 2}), tmp_path / "run"
    assert main(arguments(path, photographs, run)) == 0
    # A finished run is left as it is, and one of another configuration is not touched.
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(arguments(path, photographs, run)) == 0 and "is finished" in capsys.readouterr().out
    other = config(budget={"steps": 2}, optimizer=TINY["optimizer"] | {"rate": 1e-3})
    assert main(arguments(other, photographs, run)) == 2
    assert "another configuration" in capsys.readouterr().err
    assert main(arguments(config(budget={"steps": 9}), photographs, run)) == 2
    assert "its rate is falling already, for 2 steps" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    path = config(budget={"steps": 2})
    # Measured by somebody before its end, and killed before it measured itself.
    rows = json.loads((run / "evaluation.json").read_text())
    assert rows[0]["dataset"] == "held-out photographs"
    (run / "evaluation.json").write_text(json.dumps([row | {"dataset": "mine"} for row in rows]))
    assert main(arguments(path, photographs, run)) == 0 and "is finished" not in capsys.readouterr().out
    again = json.loads((run / "evaluation.json").read_text())
    assert {row["dataset"] for row in again} == {"mine", "held-out photographs"}
    # Without its state it begins anew, and nothing of before counts.
    (run / "state.pt").unlink()
    (run / "validation" / "999-smooth.png").write_bytes(b"of another split")
    assert main(arguments(path, photographs, run)) == 0 and "is finished" not in capsys.readouterr().out
    assert not (run / "validation" / "999-smooth.png").exists()
    steps = [record["step"] for record in read_log(run)]
    assert steps == sorted(set(steps))
    assert {row["dataset"] for row in json.loads((run / "evaluation.json").read_text())} == {"held-out photographs"}
    for content in (b"", b"half a file"):
        (run / "state.pt").write_bytes(content)
        assert main(arguments(path, photographs, run)) == 2
        said = capsys.readouterr().err
        assert "state.pt is empty or damaged" in said and f"--init {run / 'checkpoint'}" in said
    torch.save({"step": 2}, run / "state.pt")  # as an earlier version wrote it
    assert main(arguments(path, photographs, run)) == 2
    said = capsys.readouterr().err
    assert "state.pt was written by another version" in said and f"--init {run / 'checkpoint'}" in said
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

    def write_half(file, text, *more, whole=Path.write_text, **options):
        if file.name.endswith("log.jsonl") and attempts[-1] in (3, 5):
            whole(file, text[:-20], *more, **options)
            raise OSError(28, "No space left on device")
        return whole(file, text, *more, **options)

    monkeypatch.setattr(train.trainer, "save_state", save_state)
    path = config(budget={"steps": 6})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write_half)
        assert main(arguments(path, photographs, tmp_path / "run", "--save-every", "0")) == 0
    assert "not saved at step 1" in capsys.readouterr().err and attempts[:3] == [1, 2, 3]
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert list(dict.fromkeys(json.loads(line)["step"] for line in lines)) == [4, 6]
    monkeypatch.setattr(train.trainer, "save_state", lambda run, **_: (_ for _ in ()).throw(RuntimeError("full")))
    assert main(arguments(path, photographs, tmp_path / "never")) == 1
    assert "the last steps are not saved" in capsys.readouterr().err
    assert not (tmp_path / "never" / "state.pt").exists() and not list((tmp_path / "never").rglob(".partial*"))
    monkeypatch.setattr(train.trainer, "save_state", write)
    with monkeypatch.context() as patch:  # full when nothing but the pictures of a finished run is left to be written
        patch.setattr(train.trainer.report, "draw_failure", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
        assert main(arguments(path, photographs, tmp_path / "never")) == 1
    assert "then the same command finishes the run" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(train.trainer.report, "trim_log", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
        assert main(arguments(path, photographs, tmp_path / "never")) == 2
    assert "No space. Once that is mended, the same command goes on" in capsys.readouterr().err
    assert main(arguments(path, photographs, tmp_path / "never")) == 0
    assert all((tmp_path / "never" / name).exists() for name in ("failure.png", "evaluation.json"))


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
