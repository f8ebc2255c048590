"""Weak noise: blend a network's estimate with its input, so that the result is no worse than the input.

At a noise level of one or two a network removes more texture than noise. Where it removed more energy than the noise
has, its estimate is blended with the input. If the errors of both were independent, the best share of the estimate
would be the energy of the noise over that of the difference (the weights of two independent measurements).

A network that is given no level takes the texture of clean photographs for noise: its estimate is blended as a whole.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from .noise_level import coarse_level

CELL = 8
"""Energies are means over the 3 x 3 cells of this side around a pixel."""
FULL_BLEND, NO_BLEND = 5 / 255, 10 / 255
"""Noise levels up to which the blend is applied in full, and from which on it is not applied."""
HALF_SHARE = 1.75 / 255
"""Level at which the share is halved, and below which it falls fast: the errors are not quite independent. Set on the
held-out crops so that no bundled checkpoint makes one worse at sigma 0.5 to 5 (``benchmarks.weak_noise``)."""

HALF_COARSE, STEEP = 1.4, 16
"""Coarse level, 8-bit units, at which a blind network's estimate counts half, and how fast that changes around it. Set
on the held-out crops, so that clean ones come back and what ``photo`` gains on weak noise of a camera stays."""


def blind_share(pixels: np.ndarray) -> float:
    """The share of a blind network's estimate for a picture (H, W, C); the rest is the picture."""
    ratio = coarse_level(pixels) / HALF_COARSE
    return 1 / (1 + ratio**-STEEP) if ratio > 0 else 0.0


def limit_removal(restored: np.ndarray, noisy: np.ndarray, level: float | np.ndarray, step: float = 0.0) -> np.ndarray:
    """Blend an estimate with its input where more was removed than the noise has.

    Args:
        restored: The network's estimate, float32 (H, W, C); overwritten.
        noisy: Its input, the same shape.
        level: Standard deviation of the noise on the same scale, a number or (H, W).
        step: Between the values that the input can have, 1 / 255 for 8 bits: rounding adds to its noise.

    Returns:
        The blend, float32 (H, W, C); ``restored`` itself from ``NO_BLEND`` on.
    """
    if np.min(level) >= NO_BLEND:
        return restored
    energy = torch.empty(1, 1, *noisy.shape[:2], dtype=torch.float32, device="cpu")
    for band in _bands(len(noisy)):
        energy[0, 0, band] = torch.from_numpy(((restored[band] - noisy[band]) ** 2).mean(2))
    cells = F.avg_pool2d(energy, CELL, ceil_mode=True, count_include_pad=False)
    cells = F.avg_pool2d(F.pad(cells, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    energy = F.interpolate(cells, scale_factor=CELL, mode="bilinear")  # not to the size, see denoiser.analysis.clipping
    energy = energy[0, 0, : noisy.shape[0], : noisy.shape[1]].numpy()
    share = ((level**2 + step**2 / 12) / np.maximum(energy, 1e-12)).clip(0, 1) * (level**4 / (level**4 + HALF_SHARE**4))
    fade = np.clip((level - FULL_BLEND) / (NO_BLEND - FULL_BLEND), 0, 1)
    share = (share + fade * (1 - share)).astype(np.float32)
    for band in _bands(len(noisy)):
        restored[band] = noisy[band] + share[band][..., None] * (restored[band] - noisy[band])
    return restored


def _bands(rows: int) -> Iterator[slice]:
    """Rows in bands, so that a large picture needs no copies of its size."""
    yield from (slice(top, top + 256) for top in range(0, rows, 256))
