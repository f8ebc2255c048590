"""``backend="openvino"``: the same results but for the integers, from any thread and process; the runtimes compared."""

import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from benchmarks import runtimes
from denoiser import Denoiser
from denoiser.errors import CannotExport
from denoiser.export import onnx_graph
from denoiser.models import Bottleneck, BottleneckConfig, Unet, UnetConfig


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small network, whose graph is traced once for all tests."""
    torch.manual_seed(0)
    folder, made, trace = tmp_path_factory.mktemp("openvino") / "small", {}, onnx_graph._trace
    Unet(UnetConfig(widths=(8, 12), blocks=(1, 1))).save_pretrained(folder)

    def trace_once(module):
        parameters = [value.double().sum().item() for value in module.network.parameters()]
        if str(parameters) not in made:
            made[str(parameters)] = trace(module).SerializeToString()
        return onnx.load_model_from_string(made[str(parameters)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graph, "_trace", trace_once)
        yield folder


def test_the_backend_computes_what_torch_does(checkpoint, photo):
    faster = Denoiser.from_pretrained(checkpoint, backend="openvino", dtype="float32")
    torch_alone = Denoiser.from_pretrained(checkpoint, device="cpu", dtype="float32")
    assert "OpenVINO" in repr(faster) and "OpenVINO" not in repr(torch_alone)
    photo = photo[:70, :90]
    level_map = np.linspace(5, 40, 70 * 90, dtype=np.float32).reshape(70, 90)
    for image, sigma in ((photo, 25), (photo, level_map), (photo[..., 0], 10)):
        results = [one(image, sigma).astype(float) for one in (faster, torch_alone)]
        assert np.sqrt(np.mean((results[0] - results[1]) ** 2)) < 0.7 and results[0].shape == image.shape
    assert np.array_equal(pickle.loads(pickle.dumps(faster))(photo, 25), faster(photo, 25))
    with ThreadPoolExecutor(4) as pool:
        pictures = [np.roll(photo, shift, 0) for shift in range(8)]
        at_once = list(pool.map(lambda one: faster(one, 25), pictures))
    assert all(np.array_equal(one, faster(picture, 25)) for one, picture in zip(at_once, pictures))


def test_what_the_backend_cannot_do_is_said(tiny_checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="on the processor"):
        Denoiser.from_pretrained(tiny_checkpoint, backend="openvino", device="cuda")
    with pytest.raises(ValueError, match="'torch' or 'openvino'"):
        Denoiser.from_pretrained(tiny_checkpoint, backend="tensorrt")
    torch.manual_seed(0)
    # Without skip connections everything passes the coarsest level.
    Bottleneck(BottleneckConfig(widths=(8, 12), blocks=1, latent=6)).save_pretrained(tmp_path / "narrow")
    with pytest.raises(CannotExport, match=r"in integers narrow is off by .* 8-bit levels .* backend torch"):
        Denoiser.from_pretrained(tmp_path / "narrow", backend="openvino")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(CannotExport, match="pip install"):
        Denoiser.from_pretrained(tiny_checkpoint, backend="openvino")


def test_every_combination_has_figures_or_a_reason(checkpoint, tmp_path, photo):
    Image.fromarray(photo[:50, :60]).save(tmp_path / "a.png")
    table = runtimes.report(str(checkpoint), tmp_path, count=1, size=64, runs=1)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [row[:2] for row in rows if row[0] == "torch"] == [["torch", p] for p in ("float32", "bfloat16", "int8")]
    reasons = {(row[0], row[1]) for row in rows if row[2].startswith("no: ")}
    assert reasons == {("torch", "int8"), ("onnxruntime", "bfloat16")}
    lost = {(row[0], row[1]): row[4] for row in rows if not row[2].startswith("no: ")}
    assert len(lost) == 9 and all(re.fullmatch(r"(-?\d\.\d{3}(, |$)){4}", text) for text in lost.values())
    for runtime in ("torch", "onnxruntime", "openvino"):
        assert all(abs(float(value)) < 0.002 for value in lost[runtime, "float32"].split(", "))


def test_a_blind_checkpoint_is_computed_as_well(tmp_path, photo):
    torch.manual_seed(0)
    Unet(UnetConfig(widths=(8, 12), blocks=(1, 1), blind=True)).save_pretrained(tmp_path / "blind")
    both = [Denoiser.from_pretrained(tmp_path / "blind", dtype="float32", backend=one) for one in ("torch", "openvino")]
    results = [one(photo[:40, :50]).astype(float) for one in both]
    assert np.sqrt(np.mean((results[0] - results[1]) ** 2)) < 0.7


def test_pictures_that_are_not_there_are_said(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["runtimes", str(checkpoint), "--data", str(tmp_path / "none")])
    assert runtimes.main() == 2 and "none" in capsys.readouterr().err
