"""``Denoiser.save_pretrained`` and ``push_to_hub``, with the real client against a Hub on the loopback."""

import copy

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from denoiser import CannotPublish, Denoiser, HubUnreachable, adaptation
from denoiser.adaptation import adapt
from denoiser.hub.checkpoints import BUNDLED


@pytest.fixture
def hub(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "token-of-user")
    return hub


@pytest.fixture
def denoiser(tiny_model):
    return Denoiser(copy.deepcopy(tiny_model), "cpu", "float32")


def pushed(hub, repo_id):
    repository = hub.repositories[repo_id]
    return repository.commits[repository.branches["main"]]


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_network_comes_back_bit_for_bit_with_a_card(denoiser, hub, tmp_path, photo, place):
    if place == "hub":
        assert denoiser.push_to_hub("user/mine").startswith(f"{hub.url}/user/mine/commit/")
        name = "user/mine"
    else:
        denoiser.save_pretrained(name := tmp_path / "new" / "mine")
    again = Denoiser.from_pretrained(name, device="cpu", dtype="float32")
    assert again.model.config == denoiser.model.config
    assert np.array_equal(again(photo[:40, :60], 25), denoiser(photo[:40, :60], 25))
    text = (again.folder / "README.md").read_text()
    card = ModelCard(text)
    assert card.data.denoiser["architecture"] == "unet" and "denoising-autoencoder" in card.data.tags
    assert f'from_pretrained("{"user/mine" if place == "hub" else "mine"}")' in text
    assert "Not recorded." in text and "{{" not in text and not card.data.eval_results


def test_a_repeated_push_makes_no_commit_and_a_persons_words_stay(denoiser, hub):
    for _ in range(2):
        denoiser.push_to_hub("user/mine", tag="v1")
    repository = hub.repositories["user/mine"]
    assert len(repository.commits) == 2 and repository.tags["v1"] == repository.branches["main"]
    files = pushed(hub, "user/mine")
    repository.commit(files | {"README.md": files["README.md"] + b"\nFor my telescope.\n"})
    denoiser.push_to_hub("user/mine")
    assert b"For my telescope." in pushed(hub, "user/mine")["README.md"]


def test_a_checkpoint_takes_its_card_and_pictures_along(hub, tmp_path):
    Denoiser.from_pretrained("color-small").push_to_hub("user/mine", private=True)
    folder, files = BUNDLED / "color-small", pushed(hub, "user/mine")
    assert hub.repositories["user/mine"].private
    ours = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert files.keys() - {".gitattributes"} == ours.keys()
    assert all(files[name] == path.read_bytes() for name, path in ours.items() if name != "README.md")
    figures = ModelCard((folder / "README.md").read_text()).data.eval_results
    assert ModelCard(files["README.md"].decode()).data.eval_results == figures
    assert b'from_pretrained("user/mine")' in files["README.md"]
    # What is fetched from the Hub has no pictures: the card of a copy shows those of the original.
    fetched = Denoiser.from_pretrained("user/mine")
    fetched.save_pretrained(tmp_path / "copy")
    text = (tmp_path / "copy" / "README.md").read_text()
    assert f"(https://huggingface.co/user/mine/resolve/{fetched.revision}/curve.png)" in text
    assert len(ModelCard(text).data.eval_results) == len(figures)
    # Saved over itself it stays as it is.
    again = Denoiser.from_pretrained(tmp_path / "copy")
    again.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "README.md").read_text() == text
    # Other weights take no figures along, not even into the folder that has them.
    with torch.no_grad():
        again.model.head.weight.mul_(1.01)
    again.save_pretrained(tmp_path / "copy")
    text = (tmp_path / "copy" / "README.md").read_text()
    assert not ModelCard(text).data.eval_results and "| cbsd68 |" not in text
    assert f"from the weights of `{tmp_path / 'copy'}`" in text


