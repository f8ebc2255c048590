"""What can be seen inside a checkpoint."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from denoiser import Denoiser
from denoiser.analysis.regions import REGIONS, regions
from denoiser.inside import equivalent_filters, picture_path, principal_colors, through_latent, typical_points
from denoiser.models import Bottleneck, BottleneckConfig, DenoisingAutoencoder, Unet, UnetConfig


def random_denoiser(kind=Unet, config=UnetConfig(widths=(6, 8), blocks=(1, 1), blind=True)) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(kind(config), dtype="float32")


@pytest.fixture(scope="module")
def bottleneck() -> Denoiser:
    return random_denoiser(Bottleneck, BottleneckConfig(widths=(6, 8), blocks=1, latent=5, bias=False))


@pytest.fixture(scope="module")
def pixels(photo) -> np.ndarray:
    return photo[:37, :42].astype(np.float32) / 255  # no multiple of anything


def test_features_of_every_stage_in_order_and_the_network_unchanged(pixels, bottleneck):
    unet = random_denoiser()
    found, estimate = picture_path(unet, pixels, 25)
    shapes = {stage.label: stage.features.shape for stage in found}
    assert shapes == {"Encoder 1": (6, 20, 22), "Bottleneck": (8, 10, 11), "Decoder 1": (6, 20, 22)}
    assert not any(module._forward_hooks for module in unet.model.modules())
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    assert np.allclose(estimate, unet.model(x)[0].permute(1, 2, 0).numpy(), atol=1e-6)
    labels = [stage.label for stage in picture_path(bottleneck, pixels, 25)[0]]
    assert labels == ["Encoder 1", "Encoder 2", "Latent", "Decoder 2", "Decoder 1"]


def test_networks_of_others_show_their_parts(pixels):
    class Plain(DenoisingAutoencoder):
        Config, multiple = UnetConfig, 1

        def __init__(self, config):
            super().__init__()
            self.config, self.encoder, self.decoder = config, nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1)

        def encode(self, x, level):
            return self.encoder(x)

        def decode(self, encoded):
            return self.decoder(encoded)

    plain = random_denoiser(Plain, UnetConfig(channels=1, blind=True))
    found, estimate = picture_path(plain, pixels, 0)  # a gray network and a color picture
    assert [(one.label, one.features.shape) for one in found] == [("Encoder", (4, 37, 42)), ("Decoder", (1, 37, 42))]
    assert estimate.shape == (37, 42, 1)


SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))


@settings(deadline=None, max_examples=30)
@given(arrays.arrays(np.float32, SHAPES, elements=st.floats(-9, 9, width=32)))
def test_any_features_have_colors(features):
    colors, share = principal_colors(features)
    assert colors.shape == (*features.shape[1:], 3) and colors.dtype == np.uint8 and -1e-6 <= share <= 1 + 1e-6
    if len(features) <= 3:
        assert share == pytest.approx(1, abs=1e-3)


def test_all_planes_are_the_network_and_fewer_hold_less(pixels, bottleneck):
    latents = [through_latent(bottleneck, pixels, kept) for kept in range(6)]
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    expected = bottleneck.model(x, 0)[0].permute(1, 2, 0).numpy()
    assert latents[0].size == (5, 10, 11) and latents[5].restored.shape == pixels.shape
    assert np.allclose(latents[5].restored, expected, atol=1e-5)
    shares = [one.share for one in latents]
    assert shares == sorted(shares) and shares[0] == 0 and shares[5] == pytest.approx(1)
    errors = [float(np.mean((one.restored - expected) ** 2)) for one in latents]
    assert errors[0] > errors[3] > errors[5]


def test_what_has_no_such_latent_is_said(pixels, bottleneck):
    with pytest.raises(ValueError, match="connections around its latent"):
        through_latent(random_denoiser(), pixels)
    with pytest.raises(ValueError, match="5 planes, so 0 to 5 can be kept, not 6"):
        through_latent(bottleneck, pixels, 6)


def test_the_weights_add_up_to_the_estimate(pixels):
    unet = random_denoiser()  # bias-free and blind: homogeneous, so that the gradient is all there is
    gray = pixels.mean(2, keepdims=True).repeat(3, axis=2)  # its planes change alike
    (found,) = equivalent_filters(unet, gray, 25, [(20, 30)])
    estimate = picture_path(unet, gray, 25)[1].mean(2)
    assert (found.weights * gray[..., 0]).sum() == pytest.approx(estimate[20, 30], rel=1e-4)
    assert found.total == pytest.approx(found.weights.sum()) and found.window(3)[3, 3] == found.weights[20, 30]
    assert np.array_equal(found.window(60)[60 - 20 :, 60 - 30 :][:37, :42], found.weights)


def test_a_filter_that_does_nothing_averages_nothing(pixels):
    (found,) = equivalent_filters(random_denoiser(config=UnetConfig(widths=(6,), blocks=(1,))), pixels, 0, [(5, 5)])
    assert found.averaged == pytest.approx(1) and found.radius == 0 and found.total == pytest.approx(1)


def test_noise_that_the_planes_of_a_gray_picture_share_is_averaged_as_one(pixels):
    """It was taken for three that are independent: up to half as many pixels as are averaged."""
    network = random_denoiser()
    gray = pixels.mean(2, keepdims=True)
    (found,) = equivalent_filters(network, gray, 25, [(20, 30)])
    assert found.averaged == pytest.approx(1 / (found.weights.astype(float) ** 2).sum())
    moves = np.random.default_rng(0).standard_normal((200, *gray.shape)).astype(np.float32) / 2000
    exact = picture_path(network, gray, 25)[1].mean(2)[20, 30]
    estimates = [picture_path(network, gray + move, 25)[1].mean(2)[20, 30] - exact for move in moves]
    assert np.var(moves) / np.var(estimates) == pytest.approx(found.averaged, rel=0.3)


def test_typical_points_lie_in_their_regions():
    picture = np.full((90, 120, 1), 0.3, np.float32)
    picture[:, 40:] = 0.7
    picture[:, 80:] += np.random.default_rng(0).normal(0, 0.2, (90, 40, 1)).astype(np.float32)
    points = typical_points(picture)
    assert [REGIONS[regions(picture)[points[name]]] for name in REGIONS] == list(REGIONS)
    assert list(typical_points(np.zeros((9, 9, 1), np.float32))) == ["flat"]
