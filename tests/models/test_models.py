import dataclasses
import json

import pytest
import safetensors.torch
import torch

from denoiser import CheckpointInvalid, CheckpointNotFound, Denoiser, register_architecture
from denoiser.hub.checkpoints import find_checkpoint
from denoiser.hub.facts import facts_of
from denoiser.models import (
    ARCHITECTURES,
    Bottleneck,
    BottleneckConfig,
    DenoisingAutoencoder,
    Unet,
    UnetConfig,
    load_model,
)
from denoiser.models._base import pad_to_multiple, sigma_map

SMALL = {
    "unet": UnetConfig(widths=(8, 12, 16), blocks=(1, 1, 1)),
    "bottleneck": BottleneckConfig(widths=(8, 12, 16), blocks=1, latent=12),
}


def small(name, **changes):
    torch.manual_seed(1)
    values = SMALL[name].__dict__ | changes
    if name == "bottleneck" and changes.get("channels") == 1:
        values |= {"latent": 12}
    return ARCHITECTURES[name](ARCHITECTURES[name].Config(**values)).eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (5, 1), (8, 8), (9, 16), (17, 23), (33, 40)])
def test_any_size_comes_back_in_its_size(name, channels, size):
    model = small(name, channels=channels)
    x = torch.rand(2, channels, *size)
    with torch.inference_mode():
        y = model(x, 0.1)
    assert y.shape == x.shape and y.dtype == x.dtype and torch.isfinite(y).all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_forms_of_sigma_agree(name):
    model, x = small(name), torch.rand(3, 3, 20, 28)
    with torch.inference_mode():
        number = model(x, 0.1)
        for sigma in (torch.tensor(0.1), torch.full((3,), 0.1), torch.full((3, 1, 20, 28), 0.1)):
            assert torch.allclose(model(x, sigma), number, atol=1e-6)
        each = model(x, torch.tensor([0.02, 0.1, 0.3]))
        assert torch.allclose(each[1], number[1], atol=1e-6)
        assert not torch.allclose(each[2], number[2], atol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_batch_is_its_pictures(name):
    model, x = small(name), torch.rand(4, 3, 24, 24)
    with torch.inference_mode():
        together = model(x, 0.1)
        apart = torch.cat([model(one[None], 0.1) for one in x])
    assert torch.allclose(together, apart, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_statistic_spans_the_picture(name):
    """Far from a change nothing changes: what tiling relies on."""
    model, x = small(name), torch.rand(1, 3, 256, 32)
    changed = x.clone()
    changed[..., 200:, :] = 1
    with torch.inference_mode():
        assert torch.equal(model(x, 0.1)[..., :64, :], model(changed, 0.1)[..., :64, :])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_forward_is_decode_of_encode(name):
    model, x = small(name), torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        level = sigma_map(0.1, x)
        assert torch.equal(model.decode(model.encode(x, level)), model(x, 0.1))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_blind_networks_need_no_sigma_and_others_do(name):
    x = torch.rand(1, 3, 16, 16)
    assert small(name, blind=True)(x).shape == x.shape
    with pytest.raises(ValueError, match="noise level"):
        small(name)(x)


@pytest.mark.parametrize("sigma", [torch.rand(2), torch.rand(3, 1, 8, 8), torch.rand(3, 3, 16, 16), torch.rand(3, 16)])
def test_a_sigma_of_wrong_shape_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma has shape"):
        small("unet")(torch.rand(3, 3, 16, 16), sigma)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (1, 3, 0, 16)])
def test_a_picture_of_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match="x has shape"):
        small("unet")(torch.rand(shape), 0.1)


def test_the_unet_scales_with_its_input():
    """Without biases f(a x, a sigma) = a f(x, sigma): one network serves many noise levels."""
    model, x = small("unet"), torch.rand(1, 3, 24, 24)
    with torch.inference_mode():
        assert torch.allclose(model(3 * x, 0.3), 3 * model(x, 0.1), atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (9, 23), (64, 48)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("autocast", "tolerance"), [(False, 1e-6), (True, 0.02)])
