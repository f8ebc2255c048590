import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from denoiser import (
    DEFAULT_CHECKPOINT,
    CheckpointGated,
    CheckpointInvalid,
    CheckpointNotFound,
    Denoiser,
    HubUnreachable,
    Unet,
    shelf,
)
from denoiser.models import UnetConfig
from denoiser.shelf import Shelf

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def network(seed: int) -> Unet:
    torch.manual_seed(seed)
    return Unet(UnetConfig(widths=(8, 12, 16), blocks=(1, 1, 1))).eval()


@pytest.fixture
def five(hub, tmp_path):
    """Five checkpoints on the Hub that differ; what each makes of a picture."""
    expected = {}
    for index in range(5):
        model = network(index)
        model.save_pretrained(tmp_path / f"five-{index}")
        hub.put(f"user/five-{index}", tmp_path / f"five-{index}")
        expected[f"user/five-{index}"] = Denoiser(model)(PICTURE, 25)
    assert len({array.tobytes() for array in expected.values()}) == 5
    return expected


def test_twenty_visitors_and_five_checkpoints(hub, five):
    kept = Shelf(most=4)

    def visit(index):
        name = f"user/five-{index % 5}"
        loaded = kept.pull(name) if index % 2 else kept.get(name)
        assert loaded.facts.name == name
        return np.array_equal(loaded.denoiser(PICTURE, 25), five[name])

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(visit, range(20)))
    assert [hub.fetched(name) for name in five] == [1] * 5
    assert len(kept.names()) == 4


def test_the_least_recently_used_goes_and_comes_back_without_the_hub(hub, five):
    kept = Shelf(most=2)
    first, second, third = list(five)[:3]
    for name in (first, second, first, third):
        kept.get(name)
    assert kept.names() == [first, third]
    hub.requests.clear()
    hub.repositories.clear()  # deleted while in use
    assert np.array_equal(kept.get(second).denoiser(PICTURE, 25), five[second])
    assert not hub.requests and kept.names() == [third, second]


def test_memory_is_bounded_but_for_the_one_in_use(five):
    one = sum(parameter.numel() for parameter in network(0).parameters()) * 4
    kept = Shelf(most=9, most_bytes=int(2.5 * one))
    for name in five:
        kept.get(name)
    assert kept.names() == list(five)[-2:]
    kept = Shelf(most_bytes=1)
    kept.get(next(iter(five)))
    assert kept.names() == list(five)[:1]


def test_a_stranger_never_gets_what_only_the_hosts_token_reads(hub, tiny_checkpoint, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "token-of-user")
    hub.put("user/secret", tiny_checkpoint, private=True)
    hub.put("user/gated", tiny_checkpoint, gated=True)
    trusting, strangers = Shelf(trusted=("user/secret", "user/gated")), Shelf()
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
        Shelf().pull(name)
    assert not hub.requests


def test_a_folder_of_that_name_is_not_looked_at(hub, tiny_checkpoint, tmp_path, monkeypatch):
    shutil.copytree(tiny_checkpoint, tmp_path / "nobody" / "here")
    monkeypatch.chdir(tmp_path)
    assert Denoiser.from_pretrained("nobody/here")  # in code a folder comes first
    with pytest.raises(CheckpointNotFound):
        Shelf().pull("nobody/here")


def test_what_fails_to_load_leaves_what_was_loaded(hub, five, tiny_checkpoint):
    kept = Shelf()
    kept.pull("user/five-0")
    (tiny_checkpoint / "model.safetensors").write_bytes(b"cut")
    hub.put("user/broken", tiny_checkpoint)
    with pytest.raises(CheckpointInvalid, match="cut short"):
        kept.pull("user/broken")
    assert kept.names() == ["user/five-0"]


def test_a_checkpoint_too_slow_for_the_machine_is_refused(five, monkeypatch):
    monkeypatch.setattr(shelf, "SLOWEST", 1e-9)
    with pytest.raises(CheckpointInvalid, match="too large for this machine"):
        Shelf().pull("user/five-0")


def test_a_push_is_taken_up_when_the_checkpoint_is_chosen_again_later(hub, five, tmp_path, monkeypatch):
    kept = Shelf()
    before = kept.pull("user/five-0").denoiser.revision
    hub.put("user/five-0", tmp_path / "five-1")
    assert kept.pull("user/five-0").denoiser.revision == before  # asked a moment ago
    monkeypatch.setattr(shelf, "FRESH", 0)
    again = kept.pull("user/five-0")
    assert again.denoiser.revision != before
    assert np.array_equal(again.denoiser(PICTURE, 25), five["user/five-1"])
    hub.faults = [("/api/models", 503)]
    assert kept.pull("user/five-0") is again  # nobody to ask: what is there goes on


def test_disk_space_for_visitors_is_bounded(hub, five):
    kept = Shelf(cache_bytes=1)
    for name in list(five)[:3]:
        kept.pull(name)
    assert [path.name for path in kept.cache_dir.glob("models--*")] == ["models--user--five-2"]


def test_progress_is_reported_in_bytes(hub, five):
    seen = []
    Shelf().pull("user/five-0", lambda done, total: seen.append((done, total)))
    size = len(next(iter(hub.repositories["user/five-0"].commits.values()))["model.safetensors"])
    assert seen[-1] == (size, size) and all(done <= total for done, total in seen)


def test_facts_and_card_come_with_it(hub, tiny_checkpoint):
    hub.put("user/told", tiny_checkpoint, README_md=b"---\nlicense: mit\n---\n# told\n")
    loaded = Shelf().pull("user/told")
    assert loaded.card == "# told" and loaded.facts.licence == "mit" and loaded.facts.architecture == "unet"
    assert loaded.facts.revision == hub.repositories["user/told"].branches["main"]
    assert Shelf().get(DEFAULT_CHECKPOINT).facts.bundled and loaded.seconds_per_megapixel > 0
