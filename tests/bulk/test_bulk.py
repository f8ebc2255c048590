"""A bulk run on Ray, started once: folder in, folder out, a worker killed, and the same command again."""

import io
import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image

from denoiser import Denoiser

ray = pytest.importorskip("ray", reason="what runs on a cluster: pip install '.[cluster]'")
pytest.importorskip("ray.data")
import pyarrow as pa  # noqa: E402
from pyarrow import parquet  # noqa: E402

from denoiser.bulk import run  # noqa: E402
from denoiser.bulk.__main__ import main, parse_arguments  # noqa: E402
from denoiser.bulk.places import Place  # noqa: E402
from denoiser.bulk.run import count_workers  # noqa: E402
from denoiser.file_jobs import Job  # noqa: E402


@pytest.fixture
def one_core():
    """Ray on one core of this machine: one worker."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    yield
    ray.shutdown()


def encode(pixels: np.ndarray, form: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def kill_first_worker(folder, killed: list[int]) -> None:
    """Kill the worker, as a machine that runs out of memory does, once the first results are there."""
    deadline = time.monotonic() + 600
    while not list(folder.rglob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.005)
    workers = [one for one in psutil.Process().children(recursive=True) if "MapWorker" in "".join(one.cmdline())]
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
        killed.append(worker.pid)


def manifest(folder) -> dict[str, dict]:
    lines = (folder / "denoise-manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["input"]: line for line in map(json.loads, lines)}


@pytest.mark.parametrize(
    ("cluster", "arguments", "expected"),
    [
        ({"CPU": 8.0}, [], (8, None)),
        ({"CPU": 8.0, "GPU": 2.0}, [], (2, 1.0)),
        ({"CPU": 8.0, "GPU": 2.0}, ["--gpus-per-worker", "0.25"], (8, 0.25)),
        ({"CPU": 8.0, "GPU": 2.0}, ["--device", "cpu"], (8, None)),
        ({"CPU": 8.0, "GPU": 2.0}, ["--workers", "1"], (1, 1.0)),
    ],
)
def test_there_is_a_worker_for_each_gpu_or_else_for_each_core(monkeypatch, cluster, arguments, expected):
    monkeypatch.setattr(ray, "cluster_resources", lambda: cluster)
    assert count_workers(parse_arguments(["in", "out", *arguments])) == expected


@pytest.mark.parametrize(
    ("cluster", "asked", "device"), [({"CPU": 8.0, "GPU": 2.0}, 0.5, "cuda"), ({"CPU": 8.0}, None, "cpu")]
)
def test_ray_is_asked_for_gpus_where_the_cluster_has_any(monkeypatch, cluster, asked, device):
    calls = []
    rows = SimpleNamespace(map=lambda worker, **options: calls.append(options) or SimpleNamespace(iter_rows=list))
    monkeypatch.setattr(ray, "cluster_resources", lambda: cluster)
    blocks = []
    monkeypatch.setattr(ray.data, "from_items", lambda items, **options: blocks.append(options) or rows)
    monkeypatch.setattr(run, "Shared", SimpleNamespace(remote=lambda network: "shared"))
    jobs = [Job(Path(f"{index}.png"), Path(f"{index}.png")) for index in range(9)]
    assert not list(run.run(None, jobs, "in", "out", parse_arguments(["in", "out", "--gpus-per-worker", "0.5"])))
    (options,) = calls
    assert options["num_gpus"] == asked and options["fn_constructor_kwargs"]["denoiser"]["device"] == device
    assert options["compute"].min_size == options["compute"].max_size == (4 if asked else 8)
    assert blocks == [{"override_num_blocks": 4 if asked else 8}]  # no worker is without one


@pytest.mark.parametrize(
    "arguments", [["--workers", "0"], ["--device", "tpu"], ["--gpus-per-worker", "nan"], ["--sigma", "nan"]]
)
def test_impossible_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["in", "out", *arguments])
    assert "must be" in capsys.readouterr().err


def test_a_gpu_is_not_waited_for_where_there_is_none(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0})
    with pytest.raises(ValueError, match="no GPU"):
        count_workers(parse_arguments(["in", "out", "--device", "cuda"]))


def test_where_nothing_can_be_written_ray_is_not_started(tiny_checkpoint, tmp_path, photo, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encode(photo[:20, :20]))
    (tmp_path / "file").touch()
    start = [str(tmp_path / "in"), "--checkpoint", str(tiny_checkpoint)]
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("started"))
    for output in ("file", "file/out", "/proc/out"):
        assert main([*start, str(tmp_path / output)]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    done = tmp_path / "out"
    done.mkdir()
    (done / "a.png").write_bytes(b"of an earlier run")
    (done / "denoise-manifest.jsonl").write_text('{"input": "a.p')
    assert main([*start, str(done)]) == 2 and "denoise-manifest.jsonl is damaged: delete it" in capsys.readouterr().err

    (done / "denoise-manifest.jsonl").unlink()
    store, calls = Place.store, []

    def store_once(place, path, name):
        if calls:
            raise OSError(28, "No space left on device")
        calls.append(name)
        store(place, path, name)

    monkeypatch.setattr(Place, "store", store_once)  # the disk fills up during the run
    assert main([*start, str(done)]) == 1
    error = capsys.readouterr().err
    assert "1 of 1 files skipped" in error and "make room, then the same command" in error


def test_a_cluster_that_is_not_there_is_named(tiny_checkpoint, tmp_path, photo, monkeypatch, capsys):
    def init(**options):
        raise ConnectionError(f"Failed to connect to Ray cluster at {options['address']}")

    monkeypatch.setattr(ray, "init", init)
    (tmp_path / "a.png").write_bytes(encode(photo[:20, :20]))
    command = [str(tmp_path), str(tmp_path / "out"), "--checkpoint", str(tiny_checkpoint), "--address", "host:1"]
    assert main(command) == 2 and "host:1: is the cluster up" in capsys.readouterr().err


def test_a_worker_that_dies_loses_nothing_and_the_same_command_goes_on(
    one_core, tiny_checkpoint, tmp_path, photo, capsys
):
    source, output, pictures = tmp_path / "in", tmp_path / "out", {}
    (source / "deeper").mkdir(parents=True)
    for index in range(20):
        name = f"{'deeper/' * (index % 2)}{index}.png"
        name = {1: "deeper/line\u2028end.png", 2: os.fsdecode(b"not utf-8 \xff.png")}.get(index, name)
        pictures[name] = photo[index : index + 40, index : index + 150]
        (source / name).write_bytes(encode(pictures[name]))
    (source / "itself").symlink_to(source)
    (source / "pair.gif").write_bytes(encode(photo[:20, :30], "gif"))
    rows = [{"bytes": encode(photo[:30, :20]), "path": "a/" + 300 * "0"}, {"bytes": b"x", "path": "1.png"}, None]
    rows += [{"bytes": encode(photo[:20, :40], "bmp"), "path": "2.bmp"}]
    shard = pa.table({"label": [1, 2, 3, 4], "image": rows})
    parquet.write_table(shard, source / "shard.PARQUET")
    command = [str(source), str(output), "--checkpoint", str(tiny_checkpoint), "--sigma", "20"]
    killed: list[int] = []
    killer = threading.Thread(target=kill_first_worker, args=(output, killed))
    killer.start()
    status = main(command)
    killer.join()
    error = capsys.readouterr().err
    assert status == 1 and len(killed) == 1 and "wrote 22 files" in error and "shard.PARQUET, row 1: " in error

    denoiser = Denoiser.from_pretrained(tiny_checkpoint, device="cpu")
    for name, pixels in pictures.items():
        with Image.open(output / name) as result:
            assert np.array_equal(np.asarray(result), denoiser(pixels, 20)), name
    done = parquet.read_table(output / "shard.PARQUET")
    assert done.schema.equals(shard.schema) and done["label"].to_pylist() == [1, 2, 3, 4]
    cells = done["image"].to_pylist()
    assert cells[1]["bytes"] is None and cells[2] is None and cells[3]["path"] == "2.bmp"
    assert cells[0]["path"] == f"a/{300 * '0'}.png"
    with Image.open(io.BytesIO(cells[0]["bytes"])) as result:
        assert np.array_equal(np.asarray(result), denoiser(photo[:30, :20], 20))
    written = manifest(output)
    assert written.keys() == {*pictures, "pair.gif", "shard.PARQUET"} and all(
        one["status"] == "written" for one in written.values()
    )
    assert written["0.png"]["megapixels"] == 0.006 and written["0.png"]["removed"] > 0.1
    assert written["shard.PARQUET"]["pictures"] == 4 and written["shard.PARQUET"]["failures"][0]["row"] == 1
    workers = {one["worker"].rpartition("/")[2] for one in written.values()}
    assert len(workers - {str(killed[0])}) == 1
    for left in output.rglob(".partial-*"):  # of the worker that was killed
        left.unlink()

    # Again: what is there stays, what is missing or failed is done, all of a shard in which a picture failed.
    (output / "3.png").unlink(missing_ok=True)
    (output / "deeper" / "3.png").unlink()
    (output / "deeper" / ".partial-0-5.png").write_bytes(b"of a run that was killed")
    os.utime(output / "deeper" / ".partial-0-5.png", (0, 0))
    (source / "bad.jpg").write_bytes(b"x")
    (source / "pair.png").write_bytes(encode(photo[:20, 30:80]))  # pair.gif became pair.png, now it is pair.gif.png
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.p*")}
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "wrote 4 files" in error and "19 of 24 files skipped" in error and "bad.jpg is not a picture" in error
    assert "shard.PARQUET, row 1: " in error
    kept = [path for path in before if not path.name.startswith((".partial", "pair", "shard"))]
    assert all(path.stat().st_mtime_ns == before[path] for path in kept)
    for name, width in (("pair.png", 50), ("pair.gif.png", 30)):
        with Image.open(output / name) as result:
            assert result.width == width
    assert (output / "deeper" / "3.png").is_file() and not list(output.rglob(".partial-*"))
    again = manifest(output)
    assert again["bad.jpg"]["status"] == "failed" and again["0.png"] == written["0.png"] and len(again) == 24
