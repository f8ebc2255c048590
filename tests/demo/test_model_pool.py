import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import safetensors.torch
import torch

from denoiser import (
    DEFAULT_CHECKPOINT,
    CheckpointGated,
    CheckpointInvalid,
    CheckpointNotFound,
    Denoiser,
    HubUnreachable,
    Unet,
)
from denoiser.demo import model_pool, pulls
from denoiser.demo.checkpoint_picker import CheckpointPicker, Selection
from denoiser.demo.model_pool import ModelPool
from denoiser.hub import catalogue
from denoiser.models import UnetConfig
from tests.conftest import share_blobs

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def small_network(seed: int) -> Unet:
    torch.manual_seed(seed)
    return Unet(UnetConfig(widths=(8, 12, 16), blocks=(1, 1, 1))).eval()


@pytest.fixture
def five_checkpoints(hub, tmp_path):
    """Five checkpoints on the Hub that differ; what each makes of a picture."""
    expected = {}
    for index in range(5):
        model = small_network(index)
        model.save_pretrained(tmp_path / f"five-{index}")
        hub.put(f"user/five-{index}", tmp_path / f"five-{index}")
        expected[f"user/five-{index}"] = Denoiser(model)(PICTURE, 25)
    assert len({array.tobytes() for array in expected.values()}) == 5
    return expected


def test_twenty_visitors_and_five_checkpoints(hub, five_checkpoints):
    pool = ModelPool(max_loaded=4)

    def visit(index):
        name = f"user/five-{index % 5}"
        loaded = pool.pull(name) if index % 2 else pool.get(name)
        assert loaded.facts.name == name
        return np.array_equal(loaded.denoiser(PICTURE, 25), five_checkpoints[name])

    with ThreadPoolExecutor(20) as threads:
        assert all(threads.map(visit, range(20)))
    assert [hub.fetched(name) for name in five_checkpoints] == [1] * 5
    assert len(pool.names()) == 4


def test_the_least_recently_used_goes_and_comes_back_without_the_hub(hub, five_checkpoints):
    pool = ModelPool(max_loaded=2)
    first, second, third = list(five_checkpoints)[:3]
    for name in (first, second, first, third):
        pool.get(name)
    assert pool.names() == [first, third]
    hub.requests.clear()
    hub.repositories.clear()  # deleted while in use
    assert np.array_equal(pool.get(second).denoiser(PICTURE, 25), five_checkpoints[second])
    assert not hub.requests and pool.names() == [third, second]


def test_memory_is_bounded_but_for_the_one_in_use(five_checkpoints):
    one = sum(parameter.numel() for parameter in small_network(0).parameters()) * 4
    pool = ModelPool(max_loaded=9, max_memory_bytes=int(2.5 * one))
    for name in five_checkpoints:
        pool.get(name)
    assert pool.names() == list(five_checkpoints)[-2:]
    pool = ModelPool(max_memory_bytes=1)
    pool.get(next(iter(five_checkpoints)))
    assert pool.names() == list(five_checkpoints)[:1]


def test_a_stranger_never_gets_what_only_the_hosts_token_reads(hub, tiny_checkpoint, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "token-of-user")
    hub.put("user/secret", tiny_checkpoint, private=True)
    hub.put("user/gated", tiny_checkpoint, gated=True)
    trusting, strangers = ModelPool(trusted=("user/secret", "user/gated")), ModelPool()
    for name, error in (("user/secret", CheckpointNotFound), ("user/gated", CheckpointGated)):
        assert trusting.pull(name).denoiser.revision  # the host's own list: now in the host's cache
        with pytest.raises(error) as caught:
            strangers.pull(name)
        assert "token" not in str(caught.value)
        hub.faults = [("/api/models", 503)]  # nor does a Hub that cannot be asked open the host's cache
        with pytest.raises(HubUnreachable):
            strangers.pull(name)


@pytest.mark.parametrize(
    "name", ["/etc", "..", "~", "../x/y", "user/../x", "user", "", "a/b/c", "user/x@../../y", "a//b"]
)
def test_a_name_is_never_a_path(hub, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointNotFound):
        ModelPool().pull(name)
    assert not hub.requests


def test_a_folder_of_that_name_is_not_looked_at(hub, tiny_checkpoint, tmp_path, monkeypatch):
    shutil.copytree(tiny_checkpoint, tmp_path / "nobody" / "here")
    monkeypatch.chdir(tmp_path)
    assert Denoiser.from_pretrained("nobody/here")  # in code a folder comes first
    with pytest.raises(CheckpointNotFound):
        ModelPool().pull("nobody/here")


