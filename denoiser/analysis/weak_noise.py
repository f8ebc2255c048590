"""Weak noise: blend a network's estimate with its input, so that the result is no worse than the input.

At a noise level of one or two a network can remove more texture than noise. The best blend y + a (f(y) - y) of the
input y and the estimate f(y) has the share a = -n.(f(y) - y) / |f(y) - y|^2 where n is the noise. By Stein's identity
the product has the mean sigma^2 (div f - 1), in which the clean picture does not occur; the divergence is measured by
one more run of the network, at a randomly moved picture (see :mod:`denoiser.analysis.sure`).

A network that is given no level takes the texture of clean photographs for noise: its estimate is blended as a whole.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

CELL = 4
"""Shares are taken from means over the 3 x 3 cells of this side around a pixel."""
FULL_BLEND, NO_BLEND = 6 / 255, 8 / 255
"""Noise levels up to which the blend is applied in full, and from which on it is not applied."""
MIN_DISTANCE = 0.5 / 255
"""Least distance by which the picture is moved: over less the rounding of bfloat16 outweighs what changes."""
CLIPPED = (2 / np.pi) ** 0.5
"""Mean of what was cut off a value that lies at the end of the range, relative to the noise."""
SIGNS = np.random.default_rng(0).integers(0, 2, (64, 64, 3)).astype(np.float32) * 2 - 1
"""The probe, repeated over the picture: by position, so that tiles agree with the whole."""

PARTS, PART_SIDE = 3, 128
"""Parts across and down that a blind network is tried on, and their side, pixels."""
BLOCK, QUIET, LOW = 16, 0.2, 0.25
"""Side of the blocks that noise is measured in, pixels; the share of them that is quiet, and of these the share
that may have less noise."""
HALF_GRAIN, HALF_LEVEL, STEEP = 0.42, 2.5, 6
"""Levels of coarse and of white noise, 8-bit units, at which a blind network's estimate counts half, and how fast that
changes around them. Clean photographs of five origins have at most 0.38 of the first (19 of 20 0.33), and two levels of
the second; the weakest noise of a camera in nam25 has 0.57 of the first."""
OF_TEXTURE = 0.02
"""The coarse noise that counts half, relative to the texture of the quiet blocks, where this is more: of hatching or
small print no block is quiet, and what a network takes for noise there grows with the texture."""


def blind_share(pixels: np.ndarray, level: float, infer: Callable[[np.ndarray, None], np.ndarray]) -> float:
    """The share of a blind network's estimate for a picture; the rest is the picture.

    On a clean photograph a blind network takes some texture for noise. Texture is fine, and where little is left of it
    little was there; what a camera and JPEG leave of noise is coarse, and everywhere. So the estimate counts where the
    network removes something coarse of the brightness of blocks that it leaves quiet, too. White noise has little that
    is coarse, and counts by its level.

    Args:
        pixels: Float (H, W, C) in [0, 1].
        level: The estimated level of white noise, 8-bit units.
        infer: The network: (h, w, B, C) -> its estimate.
    """
    rows, columns = (_spread(side) for side in pixels.shape[:2])
    tall, wide = (min(side, PART_SIDE) for side in pixels.shape[:2])
    parts = np.stack([pixels[top : top + tall, left : left + wide] for top in rows for left in columns], axis=2)
    grain, texture = _quiet_grain(parts, infer(parts, None))
    ratio = max(grain / max(HALF_GRAIN, OF_TEXTURE * texture), level / HALF_LEVEL)
    return 1 / (1 + ratio**-STEEP) if ratio > 1e-3 else 0.0


def _spread(side: int) -> list[int]:
    """Where parts begin along a side, evenly spaced; as many as it has room for, and one more."""
    count = min(PARTS, -(-side // PART_SIDE))
    return [index * (side - PART_SIDE) // max(1, count - 1) if count > 1 else 0 for index in range(count)]


def _quiet_grain(noisy: np.ndarray, restored: np.ndarray) -> tuple[float, float]:
    """The level of the coarse part of what was removed from quiet blocks of (H, W, B, C), and the deviation of what is
    left in the least quiet of them, both in 8-bit units; 0 if there are none."""
    rows, columns = (side // BLOCK for side in noisy.shape[:2])
    if not rows * columns:
        return 0.0, 0.0
    inner = BLOCK // CELL

    def cells(picture: np.ndarray) -> np.ndarray:
        brightness = picture[: rows * BLOCK, : columns * BLOCK].mean(3)
        return brightness.reshape(rows, inner, CELL, columns, inner, CELL, -1)

    coarse = cells(noisy - restored).mean((2, 5))
    activity, energy = cells(restored).var((1, 2, 4, 5)), (coarse**2).mean((1, 3))
    texture = float(np.quantile(activity, QUIET))
    return 255 * float(np.quantile(energy[activity <= texture], LOW)) ** 0.5, 255 * texture**0.5


def make_probe(noisy: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Random signs for the values of a part of a picture; 0 for those that are black or white, which noise moves less.

    Args:
        noisy: Float (H, W, ..., C).
        rows: The place of the part in the picture, (H,).
        columns: The same, (W,).

    Returns:
        float32, the same shape.
    """
    signs = SIGNS[rows % len(SIGNS)][:, columns % len(SIGNS), : noisy.shape[-1]]
    signs = signs.reshape(*signs.shape[:2], *[1] * (noisy.ndim - 3), -1)
    return signs * ((noisy != 0) & (noisy != 1))


