import pytest
import torch

from denoiser.models import Bottleneck, BottleneckConfig, Unet, UnetConfig
from train.transfer import transfer_weights

PICTURE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def source():
    torch.manual_seed(0)
    return Unet(UnetConfig(widths=(8, 12, 16), blocks=(1, 2, 2)))


def grown(source, **config) -> Unet:
    model = Unet(UnetConfig(**{"widths": (8, 12, 16), "blocks": (1, 2, 2)} | config))
    transfer_weights(model, source)
    return model


@pytest.mark.parametrize("blocks", [(1, 2, 2), (2, 2, 2), (1, 3, 2), (1, 2, 5), (3, 4, 3)])
def test_more_blocks_compute_what_fewer_did(source, blocks):
    model = grown(source, blocks=blocks)
    assert torch.equal(model(PICTURE, 0.1), source(PICTURE, 0.1))
    loss = model(PICTURE, 0.1).square().mean()
    loss.backward()
    assert all(weight.grad.any() for name, weight in model.named_parameters() if name.endswith("conv2.weight"))


def test_fewer_blocks_are_the_first_ones(source):
    kept = grown(source, blocks=(1, 1, 1)).state_dict()
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in kept.items())
    assert len(kept) < len(source.state_dict())


def test_finer_levels_start_afresh_and_the_others_keep_their_weights(source):
    model = grown(source, widths=(6, 8, 12, 16), blocks=(1, 1, 2, 2), unshuffle=1)
    ours, theirs = model.state_dict(), source.state_dict()
    pairs = {"bottleneck.": "bottleneck.", "encoder.1.": "encoder.0.", "decoder.2.": "decoder.1.", "down.2": "down.1"}
    for new, old in pairs.items():
        names = [name for name in ours if name.startswith(new)]
        assert names and all(torch.equal(ours[name], theirs[name.replace(new, old)]) for name in names)
    fresh = ("head", "tail", "encoder.0", "decoder.0", "down.0", "up.0")
    assert all(tensor.any() for name, tensor in ours.items() if name.startswith(fresh))
    assert model(PICTURE, 0.1).shape == PICTURE.shape


def test_a_blind_network_grows_from_one_that_is_given_the_level(source):
    model = grown(source, blocks=(1, 2, 4), blind=True)
    assert torch.equal(model.head.weight, source.head.weight[:, :12])


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 3), (2, 4)])
def test_a_bottleneck_with_more_blocks_computes_what_fewer_did(before, after):
    torch.manual_seed(0)
    source, model = (Bottleneck(BottleneckConfig(widths=(8, 12), blocks=n, latent=6)) for n in (before, after))
    transfer_weights(model, source)
    assert torch.equal(model(PICTURE, 0.1), source(PICTURE, 0.1))
    model(PICTURE, 0.1).square().mean().backward()
    assert all(weight.grad.any() for weight in model.parameters())
    transfer_weights(fewer := Bottleneck(source.config), model)
    assert torch.equal(fewer(PICTURE, 0.1), source(PICTURE, 0.1))


@pytest.mark.parametrize("unshuffle", [1, 2])
def test_a_gray_network_computes_what_the_color_network_did(unshuffle):
    torch.manual_seed(0)
    source = Unet(UnetConfig(widths=(8, 12), blocks=(1, 2), unshuffle=unshuffle))
    source.tail.weight.data.mul_(10)  # noise that the clamp at 4 sigma does not reach, but not none
    gray = grown(source, widths=(8, 12), blocks=(1, 3), channels=1, unshuffle=unshuffle)
    picture = PICTURE[:, :1]
    expected = source(picture.expand(-1, 3, -1, -1), 0.9).mean(1, keepdim=True)
    assert torch.allclose(gray(picture, 0.9), expected, atol=1e-6)
    assert not torch.allclose(expected, picture, atol=1e-2)
    blind = grown(source, widths=(8, 12), blocks=(1, 3), channels=1, unshuffle=unshuffle, blind=True)
    assert torch.equal(blind.head.weight, gray.head.weight[:, : unshuffle**2])


def test_a_color_network_does_not_start_from_a_gray_one():
    with pytest.raises(RuntimeError, match="cannot start from one of widths"):
        grown(Unet(UnetConfig(widths=(8, 12, 16), blocks=(1, 2, 2), channels=1)))


@pytest.mark.parametrize(
    "config",
    [{"widths": (8, 12, 24)}, {"widths": (12, 16), "blocks": (1, 1)}, {"bias": True}],
    ids=["widths", "levels", "bias"],
)
def test_networks_that_differ_otherwise_are_refused(source, config):
    with pytest.raises(RuntimeError, match="cannot start from one of widths"):
        grown(source, **config)


@pytest.mark.parametrize("config", [{"widths": (8, 16)}, {"latent": 7}, {"bias": False}])
def test_bottlenecks_that_differ_otherwise_are_refused(config):
    source, model = (Bottleneck(BottleneckConfig(**{"widths": (8, 12), "latent": 6} | one)) for one in ({}, config))
    with pytest.raises(RuntimeError, match=f"they differ in {next(iter(config))} "):
        transfer_weights(model, source)
