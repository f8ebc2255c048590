import errno
import json
import os
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import huggingface_hub
import pytest
import torch
from huggingface_hub import errors as hub_errors
from starlette.responses import JSONResponse

from denoiser import (
    CheckpointGated,
    CheckpointInvalid,
    CheckpointNotFound,
    Denoiser,
    DenoiserError,
    HubUnreachable,
    Unet,
)
from denoiser.demo.model_pool import ModelPool
from denoiser.download import fetch
from denoiser.download.client_errors import translate_errors
from denoiser.hub.checkpoints import BUNDLED, DEFAULT_CHECKPOINT, bundled_checkpoints, find_checkpoint
from tests.conftest import HUB_PORT, share_blobs
from tests.hub_server import Repository


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
        (OSError(errno.ENETUNREACH, "Network is unreachable"), HubUnreachable, "did not deliver"),
        (socket.gaierror(-2, "Name or service not known"), HubUnreachable, "did not deliver"),
        (OSError("Consistency check failed"), HubUnreachable, "did not deliver"),
        (OSError(errno.ENAMETOOLONG, "Name too long", "/c"), DenoiserError, "on this machine: Name too long /c"),
    ],
)
def test_every_answer_of_the_hub_is_an_error_of_its_own_with_the_cause(raised, expected, message):
    with pytest.raises(expected, match=message) as caught, translate_errors("a/b", "v1"):
        raise raised
    assert caught.value.__cause__ is raised and isinstance(caught.value, DenoiserError)


@pytest.mark.parametrize(
    "name", ["user/name/more", "../name", "/user/name", "~/name", "~nobody/name", Path("user/name")]
)
def test_what_looks_like_a_path_never_goes_to_the_hub(name):
    with pytest.raises(CheckpointNotFound, match="a Hub repository is written user/name"):
        find_checkpoint(name)


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


def test_the_resolved_commit_is_known_and_nothing_needs_saying(hub):
    denoiser = Denoiser.from_pretrained("user/tiny")
    assert denoiser.revision == hub.repositories["user/tiny"].branches["main"]
    assert denoiser.note == "" and denoiser.name == "user/tiny"
    assert Denoiser.from_pretrained().revision is None


@pytest.mark.parametrize(("name", "revision"), [("user/name", 1), (b"user/name", None), (None, None), (3, "main")])
def test_what_is_no_text_is_no_name_and_no_revision(name, revision):
    with pytest.raises(TypeError, match="is named by text"):
        Denoiser.from_pretrained(name, revision=revision)


@pytest.mark.parametrize("form", ["user/tiny@v1", "https://huggingface.co/user/tiny/tree/v1", " user/tiny@v1/ "])
def test_a_revision_can_be_written_as_people_write_it(hub, form, tiny_model):
    repository = hub.repositories["user/tiny"]
    repository.tags["v1"] = repository.branches["main"]
    repository.commit({"config.json": b"{}"})
    assert Denoiser.from_pretrained(form).revision == repository.tags["v1"]
    assert Denoiser.from_pretrained(form, revision="v1").revision == repository.tags["v1"]
    with pytest.raises(CheckpointNotFound, match="exclude each other"):
        Denoiser.from_pretrained(form, revision="main")


@pytest.mark.parametrize("revision", ["../../escape", "a/../b", "", "-x", "a b", "x" * 300, ".hidden"])
def test_a_revision_that_is_a_path_goes_nowhere(hub, revision):
    with pytest.raises(CheckpointNotFound):
        Denoiser.from_pretrained("user/tiny", revision=revision)
    assert not hub.requests


# -- trust ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "README.md"])
def test_a_file_that_arrives_corrupt_is_fetched_again(hub, tiny_checkpoint, tiny_model, file):
    hub.put("user/tiny", tiny_checkpoint, README_md=b"# a card")
    sha = hub.repositories["user/tiny"].branches["main"]
    hub.faults = [(f"GET /user/tiny/resolve/{sha}/{file}", "corrupt")]
    loaded = Denoiser.from_pretrained("user/tiny")
    assert torch.equal(loaded.model.tail.weight, tiny_model.tail.weight)
    assert hub.fetched("user/tiny", file) == 2 and not hub.faults


def test_a_file_that_stays_corrupt_is_reported_and_not_kept(hub):
    hub.faults = [("GET /user/tiny/resolve", "corrupt")] * 2
    with pytest.raises(CheckpointInvalid, match=r"config.json arrived damaged twice"):
        Denoiser.from_pretrained("user/tiny")
    hub.faults = [("/model.safetensors", "corrupt")] * 4
    with pytest.raises(CheckpointInvalid, match=r"model.safetensors arrived damaged twice"):
        Denoiser.from_pretrained("user/tiny")
    hub.faults.clear()
    assert not list(Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("*.safetensors"))
    assert Denoiser.from_pretrained("user/tiny")