def blend(
    restored: np.ndarray, noisy: np.ndarray, level: float | np.ndarray, change: np.ndarray, step: float = 0.0
) -> np.ndarray:
    """The blend of an estimate with its input that has the least error by Stein's estimate, over small areas.

    The identity holds for values that were not cut off. One at white whose noise was has the error 0 in place of n, and
    n is 0.8 sigma there on the mean; likewise at black.

    Args:
        restored: The network's estimate, float32 (H, W, C); overwritten.
        noisy: Its input, the same shape.
        level: Standard deviation of the noise on the same scale, a number or (H, W).
        change: The probe times what the estimate changes as the input moves along the probe, by ``level`` for each 1.
        step: Between the values that the input can have, 1 / 255 for 8 bits: rounding adds to its noise.

    Returns:
        The blend, float32 (H, W, C).
    """
    levels = np.broadcast_to(np.asarray(level, np.float32)[..., None], (*noisy.shape[:2], 1))
    removed = noisy - restored
    cut = (noisy == 0).astype(np.float32) - (noisy == 1)
    # Noise times what was removed; the moved estimate has changed by the derivative times the level.
    product = (levels + step**2 / 12 / np.maximum(levels, 1e-9)) * ((cut == 0) * levels - change)
    product += CLIPPED * levels * cut * removed
    share = _local_mean(product) / np.maximum(_local_mean(removed**2), 1e-12)
    fade = np.clip((levels[..., 0] - FULL_BLEND) / (NO_BLEND - FULL_BLEND), 0, 1)
    share = np.where(levels[..., 0] > 0, share.clip(0, 1) * (1 - fade) + fade, 0)
    restored -= (1 - share[..., None]).astype(np.float32) * (restored - noisy)
    return restored


def _local_mean(values: np.ndarray) -> np.ndarray:
    """The mean of (H, W, C) over the cells around each pixel, (H, W)."""
    height, width = values.shape[:2]
    cells = F.avg_pool2d(torch.from_numpy(values.mean(2))[None, None], CELL, ceil_mode=True, count_include_pad=False)
    cells = F.avg_pool2d(F.pad(cells, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    # By the side of a cell, not to the picture's size: see denoiser.analysis.clipping.
    return F.interpolate(cells, scale_factor=CELL, mode="bilinear")[0, 0, :height, :width].numpy()
