"""Inside a checkpoint: the features on a picture's way, what a latent holds, and what a pixel's estimate looks at.

The network is looked at as it is, without what :class:`denoiser.Denoiser` does around it (clipped noise, noise that
depends on the signal, weak noise). A gray network is given the mean of the planes.

Sources: the equivalent filter, Mohan et al., "Robust and Interpretable Blind Image Denoising via Bias-Free
Convolutional Neural Networks", ICLR 2020, https://arxiv.org/abs/1906.05478: without biases the estimate of a pixel is a
weighted sum of the input, and the weights are its gradient.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import nn

from .analysis.regions import REGIONS, regions
from .models import DenoisingAutoencoder
from .models._base import pad_to_multiple, sigma_map
from .pipeline import Denoiser

SPREAD = 2.5
"""Standard deviations of a principal component that its color covers to either side."""
COLOR_AXES = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], np.float32) / np.sqrt([[3], [2], [6]], dtype=np.float32)
"""Brightness and two opponent colors, orthonormal in RGB: what the first three components are shown as."""
BORDER = 12
"""Pixels from the border of a picture that :func:`typical_points` stays away, where there is room."""


@dataclass(frozen=True)
class Stage:
    """Features at one place of a network.

    Attributes:
        label: Where, for people.
        features: float32 (C, h, w).
    """

    label: str
    features: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Latent:
    """A picture through the latent of a network that has no way around it.

    Attributes:
        restored: The decoder's picture, float32 (H, W, C), not clipped.
        size: Of the latent: planes, height, width.
        kept: How many planes were kept.
        share: Of the latent's variance that they hold, 0..1.
    """

    restored: np.ndarray = field(repr=False)
    size: tuple[int, int, int]
    kept: int
    share: float


@dataclass(frozen=True)
class EquivalentFilter:
    """The weights by which the input adds up to the brightness of one pixel of the estimate.

    Attributes:
        row: Of the pixel.
        column: Of the pixel.
        weights: Of each pixel of the input, all of its channels changed alike, float32 (H, W).
        averaged: How many pixels a plain mean would need to reduce noise as much.
        radius: Mean distance of the weights' magnitudes from the pixel, pixels.
    """

    row: int
    column: int
    weights: np.ndarray = field(repr=False)
    averaged: float
    radius: float

    @property
    def total(self) -> float:
        """The sum of the weights: 1 keeps the brightness of an area."""
        return float(self.weights.sum())

    def window(self, reach: int) -> np.ndarray:
        """The weights up to ``reach`` pixels from the pixel, 0 beyond the picture, (2 reach + 1, 2 reach + 1)."""
        padded = np.pad(self.weights, reach)
        return padded[self.row : self.row + 2 * reach + 1, self.column : self.column + 2 * reach + 1]


def picture_path(denoiser: Denoiser, pixels: np.ndarray, sigma: float) -> tuple[list[Stage], np.ndarray]:
    """The features that a picture has on its way through a network, see :meth:`DenoisingAutoencoder.stages`.

    Args:
        denoiser: The checkpoint.
        pixels: Noisy, float32 (H, W, C), C = 1 or 3, nominally in [0, 1].
        sigma: Noise level in 8-bit units; blind networks ignore it.

    Returns:
        The stages in the order of computation, and the network's estimate, float32 (H, W, 1 or 3), not clipped.
    """
    # A copy that shares the weights: hooks on the network itself would see the calls of other threads, too.
    shared = {id(tensor): tensor for tensor in (*denoiser.model.parameters(), *denoiser.model.buffers())}
    model: DenoisingAutoencoder = copy.deepcopy(denoiser.model, shared)
    found: list[Stage] = []

    def note(label: str):
        def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            found.append(Stage(label, output[0].float().cpu().numpy().copy()))

        return hook

    for label, module in model.stages().items():
        module.register_forward_hook(note(label))
    with torch.inference_mode():
        estimate = model(_as_input(denoiser, pixels), _level(denoiser, sigma))
    return found, estimate[0].permute(1, 2, 0).float().cpu().numpy()


def principal_colors(features: np.ndarray) -> tuple[np.ndarray, float]:
    """The first three principal components of features as brightness and two opponent colors.

    Args:
        features: float32 (C, h, w).

    Returns:
        uint8 (h, w, 3), and the share of the variance that the three hold, 0..1.
    """
    channels, height, width = features.shape
    values = features.reshape(channels, -1).T.astype(np.float64)
    values = values - values.mean(0)
    variances, axes = np.linalg.eigh(values.T @ values / len(values))
    variances, axes = variances[::-1][:3], axes[:, ::-1][:, :3]
    axes = axes * np.where(axes.sum(0) < 0, -1, 1)  # the sign is arbitrary: that in which most channels grow
    scaled = (values @ axes) / np.maximum(np.sqrt(variances.clip(0)), 1e-12) / SPREAD
    scaled[:, variances <= 1e-12 * max(float(variances[0]), 1e-12)] = 0
    colors = 0.5 + 0.5 * scaled.clip(-1, 1) @ (COLOR_AXES[: scaled.shape[1]] * [[1.2], [0.6], [0.6]][: scaled.shape[1]])
    total = float(values.var(0).sum())
    share = float(variances.clip(0).sum()) / total if total > 0 else 1.0
    return np.rint(255 * colors.clip(0, 1)).astype(np.uint8).reshape(height, width, 3), share


def through_latent(denoiser: Denoiser, pixels: np.ndarray, kept: int | None = None, sigma: float = 0.0) -> Latent:
    """A picture through the latent, of which only the main planes are kept; with no noise it shows what does not fit.

    Planes are the principal components of the latent's own over the picture; those not kept have their mean.

    Args:
        denoiser: A checkpoint of architecture "bottleneck", or any whose encoder gives one tensor.
        pixels: float32 (H, W, C), C = 1 or 3, nominally in [0, 1].
        kept: How many planes; None for all.
        sigma: Noise level in 8-bit units.

    Raises:
        ValueError: The network has connections around its latent, or there are fewer planes.
    """
    model, x, level = denoiser.model, _as_input(denoiser, pixels), _level(denoiser, sigma)
    with torch.inference_mode():
        given = None if level is None else pad_to_multiple(sigma_map(level, x), model.multiple)
        latent = model.encode(pad_to_multiple(x, model.multiple), given)
        if not isinstance(latent, torch.Tensor):
            raise ValueError(f"{denoiser.name or 'this network'} has connections around its latent: they hold the rest")
        planes = latent.shape[1]
        kept = planes if kept is None else kept
        if not 0 <= kept <= planes:
            raise ValueError(f"the latent has {planes} planes, so 0 to {planes} can be kept, not {kept}")
        mean = latent.mean((2, 3), keepdim=True)
        centered = (latent - mean)[0].reshape(planes, -1).double()
        variances, axes = torch.linalg.eigh(centered @ centered.T)  # in ascending order
        main = axes[:, planes - kept :]
        reduced = (main @ (main.T @ centered)).reshape(latent.shape).to(latent.dtype) + mean
        restored = model.decode(reduced)[..., : x.shape[2], : x.shape[3]]
    share = float(variances[planes - kept :].clamp(min=0).sum() / variances.clamp(min=0).sum().clamp(min=1e-30))
    size = (planes, latent.shape[2], latent.shape[3])
    return Latent(restored[0].permute(1, 2, 0).float().cpu().numpy(), size, kept, share)


def equivalent_filters(
    denoiser: Denoiser, pixels: np.ndarray, sigma: float, points: Sequence[tuple[int, int]]
) -> list[EquivalentFilter]:
    """What the estimates of some pixels look at.

    Args:
        denoiser: The checkpoint. With biases (``config.bias``) the weights are those of small changes.
        pixels: Noisy, float32 (H, W, C), C = 1 or 3, nominally in [0, 1].
        sigma: Noise level in 8-bit units; blind networks ignore it.
        points: Row and column of each pixel.

    Raises:
        IndexError: A point is outside the picture.
    """
    x = _as_input(denoiser, pixels).requires_grad_(True)
    with torch.enable_grad():
        brightness = denoiser.model(x, _level(denoiser, sigma)).mean(1)[0]
        gradients = [
            torch.autograd.grad(brightness[row, column], x, retain_graph=True)[0][0].float().cpu().numpy()
            for row, column in points
        ]
    rows, columns = np.indices(pixels.shape[:2])
    found = []
    for (row, column), gradient in zip(points, gradients):
        weights = gradient.sum(0)
        size = np.abs(weights)
        distance = np.hypot(rows - row, columns - column)
        # The planes of a color picture have noise of their own; a gray one in three planes has that of one.
        parts = weights[None] if pixels.shape[2] == 1 else gradient
        energy = len(parts) * float((parts.astype(np.float64) ** 2).sum())
        radius = float((size * distance).sum() / max(float(size.sum()), 1e-12))
        found.append(EquivalentFilter(row, column, weights, 1 / max(energy, 1e-12), radius))
    return found


def typical_points(clean: np.ndarray) -> dict[str, tuple[int, int]]:
    """A pixel well inside a flat area, an edge and a texture, as row and column; without those that there are not.

    Args:
        clean: Float (H, W, C) in [0, 1]; a denoised picture does, too.
    """
    found = regions(clean)
    inner = np.zeros(found.shape, bool)
    borders = [min(BORDER, (side - 1) // 2) for side in found.shape]
    inner[tuple(slice(border, side - border) for border, side in zip(borders, found.shape))] = True
    points = {}
    for index, name in enumerate(REGIONS):
        depth = np.asarray(distance_transform_edt(found == index)) * inner
        if depth.max() > 0:
            row, column = np.unravel_index(int(depth.argmax()), depth.shape)
            points[name] = int(row), int(column)
    return points


def _as_input(denoiser: Denoiser, pixels: np.ndarray) -> torch.Tensor:
    """Pixels (H, W, C) as the network takes them, (1, C, H, W)."""
    x = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).permute(2, 0, 1)[None].to(denoiser.device)
    channels = denoiser.model.config.channels
    x = x.mean(1, keepdim=True) if channels < x.shape[1] else x.expand(1, channels, *x.shape[2:])
    return x.contiguous(memory_format=torch.channels_last)


def _level(denoiser: Denoiser, sigma: float) -> float | None:
    return None if denoiser.model.config.blind else sigma / 255