def cached_file(hub, name):
    commit = hub.repositories["user/tiny"].branches["main"]
    return Path(huggingface_hub.constants.HF_HUB_CACHE, "models--user--tiny", "snapshots", commit, name)


def swap_bytes(path):
    content = path.read_bytes()
    os.chmod(path.resolve(), 0o644)
    path.resolve().write_bytes(bytes(255 - byte for byte in content))


def test_a_file_swapped_in_the_cache_is_found_out(hub, tiny_model):
    Denoiser.from_pretrained("user/tiny")
    swap_bytes(cached_file(hub, "model.safetensors"))
    assert torch.equal(Denoiser.from_pretrained("user/tiny").model.tail.weight, tiny_model.tail.weight)
    swap_bytes(cached_file(hub, "model.safetensors"))
    hub.faults = [("/api/models/user/tiny", 503)]
    with pytest.raises(CheckpointInvalid, match=r"cached model.safetensors is damaged and was deleted"):
        Denoiser.from_pretrained("user/tiny")
    assert Denoiser.from_pretrained("user/tiny")


def test_a_cache_that_downloads_over_xet_filled_serves_and_is_watched_too(hub):
    commit = Denoiser.from_pretrained("user/tiny").revision
    share_blobs(huggingface_hub.constants.HF_HUB_CACHE)
    hub.faults = [("/api/models/user/tiny", 503)] * 3
    assert Denoiser.from_pretrained("user/tiny").revision == commit
    swap_bytes(cached_file(hub, "model.safetensors"))
    with pytest.raises(CheckpointInvalid, match="is damaged and was deleted"):
        Denoiser.from_pretrained("user/tiny")
    hub.faults.clear()
    assert Denoiser.from_pretrained("user/tiny").revision == commit


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config_json": b" " * 100_001}, "config.json has 0.1 MB; more than 0.1 MB is not fetched"),
        ({"config_json": b'{"architecture": "resnet"}'}, "user/bad/config.json asks for architecture 'resnet'"),
        ({"config_json": b"{}"}, "names no architecture of ours"),
        ({"config_json": b"[1"}, "not valid JSON"),
    ],
)
def test_a_bad_config_is_refused_before_the_weights_are_fetched(hub, tiny_checkpoint, files, message):
    hub.put("user/bad", tiny_checkpoint, **files)
    for load in (Denoiser.from_pretrained, Unet.from_pretrained):
        with pytest.raises(CheckpointInvalid, match=message if load == Denoiser.from_pretrained else None):
            load("user/bad")
    assert hub.fetched("user/bad") == 0


def change_config(folder, **changes):
    path = folder / "config.json"
    return json.dumps(json.loads(path.read_text()) | changes).encode()


def test_a_million_channels_are_refused_and_so_is_a_giant_of_allowed_ones(hub, tiny_checkpoint):
    hub.put("user/wide", tiny_checkpoint, config_json=change_config(tiny_checkpoint, widths=[8, 12, 10**6]))
    with pytest.raises(CheckpointInvalid, match="widths must be made of integers from 1 to 1024"):
        Denoiser.from_pretrained("user/wide")
    assert hub.fetched("user/wide") == 0
    giant = change_config(tiny_checkpoint, widths=[1024] * 6, blocks=[32] * 6)  # 25 GB of weights, were they made
    hub.put("user/giant", tiny_checkpoint, config_json=giant)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointInvalid, match="missing tensors"):
        Denoiser.from_pretrained("user/giant")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_weights_over_the_limit_are_not_fetched(hub, tiny_checkpoint):
    with pytest.raises(CheckpointInvalid, match=r"more than 0.0 MB is not fetched"):
        find_checkpoint("user/tiny", max_bytes=1000)
    assert hub.fetched("user/tiny") == 0


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_repository_without_a_denoiser_says_so(hub, tiny_checkpoint, missing):
    (tiny_checkpoint / missing).unlink()
    (tiny_checkpoint / "pytorch_model.bin").write_bytes(b"\x80\x04 a pickle")
    hub.put("user/other", tiny_checkpoint)
    with pytest.raises(CheckpointInvalid, match=f"has no {missing}: it is not a denoiser checkpoint"):
        Denoiser.from_pretrained("user/other")
    assert not any("resolve" in line for line in hub.requests)


def test_only_the_three_files_are_ever_fetched(hub, tiny_checkpoint):
    hub.put("user/more", tiny_checkpoint, README_md=b"# card", evil_py=b"boom", model_bin=b"x" * 20_000)
    Denoiser.from_pretrained("user/more")
    fetched = {line.rpartition("/")[2] for line in hub.requests if "resolve" in line}
    assert fetched == {"config.json", "model.safetensors", "README.md"}


