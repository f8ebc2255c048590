"""That benchmarks.load works; what it measures is for the machine it runs on to say."""

from benchmarks import load


def test_two_visitors_and_a_large_picture_get_what_is_theirs(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(load, "PORT", 7951)  # or the next free one
    monkeypatch.setattr(load, "SIDE", 64)
    status = load.main(["--visitors", "2", "--megapixels", "0.3", "--small", "1", "--log", str(tmp_path / "log.txt")])
    printed = capsys.readouterr()
    assert status == 0, printed.err + printed.out
    assert "| 2 | " in printed.out and "GB at rest" in printed.out and "0.3 megapixels" in printed.out
    assert "Traceback" not in (tmp_path / "log.txt").read_text()
