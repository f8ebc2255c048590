"""What clipping did to the noise, undone.

A file holds no values below black or above white. Noise there is cut off on one side, so its mean is no longer zero: at
sigma 25 black is 10 levels too bright on average and white 10 too dark, and a denoiser trained on noise as the
literature adds it, unclipped, returns these means. They are known functions of the true value, so they can be inverted.
"""

import numpy as np
import torch
from scipy.stats import norm
from torch.nn.functional import avg_pool2d, interpolate

CELL = 8
"""Clipped values are counted in cells of this side, each with the eight around it."""

# By the true value's distance from the end of the range, in standard deviations; beyond 4 nothing is clipped.
_DISTANCE = np.linspace(0, 4, 2001)
_MEAN = _DISTANCE * norm.cdf(_DISTANCE) + norm.pdf(_DISTANCE)  # the mean of max(0, N(distance, 1))
# By that mean: how far the true value lies from it, and what share of the noise is clipped there. Below the least mean
# that there is, all of it is taken off.
_BINS = 1000  # per standard deviation
_GRID = np.arange(4 * _BINS + 1) / _BINS
_TRUE = np.interp(_GRID, _MEAN, _DISTANCE, left=0)
_SHIFT = torch.tensor(np.append(_TRUE[:-1] - _GRID[:-1], 0), dtype=torch.float32)
_SHARE = torch.tensor(np.append(norm.cdf(-_TRUE[:-1]), 0), dtype=torch.float32)


def undo_clipping(restored: np.ndarray, noisy: np.ndarray, level: float) -> np.ndarray:
    """Correct a denoised picture for noise that was clipped with the picture.

    Done as far as there is evidence: where, around a pixel, as many values lie exactly at the end of the range as
    clipped noise of this level leaves there. A picture that leaves [0, 1] was not clipped; a clean one, or one whose
    noise is below what ``level`` says, shows too few such values among its dark tones, and keeps them.

    Args:
        restored: What a denoiser made of ``noisy``, (H, W, C).
        noisy: The picture in [0, 1], same shape.
        level: Standard deviation of the noise, on the scale of the pictures.

    Returns:
        The corrected picture; ``restored`` itself if nothing was clipped.

    Source: Foi, "Clipped Noisy Images: Heteroskedastic Modeling and Practical Denoising", Signal Processing 2009,
    https://doi.org/10.1016/j.sigpro.2009.04.035
    """
    if level <= 0:
        return restored
    if noisy.min() == 0:
        restored = _undo_low(restored, noisy == 0, level)
    if noisy.max() == 1:
        restored = 1 - _undo_low(1 - restored, noisy == 1, level)
    return restored


def _undo_low(restored: np.ndarray, clipped: np.ndarray, level: float) -> np.ndarray:
    values = torch.from_numpy(np.ascontiguousarray(restored)).permute(2, 0, 1)[None]
    where = (values * (_BINS / level)).clamp_(0, len(_SHIFT) - 1).int()
    shift, expected = _SHIFT[where], _around(_SHARE[where])
    observed = _around(torch.from_numpy(clipped.astype(np.float32)).permute(2, 0, 1)[None])
    # Counts vary, so four fifths of what is expected are enough; squared, as half the evidence is not half a proof.
    trust = (1.25 * observed / expected.clamp(min=1e-3)).clamp(max=1).square()
    trust = interpolate(trust, size=values.shape[2:], mode="bilinear")
    corrected = values + trust * shift * level
    return corrected[0].permute(1, 2, 0).numpy()


def _around(values: torch.Tensor) -> torch.Tensor:
    """The mean of each cell and those around it."""
    cells = avg_pool2d(values, CELL, ceil_mode=True, count_include_pad=False)
    return avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