@pytest.mark.parametrize("cached", [False, True])
def test_a_disk_that_takes_no_file_is_not_taken_for_the_network(hub, tiny_checkpoint, tmp_path, cached):
    cache = tmp_path / "cache"
    if cached:
        fetch.fetch("user/tiny", cache_dir=cache)
        hub.put("user/tiny", tiny_checkpoint, README_md=b"# new")
        shutil.rmtree(cache / "models--user--tiny" / "blobs")
        (cache / "models--user--tiny" / "blobs").touch()
    else:
        cache.touch()
    with pytest.raises(DenoiserError, match=r"cannot be stored on this machine: \w.*/cache") as caught:
        fetch.fetch("user/tiny", cache_dir=cache)
    assert not isinstance(caught.value, HubUnreachable)


# -- surviving --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason"), [(503, "status 503"), (500, "status 500"), (429, "asked too often"), ("stall", "too slow")]
)
def test_while_the_hub_fails_the_cache_serves_at_once_and_says_so(hub, fault, reason, caplog, monkeypatch):
    commit = Denoiser.from_pretrained("user/tiny").revision
    hub.requests.clear()
    hub.faults = [("/api/models/user/tiny", fault)]
    if fault == "stall":
        monkeypatch.setattr(fetch, "TIMEOUT_IF_CACHED", 0.5)
    denoiser = Denoiser.from_pretrained("user/tiny")
    assert denoiser.revision == commit and "From the cache" in denoiser.note and reason in denoiser.note
    assert denoiser.note in caplog.text
    assert len(hub.requests) == 1  # asked once, not again and again in front of a person


@pytest.mark.parametrize(("fault", "reason"), [(503, "status 503"), (429, "asked too often")])
def test_while_the_hub_fails_what_is_not_cached_says_so_at_once(hub, fault, reason):
    hub.faults = [("/api/models/user/tiny", fault)] * 9
    with pytest.raises(HubUnreachable, match=reason) as caught:
        Denoiser.from_pretrained("user/tiny")
    assert len(hub.requests) == 1 and caught.value.__cause__ is not None


