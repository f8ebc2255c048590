"""The script for rented machines: what can be run without one."""

import functools
import http.server
import json
import tarfile
import threading
import tomllib

import pytest
from huggingface_hub.cli._uv_script_header import parse_uv_script_header

from tests.conftest import ROOT
from train.on_hub import archive_address, main

SCRIPT = (ROOT / "train" / "on_hub.py").read_text(encoding="utf-8")
TRAINER = "import json, pathlib, sys\npathlib.Path({where!r}).write_text(json.dumps(sys.argv[1:]))\nsys.exit(3)\n"


@pytest.fixture
def served(tmp_path):
    """A web server of a folder; its address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def pack(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / "project-main" / name.replace("__", "/") / "__main__.py"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with tarfile.open(tmp_path / "code.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "project-main", "project-main")


def test_its_header_is_what_the_hubs_client_takes():
    header = parse_uv_script_header(SCRIPT)
    assert header.flavor == "a10g-small" and header.secrets == ["HF_TOKEN"] and header.timeout == "6h"


def test_its_dependencies_are_those_of_the_project():
    block = SCRIPT.partition("# /// script\n")[2].partition("# ///\n")[0]
    header = tomllib.loads("\n".join(line.removeprefix("#").removeprefix(" ") for line in block.splitlines()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["train"]
    assert set(header["dependencies"]) == {*wanted, "trackio"}
    assert header["requires-python"] == project["requires-python"]


def test_a_repository_is_fetched_as_an_archive():
    assert archive_address("user/project") == "https://github.com/user/project/archive/HEAD.tar.gz"
    assert archive_address("user/project@v1").endswith("/archive/v1.tar.gz")


def test_the_code_is_fetched_and_every_option_passed_on(served, tmp_path):
    pack(tmp_path, train=TRAINER.format(where=str(tmp_path / "called.json")))
    options = ["--config", "train/configs/color-base.yaml", "--push-to-hub", "user/mine", "--steps", "3"]
    assert main(["--source", f"{served}/code.tar.gz", *options]) == 3
    called = json.loads((tmp_path / "called.json").read_text())
    assert called[:6] == ["--config", "train/configs/color-base.yaml", "--steps", "3", "--push-to-hub", "user/mine"]
    assert called[6] == "--output"
    options = [*options, f"--output={tmp_path / 'run'}"]
    assert main(["--source", f"{served}/code.tar.gz", *options]) == 3
    assert json.loads((tmp_path / "called.json").read_text())[6:] == ["--output", str(tmp_path / "run")]


@pytest.mark.parametrize("missing", ["file", "trainer"])
def test_code_that_cannot_be_had_is_named(served, tmp_path, capsys, missing):
    if missing == "trainer":
        pack(tmp_path, other="")
    assert main(["--source", f"{served}/code.tar.gz", "--push-to-hub", "user/mine"]) == 2
    assert "the code cannot be had from" in capsys.readouterr().err