def test_inference_in_fused_steps_gives_what_the_plain_ones_give(size, layout, bias, autocast, tolerance):
    model = small("unet", bias=bias, unshuffle=1).to(memory_format=layout)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    x = torch.rand(2, 3, *size).contiguous(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        with torch.inference_mode():
            fused = model(x, 0.3)
        with torch.no_grad():  # also what is compiled and exported
            plain = model(x, 0.3)
    assert torch.allclose(fused, plain, atol=tolerance) and not torch.equal(fused, x)


def test_the_bottleneck_squeezes_everything_through_its_latent():
    model = small("bottleneck", latent=24)
    x = torch.rand(2, 3, 32, 48)
    latent = model.encode(x, sigma_map(0.1, x))
    assert latent.shape == (2, 24, 4, 6)
    assert model.compression == x[0].numel() / latent[0].numel() == 8
    # Given the latent of another picture, a picture becomes that other one: there is no other path.
    other = torch.rand(2, 3, 32, 48)
    expected, latent_of_other = model(other, 0.1), model.encode(other, sigma_map(0.1, other))
    model.encoder.register_forward_hook(lambda module, arguments, output: latent_of_other)
    assert torch.equal(model(x, 0.1), expected)


def test_a_latent_that_is_no_bottleneck_is_refused():
    with pytest.raises(ValueError, match="no bottleneck"):
        BottleneckConfig(widths=(8,), latent=12)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 8), (8, 8), (13, 2)])
def test_padding_keeps_the_picture_and_reflects_it(size):
    x = torch.rand(1, 2, *size)
    padded = pad_to_multiple(x, 8)
    assert padded.shape[2] % 8 == padded.shape[3] % 8 == 0
    assert torch.equal(padded[..., : size[0], : size[1]], x)
    if 1 < size[0] < 8:
        assert torch.equal(padded[..., size[0], : size[1]], x[..., size[0] - 2, :])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_saved_checkpoint_loads_bit_for_bit(name, tmp_path):
    model, x = small(name), torch.rand(1, 3, 16, 16)
    model.save_pretrained(tmp_path / "saved")
    for loaded in (load_model(tmp_path / "saved"), type(model).from_pretrained(tmp_path / "saved")):
        assert loaded.config == model.config and not loaded.training
        assert torch.equal(loaded(x, 0.1), model(x, 0.1))


@dataclasses.dataclass(frozen=True)
class PlainConfig:
    architecture: str = "somewhere.networks.plain"
    channels: int = 3
    widths: tuple[int, ...] = (4,)
    bias: bool = False
    blind: bool = True
    sigma_range: tuple[float, float] = (0.0, 55.0)
    sigma_units: str = "8-bit"


class Plain(DenoisingAutoencoder):
    """A convolution."""

    Config = PlainConfig
    multiple = 1

    def __init__(self, config: PlainConfig = PlainConfig()):
        super().__init__()
        self.config = config
        self.conv = torch.nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.register_buffer("scale", torch.full((1,), 0.5), persistent=False)  # in no checkpoint

    def encode(self, x, level):
        return x * self.scale

    def decode(self, encoded):
        return self.conv(encoded)


def test_a_network_of_another_package_loads_where_it_is_registered(monkeypatch, tmp_path, photo):
    monkeypatch.setattr("denoiser.models.ARCHITECTURES", dict(ARCHITECTURES))
    assert register_architecture(register_architecture(Plain)) is Plain
    denoiser = Denoiser(Plain(), "cpu", "float32")
    denoiser.save_pretrained(tmp_path / "mine")
    again = Denoiser.from_pretrained(tmp_path / "mine", device="cpu", dtype="float32")
    assert isinstance(again.model, Plain) and (again(photo[:9, :7]) == denoiser(photo[:9, :7])).all()
    facts = facts_of(find_checkpoint(tmp_path / "mine"))
    assert (facts.architecture, facts.parameters) == ("somewhere.networks.plain", 84)
    assert "\nA convolution.\n" in (tmp_path / "mine" / "README.md").read_text()
    monkeypatch.undo()
    with pytest.raises(
        CheckpointInvalid, match=r"'somewhere.networks.plain' of another package: .*`import somewhere\.networks`"
    ):
        Denoiser.from_pretrained(tmp_path / "mine")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "plain"}, "must be of the form 'package.name'"),
        ({"architecture": "os.system('x')"}, "must be of the form"),
        ({"blind": None}, "must have the fields"),
    ],
)
def test_what_cannot_be_registered_is_refused(monkeypatch, changes, message):
    monkeypatch.setattr("denoiser.models.ARCHITECTURES", known := dict(ARCHITECTURES))
    fields = {field.name: (field.type, field.default) for field in dataclasses.fields(PlainConfig)}
    fields |= {name: (str, value) for name, value in changes.items()}
    config = dataclasses.make_dataclass(
        "Config",
        [(name, kind, default) for name, (kind, default) in fields.items() if default is not None],
        frozen=True,
    )
    with pytest.raises(ValueError, match=message):
        register_architecture(type("Other", (Plain,), {"Config": config}))
    assert known == ARCHITECTURES


