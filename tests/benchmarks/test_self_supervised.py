import numpy as np
import pytest
from PIL import Image

from benchmarks.self_supervised import draw_cells, main
from tests.conftest import PHOTO


@pytest.fixture
def data(tmp_path):
    (tmp_path / "set12").mkdir()
    with Image.open(PHOTO) as image:
        for index in range(3):
            image.convert("L").crop((60 * index, 0, 60 * index + 120, 112)).save(tmp_path / "set12" / f"{index}.png")
    return tmp_path


def test_the_table_has_every_method_under_the_noises_it_is_run_on(data, capsys):
    command = ["--data", str(data), "--sets", "set12", "--steps", "2", "--starts", "fresh", "--device", "cpu"]
    methods = ["noise2noise", "sure", "clean pictures"]
    command += ["--noises", "gaussian", "correlated", "--methods", *methods, "--results", str(data / "results.jsonl")]
    assert main(command) == 0
    rows = dict(
        (cells[0], cells[1:])
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| ") and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 3
    )
    assert rows["PSNR, dB"] == ["fresh, gaussian", "fresh, correlated"] and rows["sure"][1] == ""
    figures = [float(rows[name][0]) for name in ("noisy", *methods)]
    assert np.allclose(figures, figures[0], atol=3)  # two steps change little
    assert main(command) == 0  # from the file, where nothing is trained again
    again = capsys.readouterr()
    assert f"| sure | {rows['sure'][0]} |  |" in again.out and "sure" not in again.err
    assert len((data / "results.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize("sets", [["set12"], ["cells", "set12"]])
def test_missing_pictures_are_told_before_any_run(sets, tmp_path, capsys):
    assert main(["--data", str(tmp_path), "--sets", *sets, "--steps", "2"]) == 2
    said = capsys.readouterr()
    assert "set12" in said.err and "held-out" not in said.out


def test_drawn_pictures_are_within_their_range():
    pictures = [draw_cells(seed) for seed in range(3)]
    assert all(
        picture.shape == (192, 192, 1) and 0.3 <= picture.min() < picture.max() <= 0.9001 for picture in pictures
    )
    assert not np.array_equal(pictures[0], pictures[1]) and np.array_equal(draw_cells(1), pictures[1])
