"""U-Net: a residual, bias-free denoising autoencoder with skip connections, conditioned on a noise-level map.

An encoder halves the resolution level by level while the features widen, down to a bottleneck; a decoder restores the
resolution, and at each level the encoder's features are added to the decoder's. The network predicts the noise, which
is subtracted from its input.

Sources of ideas (no code is taken):
    - Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015
      (encoder-decoder with skips), https://arxiv.org/abs/1505.04597
    - Zhang et al., "FFDNet: Toward a Fast and Flexible Solution for CNN-based Image Denoising", TIP 2018 (noise-level
      map as an input, pixel unshuffling), https://arxiv.org/abs/1710.04026
    - Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", TPAMI 2021 (DRUNet: residual blocks,
      no bias, no normalization, additive skips), https://arxiv.org/abs/2008.13751
    - Mohan et al., "Robust and Interpretable Blind Image Denoising via Bias-Free Convolutional Neural Networks",
      ICLR 2020 (without biases the network scales with its input and generalizes across noise levels),
      https://arxiv.org/abs/1906.05478

License: Apache-2.0, as the rest of this project.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ._base import DenoisingAutoencoder, check_config, draw_weights
from ._fused import add_conv, conv_relu

MAX_SIGMAS = 4.0
"""The predicted noise of a pixel is limited to this many times the noise level."""


@dataclass(frozen=True)
class UnetConfig:
    """The architecture, and the noise levels of the training.

    Attributes:
        channels: Color channels: 1 or 3.
        widths: Feature channels per level, finest first; each level halves the resolution of the one before.
        blocks: Residual blocks per level (in the encoder and again in the decoder; the last level has them once).
        unshuffle: Pixel-unshuffling factor before the first convolution: the finest level works at 1/unshuffle of
            the picture's resolution.
        bias: Whether convolutions have biases.
        blind: Whether the network has no noise-level input.
        sigma_range: Lowest and highest noise standard deviation seen in training, in ``sigma_units``.
        sigma_units: "8-bit": the 0..255 scale.
    """

    architecture: str = "unet"
    channels: int = 3
    widths: tuple[int, ...] = (64, 96, 128)
    blocks: tuple[int, ...] = (2, 2, 2)
    unshuffle: int = 2
    bias: bool = False
    blind: bool = False
    sigma_range: tuple[float, float] = (0.0, 55.0)
    sigma_units: str = "8-bit"

    def __post_init__(self) -> None:
        check_config(
            self,
            integers={"channels": (1, 3), "widths": (1, 1024), "blocks": (0, 32), "unshuffle": (1, 4)},
        )
        if not isinstance(self.widths, tuple) or not isinstance(self.blocks, tuple):
            raise ValueError("widths and blocks must be lists, one entry per level")
        if not 1 <= len(self.widths) == len(self.blocks) <= 6:
            raise ValueError(f"widths and blocks need 1 to 6 levels, one entry each: {self.widths}, {self.blocks}")


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), 3x3, no normalization. In inference mode it may overwrite ``x``."""

    def __init__(self, width: int, bias: bool):
        super().__init__()
        self.conv1: nn.Conv2d = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.conv2: nn.Conv2d = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        # Without normalization a deep sum of blocks grows; a small initial scale keeps the first steps stable.
        draw_weights(self.conv1.weight, "relu")
        draw_weights(self.conv2.weight, "linear")
        with torch.no_grad():
            self.conv2.weight.mul_(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return add_conv(x, self.conv2, conv_relu(self.conv1, x))


def _stage(width: int, blocks: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width, bias) for _ in range(blocks)))


class Unet(DenoisingAutoencoder):
    """See the docstring of the module, and :class:`UnetConfig` for the options."""

    Config: type[UnetConfig] = UnetConfig
    config: UnetConfig

    def __init__(self, config: UnetConfig = UnetConfig()):
        super().__init__()
        self.config = config
        self.multiple: int = config.unshuffle * 2 ** (len(config.widths) - 1)
        widths, bias, pixels = config.widths, config.bias, config.unshuffle**2
        planes = config.channels + (0 if config.blind else 1)
        self.head: nn.Conv2d = nn.Conv2d(planes * pixels, widths[0], 3, padding=1, bias=bias)
        stages = [_stage(width, blocks, bias) for width, blocks in zip(widths, config.blocks)]
        self.encoder: nn.ModuleList = nn.ModuleList(stages[:-1])
        self.down: nn.ModuleList = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2, bias=bias) for a, b in itertools.pairwise(widths)
        )
        self.bottleneck: nn.Sequential = stages[-1]
        self.up: nn.ModuleList = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, stride=2, bias=bias) for a, b in itertools.pairwise(widths)
        )
        self.decoder: nn.ModuleList = nn.ModuleList(
            _stage(width, blocks, bias) for width, blocks in zip(widths[:-1], config.blocks[:-1])
        )
        self.tail: nn.Conv2d = nn.Conv2d(widths[0], config.channels * pixels, 3, padding=1, bias=bias)
        with torch.no_grad():
            self.tail.weight.mul_(0.1)  # start close to the identity: no noise removed

    def stages(self) -> dict[str, nn.Module]:
        """The encoder and the decoder level by level, 1 being the finest, and the bottleneck between them."""
        encoder = {f"Encoder {level}": stage for level, stage in enumerate(self.encoder, 1)}
        decoder = {f"Decoder {level}": stage for level, stage in enumerate(self.decoder, 1)}
        return encoder | {"Bottleneck": self.bottleneck} | dict(reversed(decoder.items()))

    def encode(self, x: torch.Tensor, level: torch.Tensor | None) -> tuple[torch.Tensor, list[Any]]:
        """Padded pictures (B, C, H, W) and noise-level map (B, 1, H, W) -> latent and skip connections.

        The first skip connection is the pictures and the map, the others are the features of each level.
        """
        planes = x if level is None else torch.cat([x, level], dim=1)
        # The same as unshuffling and then self.head, without the copy: a convolution of stride ``factor``.
        factor = self.config.unshuffle
        weight = F.pixel_shuffle(self.head.weight, factor).to(memory_format=torch.channels_last)
        features = F.conv2d(planes, weight, self.head.bias, stride=factor, padding=factor)
        skips: list[Any] = [(x, level)]
        for stage, down in zip(self.encoder, self.down):
            features = stage(features)
            skips.append(features)
            features = down(features)
        return self.bottleneck(features), skips

    def decode(self, encoded: tuple[torch.Tensor, list[Any]]) -> torch.Tensor:
        """Latent and skip connections -> clean pictures (B, C, H, W)."""
        features, skips = encoded
        x, level = skips[0]
        for stage, up, skip in zip(reversed(self.decoder), reversed(self.up), reversed(skips)):
            features = stage(up(features).add_(skip))
        # Under autocast the output of the tail has a narrower type; one conversion is faster than one at each step.
        noise = self.tail(features)
        if self.config.unshuffle > 1:  # by 1 it would be a copy
            noise = F.pixel_shuffle(noise, self.config.unshuffle)
        noise = noise.to(x.dtype)
        if level is not None:
            # Noise of deviation sigma is almost never beyond 4 sigma; at sigma 0 the picture stays unchanged. On CBSD68
            # the bound costs less than 0.001 dB.
            bound = MAX_SIGMAS * level
            noise = torch.clamp(noise, -bound, bound)
        return noise.add_(x)
