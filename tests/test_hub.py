import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from huggingface_hub import errors as hub_errors

from denoiser import CheckpointGated, CheckpointInvalid, CheckpointNotFound, DenoiserError, HubUnreachable
from denoiser._download import typed_errors
from denoiser._hub import BUNDLED, DEFAULT_CHECKPOINT, bundled_checkpoints, find_checkpoint


def test_the_bundled_checkpoints_are_hub_folders_and_the_default_comes_first():
    assert bundled_checkpoints()[0] == DEFAULT_CHECKPOINT
    for name in bundled_checkpoints():
        assert {"config.json", "model.safetensors", "README.md"} <= {path.name for path in (BUNDLED / name).iterdir()}
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) < 40e6


def http_error(kind):
    response = httpx.Response(404, request=httpx.Request("GET", "http://127.0.0.1"))
    return kind("refused", response=response)


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (http_error(hub_errors.GatedRepoError), CheckpointGated, "ask for access at https://huggingface.co/a/b"),
        (http_error(hub_errors.RepositoryNotFoundError), CheckpointNotFound, "no repository a/b"),
        (http_error(hub_errors.RevisionNotFoundError), CheckpointNotFound, "at revision 'v1'"),
        (hub_errors.HFValidationError("bad"), CheckpointNotFound, "no repository"),
        (http_error(hub_errors.RemoteEntryNotFoundError), CheckpointInvalid, "lacks a file"),
        (hub_errors.LocalEntryNotFoundError("offline"), HubUnreachable, "not in the cache"),
        (http_error(hub_errors.HfHubHTTPError), HubUnreachable, "did not deliver"),
        (ConnectionResetError("cut"), HubUnreachable, "did not deliver"),
        (httpx.ReadTimeout("slow"), HubUnreachable, "did not deliver"),
    ],
)
def test_every_answer_of_the_hub_is_an_error_of_its_own_with_the_cause(raised, expected, message):
    with pytest.raises(expected, match=message) as caught, typed_errors("a/b", "v1"):
        raise raised
    assert caught.value.__cause__ is raised and isinstance(caught.value, DenoiserError)


@pytest.mark.parametrize("name", ["user/name/more", "../name", "/user/name", "~/name", Path("user/name")])
def test_what_looks_like_a_path_never_goes_to_the_hub(name):
    with pytest.raises(CheckpointNotFound, match="a Hub repository is written user/name"):
        find_checkpoint(name)


def test_offline_the_bundled_checkpoint_loads_and_others_say_why_not(tmp_path):
    program = (
        "from denoiser import Denoiser, HubUnreachable, Unet\n"
        "Denoiser.from_pretrained()\n"
        "for load in (Denoiser.from_pretrained, Unet.from_pretrained):\n"
        "    try: load('user/name')\n"
        "    except HubUnreachable as error: print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("user/name is not in the cache") == 2
    assert "user/name is not in the cache" in result.stdout and "bundled" in result.stdout
