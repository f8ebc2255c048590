import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import huggingface_hub
import pytest
import torch
from huggingface_hub import errors as hub_errors

from denoiser import (
    CheckpointGated,
    CheckpointInvalid,
    CheckpointNotFound,
    Denoiser,
    DenoiserError,
    HubUnreachable,
    Unet,
)
from denoiser._download import typed_errors
from denoiser._hub import BUNDLED, DEFAULT_CHECKPOINT, bundled_checkpoints, find_checkpoint

from .hub_server import Repository


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


@pytest.fixture
def hub(hub_server, tiny_checkpoint, monkeypatch):
    """A Hub with one small checkpoint, asked anonymously."""
    hub_server.repositories.clear()
    hub_server.faults.clear()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    hub_server.repositories["user/tiny"] = Repository()
    hub_server.repositories["user/tiny"].commit(files)
    yield hub_server
    shutil.rmtree(huggingface_hub.constants.HF_HUB_CACHE, ignore_errors=True)


def test_a_hub_checkpoint_loads_with_and_without_the_pipeline(hub, tiny_model):
    wanted = tiny_model.state_dict()
    for network in (Denoiser.from_pretrained("user/tiny").model, Unet.from_pretrained("user/tiny")):
        assert network.config == tiny_model.config
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.state_dict().items())


def test_a_revision_pins_and_an_unknown_one_is_not_found(hub, tiny_model):
    repository = hub.repositories["user/tiny"]
    repository.tags["v1"] = repository.branches["main"]
    repository.commit({"config.json": b"{}", "model.safetensors": b""})
    assert Denoiser.from_pretrained("user/tiny", revision="v1").model.config == tiny_model.config
    with pytest.raises(CheckpointInvalid):
        Denoiser.from_pretrained("user/tiny")
    with pytest.raises(CheckpointNotFound, match="at revision 'v9'"):
        Denoiser.from_pretrained("user/tiny", revision="v9")


def test_private_gated_and_missing_repositories_are_told_apart(hub):
    hub.repositories["user/tiny"].gated = True
    with pytest.raises(CheckpointGated, match="ask for access"):
        Denoiser.from_pretrained("user/tiny")
    assert Denoiser.from_pretrained("user/tiny", token="token-of-user")
    hub.repositories["user/secret"] = Repository(private=True)
    hub.repositories["user/secret"].commit({"config.json": b"{}"})
    for name in ("user/secret", "user/nothing"):
        with pytest.raises(CheckpointNotFound, match="or it is private"):
            Denoiser.from_pretrained(name, token=False)


def test_a_body_cut_in_the_middle_is_fetched_again(hub):
    hub.faults = [("GET /user/tiny/resolve", "cut")]
    assert Denoiser.from_pretrained("user/tiny").model


def test_the_server_lists_by_author_and_tag_like_the_hub(hub):
    api = huggingface_hub.HfApi()
    tagged = b"---\ntags: [denoising-autoencoder]\n---\n"
    hub.repositories["user/tagged"] = Repository()
    hub.repositories["user/tagged"].commit({"README.md": tagged})
    hub.repositories["other/tagged"] = Repository(private=True)
    hub.repositories["other/tagged"].commit({"README.md": tagged})
    assert {model.id for model in api.list_models(author="user")} == {"user/tiny", "user/tagged"}
    assert {model.id for model in api.list_models(filter="denoising-autoencoder")} == {"user/tagged"}
    assert [file.path for file in api.list_repo_tree("user/tagged")] == ["README.md"]
    (info,) = api.get_paths_info("user/tiny", ["model.safetensors"])
    siblings = {file.rfilename: file for file in api.model_info("user/tiny", files_metadata=True).siblings}
    assert info.lfs.sha256 == siblings["model.safetensors"].lfs.sha256