def test_a_folder_with_the_name_of_a_bundled_checkpoint_is_not_looked_at(tmp_path, monkeypatch):
    (tmp_path / DEFAULT_CHECKPOINT).mkdir()
    monkeypatch.chdir(tmp_path)
    assert ModelPool().pull(DEFAULT_CHECKPOINT).facts.parameters
    catalogue._bundled_facts.cache_clear()
    assert DEFAULT_CHECKPOINT in [facts.name for facts in catalogue.Catalogue().entries()]


def test_what_fails_to_load_leaves_what_was_loaded(hub, five_checkpoints, tiny_checkpoint):
    pool = ModelPool()
    pool.pull("user/five-0")
    (tiny_checkpoint / "model.safetensors").write_bytes(b"cut")
    hub.put("user/broken", tiny_checkpoint)
    with pytest.raises(CheckpointInvalid, match="cut short"):
        pool.pull("user/broken")
    assert pool.names() == ["user/five-0"]


def test_a_checkpoint_too_slow_for_the_machine_is_refused(five_checkpoints, monkeypatch):
    monkeypatch.setattr(model_pool, "MAX_SECONDS_PER_MEGAPIXEL", 1e-9)
    with pytest.raises(CheckpointInvalid, match="too slow for this page"):
        ModelPool().pull("user/five-0")


def test_a_small_file_that_would_take_all_memory_is_refused_before_it_runs(hub, tmp_path):
    Unet(UnetConfig(widths=(1024, 8), blocks=(0, 0), unshuffle=1)).save_pretrained(tmp_path / "wide")
    hub.put("user/wide", tmp_path / "wide")
    with pytest.raises(CheckpointInvalid, match=r"too large for this page: its features would take 1[0-9] GB"):
        ModelPool().pull("user/wide")


def test_get_without_fetch_does_not_ask_the_hub(hub, five_checkpoints):
    with pytest.raises(CheckpointNotFound, match="choose it again"):
        ModelPool().get("user/five-0", fetch=False)
    assert not hub.requests and ModelPool().get(DEFAULT_CHECKPOINT, fetch=False)


def test_a_pull_under_way_is_shared_and_too_many_are_refused(hub, five_checkpoints, monkeypatch):
    pool, hold = ModelPool(), threading.Event()
    monkeypatch.setattr(model_pool, "find_on_hub", lambda *_, **__: hold.wait(600) and pytest.fail("was not to go on"))
    first = pool.start_pull("user/five-0")
    assert pool.start_pull(" user/five-0 ") is first
    monkeypatch.setattr(pulls, "MAX_WAITING", 1 - pulls.WORKERS)
    with pytest.raises(HubUnreachable, match="Try again in a minute"):
        pool.start_pull("user/five-1")
    assert pool.get(DEFAULT_CHECKPOINT).facts.revision is None  # what is bundled needs no turn
    hold.set()


def test_while_the_hub_is_away_it_is_not_asked_at_every_visit(hub, five_checkpoints):
    pool = ModelPool()
    pool.pull("user/five-0")
    pool._checked_at["user/five-0"] = float("-inf")  # long ago
    hub.requests.clear()
    hub.faults = [("/api/models/user/five-0", 503)]
    assert "not working (status 503)" in pool.pull("user/five-0").note
    assert pool.pull("user/five-0").note == "" and len(hub.requests) == 1


def test_what_comes_back_into_memory_carries_no_note_and_is_not_measured_again(hub, five_checkpoints, monkeypatch):
    pool = ModelPool(max_loaded=1)
    speed = pool.pull("user/five-0").seconds_per_megapixel
    pool.pull("user/five-1")
    monkeypatch.setattr(ModelPool, "_measure_speed", lambda *_: pytest.fail("measured again"))
    back = pool.get("user/five-0")
    assert back.note == back.denoiser.note == "" and back.seconds_per_megapixel == speed


def test_a_push_is_taken_up_when_the_checkpoint_is_chosen_again_later(hub, five_checkpoints, tmp_path, monkeypatch):
    pool = ModelPool()
    before = pool.pull("user/five-0").denoiser.revision
    hub.put("user/five-0", tmp_path / "five-1")
    assert pool.pull("user/five-0").denoiser.revision == before  # asked a moment ago
    monkeypatch.setattr(model_pool, "FRESH_SECONDS", 0)
    again = pool.pull("user/five-0")
    assert again.denoiser.revision != before
    assert np.array_equal(again.denoiser(PICTURE, 25), five_checkpoints["user/five-1"])
    picker = CheckpointPicker.__new__(CheckpointPicker)
    picker.state = SimpleNamespace(model_pool=pool)
    for commit, name in ((before, f"user/five-0@{before}"), (again.denoiser.revision, "user/five-0")):
        loaded = picker.loaded(Selection("user/five-0", commit))  # whoever chose it has what the page says
        assert loaded.facts.name == name and pool.get(name, fetch=False).denoiser.revision == commit
    with pytest.raises(gr.Error, match="choose it again"):
        picker.loaded(Selection("user/five-0", "0" * 40))
    hub.faults = [("/api/models", 503)]
    late = pool.pull("user/five-0")  # nobody to ask: what is there goes on
    assert late.denoiser is again.denoiser and "status 503" in late.note


