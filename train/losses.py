"""Training losses: means over a batch of restored and clean crops (B, C, H, W), values in [0, 1]."""

import torch
import torch.nn.functional as F


def charbonnier(restored: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """A smooth L1: sqrt(error^2 + 0.001^2). Charbonnier et al., ICIP 1994."""
    return ((restored - clean) ** 2 + 1e-6).sqrt().mean()


def log_mse(restored: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """The mean over crops of the log of their mean squared error: PSNR itself, so that every noise level counts alike.

    As in Chen et al., "Simple Baselines for Image Restoration", ECCV 2022. The 1e-6, the error of a quarter of an
    8-bit level, keeps crops that have next to none from outweighing the rest.
    """
    return (((restored - clean) ** 2).mean((1, 2, 3)) + 1e-6).log().mean()


LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss, "charbonnier": charbonnier, "log_mse": log_mse}