@pytest.mark.parametrize("derived", ["in_float32", "adapted"])
def test_what_is_made_of_a_checkpoint_keeps_its_license(derived, tiny_checkpoint, tmp_path, photo, monkeypatch):
    (tiny_checkpoint / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# tiny\n")
    monkeypatch.chdir(tmp_path)
    denoiser = Denoiser.from_pretrained("tiny", device="cpu", dtype="bfloat16")
    monkeypatch.chdir("/")
    if derived == "in_float32":
        made = denoiser.in_float32()
    else:
        monkeypatch.setattr(adaptation, "MIN_GAIN", -100.0)  # any weights are better
        monkeypatch.setattr(adaptation, "_is_certain", lambda *arguments: True)
        made = adapt(denoiser, photo[:40, :100], 600, sigma=25, max_steps=1).denoiser
    assert made is not denoiser
    made.save_pretrained(tmp_path / "made")
    assert ModelCard((tmp_path / "made" / "README.md").read_text()).data.license == "cc-by-nc-4.0"


def test_other_weights_leave_nothing_of_the_former_ones_behind(hub, tmp_path):
    denoiser = Denoiser.from_pretrained("color-small")
    denoiser.push_to_hub("user/mine")
    mine = {"onnx/model.onnx": b"of these weights", ".eval_results/cbsd68.yaml": b"[]", "stars.png": b"a person's"}
    hub.repositories["user/mine"].commit(pushed(hub, "user/mine") | mine)
    denoiser.push_to_hub("user/mine")  # the same weights
    assert pushed(hub, "user/mine").keys() >= {*mine, "curve.png"}
    denoiser.save_pretrained(tmp_path / "copy")
    with torch.no_grad():
        denoiser.model.head.weight.mul_(1.01)
    denoiser.push_to_hub("user/mine")
    files = {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert pushed(hub, "user/mine").keys() == {*files, "stars.png"}
    denoiser.save_pretrained(tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == files - {".gitattributes"}


@pytest.mark.parametrize("call", ["shutil.copyfile", "safetensors.torch.save_model"])
def test_what_is_interrupted_leaves_the_earlier_checkpoint(denoiser, tmp_path, monkeypatch, call):
    Denoiser.from_pretrained("color-small").save_pretrained(tmp_path)
    before = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        (denoiser if "save" in call else Denoiser.from_pretrained("color-large")).save_pretrained(tmp_path)
    assert before == {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_weights_that_were_cut_short_meanwhile_are_not_the_same(tiny_checkpoint, tmp_path):
    (tiny_checkpoint / "README.md").write_text("# tiny\n")
    denoiser = Denoiser.from_pretrained(tiny_checkpoint, device="cpu")
    weights = (tiny_checkpoint / "model.safetensors").read_bytes()
    (tiny_checkpoint / "model.safetensors").write_bytes(weights[:-9])
    denoiser.save_pretrained(tmp_path / "copy")
    assert Denoiser.from_pretrained(tmp_path / "copy", device="cpu").model.config == denoiser.model.config


@pytest.mark.parametrize(
    ("token", "repo_id", "message"),
    [
        (None, "user/mine", "there is no token"),
        ("t\u00f6k\u00e9n", "user/mine", "characters that no token has"),
        ("token-of-guest", "user/mine", "use guest/mine"),
        ("token-of-user", "mine", "must be user/name"),
    ],
)
def test_what_keeps_from_a_push_is_said(denoiser, hub, monkeypatch, token, repo_id, message):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CannotPublish, match=message):
        denoiser.push_to_hub(repo_id, token=token)
    assert "user/mine" not in hub.repositories


@pytest.mark.parametrize("asked", ["/api/whoami", "GET /api/models"])
def test_a_login_page_is_not_taken_for_the_hub(denoiser, hub, asked):
    hub.faults = [(asked, "login page")]
    with pytest.raises(HubUnreachable, match="not the Hub's"):
        denoiser.push_to_hub("user/mine")


def test_a_card_whose_metadata_cannot_be_read_is_left_alone(denoiser, hub):
    denoiser.push_to_hub("user/mine")
    broken = {"README.md": b"---\n: : [bad\n---\n# mine\n"}
    hub.repositories["user/mine"].commit(broken)
    with pytest.raises(CannotPublish, match="card is not YAML"):
        denoiser.push_to_hub("user/mine")
    assert pushed(hub, "user/mine") == broken


@pytest.mark.parametrize(("status", "kind"), [(403, CannotPublish), (500, HubUnreachable)])
def test_a_push_that_breaks_off_is_told_apart_by_its_error_and_can_be_repeated(denoiser, hub, status, kind):
    hub.faults = [("POST /api/models/user/mine/commit", status)] * 8
    with pytest.raises(kind):
        denoiser.push_to_hub("user/mine")
    hub.faults.clear()
    denoiser.push_to_hub("user/mine")
    assert "model.safetensors" in pushed(hub, "user/mine")
