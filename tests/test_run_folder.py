"""The folder of temporary files: private, deleted in the end, and after a killed run by the next one."""

import os
import subprocess
import sys
from pathlib import Path

from denoiser.run_folder import LOCK, delete_left_over, run_folder
from tests.conftest import ROOT

KILLED = """
import runpy, sys, time
with runpy.run_path(sys.argv[1])["run_folder"]() as folder:
    print(folder, flush=True)
    time.sleep(999)
"""


def test_what_a_killed_run_left_is_deleted_by_the_next_and_nothing_else(tmp_path):
    (tmp_path / "denoiser-of-somebody").mkdir()
    (tmp_path / "denoiser-of-somebody" / "file").touch()
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", KILLED, str(ROOT / "denoiser" / "run_folder.py")]  # alone it needs no torch
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as first:
        try:
            left = Path(first.stdout.readline().decode().strip())
            assert (left / LOCK).exists() and left.parent == tmp_path
            delete_left_over(tmp_path)
            assert left.exists()  # its process lives
        finally:
            first.kill()
    assert left.exists()
    delete_left_over(tmp_path)
    assert not left.exists() and (tmp_path / "denoiser-of-somebody" / "file").exists()


def test_a_link_to_a_folder_with_a_free_lock_is_left_alone(tmp_path):
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / LOCK).touch()
    (tmp_path / "denoiser-link").symlink_to(target)
    delete_left_over(tmp_path)
    assert (target / LOCK).exists()


def test_the_folder_of_a_run_is_locked_private_and_deleted_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with run_folder() as folder:
        assert folder.stat().st_mode & 0o077 == 0 and (folder / LOCK).exists()
        with run_folder() as other:  # its start deletes nothing of a live one
            assert folder.exists() and other != folder
    assert not list(tmp_path.iterdir())
