"""That the benchmarks of techniques and of SURE work; what they measure is for their tables to say."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks import sure, techniques, tune_techniques
from denoiser import Denoiser, DenoiserError
from denoiser.techniques import TECHNIQUES, Parameter, Technique


@pytest.fixture
def sets(photo, tmp_path):
    """Test sets of one small picture each."""
    for folder, picture in {"cbsd68": photo[:64, :80], "set12": photo[:64, :64, 0]}.items():
        (tmp_path / folder).mkdir()
        Image.fromarray(picture).save(tmp_path / folder / "a.png")
    return tmp_path


def test_techniques_are_measured_put_on_the_page_and_plotted(sets, tmp_path, capsys, monkeypatch):
    pytest.importorskip("torchmetrics", reason="VIF needs torchmetrics, of the extra dev")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- techniques -->\nold\n<!-- /techniques -->\nafter\n")
    options = ["--data", str(sets), "--sets", "cbsd68", "set12", "--noises", "gaussian", "jpeg", "--crop", "48"]
    options += ["--only", "gaussian", "tv", "--write", str(page), "--plots", str(tmp_path)]
    results = tmp_path / "results.jsonl"
    options += ["--results", str(results)]
    costs = techniques.costs
    with monkeypatch.context() as patch:  # of one technique: each costs the start of a process
        patch.setattr(techniques, "costs", lambda names: dict.fromkeys(names, *costs(names[:1]).values()))
        assert techniques.main(options) == 0
    printed = capsys.readouterr().out
    results.write_text(results.read_text()[:-30])  # stopped within a line
    measured, measure = [], techniques.measure
    with monkeypatch.context() as patch:
        patch.setattr(techniques, "measure", lambda *given: measured.append(1) or measure(*given))
        patch.setattr(techniques, "costs", lambda names: dict.fromkeys(names, (1.0, 2.0)))
        assert techniques.main(options[:-6] + options[-2:]) == 0
    again = capsys.readouterr().out
    assert len(measured) == 1 and [line for line in again.splitlines() if line.startswith("| (noisy)")] == [
        line for line in printed.splitlines() if line.startswith("| (noisy)")
    ]
    for name in ("(noisy)", "gaussian", "tv"):
        assert len(re.findall(rf"^\| {re.escape(name)} \|", printed, re.MULTILINE)) == 3
    row = next(line for line in printed.splitlines() if line.startswith("| tv | variational |"))
    psnrs = [float(value) for value in row.split("|")[3].split("/")]
    assert len(psnrs) == 3 and psnrs == sorted(psnrs, reverse=True) and 15 < psnrs[1] < 40
    written = page.read_text()
    assert written.startswith("before\n") and written.endswith("after\n") and "old" not in written and row in written
    monkeypatch.setattr(techniques, "costs", lambda names: dict.fromkeys(names, (1.0, 2.0)))
    again = [*options[: options.index("jpeg")], "--crop", "48", "--only", "tv", "median", "--write", str(page)]
    assert techniques.main(again) == 0
    tables = techniques.report.read_tables(page.read_text())
    for heading, rows in techniques.report.read_tables(written).items():
        assert [*tables[heading]][1:] == ["(noisy)", "gaussian", "median", "tv"]
        assert all(tables[heading][name] == rows[name] for name in ("(noisy)", "gaussian"))
    assert tables["PSNR by kind of noise, cbsd68"]["tv"][2] == "" != tables["PSNR by kind of noise, cbsd68"]["tv"][1]
    other = written.replace("1 of cbsd68", "2 of cbsd68")
    with pytest.raises(ValueError, match="other pictures or noises"):
        techniques.report.merge(written, other, [])
    for plot in ("techniques-time.png", "techniques-regions.png"):
        with Image.open(tmp_path / plot) as image:
            assert image.width > 500


def test_a_region_has_its_own_error():
    clean = np.zeros((10, 10, 1), np.float32)
    labels = np.repeat([0, 1], 50).reshape(10, 10)
    errors = techniques.by_region(clean, clean + 0.1 * labels[..., None], labels)
    assert errors["flat"] == 0 and errors["edge"] == pytest.approx(0.01) and np.isnan(errors["texture"])


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process can be reset on Linux alone")
def test_memory_counts_though_the_process_had_more_before(monkeypatch):
    def taking(pixels, sigma):
        return pixels + np.ones(8_000_000)[0]  # 64 MB

    monkeypatch.setattr(techniques, "technique_named", lambda name: Technique(name, name, "", taking))
    monkeypatch.setattr(techniques.torch, "set_num_threads", lambda count: None)
    np.ones(40_000_000).sum()
    assert 60 < techniques.cost("taking")[1] < 120


def test_what_is_missing_is_said(sets, capsys):
    assert techniques.main(["--data", str(sets), "--only", "no-such"]) == 2
    assert "error: " in capsys.readouterr().err
    assert techniques.main(["--data", str(sets), "--only", "gaussian", "--sets", "cbsd68", "kodak24"]) == 2
    said = capsys.readouterr().err
    assert "kodak24" in said and "cbsd68:" not in said  # before any measurement
    with pytest.raises(DenoiserError):
        techniques.technique_named("no-such")


def test_the_best_line_is_found():
    parameter = Parameter("width", "", "", 0.5, 4, 0, 1)
    values = tune_techniques.grid(parameter)
    best = np.interp(tune_techniques.SIGMAS, (5, 75), (values[1], values[-2]))
    measured = np.array([30 - (values - one) ** 2 for one in best])
    line = tune_techniques.best_line(parameter, measured)
    assert [line.at(sigma) for sigma in tune_techniques.SIGMAS] == pytest.approx(best, abs=0.2)
    constant = tune_techniques.best_line(parameter, np.array([30 - (values - values[4]) ** 2] * 5))
    assert constant.slope == 0 and constant.base == pytest.approx(values[4])


def test_tuning_gains_on_a_bad_rule(photo):
    crops = [photo[:40, :40].astype(np.float32) / 255]
    bad = replace(TECHNIQUES["gaussian"].parameters[0], base=4, slope=0)
    tuned = tune_techniques.tune(replace(TECHNIQUES["gaussian"], parameters=(bad,)), crops)
    assert tuned.parameters[0].at(5) < 1 and tuned.parameters[0].slope > 0


def test_sure_is_compared_with_the_true_psnr(photo, tiny_model, tmp_path):
    denoiser, clean = Denoiser(tiny_model, dtype="float32"), photo[:96, :96].astype(np.float32) / 255
    rows = [sure.measure(denoiser, clean, sure.CASES[1], seed) for seed in range(2)]
    for row in rows:
        assert abs(row.estimated - row.true) < 5 * row.standard_error
    line = sure.line("tiny", sure.CASES[1], rows)
    assert line.startswith(f"| `tiny` | gaussian, sigma 25 | {(rows[0].true + rows[1].true) / 2:.2f} |")
    own, chosen, best = sure.tuning(denoiser, clean, sure.CASES[1], 0)
    assert own == pytest.approx(rows[0].true, abs=0.01) and best >= max(own, chosen) - 0.01
    sure.plot({"gaussian": rows}, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > 500
