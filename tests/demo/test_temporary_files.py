"""What the demo leaves on the disk: bounded in size, deleted after a killed run, and a full disk is a sentence."""

import errno
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from denoiser import DEFAULT_CHECKPOINT
from denoiser.demo import result_files
from denoiser.demo.compute_gate import ComputeGate
from denoiser.demo.experiment_runner import ExperimentRunner
from denoiser.demo.model_pool import ModelPool
from denoiser.demo.page import build_page
from denoiser.demo.result_files import DISK_FULL, ResultFiles
from denoiser.demo.settings import Settings
from denoiser.demo.state import DemoState
from denoiser.demo.uploads import Uploads
from tests.conftest import PHOTO

PIXELS = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)


def set_age(path: str, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_oldest_files_go_first_gradios_among_them(tmp_path):
    (tmp_path / "results").mkdir()
    results = ResultFiles(tmp_path / "results", seconds=60, max_bytes=70_000)
    paths = [results.save(PIXELS, f"{index}.png") for index in range(3)]  # of 30 kB each, as noise does not compress
    upload = tmp_path / "upload.png"
    shutil.copy(paths[0], upload)
    results.other_files = lambda: [str(upload), str(tmp_path / "gone.png")]
    for age, path in enumerate([paths[0], paths[1], str(upload), paths[2]]):  # that of their contents tells nothing
        time.sleep(0.02)
        set_age(path, age)
    results.delete_oldest_files(results.max_bytes)
    assert [Path(path).exists() for path in [*paths, upload]] == [False, False, True, True]


def test_the_examples_are_kept_also_when_a_visitor_has_picked_one(tmp_path, photo, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    for name in ("first.jpg", "second.jpg"):
        Image.fromarray(photo[:16, : 16 + len(name)]).save(tmp_path / name)
    page = build_page(DemoState(Settings(examples_folder=tmp_path), ResultFiles(tmp_path, 60)))
    (shown,) = (block for block in page.blocks.values() if block.elem_id == "photo")
    upload = tmp_path / "upload.png"
    upload.write_bytes(b"")
    picked, dropped = (shown.move_resource_to_block_cache(path) for path in (tmp_path / "second.jpg", upload))
    assert page.session_files() == {dropped} and Path(picked).exists()


def test_a_photo_in_use_does_not_grow_old(tmp_path):
    uploads, upload = Uploads(Settings()), tmp_path / "upload.png"
    Image.fromarray(PIXELS).save(upload)
    for _ in range(2):  # from the file, and from memory
        set_age(str(upload), 5000)
        before = upload.stat().st_ctime_ns
        time.sleep(0.02)
        uploads.open(str(upload), "shrunk")
        assert upload.stat().st_ctime_ns > before


def test_uploads_that_were_broken_off_are_deleted_and_count(tmp_path):
    results, uploads = ResultFiles(tmp_path, seconds=60, max_bytes=150), tmp_path.parent / "uploads"
    uploads.mkdir()
    results.uploads = uploads
    old, _, finished = paths = [uploads / name for name in ("tmp1", "tmp2", "0123/photo.png")]
    finished.parent.mkdir()
    for path, age in zip(paths, (400, 100, 5000)):
        path.write_bytes(bytes(100))
        set_age(str(path), age)
    results.delete_stale_files()
    assert [path.exists() for path in paths] == [False, True, True]
    old.write_bytes(bytes(100))
    results.delete_oldest_files(results.max_bytes)
    assert [path.exists() for path in paths] == [True, False, True]


def test_a_full_disk_is_a_sentence_and_the_next_visitor_works(tmp_path, monkeypatch):
    results = ResultFiles(tmp_path, seconds=60)
    runner, loaded = ExperimentRunner(Settings(), ComputeGate()), ModelPool().get(DEFAULT_CHECKPOINT)

    def run() -> str:
        arguments = (str(PHOTO), "middle", loaded, "gaussian", {}, 0, "known", 1)
        return runner.run(*arguments, answer=lambda result, pause: results.save(result.noisy, "noisy.png"))

    with monkeypatch.context() as patched:
        patched.setattr(result_files.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
        with pytest.raises(gr.Error) as raised:
            run()
        assert raised.value.message == DISK_FULL and not list(tmp_path.rglob("*.png"))
    assert Path(run()).exists()


def test_space_is_made_by_deleting_before_the_disk_counts_as_full(tmp_path, monkeypatch):
    results = ResultFiles(tmp_path, seconds=60, max_bytes=40_000)
    old = Path(results.save(PIXELS, "old.png"))
    monkeypatch.setattr(
        result_files.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0 if old.exists() else 10**12)
    )
    assert Path(results.save(PIXELS, "new.png")).exists() and not old.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_errors_that_say_the_disk_is_full(number):
    assert result_files.is_disk_full(OSError(number, "x")) and not result_files.is_disk_full(OSError(errno.EACCES, "x"))
    assert not result_files.is_disk_full(ValueError("x"))