def test_a_name_is_one_networks(monkeypatch):
    monkeypatch.setattr("denoiser.models.ARCHITECTURES", dict(ARCHITECTURES))
    register_architecture(Plain)
    with pytest.raises(ValueError, match=r"is taken by .*test_models\.Plain"):
        register_architecture(type("Other", (Plain,), {}))


def break_config(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def drop_field(folder):
    path = folder / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "widths"}))


def change_tensors(change):
    def apply(folder):
        path = folder / "model.safetensors"
        tensors = safetensors.torch.load_file(path)
        change(tensors)
        safetensors.torch.save_file(tensors, path)

    return apply


def make_run(folder):
    (folder / "checkpoint").mkdir()
    (folder / "config.json").rename(folder / "checkpoint" / "config.json")


def replace_by_pickle(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"tail.weight": torch.zeros(1)}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (make_run, "That of this run is .*/checkpoint"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "JSON object"),
        (lambda folder: (folder / "config.json").write_text(" " * 200_000), "over 100000 bytes"),
        (break_config(architecture="resnet"), "'resnet'; this version knows bottleneck, unet"),
        (break_config(architecture=["unet"]), "asks for architecture"),
        (break_config(architecture="a.b; c"), "'a.b; c'; this version knows"),
        (break_config(surprise=1), "unknown fields \\['surprise'\\]"),
        (drop_field, "missing fields \\['widths'\\]"),
        (break_config(widths=[8, 12, 10**6]), "widths must be made of integers from 1 to 1024"),
        (break_config(widths=[8, 12.5, 16]), "widths must be made of integers"),
        (break_config(channels=True), "channels must be made of integers"),
        (break_config(sigma_range=[0, 900]), "sigma_range"),
        (break_config(sigma_units="percent"), "sigma_units"),
        (break_config(bias="no"), "bias must be true or false"),
        (change_tensors(lambda t: t.pop("tail.weight")), "missing tensors \\['tail.weight'\\]"),
        (change_tensors(lambda t: t.update(extra=torch.zeros(2))), "unexpected tensors \\['extra'\\]"),
        (change_tensors(lambda t: t.update({"tail.weight": torch.zeros(2)})), "tail.weight has shape \\(2,\\)"),
        (
            change_tensors(lambda t: t["tail.weight"].fill_(float("nan"))),
            "tail.weight holds values that are not finite",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04pickle"),
            "cut short, or not a safetensors file",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "cut short, or not a safetensors file"),
        (replace_by_pickle, "a pickle is never opened"),
    ],
)
def test_a_checkpoint_that_is_not_exactly_one_is_refused(tiny_checkpoint, damage, message):
    damage(tiny_checkpoint)
    with pytest.raises(CheckpointInvalid, match=message):
        load_model(tiny_checkpoint)


def test_loading_as_another_architecture_is_refused(tiny_checkpoint):
    with pytest.raises(CheckpointInvalid, match="architecture is 'unet', not 'bottleneck'"):
        Bottleneck.from_pretrained(tiny_checkpoint)


def test_a_missing_folder_is_not_taken_for_a_hub_id(tmp_path):
    with pytest.raises(CheckpointNotFound, match="no folder"):
        Unet.from_pretrained(tmp_path / "nowhere")


def test_bfloat16_storage_loads_as_float32(tiny_checkpoint):
    def narrow(tensors):
        for name in tensors:
            tensors[name] = tensors[name].bfloat16()

    change_tensors(narrow)(tiny_checkpoint)
    assert all(p.dtype == torch.float32 for p in load_model(tiny_checkpoint).parameters())


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_no_more_is_taken_off_than_noise_of_that_level_can_be(level):
    torch.manual_seed(0)
    model = Unet(UnetConfig(widths=(8, 12), blocks=(1, 1)))
    with torch.no_grad():
        model.tail.weight.mul_(1000)
    x = torch.rand(2, 3, 16, 16)
    taken = (model(x, level) - x).abs().max()
    assert taken <= 4 * level + 1e-6 and (level == 0 or taken > 3.9 * level)


@pytest.mark.parametrize("unshuffle", [1, 2, 3, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_the_first_layer_is_a_convolution_of_the_unshuffled_picture(unshuffle, bias):
    torch.manual_seed(2)
    model = Unet(UnetConfig(widths=(8,), blocks=(0,), unshuffle=unshuffle, bias=bias))  # the first layer is the encoder
    x, level = torch.rand(2, 3, 5 * unshuffle, 7 * unshuffle), torch.rand(2, 1, 5 * unshuffle, 7 * unshuffle)
    unshuffled = torch.nn.functional.pixel_unshuffle(torch.cat([x, level], dim=1), unshuffle)
    assert torch.allclose(model.encode(x, level)[0], model.head(unshuffled), atol=1e-5)
