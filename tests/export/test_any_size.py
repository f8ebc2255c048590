"""One traced graph for every size: torch.export and torch.compile of every architecture."""

import pytest
import torch

from denoiser.models import Bottleneck, BottleneckConfig, Unet, UnetConfig
from denoiser.models._base import DenoisingAutoencoder

SIZES = [(17, 23), (16, 16), (40, 16), (16, 41), (50, 34), (33, 64), (64, 64)]


def networks() -> dict[str, DenoisingAutoencoder]:
    torch.manual_seed(0)
    made = {
        "unet": Unet(UnetConfig(widths=(8, 12, 16), blocks=(1, 1, 1))),
        "unet without levels": Unet(UnetConfig(channels=1, widths=(8,), blocks=(2,), unshuffle=2, bias=True)),
        "plain, full resolution": Unet(UnetConfig(widths=(8,), blocks=(2,), unshuffle=1)),
        "blind": Unet(UnetConfig(widths=(8, 12), blocks=(1, 1), blind=True)),
        "bottleneck": Bottleneck(BottleneckConfig(widths=(8, 12), blocks=1, latent=6)),
    }
    return {name: network.eval().requires_grad_(False) for name, network in made.items()}


NETWORKS = networks()


def picture(network: DenoisingAutoencoder, batch: int, height: int, width: int) -> tuple[torch.Tensor, ...]:
    x = torch.rand(batch, network.config.channels, height, width)
    return (x,) if network.config.blind else (x, torch.rand(batch) / 5)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_exported_program_serves_any_size_and_batch(name):
    network, dim = NETWORKS[name], torch.export.Dim
    shapes = ({0: dim("batch"), 2: dim("height", min=16), 3: dim("width", min=16)}, {0: dim("batch")})
    arguments = picture(network, 2, 64, 48)
    program = torch.export.export(network, arguments, dynamic_shapes=shapes[: len(arguments)]).module()
    for batch, (height, width) in enumerate(SIZES, start=1):
        given = picture(network, batch, height, width)
        assert torch.allclose(program(*given), network(*given), atol=1e-5), (height, width)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_compiled_network_is_compiled_once_for_all_sizes(name):
    # The first picture is no square: for one torch would assume that all are, and compile once more for the others.
    network, graphs = NETWORKS[name], []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(network, backend=count, dynamic=True)
    for height, width in SIZES:
        given = picture(network, 2, height, width)
        assert torch.allclose(compiled(*given), network(*given), atol=1e-5), (height, width)
    assert len(graphs) == 1
