"""Augmentations for what photographs rarely show: saturated colors, and areas without texture.

A network trained on photographs alone has seen little pure green, and tints it.
"""

import torch


def permute_channels(crops: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Shuffle the channels of a share of the crops (B, 3, H, W): skin turns green, foliage blue."""
    keys = torch.rand(len(crops), crops.shape[1], generator=generator, device=crops.device)
    chosen = torch.rand(len(crops), 1, generator=generator, device=crops.device) < share
    order = torch.where(chosen, keys.argsort(1), torch.arange(crops.shape[1], device=crops.device))
    return crops.gather(1, order[:, :, None, None].expand_as(crops))


def flat_areas(crops: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Replace a share of the crops (B, C, H, W) by two flat areas with a straight edge between them.

    Half of the colors' channels are 0 or 1: black, white and the saturated colors are as frequent as any.
    """
    batch, channels, height, width = crops.shape

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, device=crops.device)

    colors = uniform(2, batch, channels, 1, 1)
    colors = torch.where(uniform(2, batch, channels, 1, 1) < 0.5, colors.round(), colors)
    angle, offset = uniform(batch, 1, 1) * (2 * torch.pi), (uniform(batch, 1, 1) * 2 - 1) * 0.7
    y = torch.linspace(-0.5, 0.5, height, device=crops.device)[None, :, None]
    x = torch.linspace(-0.5, 0.5, width, device=crops.device)[None, None, :]
    side = (x * angle.cos() + y * angle.sin() > offset)[:, None]
    chosen = uniform(batch, 1, 1, 1) < share
    return torch.where(chosen, torch.where(side, colors[0], colors[1]), crops)
