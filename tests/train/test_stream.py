"""Streamed photographs, from a Hub on the loopback."""

import io
import json
import tarfile
import time

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image

from tests.hub_server import Repository
from tests.train.conftest import TINY, weights
from train.__main__ import main
from train.data import stream as stream_module
from train.data.stream import HELD_OUT, PhotographStream

datasets = pytest.importorskip("datasets", reason="streaming is optional: pip install datasets")
COUNT, SHARD = HELD_OUT + 30, 12
ADDRESS = "hf://datasets/user/shards"


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def parquet(values: range) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    images = [{"bytes": png(value), "path": f"{value:03d}.png"} for value in values]
    pyarrow.parquet.write_table(pyarrow.table({"label": list(values), "image": images}), file)
    return file.getvalue()


def webdataset(values: range) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for value in values:
            for name, content in ((f"{value:03d}.png", png(value)), (f"{value:03d}.txt", b"words")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def put_shards(hub, pack, end: str) -> None:
    starts = range(0, COUNT, SHARD)
    files = {f"data/train-{start:03d}{end}": pack(range(start, min(start + SHARD, COUNT))) for start in starts}
    hub.repositories["user/shards"] = Repository()
    hub.repositories["user/shards"].commit(files)


@pytest.fixture(params=["parquet", "webdataset"])
def shards(request, hub_server):
    put_shards(hub_server, *{"parquet": (parquet, ".parquet"), "webdataset": (webdataset, ".tar")}[request.param])


def values_of(sources) -> list[int]:
    """What the pictures show, in place of photographs."""
    return [int(np.asarray(source.read(3))[0, 0, 0]) for source in sources]


def windows(stream: PhotographStream, steps: range) -> list[list[int]]:
    return [stream.at(step) for step in steps]


def test_every_photograph_but_the_held_out_comes_in_turn_and_then_again(shards):
    stream = PhotographStream(ADDRESS, 8, 5, values_of)
    assert values_of(stream.held_out) == list(range(HELD_OUT))
    seen = [value for window in windows(stream, range(0, 40, 5)) for value in window]
    expected = list(range(HELD_OUT, COUNT))
    assert seen == (expected + expected + expected)[: 8 * 8]
    assert stream.at(36) == stream.at(39)
    stream.close()


def test_a_resumed_stream_shows_what_it_would_have_shown(shards):
    stream = PhotographStream(ADDRESS, 8, 5, values_of)
    stream.at(22)
    state = stream.state
    expected = windows(stream, range(22, 50, 3))
    stream.close()
    resumed = PhotographStream(ADDRESS, 8, 5, values_of, state)
    assert resumed.state == state
    assert windows(resumed, range(22, 50, 3)) == expected
    resumed.close()


def test_while_the_hub_does_not_answer_the_window_stays_and_nothing_is_skipped(shards, monkeypatch, capsys):
    monkeypatch.setattr(stream_module, "PAUSE", 0)
    outcomes = iter([None, ConnectionError("down"), None, None, ConnectionError("down"), TimeoutError("slow")])

    def make(sources):
        if error := next(outcomes, None):
            raise error
        return values_of(sources)

    stream, seen = PhotographStream(ADDRESS, 8, 5, make), []
    for step in range(5, 25, 5):
        seen.append(stream.at(step - 1))
        while stream.at(step) == seen[-1]:
            time.sleep(0.001)
    assert [value for window in seen for value in window] == [*range(HELD_OUT, COUNT), HELD_OUT, HELD_OUT + 1]
    assert capsys.readouterr().err.count("trying again, with the photographs at hand") == 2  # once an outage
    stream.close()


def test_a_run_streams_its_photographs_and_resumes_with_the_same(
    hub_server, tmp_path, config, arguments, stop_at, monkeypatch, capsys
):
    monkeypatch.setattr(stream_module, "HELD_OUT", 3)  # each takes time at each save and in the end
    monkeypatch.setattr(f"{__name__}.png", lambda value, make=png: make(value) if value != 5 else b"broken")
    put_shards(hub_server, parquet, ".parquet")
    data = TINY["data"] | {"window": 8, "window_steps": 3}
    path = config(data=data, budget={"steps": 10}, stages=[{"until": 1.0, "patch": 32, "batch": 4}])
    assert main(arguments(path, ADDRESS, tmp_path / "whole")) == 0
    said = capsys.readouterr()
    assert "8 photographs at a time" in said.out and "skipped 005.png" in said.err
    assert json.loads((tmp_path / "whole" / "run.json").read_text())["data"]["training"] == 0
    with monkeypatch.context() as patch:
        read = PhotographStream._read

        def broken(stream, number, *more):
            if number == 2:
                raise ValueError("a damaged shard")
            return read(stream, number, *more)

        patch.setattr(PhotographStream, "_read", broken)
        assert main(arguments(path, ADDRESS, tmp_path / "broken")) == 1
    assert "no further photographs can be read (ValueError: a damaged shard)" in capsys.readouterr().err
    assert torch.load(tmp_path / "broken" / "state.pt", weights_only=True)["step"] == 7
    stop_at(7)
    assert main(arguments(path, ADDRESS, tmp_path / "parts")) == 130
    assert main(arguments(path, ADDRESS, tmp_path / "parts")) == 0
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert main(arguments(config(data=data), tmp_path, tmp_path / "folder")) == 2
    assert "data.window is for one data set on the Hub" in capsys.readouterr().err


def test_what_cannot_be_streamed_is_named(hub_server):
    hub_server.repositories["user/words"] = Repository()
    hub_server.repositories["user/words"].commit({"README.md": b"words"})
    with pytest.raises(FileNotFoundError, match="no shards to stream"):
        PhotographStream("hf://datasets/user/words", 8, 5, values_of)
    with pytest.raises(FileNotFoundError, match="user/nothing cannot be read"):
        PhotographStream("hf://datasets/user/nothing", 8, 5, values_of)
    assert huggingface_hub.constants.ENDPOINT.startswith("http://127.0.0.1")
