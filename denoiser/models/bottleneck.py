"""The textbook denoising autoencoder: encoder -> narrow latent -> decoder, without skip connections.

The encoder halves the resolution a few times and reduces its features to ``latent`` planes at the coarsest one; these
planes are the only input of the decoder. There are no skip connections, neither across the latent nor around layers,
and the output is not added to the input: what the latent does not hold is lost, both noise and detail.

**Compression.** With n halvings a picture has ``channels * 4^n`` values for each position of the latent, which has
``latent``. With the default of 3 channels, 2 halvings and 12 planes the latent is 4 times smaller than its input:
3 * 16 / 12 = 4; see :attr:`Bottleneck.compression`. The noise level, unless the network is blind, is one more input
plane, so that one network serves many levels.

Sources of ideas (no code is taken):
    - Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008 (the denoising
      criterion), https://www.cs.toronto.edu/~larocheh/publications/icml-2008-denoising-autoencoders.pdf
    - Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 2006 (the
      undercomplete autoencoder), https://doi.org/10.1126/science.1127647

License: Apache-2.0, as the rest of this project.
"""

from dataclasses import dataclass

import torch
from torch import nn

from ._base import DenoisingAutoencoder, check_config, draw_weights


@dataclass(frozen=True)
class BottleneckConfig:
    """The architecture, and the noise levels of the training.

    Attributes:
        channels: Color channels: 1 or 3.
        widths: Feature channels at 1/2, 1/4, 1/8 ... of the resolution; one entry per halving.
        blocks: 3x3 convolutions per level, in the encoder and again in the decoder.
        latent: Feature planes of the latent, at the coarsest resolution.
        bias: Whether convolutions have biases.
        blind: Whether the network has no noise-level input.
        sigma_range: Lowest and highest noise standard deviation seen in training, in ``sigma_units``.
        sigma_units: "8-bit": the 0..255 scale.
    """

    architecture: str = "bottleneck"
    channels: int = 3
    widths: tuple[int, ...] = (48, 128)
    blocks: int = 2
    latent: int = 12
    bias: bool = True
    blind: bool = False
    sigma_range: tuple[float, float] = (0.0, 55.0)
    sigma_units: str = "8-bit"

    def __post_init__(self) -> None:
        check_config(
            self,
            integers={"channels": (1, 3), "widths": (1, 1024), "blocks": (0, 32), "latent": (1, 4096)},
        )
        if not isinstance(self.widths, tuple) or len(self.widths) > 6:
            raise ValueError(f"widths must be a list of 1 to 6 levels, got {self.widths!r}")
        if self.latent >= self.channels * 4 ** len(self.widths):
            raise ValueError(
                f"a latent of {self.latent} planes is no bottleneck: with {len(self.widths)} halvings it must stay "
                f"below {self.channels * 4 ** len(self.widths)}"
            )


def _convolutions(width: int, count: int, bias: bool) -> list[nn.Module]:
    layers = []
    for _ in range(count):
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=bias), nn.ReLU(inplace=True)]
    return layers


class Bottleneck(DenoisingAutoencoder):
    """See the docstring of the module, and :class:`BottleneckConfig` for the options."""

    Config: type[BottleneckConfig] = BottleneckConfig
    config: BottleneckConfig

    def __init__(self, config: BottleneckConfig = BottleneckConfig()):
        super().__init__()
        self.config = config
        self.multiple: int = 2 ** len(config.widths)
        bias, widths = config.bias, config.widths
        planes = config.channels + (0 if config.blind else 1)

        encoder: list[nn.Module] = []
        for before, width in zip((planes, *widths), widths):
            encoder += [nn.Conv2d(before, width, 4, stride=2, padding=1, bias=bias), nn.ReLU(inplace=True)]
            encoder += _convolutions(width, config.blocks, bias)
        self.encoder: nn.Sequential = nn.Sequential(*encoder, nn.Conv2d(widths[-1], config.latent, 1, bias=bias))

        decoder: list[nn.Module] = [nn.Conv2d(config.latent, widths[-1], 1, bias=bias), nn.ReLU(inplace=True)]
        for width, after in zip(reversed(widths), (*reversed(widths[:-1]), None)):
            decoder += _convolutions(width, config.blocks, bias)
            decoder.append(nn.ConvTranspose2d(width, after or config.channels, 4, stride=2, padding=1, bias=bias))
            if after:
                decoder.append(nn.ReLU(inplace=True))
        self.decoder: nn.Sequential = nn.Sequential(*decoder)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                draw_weights(module.weight, "relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def compression(self) -> float:
        """The number of values of the picture, relative to those of the latent."""
        return self.config.channels * 4 ** len(self.config.widths) / self.config.latent

    def stages(self) -> dict[str, nn.Module]:
        """The encoder and the decoder level by level, 1 being the finest, and the latent between them."""
        levels, step = len(self.config.widths), 2 * self.config.blocks + 2  # a level's layers and their ReLUs
        encoder = {f"Encoder {level}": self.encoder[level * step - 1] for level in range(1, levels + 1)}
        decoder = {f"Decoder {levels - index}": self.decoder[(index + 1) * step - 1] for index in range(levels)}
        return encoder | {"Latent": self.encoder[-1]} | decoder

    def encode(self, x: torch.Tensor, level: torch.Tensor | None) -> torch.Tensor:
        """Padded pictures (B, C, H, W) and noise-level map (B, 1, H, W) -> latent (B, latent, H/2^n, W/2^n)."""
        return self.encoder(x if level is None else torch.cat([x, level], dim=1))

    def decode(self, encoded: torch.Tensor) -> torch.Tensor:
        """Latent -> clean pictures (B, C, H, W)."""
        return self.decoder(encoded)
