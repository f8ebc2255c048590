"""The graph beside the weights on the Hub: pushed, pulled and verified."""

import shutil

import huggingface_hub
import numpy as np
import pytest

from denoiser import CheckpointInvalid
from denoiser.export import fetch_onnx
from denoiser.hub import card
from denoiser.models import Unet, UnetConfig
from train.publish import main as publish

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
GRAPH = "onnx/model.onnx"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("published") / "tiny", Unet(UnetConfig(widths=(8,), blocks=(1,))).eval()
    model.save_pretrained(folder)
    (folder / "README.md").write_text(card.render(card.describe(model), [], "tiny"))
    return folder


def test_a_published_graph_is_pulled_verified(checkpoint, tiny_checkpoint, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "token-of-user")
    assert publish([str(checkpoint), "user/with-graph"]) == 0
    repository = hub.repositories["user/with-graph"]
    assert GRAPH in capsys.readouterr().out and GRAPH in repository.commits[repository.branches["main"]]
    pushed = repository.branches["main"]
    assert publish([str(checkpoint), "user/with-graph"]) == 0 and repository.branches["main"] == pushed

    path = fetch_onnx("user/with-graph")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["name"] == "user/with-graph"
    given = {"image": np.zeros((1, 3, 9, 20), np.float32), "sigma": np.full((1, 1, 1, 1), 0.1, np.float32)}
    assert session.run(None, given)[0].shape == (1, 3, 9, 20)

    # A graph that stayed when the weights were replaced.
    hub.put("user/mixed", tiny_checkpoint, **{GRAPH: path.read_bytes()})
    with pytest.raises(CheckpointInvalid, match="not of these weights"):
        fetch_onnx("user/mixed")

    # Bytes that are not those of the Hub are fetched again; damaged twice, they are reported.
    shutil.rmtree(huggingface_hub.constants.HF_HUB_CACHE)
    hub.faults = [(f"/{GRAPH}", "corrupt")] * 4
    with pytest.raises(CheckpointInvalid, match=f"{GRAPH} arrived damaged twice"):
        fetch_onnx("user/with-graph")


def test_what_is_missing_is_said(checkpoint, hub, monkeypatch, capsys):
    with pytest.raises(CheckpointInvalid, match=f"user/tiny has no {GRAPH}"):
        fetch_onnx("user/tiny")
    monkeypatch.setenv("HF_TOKEN", "token-of-user")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert publish([str(checkpoint), "user/without"]) == 0
    assert f"without {GRAPH}: exporting needs more packages" in capsys.readouterr().out
