"""Neighbor2Neighbor: one noisy picture, from which two of half its size are taken."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ._base import Network, Objective

# In a 2x2 cell, pixels 0 1 above 2 3: the pairs that share a side, in both orders.
_PAIRS = ((0, 1), (0, 2), (1, 0), (1, 3), (2, 0), (2, 3), (3, 1), (3, 2))


def neighbor_masks(noisy: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Which pixel of each 2x2 cell of (B, C, H, W), H and W even, the first and the second sub-picture take.

    Returns:
        Two index maps (B, 1, H / 2, W / 2) with values 0 to 3: always two pixels of the cell that share a side.
    """
    batch, _, height, width = noisy.shape
    pairs = torch.tensor(_PAIRS, device=noisy.device)
    size = (batch, 1, height // 2, width // 2)
    drawn = pairs[torch.randint(len(_PAIRS), size, generator=generator, device=noisy.device)]
    return drawn[..., 0], drawn[..., 1]


def subsample(picture: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The pixel at ``places`` of each 2x2 cell: (B, C, H, W) -> (B, C, H / 2, W / 2)."""
    batch, channels, height, width = picture.shape
    cells = F.pixel_unshuffle(picture, 2).view(batch, channels, 4, height // 2, width // 2)
    return cells.gather(2, places[:, :, None].expand(-1, channels, 1, -1, -1)).squeeze(2)


@dataclass(frozen=True)
class Neighbor2Neighbor(Objective):
    """Predict one half-size sub-picture from another that took the pixels beside it.

    Huang et al., "Neighbor2Neighbor: Self-Supervised Denoising from Single Noisy Images", CVPR 2021,
    https://arxiv.org/abs/2101.02824. Assumption: the noise has mean zero and is independent between neighboring pixels.
    The pixels of the two sub-pictures are not the same in a clean picture either; the second term takes account of that
    by their difference in the denoised picture.

    Attributes:
        regularization: Weight of the second term (gamma in the paper, 2 there).
    """

    regularization: float = 2.0

    label = "Neighbor2Neighbor"
    source = "Huang et al., CVPR 2021, https://arxiv.org/abs/2101.02824"
    assumption = "The noise has mean zero and is independent between neighboring pixels."

    def __post_init__(self) -> None:
        if not 0 <= self.regularization <= 100:
            raise ValueError(f"regularization must be from 0 to 100, got {self.regularization:g}")

    def error(
        self, network: Network, noisy: torch.Tensor, level: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        noisy = _even(noisy)
        first, second = neighbor_masks(noisy, generator)
        predicted = network(subsample(noisy, first), level)
        return (predicted - subsample(noisy, second)).square().mean((1, 2, 3))

    def loss(
        self, network: Network, noisy: torch.Tensor, level: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        noisy = _even(noisy)
        first, second = neighbor_masks(noisy, generator)
        with torch.no_grad():
            whole = network(noisy, level)
        error = network(subsample(noisy, first), level) - subsample(noisy, second)
        expected = subsample(whole, first) - subsample(whole, second)
        return error.square().mean() + self.regularization * (error - expected).square().mean()


def _even(noisy: torch.Tensor) -> torch.Tensor:
    return noisy[..., : noisy.shape[2] // 2 * 2, : noisy.shape[3] // 2 * 2]