@pytest.mark.parametrize("fault", [404, 503, "cut"])
def test_a_push_that_cannot_be_fetched_leaves_the_cached_one_in_use(hub, tiny_checkpoint, fault, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's pauses between its retries
    before = Denoiser.from_pretrained("user/tiny").revision
    files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    config = change_config(tiny_checkpoint, sigma_range=[0, 40])
    hub.repositories["user/tiny"].commit(files | {"README.md": b"new", "config.json": config})
    hub.requests.clear()
    hub.faults = [("/resolve/", fault)] * 60
    late = Denoiser.from_pretrained("user/tiny")
    assert late.revision == before and late.sigma_range == (0, 55) and "From the cache" in late.note
    assert fault == "cut" or len(hub.requests) == 2  # no retries
    hub.faults.clear()
    assert Denoiser.from_pretrained("user/tiny").revision != before


def test_weights_that_stall_in_the_middle_are_gone_on_with(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    sha = hub.repositories["user/tiny"].branches["main"]
    hub.faults = [(f"GET /user/tiny/resolve/{sha}/model.safetensors", "stall")]
    assert Denoiser.from_pretrained("user/tiny").revision == sha and not hub.faults


def test_a_repository_that_was_renamed_is_followed(hub):
    hub.renamed["user/old"] = "user/tiny"
    denoiser = Denoiser.from_pretrained("user/old")
    assert denoiser.revision == hub.repositories["user/tiny"].branches["main"]


def test_a_token_that_is_missing_or_refused_says_so(hub, monkeypatch):
    with pytest.raises(CheckpointNotFound, match="none is stored"):
        Denoiser.from_pretrained("user/tiny", token=True)
    hub.faults = [("/api/models/user/tiny", 401)]
    with pytest.raises(CheckpointNotFound, match=r"refused the token \(401\)|no repository"):
        Denoiser.from_pretrained("user/tiny", token="expired")


def test_a_login_page_in_place_of_the_hub_is_named(hub):
    hub.faults = [("/api/models/user/tiny", "login page")]
    with pytest.raises(HubUnreachable, match="was not the Hub's"):
        Denoiser.from_pretrained("user/tiny")


def test_a_deleted_repository_is_not_found_though_it_is_cached(hub):
    Denoiser.from_pretrained("user/tiny")
    del hub.repositories["user/tiny"]
    with pytest.raises(CheckpointNotFound):
        Denoiser.from_pretrained("user/tiny")


def test_offline_the_bundled_and_the_cached_load_and_others_say_why_not(hub):
    Denoiser.from_pretrained("user/tiny")
    program = (
        "import logging, sys; logging.basicConfig()\n"
        "from denoiser import Denoiser, HubUnreachable, Unet\n"
        "print(Denoiser.from_pretrained('user/tiny').revision); Unet.from_pretrained('user/tiny')\n"
        "Denoiser.from_pretrained()\n"
        "for load in (Denoiser.from_pretrained, Unet.from_pretrained):\n"
        "    try: load('user/name')\n"
        "    except HubUnreachable as error: print(error)\n"
        "assert 'torch._dynamo' not in sys.modules, 'loading took a second for a compiler that it does not need'\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    revision, *refused = result.stdout.splitlines()
    assert revision == hub.repositories["user/tiny"].branches["main"] and "offline mode" in result.stderr
    assert len(refused) == 2 and all("user/name is not in the cache" in one for one in refused)
    assert "bundled" in result.stdout


def test_many_threads_asking_for_one_checkpoint_fetch_it_once(hub):
    with ThreadPoolExecutor(8) as pool:
        revisions = set(pool.map(lambda _: Denoiser.from_pretrained("user/tiny").revision, range(8)))
    assert len(revisions) == 1 and hub.fetched("user/tiny") == 1


def test_the_mixin_saves_pushes_and_loads(hub, tiny_model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "token-of-user")
    tiny_model.push_to_hub("user/pushed")
    loaded = Unet.from_pretrained("user/pushed")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), tiny_model.parameters()))
    assert Denoiser.from_pretrained("user/pushed").revision == hub.repositories["user/pushed"].branches["main"]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        "x",
        None,
        7,
        {"error": "Please log in"},
        {"id": "user/tiny"},
        {"id": "user/tiny", "sha": "../../x", "siblings": []},
        {"id": "user/tiny", "sha": "a" * 40, "siblings": 3},
        {"id": "user/tiny", "sha": "a" * 40, "siblings": [{}]},
        {"id": "user/tiny", "sha": "a" * 40, "siblings": [{"rfilename": "config.json", "size": "large"}]},
        {"id": "user/tiny", "sha": "a" * 40, "siblings": [{"rfilename": "config.json", "lfs": {"x": 1}}]},
        {"id": "user/tiny", "sha": "a" * 40, "siblings": [], "lastModified": "yesterday"},
    ],
)
def test_json_that_is_not_from_the_hub_counts_as_unreachable(hub, monkeypatch, answer, cached):
    if cached:
        Denoiser.from_pretrained("user/tiny")

    async def other(request):
        return JSONResponse(answer)

    monkeypatch.setattr(hub, "answer_info", other)
    if cached:
        assert "From the cache" in Denoiser.from_pretrained("user/tiny").note
        return
    with pytest.raises(HubUnreachable, match="was not the Hub"):
        Denoiser.from_pretrained("user/tiny")
    with pytest.raises(HubUnreachable, match="was not the Hub"):
        ModelPool().pull("user/tiny")


@pytest.mark.parametrize("cached", [False, True])
def test_a_token_of_other_characters_is_not_the_hubs_fault(hub, cached):
    if cached:
        Denoiser.from_pretrained("user/tiny")
    with pytest.raises(CheckpointNotFound, match="characters no token has"):
        Denoiser.from_pretrained("user/tiny", token="t\u00f6k\u00e9n")


class ResettingProxy:
    """In front of the Hub: the first connections that ask for weights end in the middle, by a reset."""

    def __init__(self, port: int, resets: int):
        self.port, self.resets = port, resets
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client):
        request = b""
        while b"\r\n\r\n" not in request:
            if not (chunk := client.recv(65536)):
                return client.close()
            request += chunk
        line, rest = request.split(b"\r\n", 1)
        rest = re.sub(rb"(?im)^connection:.*\r\n", b"", rest)
        with socket.create_connection(("127.0.0.1", self.port)) as hub:
            hub.sendall(line + b"\r\nConnection: close\r\n" + rest)
            answer = b"".join(iter(lambda: hub.recv(65536), b""))
        if line.startswith(b"GET") and b"model.safetensors" in line and self.resets:
            self.resets -= 1
            client.sendall(answer[: len(answer) // 2])
            time.sleep(0.2)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            client.sendall(answer)
        client.close()


@pytest.mark.parametrize("resets", [2, 9])
def test_a_connection_that_is_reset_is_tried_again(hub, monkeypatch, resets):
    proxy = ResettingProxy(HUB_PORT, resets)
    template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(hub.url, proxy.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", proxy.url)
    monkeypatch.setattr(fetch, "RETRY_PAUSES", (0.0,) * len(fetch.RETRY_PAUSES))
    if resets == 2:
        assert Denoiser.from_pretrained("user/tiny").revision
    else:
        with pytest.raises(HubUnreachable):
            Denoiser.from_pretrained("user/tiny")
    proxy.server.close()
    assert proxy.resets == max(0, resets - 4) and hub.fetched("user/tiny") >= min(resets + 1, 4)
