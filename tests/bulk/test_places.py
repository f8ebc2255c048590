"""What a bulk run reads and writes, and what it does before it starts Ray."""

import subprocess
import sys
from pathlib import Path

import pytest

pa = pytest.importorskip("pyarrow", reason="what reads stores and shards: pip install '.[cluster]'")
import fsspec  # noqa: E402
from pyarrow import fs  # noqa: E402

from denoiser.bulk.__main__ import main  # noqa: E402
from denoiser.bulk.places import Place  # noqa: E402
from denoiser.bulk.shards import find_column  # noqa: E402
from tests.hub_server import Repository  # noqa: E402


@pytest.fixture(params=["path", "file", "local", "memory"])
def place(request, tmp_path):
    """An empty place: of this machine as a path and an address, through fsspec, and a store in memory."""
    fsspec.filesystem("memory").store.clear()
    addresses = {"path": str(tmp_path / "p"), "file": f"file://{tmp_path}/p", "local": f"local://{tmp_path}/p"}
    return Place(addresses.get(request.param, "memory://bucket/p"))


def test_files_come_and_go_whole(place, tmp_path, monkeypatch):
    assert place.names() == []
    (tmp_path / "a").write_bytes(b"first")
    place.store(tmp_path / "a", "deep/er/a.bin")
    (tmp_path / "a").write_bytes(b"second")
    place.store(tmp_path / "a", "deep/er/a.bin")
    assert place.names() == ["deep/er/a.bin"]
    assert place.open("deep/er/a.bin").read() == b"second"
    (tmp_path / "copy").mkdir()
    assert place.fetch("deep/er/a.bin", tmp_path / "copy").read_bytes() == b"second"
    # A worker that dies while it writes leaves the file as it was, and what it had written can be deleted.
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", lambda source, target, size: target.write(b"par") and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            place.store(tmp_path / "a", "deep/er/a.bin")
    assert place.open("deep/er/a.bin").read() == b"second" and len(place.names()) == 2
    place.delete_partial(place.names())
    assert len(place.names()) == 2  # as a run under way has it
    monkeypatch.setattr("denoiser.bulk.places.ABANDONED", -1)
    place.delete_partial(place.names())
    assert place.names() == ["deep/er/a.bin"]
    single = Place(f"{place.address}/deep/er/a.bin")
    assert single.only == "a.bin" and single.names() == ["a.bin"] and single.open("a.bin").read() == b"second"


def test_an_output_within_the_input_is_found(place):
    for name in ("out/new", ".hidden", "v1."):
        assert place.contains(Place(f"{place.address}/{name}")) == name
    assert place.contains(Place(place.address)) == ""
    assert place.contains(Place(f"{place.address}-2")) is None


def test_paths_are_whole_as_workers_have_other_current_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Place("in").address == f"{tmp_path}/in" and Place(".").address == str(tmp_path)
    with pytest.raises(ValueError, match="is empty"):
        Place("")

    class Root(fs.LocalFileSystem):
        def get_file_info(self, path):
            return fs.FileInfo(path, fs.FileType.File)

    monkeypatch.setattr("denoiser.bulk.places._open", lambda address: (Root(), address))
    single = Place("/photo.png")
    assert single.path(single.only) == Path("/photo.png")


def test_the_hub_is_read(hub):
    hub.repositories["user/photos"] = Repository()
    hub.repositories["user/photos"].commit({"train/a.jpg": b"a picture", "README.md": b"x"})
    place = Place("hf://datasets/user/photos")
    assert "train/a.jpg" in place.names() and place.open("train/a.jpg").read() == b"a picture"


@pytest.mark.parametrize(
    ("bucket", "more"), [("gs://anonymous@bucket", "retry_limit_seconds=5"), ("s3://name:secret@bucket", "region=any")]
)
def test_buckets_are_read_and_written(tmp_path, bucket, more):
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("bucket.py")], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout
    options = f"endpoint_override=127.0.0.1:{int(server.stdout.readline())}&scheme=http&{more}"
    try:
        source, output = (Place(f"{bucket}/{name}?{options}") for name in ("photos", "photos/clean"))
        assert source.names() == ["a.jpg", "deep/b.jpg"] and output.names() == [] and not source.is_local
        assert source.open("deep/b.jpg").read() == b"another" and source.contains(output) == "clean"
        (tmp_path / "result").write_bytes(b"denoised")
        output.store(tmp_path / "result", "deep/b.jpg")
        assert source.names() == ["a.jpg", "clean/deep/b.jpg", "deep/b.jpg"]  # whole at once, without another name
        assert output.fetch("deep/b.jpg", tmp_path).read_bytes() == b"denoised"
        single = Place(f"{bucket}/photos/a.jpg?{options}")
        assert single.only == "a.jpg" and single.open("a.jpg").read() == b"a picture"
    finally:
        server.kill()
        server.communicate()


def test_what_cannot_be_is_said_before_anything_starts(tmp_path, tiny_checkpoint, monkeypatch, capsys):
    def error(*arguments):
        assert main([*map(str, arguments), "--checkpoint", str(tiny_checkpoint)]) == 2
        return capsys.readouterr().err

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("x")
    monkeypatch.setitem(sys.modules, "denoiser.bulk.run", None)  # as if Ray were not installed
    assert "pip install 'denoising-autoencoder[cluster]'" in error(tmp_path / "in", tmp_path / "out")
    monkeypatch.undo()
    pytest.importorskip("ray.data", reason="what runs on a cluster: pip install '.[cluster]'")
    assert "nowhere://x cannot be opened" in error("nowhere://x", tmp_path / "out")
    assert f"there is no folder or file {tmp_path}/nowhere" in error(tmp_path / "nowhere", tmp_path / "out")
    assert "there are no pictures" in error(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    assert "the same folder" in error(tmp_path / "in", f"file://{tmp_path}/in")
    assert "is a file" in error(tmp_path / "in", tmp_path / "in" / "a.png")
    (tmp_path / "in" / "in").mkdir()
    (tmp_path / "in" / "in" / "a.png").write_bytes(b"y")
    assert "in/a.png is an input: it would be overwritten" in error(tmp_path / "in", tmp_path, "--overwrite")
    assert (tmp_path / "in" / "a.png").read_bytes() == b"x"
    (tmp_path / "in" / "a.parquet").write_bytes(b"x")
    assert main([str(tmp_path / "in"), str(tmp_path / "out"), "--checkpoint", "nothing"]) == 2
    assert "There is no checkpoint" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path / "in"), str(tmp_path / "out"), "--sigma", "300"])
    assert not (tmp_path / "out").exists()


def test_a_shard_without_one_clear_column_is_refused():
    schema = pa.schema({"a": pa.binary(), "b": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "n": pa.int8()})
    assert find_column(schema, "b") == "b" and find_column(schema.remove(0), None) == "b"
    for wanted, message in ((None, "2 columns"), ("n", "no column 'n'")):
        with pytest.raises(ValueError, match=f"{message}.*among a, b, n: name one with --column"):
            find_column(schema, wanted)
