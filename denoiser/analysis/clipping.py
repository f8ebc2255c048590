"""What clipping did to the noise, undone.

A file holds no values below black or above white. Noise there is cut off on one side, so its mean is no longer zero: at
sigma 25 black is 10 levels too bright on average and white 10 too dark, and a denoiser trained on noise as the
literature adds it, unclipped, returns these means. They are known functions of the true value, so they can be inverted.

Source: Foi, "Clipped Noisy Images: Heteroskedastic Modeling and Practical Denoising", Signal Processing 2009,
https://doi.org/10.1016/j.sigpro.2009.04.035
"""

import numpy as np
import torch
from scipy.special import ndtr, ndtri  # scipy.stats, which has them as well, takes a second to import
from torch.nn.functional import avg_pool2d, interpolate

from ..images.tiling import tiles

CELL = 8
"""Evidence is gathered in cells of this side, each with the eight around it."""
TILE = 512
MARGIN = 4 * CELL
LEAST_LEVEL = 1e-6

# What is left of noise of deviation 1 around a true value ``_DISTANCE`` above the end of the range.
_DISTANCE = np.linspace(0, 4, 2001)  # beyond 4 nothing is clipped
_DENSITY = np.exp(-(_DISTANCE**2) / 2) / np.sqrt(2 * np.pi)
_MEAN = _DISTANCE * ndtr(_DISTANCE) + _DENSITY
_VARIANCE = (_DISTANCE**2 + 1) * ndtr(_DISTANCE) + _DISTANCE * _DENSITY - _MEAN**2
# The same by the mean, which is what a denoiser returns: how far the true value lies from it (below the least mean that
# there is, at zero), what share is clipped, what variance remains.
_BINS = 1000  # per standard deviation
_REACH = 1500  # bins: of tones further from the end nothing can be told
_GRID = np.arange(4 * _BINS + 1) / _BINS
_TRUE = np.interp(_GRID, _MEAN, _DISTANCE, left=0)


def _table(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))  # on the processor, whatever torch's default device


_SHIFT = _table(np.append(_TRUE[:-1] - _GRID[:-1], 0))
_SHARE = _table(np.append(ndtr(-_TRUE[:-1]), 0))
_SPREAD = _table(np.where(np.arange(len(_GRID)) < _REACH, np.interp(_TRUE, _DISTANCE, _VARIANCE), 0))


def undo_clipping(restored: np.ndarray, noisy: np.ndarray, level: float) -> np.ndarray:
    """Correct a denoised picture for noise that was clipped with the picture.

    Done as far as there is evidence around a pixel: as many values exactly at the end of the range as clipped noise of
    this level leaves there, and as much noise as it leaves. A picture that leaves [0, 1] was not clipped; clean black,
    white paper, or noise below what ``level`` says stay as they are.

    Args:
        restored: What a denoiser made of ``noisy``, float32 (H, W, C).
        noisy: The picture in [0, 1], same shape.
        level: Standard deviation of the noise, on the scale of the pictures.

    Returns:
        The corrected picture; ``restored`` itself if nothing was clipped.
    """
    black, white = bool(noisy.min() == 0), bool(noisy.max() == 1)
    if level < LEAST_LEVEL or not (black or white):
        return restored
    corrected = np.empty_like(restored)
    for outer, inner, target in tiles(*restored.shape[:2], TILE, MARGIN, CELL):  # the memory stays bounded
        values, given = (_planes(picture[outer]) for picture in (restored, noisy))
        if black:
            values = _undo_low(values, given, level)
        if white:
            values = 1 - _undo_low(1 - values, 1 - given, level)
        corrected[target] = values[0].permute(1, 2, 0).numpy()[inner]
    return corrected


def _undo_low(values: torch.Tensor, given: torch.Tensor, level: float) -> torch.Tensor:
    last = len(_SHIFT) - 1
    where = (values * (_BINS / level)).nan_to_num(nan=last).clamp_(0, last).int()
    # Counts vary, so four fifths of what is expected are enough; squared, as half the evidence is not half a proof.
    counted = 1.25 * _around((given == 0).float()) / _around(_SHARE[where]).clamp(min=1e-3)
    noise = (given - values).square() * (where < _REACH)
    spread = 1.25 * _around(noise) / (_around(_SPREAD[where]) * level**2).clamp(min=1e-12)
    trust = counted.clamp(max=1).square() * spread.nan_to_num(nan=0).clamp(max=1).square()
    trust = interpolate(trust, size=values.shape[2:], mode="bilinear")
    return values + trust * _SHIFT[where] * level


def clipped_share(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The share of values exactly 0 or 1 around each pixel of a plane (H, W) in [0, 1], scaled to another size."""
    clipped = (plane == 0) | (plane == 1)
    if not clipped.any():
        return np.zeros(shape, np.float32)
    return interpolate(_around(_planes(clipped.astype(np.float32)[..., None])), size=shape, mode="nearest")[
        0, 0
    ].numpy()


def noise_left(share: np.ndarray) -> np.ndarray:
    """What is left of the noise's standard deviation where ``share`` of its values are clipped, at most half."""
    distance = -ndtri(np.clip(share, 1e-4, 0.5))
    return np.interp(distance, _DISTANCE, _VARIANCE**0.5)


def _planes(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]


def _around(values: torch.Tensor) -> torch.Tensor:
    """The mean of each cell and those around it."""
    cells = avg_pool2d(values, CELL, ceil_mode=True, count_include_pad=False)
    return avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
