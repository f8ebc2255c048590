import itertools
import threading

import huggingface_hub
import pytest

from denoiser import DEFAULT_CHECKPOINT, bundled_checkpoints
from denoiser.hub import catalogue
from denoiser.hub.catalogue import Catalogue
from denoiser.hub.checkpoints import find_checkpoint
from denoiser.hub.facts import facts_from_metadata, facts_of, read_metadata

CARD = """---
license: mit
tags: [denoising-autoencoder]
denoiser: {architecture: unet, channels: 3, parameters: 12345, sigma_range: [0, 55], blind: false, trained: 2026-11-23}
model-index:
- name: x
  results:
  - task: {type: image-to-image}
    dataset: {name: cbsd68, type: cbsd68, config: sigma=25}
    metrics: [{type: psnr, value: 30.5}, {type: ssim, value: 0.9}]
---
# a card
"""


def listed(**settings) -> Catalogue:
    found = Catalogue(**settings)
    found.refresh()
    found._worker.join(600)
    return found


def names(found: Catalogue) -> set[str]:
    return {facts.name for facts in found.entries()} - set(bundled_checkpoints())


def test_the_facts_of_a_bundled_checkpoint_are_those_of_its_files():
    found = find_checkpoint(DEFAULT_CHECKPOINT)
    facts = facts_of(found)
    assert facts.architecture == "unet" and facts.channels == 3 and facts.revision is None
    assert facts.megabytes * 1e6 / facts.parameters == pytest.approx(2, rel=0.05)  # stored in bfloat16
    assert dict(facts.psnr)["cbsd68, sigma=25"] > 30 and facts.license == "apache-2.0" and facts.last_modified


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"denoiser": "text", "license": 7, "model-index": {"a": 1}},
        {"denoiser": {"parameters": -1, "sigma_range": ["a", None], "architecture": 5, "channels": "3"}},
        {"model-index": [{"results": [{"dataset": {}, "metrics": [{"type": "psnr", "value": float("nan")}]}]}]},
        {"model-index": [{"results": [{"dataset": {}, "metrics": [{"type": "psnr", "value": "<script>"}]}]}]},
        {"model-index": [None]},
        {"denoiser": {"sigma_range": [0, 10**400], "trained": [1, 2]}, "model-index": [{"results": [{"dataset": 3}]}]},
    ],
)
def test_a_card_may_say_anything_and_only_what_fits_is_taken(metadata):
    facts = facts_from_metadata("a/b", metadata)
    assert facts.name == "a/b" and facts.psnr == () and facts.parameters is None and facts.sigma_range is None
    assert facts.architecture == "" and facts.license == "" and facts.channels is None


def test_a_card_made_to_expand_without_end_is_not_read(tmp_path):
    bomb = "a: &a [x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in itertools.pairwise("abcdefghij")
    )
    path = tmp_path / "README.md"
    path.write_text(f"---\nlicense: mit\n{bomb}denoiser:\n  trained: *j\n---\ntext")
    assert read_metadata(path) == {}
    path.write_text("---\nlicense: mit\n---\ntext")
    assert read_metadata(path) == {"license": "mit"}
    for broken in (
        "---\n" + "{" * 10_000 + "\n---\n",
        "---\n[\n---\n",
        "---\nlicense: mit",
        "",
        "---\n" + "- " * 40_000 + "\n---\n",
    ):
        path.write_text(broken)
        assert read_metadata(path) == {}


def test_a_place_that_cannot_be_listed_does_not_affect_the_others(hub, tiny_checkpoint):
    hub.put("user/tagged", tiny_checkpoint, README_md=CARD.encode())
    found = listed(collection="user/no-such-1")
    assert "user/tagged" in names(found) and "Not listed: the collection user/no-such-1" in found.status
    found = listed(tag="", names=("user/nothing", "user/tiny"))
    assert found.status == "The menu holds 1 from the Hub. Not listed: user/nothing."


def test_the_hub_lists_by_tag_author_collection_and_name(hub, tiny_checkpoint):
    hub.put("user/tagged", tiny_checkpoint, README_md=CARD.encode())
    hub.put("other/tagged", tiny_checkpoint, README_md=CARD.encode())
    hub.put("user/secret", tiny_checkpoint, private=True, README_md=CARD.encode())
    hub.collections["other/best-1"] = ["user/tiny"]
    assert names(listed()) == {"user/tagged", "other/tagged"}
    assert names(listed(tag="", author="user")) == {"user/tagged"}
    assert names(listed(tag="", collection="other/best-1")) == {"user/tiny"}
    assert names(listed(tag="", names=("user/tiny@main", "user/nothing"))) == {"user/tiny@main", "user/nothing"}
    assert names(listed(tag="")) == set()
    (facts,) = [facts for facts in listed().entries() if facts.name == "user/tagged"]
    assert facts.parameters == 12345 and facts.sigma_range == (0, 55) and facts.psnr == (("cbsd68, sigma=25", 30.5),)
    assert facts.license == "mit" and facts.last_modified == "2026-11-02"
    assert facts.revision == hub.repositories["user/tagged"].branches["main"]
    assert not any("resolve" in line for line in hub.requests)  # a listing fetches nothing


def test_private_repositories_are_not_listed_even_with_a_token(hub, tiny_checkpoint, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "token-of-user")
    hub.put("user/secret", tiny_checkpoint, private=True, README_md=CARD.encode())
    assert names(listed(author="user")) == set()


@pytest.mark.parametrize(("fault", "said"), [(503, "not working"), (429, "asked too often")])
def test_a_hub_that_fails_leaves_the_bundled_ones_and_says_why(hub, fault, said):
    hub.faults = [("/api/models", fault)]
    found = listed()
    assert said in found.status and [facts.name for facts in found.entries()] == bundled_checkpoints()
    # The client itself asks once in a process which programs it may be run by.
    assert [line for line in hub.requests if "agent-harnesses" not in line] == ["GET /api/models"]  # no retries


def test_a_hub_that_hangs_blocks_nobody(hub, monkeypatch):
    monkeypatch.setattr(catalogue, "TIMEOUT", 600)
    hang = threading.Event()
    monkeypatch.setattr(Catalogue, "_list", lambda self: hang.wait(600))
    found = Catalogue()
    found.refresh()
    assert found.listing and [facts.name for facts in found.entries()] == bundled_checkpoints()
    monkeypatch.setattr(catalogue, "TIMEOUT", 0)
    found.refresh()
    assert not found.listing and "too slow" in found.status
    hang.set()


def test_offline_mode_makes_no_request(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    found = Catalogue()
    found.refresh()
    assert not hub.requests and not found.listing and "Offline mode" in found.status


def test_the_hub_is_asked_once_in_a_while_only(hub):
    found = listed()
    asked = len(hub.requests)
    found.refresh()
    assert len(hub.requests) == asked


def test_what_was_pulled_joins_and_the_oldest_of_many_goes():
    found = Catalogue()
    for index in range(catalogue.MAX_LISTED + 5):
        found.add(facts_from_metadata(f"user/{index}", {}))
    assert len(names(found)) == catalogue.MAX_LISTED and "user/0" not in names(found)


def test_an_invalid_card_does_not_affect_the_list(hub, tiny_checkpoint):
    odd = CARD.replace(
        "license: mit", "license: mit\nself: 1\nignore_metadata_errors: 2\nlanguage: 5\ndatasets: {a: 1}"
    )
    hub.put("user/odd", tiny_checkpoint, README_md=odd.encode())
    hub.put("user/tagged", tiny_checkpoint, README_md=CARD.encode())
    assert names(listed()) == {"user/odd", "user/tagged"}