@pytest.mark.parametrize("shared", [False, True])
def test_disk_space_for_visitors_is_bounded(hub, five_checkpoints, tmp_path, shared):
    pool = ModelPool(max_loaded=1, max_cache_bytes=1)
    for name in list(five_checkpoints)[:3]:
        pool.pull(name)
        if shared:
            share_blobs(pool.cache.folder)
    hub.put("user/five-3", tmp_path / "five-4")  # another commit of one repository counts like another repository
    pool.pull("user/five-3@" + hub.repositories["user/five-3"].branches["main"])
    # What was in memory until then and the newest stay; of the others no byte does.
    assert len(list(pool.cache.folder.glob("models--*/snapshots/*"))) == 2
    size = sum(path.stat().st_size for path in pool.cache.folder.rglob("*") if path.is_file() and not path.is_symlink())
    (files,) = hub.repositories["user/five-3"].commits.values()
    assert size < 2.5 * len(files["model.safetensors"])


def test_progress_is_reported_in_bytes(hub, five_checkpoints):
    pull = ModelPool().start_pull("user/five-0")
    assert pull.future.result().facts.name == "user/five-0"
    size = len(next(iter(hub.repositories["user/five-0"].commits.values()))["model.safetensors"])
    assert (pull.done, pull.total) == (size, size)


def test_facts_and_card_come_with_it(hub, tiny_checkpoint):
    hub.put("user/described", tiny_checkpoint, README_md=b"---\nlicense: mit\n---\n# described\n")
    loaded = ModelPool().pull("user/described")
    assert loaded.card == "# described" and loaded.facts.license == "mit" and loaded.facts.architecture == "unet"
    assert loaded.facts.revision == hub.repositories["user/described"].branches["main"]
    assert ModelPool().get(DEFAULT_CHECKPOINT).facts.revision is None and loaded.seconds_per_megapixel > 0


def change_weights(folder, function):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors = {name: function(tensor) for name, tensor in tensors.items()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


def test_weights_that_overflow_are_refused_by_library_and_page(hub, tiny_checkpoint, photo):
    change_weights(tiny_checkpoint, lambda tensor: tensor * 1e30)
    with pytest.raises(CheckpointInvalid, match="not finite numbers"):
        Denoiser.from_pretrained(tiny_checkpoint)(photo[:32, :32], 25)
    hub.put("user/absurd", tiny_checkpoint)
    pool = ModelPool()
    pool.pull("user/tiny")  # the same network: its speed is known, what it computes is looked at all the same
    with pytest.raises(CheckpointInvalid, match="user/absurd computes values"):
        pool.pull("user/absurd")
    assert pool.names() == ["user/tiny"]


@pytest.mark.parametrize(("kind", "name"), [(torch.float64, "F64"), (torch.int32, "I32")])
def test_weights_of_another_type_are_called_what_they_are(tiny_checkpoint, kind, name):
    change_weights(tiny_checkpoint, lambda tensor: tensor.to(kind))
    with pytest.raises(CheckpointInvalid, match=rf"holds {name} values; only F32, F16 and BF16 are read"):
        Denoiser.from_pretrained(tiny_checkpoint)


def test_tags_of_one_commit_are_one_checkpoint(hub, monkeypatch):
    repository = hub.repositories["user/tiny"]
    repository.tags = {f"v{index}": repository.branches["main"] for index in range(30)}
    pool, measured = ModelPool(), []
    original = ModelPool._measure_speed
    monkeypatch.setattr(ModelPool, "_measure_speed", lambda *arguments: measured.append(1) or original(*arguments))
    loaded = [pool.pull(f"user/tiny@v{index}") for index in range(30)]
    assert len(measured) == 1 and len({id(one.denoiser) for one in loaded}) == 1
    assert [one.facts.name for one in loaded] == [f"user/tiny@v{index}" for index in range(30)]


def test_a_network_measured_once_is_only_looked_at_afterwards(hub, tiny_checkpoint):
    change_weights(tiny_checkpoint, lambda tensor: tensor / 2)
    hub.put("user/other-weights", tiny_checkpoint)
    pool = ModelPool()
    first = pool.pull("user/tiny")
    assert pool.pull("user/other-weights").seconds_per_megapixel == first.seconds_per_megapixel


def test_a_bundled_checkpoint_is_never_refused_for_its_speed(hub, monkeypatch):
    monkeypatch.setattr(model_pool, "MAX_SECONDS_PER_MEGAPIXEL", 1e-9)
    assert ModelPool().pull("color-small").seconds_per_megapixel > 1e-9
    with pytest.raises(CheckpointInvalid, match="too slow"):
        ModelPool().pull("user/tiny")
