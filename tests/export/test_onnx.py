"""The exported graph computes what the network does, for any size, and says what it takes."""

import re

import numpy as np
import pytest
import torch

from denoiser.__main__ import main
from denoiser.errors import CannotExport
from denoiser.export import export_onnx, onnx_graph
from denoiser.export.quantize import coarse_convolutions, quantize
from denoiser.hub.checkpoints import Checkpoint
from denoiser.models import Bottleneck, BottleneckConfig, Unet, UnetConfig, load_model

onnx = pytest.importorskip("onnx", reason="the extra [export] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
pytest.importorskip("onnxscript", reason="the extra [export] is not installed")


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Unet(UnetConfig(widths=(8, 12), blocks=(1, 1))).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "tiny"
    network.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# tiny\n")
    return folder


@pytest.fixture(scope="module")
def traced(network):
    """What torch makes of the network, which takes seconds: once for all graphs with an input for the level."""
    return onnx_graph._trace(onnx_graph.Exported(network)).SerializeToString()


@pytest.fixture(scope="module")
def graph(checkpoint, traced):
    path = checkpoint.parent / "tiny.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graph, "_trace", lambda module: onnx.load_model_from_string(traced))
        assert main(["export", str(checkpoint), "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    """A checkpoint of one level, and its graph as programs take it that give a graph a picture and nothing else."""
    folder = tmp_path_factory.mktemp("fixed")
    torch.manual_seed(0)
    Unet(UnetConfig(widths=(8,), blocks=(1,))).save_pretrained(folder / "tiny")
    assert main(["export", str(folder / "tiny"), "-o", str(folder / "fixed.onnx"), "--sigma", "25"]) == 0
    return folder / "tiny", folder / "fixed.onnx"


@pytest.mark.parametrize("batch, height, width", [(1, 1, 1), (2, 3, 50), (3, 8, 8), (1, 65, 7), (2, 37, 80)])
def test_the_graph_takes_any_size_with_a_map_or_levels(graph, network, batch, height, width):
    loaded, in_integers = session(graph), session(quantize(graph.read_bytes(), network))
    image, level_map = torch.rand(batch, 3, height, width), torch.rand(batch, 1, height, width) / 5
    levels = level_map[:, :, :1, :1]
    for given, sigma in (
        (level_map, level_map),
        (levels[:, 0, 0, 0], levels),  # (B,)
        (levels, levels),
        (levels[:1], levels[:1]),
        (levels[0, 0, 0, 0], levels[:1]),
    ):
        given = {"image": image.numpy(), "sigma": np.ascontiguousarray(given.numpy())}
        expected = network(image, sigma.expand(batch, 1, height, width)).numpy()
        assert np.abs(loaded.run(None, given)[0] - expected).max() < 1e-5
        assert np.sqrt(np.mean((in_integers.run(None, given)[0] - expected) ** 2)) < 2 / 255


def test_a_graph_for_maps_alone_states_four_dimensions(checkpoint, graph, network, traced, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "_trace", lambda module: onnx.load_model_from_string(traced))
    path = tmp_path / "map.onnx"
    assert main(["export", str(checkpoint), "-o", str(path), "--sigma", "map"]) == 0
    onnx.checker.check_model(path)
    loaded = session(path)
    assert [len(one.shape) for one in loaded.get_inputs()] == [4, 4] and "(batch,)" in what_of_sigma(session(graph))
    assert "(batch,)" not in what_of_sigma(loaded)
    image, level_map = torch.rand(2, 3, 20, 30), torch.rand(2, 1, 20, 30) / 5
    result = loaded.run(None, {"image": image.numpy(), "sigma": level_map.numpy()})[0]
    assert np.abs(result - network(image, level_map).numpy()).max() < 1e-5


def what_of_sigma(loaded):
    return loaded.get_modelmeta().custom_metadata_map["sigma"]


def test_the_graph_says_what_it_takes(graph):
    known = session(graph).get_modelmeta().custom_metadata_map
    assert known["name"] == "tiny" and known["license"] == "cc-by-4.0" and known["channels"] == "3, RGB"
    assert known["sigma_range"] == "0 55" and "level / 255" in known["sigma"] and "white 1" in known["image"]
    assert re.fullmatch("[0-9a-f]{64}", known["weights_sha256"]) and '"architecture": "unet"' in known["config"]
    assert b".py" not in graph.read_bytes() and str(graph.parent).encode() not in graph.read_bytes()


@pytest.mark.parametrize(
    "other",
    [
        Unet(UnetConfig(channels=1, widths=(8,), blocks=(1,), unshuffle=1, blind=True)),
        Bottleneck(BottleneckConfig(widths=(8,), blocks=1, latent=6)),
    ],
    ids=["blind gray unet", "bottleneck"],
)
def test_every_architecture_is_exported(other, tmp_path):
    other.save_pretrained(tmp_path / "made")
    assert export_onnx(Checkpoint("made", tmp_path / "made"), tmp_path / "made.onnx") < 1e-4
    loaded, other = session(tmp_path / "made.onnx"), other.eval()
    assert [one.name for one in loaded.get_inputs()] == ["image"] + ["sigma"] * (not other.config.blind)
    image, level = torch.rand(1, other.config.channels, 21, 34), np.full((1, 1, 1, 1), 0.1, np.float32)
    given = {"image": image.numpy()} | ({} if other.config.blind else {"sigma": level})
    expected = other(image, None if other.config.blind else 0.1).detach().numpy()
    assert np.abs(loaded.run(None, given)[0] - expected).max() < 1e-5


@pytest.mark.parametrize("tile", [16, 37, 64, 200])
def test_programs_that_give_a_graph_tiles_of_any_size(fixed, photo, tile):
    """As chaiNNer calls ONNX models: the first input alone, channels read from its shape, tiles with an overlap."""
    (checkpoint, graph), overlap = fixed, 32
    loaded = onnxruntime.InferenceSession(graph.read_bytes(), providers=["CPUExecutionProvider"])
    (given,), (made,) = loaded.get_inputs(), loaded.get_outputs()
    assert given.type == "tensor(float)" and given.shape[1] == made.shape[1] == 3
    assert all(isinstance(side, str) for shape in (given.shape, made.shape) for side in shape[2:])
    image = photo[:90, :131].astype(np.float32) / 255
    result = np.empty_like(image)
    for top in range(0, 90, tile):
        for left in range(0, 131, tile):
            rows, columns = max(top - overlap, 0), max(left - overlap, 0)
            part = image[rows : top + tile + overlap, columns : left + tile + overlap].transpose(2, 0, 1)[None]
            out = loaded.run([made.name], {given.name: part})[0][0].transpose(1, 2, 0)
            assert out.shape == (*part.shape[2:], 3)
            target = result[top : top + tile, left : left + tile]
            target[:] = out[top - rows :, left - columns :][: target.shape[0], : target.shape[1]]
    network = load_model(checkpoint)
    x = torch.from_numpy(image.transpose(2, 0, 1)[None].copy())
    whole = network(x, 25 / 255).detach().numpy()[0].transpose(1, 2, 0)
    # Padding is at other places in tiles that do not start at multiples of 8.
    assert np.abs(result - whole).max() < (1e-4 if tile % 8 == 0 else 0.1)


def test_a_graph_that_computes_something_else_is_not_written(graph, tmp_path, monkeypatch):
    Unet(UnetConfig(widths=(8, 12), blocks=(1, 1))).save_pretrained(tmp_path / "other")
    monkeypatch.setattr(onnx_graph, "_graph", lambda *arguments: graph.read_bytes())
    (tmp_path / "there.onnx").write_bytes(b"as it was")
    with pytest.raises(CannotExport, match="differs from the network"):
        export_onnx(Checkpoint("other", tmp_path / "other"), tmp_path / "there.onnx")
    assert [path.read_bytes() for path in tmp_path.glob("*.onnx")] == [b"as it was"]


def test_the_coarse_levels_in_integers(graph, network):
    assert coarse_convolutions(network) == {"bottleneck.0.conv1", "bottleneck.0.conv2"}
    content = quantize(graph.read_bytes(), network)
    stored = {one.name: one.data_type for one in onnx.load_model_from_string(content).graph.initializer}
    assert stored["network.bottleneck.0.conv1.weight_quantized"] == onnx.TensorProto.INT8
    assert stored["network.encoder.0.0.conv1.weight"] == onnx.TensorProto.FLOAT
    given = {"image": np.random.default_rng(0).random((1, 3, 40, 50), np.float32)}
    given["sigma"] = np.full((1, 1, 1, 1), 0.1, np.float32)
    results = [session(one).run(None, given)[0] for one in (content, graph.read_bytes())]
    assert 0 < np.sqrt(np.mean((results[0] - results[1]) ** 2)) < 0.5 / 255


def test_the_ends_of_half_the_resolution_keep_their_precision():
    names = coarse_convolutions(Unet(UnetConfig(widths=(2, 64, 64), blocks=(1, 2, 1), unshuffle=1)))
    assert names == {f"encoder.1.{place}" for place in ("0.conv2", "1.conv1", "1.conv2")} | {
        *("down.1", "bottleneck.0.conv1", "bottleneck.0.conv2", "decoder.1.0.conv1", "decoder.1.0.conv2")
    }
    narrow = coarse_convolutions(Unet(UnetConfig(widths=(2, 48, 64), blocks=(1, 2, 1), unshuffle=1)))
    assert narrow == {"down.1", "bottleneck.0.conv1", "bottleneck.0.conv2"}
    with pytest.raises(CannotExport, match="no coarse levels"):
        coarse_convolutions(Unet(UnetConfig(widths=(2,), blocks=(1,))))


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["photo", "-o", "x.onnx", "--sigma", "3"], 2, "takes no noise level"),
        (["tiny", "-o", "x.onnx", "--sigma", "levels"], None, "'levels' is neither a level, 0..255, nor 'map'"),
        (["unheard-of", "-o", "x.onnx"], 2, "no checkpoint"),
        (["photo", "-o", "x.png"], None, "denoise ./export"),
        (["photo", "-o", "/proc/x.onnx"], 2, "/proc/x.onnx cannot be written"),
        (["photo", "-o", "/dev/null/x.onnx"], 2, "/dev/null/x.onnx cannot be written"),
    ],
)
def test_what_cannot_be_exported_is_said(arguments, status, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if status:
        assert main(["export", *arguments]) == status
    else:
        with pytest.raises(SystemExit):
            main(["export", *arguments])
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced_on_request_alone(checkpoint, tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.onnx"
    path.write_text("mine")
    assert main(["export", str(checkpoint), "-o", str(path)]) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err and path.read_text() == "mine"
    monkeypatch.setattr("denoiser.export.command.export_onnx", lambda found, output, *_: output.write_text("new") and 0)
    assert main(["export", str(checkpoint), "-o", str(path), "--overwrite"]) == 0 and path.read_text() == "new"


def test_a_missing_package_is_named_with_the_command(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(CannotExport, match=r"pip install 'denoising-autoencoder\[export\]'"):
        export_onnx(Checkpoint("tiny", checkpoint), tmp_path / "x.onnx")


def test_a_picture_called_export_is_written_with_its_folder(checkpoint, tmp_path, photo, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo[:20, :20]).save("export", format="png")
    assert main(["./export", "-o", "clean.png", "--checkpoint", str(checkpoint)]) == 0
    with Image.open("clean.png") as clean:
        assert clean.size == (20, 20)
