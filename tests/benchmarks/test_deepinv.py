"""deepinv's benchmark, where it is installed: the solver as benchopt makes it, measured by deepinv's own code."""

import importlib

import pytest
from PIL import Image

from benchmarks import deepinv as benchmark

pytest.importorskip("deepinv", reason="what the benchmark is of: pip install deepinv benchopt")
pytest.importorskip("benchopt", reason="what runs the benchmark: pip install deepinv benchopt")


def test_the_solver_gives_what_the_benchmark_evaluates(photo, tmp_path, capsys):
    for index in range(2):
        Image.fromarray(photo[: 96 + 8 * index, 16 * index :]).save(tmp_path / f"{index}.png")
    assert benchmark.main(["color-small", "--data", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    checkpoint, psnr, _, noisy = out.splitlines()[-1].strip("| ").split(" | ")
    assert out.startswith("2 pictures") and checkpoint == "`color-small`"
    assert 19.9 < float(noisy) < 20.1 and float(psnr) > float(noisy) + 7
    solver = importlib.import_module("benchmarks.deepinv_solver").Solver
    assert solver.sampling_strategy == "run_once" and solver.requirements[0].endswith("/denoising-autoencoder")
