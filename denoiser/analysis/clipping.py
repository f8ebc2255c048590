"""Correction of the bias that clipping gives to noise.

A file holds no values below black or above white. Noise there is clipped on one side, so its mean is no longer zero: at
sigma 25 black is 10 levels too bright on average and white 10 too dark, and a denoiser trained on unclipped noise, as
in the literature, returns these means. They are known functions of the true value, so they can be inverted.

Source: Foi, "Clipped Noisy Images: Heteroskedastic Modeling and Practical Denoising", Signal Processing 2009,
https://doi.org/10.1016/j.sigpro.2009.04.035
"""

import numpy as np
import torch
from scipy.special import ndtr, ndtri  # scipy.stats, which has them as well, takes a second to import
from torch.nn.functional import avg_pool2d, interpolate, pad

from ..images.tiling import tiles

CELL = 8
"""Statistics are taken over cells of this side, each with its eight neighbors."""
TILE = 512
MARGIN = 4 * CELL
MIN_LEVEL = 1e-6
ROWS = 512
"""Rows that are looked at for values near zero."""
COUNT = 0.45
"""Least distance of the first count from zero, in standard deviations: of more than five on the mean few are zero."""

# Mean and variance of clipped noise of deviation 1 around a true value ``_DISTANCE`` above the end of the range.
_DISTANCE = np.linspace(0, 4, 2001)  # beyond 4 nothing is clipped
_DENSITY = np.exp(-(_DISTANCE**2) / 2) / np.sqrt(2 * np.pi)
_MEAN = _DISTANCE * ndtr(_DISTANCE) + _DENSITY
_VARIANCE = (_DISTANCE**2 + 1) * ndtr(_DISTANCE) + _DISTANCE * _DENSITY - _MEAN**2
# The same as functions of the mean, which is what a denoiser returns: the offset of the true value (zero for means
# below the smallest possible one), the share of clipped values, the remaining variance.
_BINS = 1000  # per standard deviation
_REACH = 1500  # bins; farther from the end too few values are clipped for an estimate
_GRID = np.arange(4 * _BINS + 1) / _BINS
_TRUE = np.interp(_GRID, _MEAN, _DISTANCE, left=0)


def _table(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))  # on the CPU, also if torch's default device is another


_SHIFT = _table(np.append(_TRUE[:-1] - _GRID[:-1], 0))
_SHARE = _table(np.append(ndtr(-_TRUE[:-1]), 0))
_SPREAD = _table(np.where(np.arange(len(_GRID)) < _REACH, np.interp(_TRUE, _DISTANCE, _VARIANCE), 0))


def are_counts(noisy: np.ndarray, level: float, step: float) -> bool:
    """Whether zeros of a picture are counts, as of photons, and no noise that was cut off: that lies near them, too.

    Args:
        noisy: The picture (H, W, C) in [0, 1].
        level: Standard deviation of its noise, on the same scale.
        step: Between the values that its file can hold.
    """
    some = noisy[:: max(1, len(noisy) // ROWS)]
    least = float(np.min(some, where=some > 0, initial=1))
    return bool((some == 0).any()) and least > max(COUNT * level, 1.5 * step)


def undo_clipping(restored: np.ndarray, noisy: np.ndarray, level: float | np.ndarray) -> np.ndarray:
    """Correct a denoised picture for noise that was clipped with the picture.

    The correction is weighted by the evidence around a pixel: the share of values exactly at the end of the range and
    the remaining variance, relative to those of clipped noise of this level. A picture with values outside [0, 1] was
    not clipped and stays the same; so do clean black, white paper, and noise weaker than ``level``.

    Args:
        restored: The denoiser's output for ``noisy``, float32 (H, W, C).
        noisy: The noisy picture in [0, 1], same shape.
        level: Standard deviation of the noise, on the scale of the pictures: a number or (H, W).

    Returns:
        The corrected picture; ``restored`` itself if nothing was clipped.
    """
    black, white = bool(noisy.min() == 0), bool(noisy.max() == 1)
    if np.max(level) < MIN_LEVEL or not (black or white):
        return restored
    reach = float(np.max(level)) * _REACH / _BINS  # farther from the end there is no evidence
    corrected = np.empty_like(restored)
    height, width = restored.shape[:2]
    for outer, inner, target in tiles(height, width, TILE, MARGIN, CELL):  # bounds the memory
        part, estimate = noisy[outer], restored[outer]
        ends = (
            black and bool(estimate.min() < reach and (part == 0).any()),
            white and bool(estimate.max() > 1 - reach and (part == 1).any()),
        )
        if not any(ends):  # its correction is 0
            corrected[target] = restored[target]
            continue
        values, observed = (_tensor(picture[outer]) for picture in (restored, noisy))
        if isinstance(level, np.ndarray) and level.ndim:
            spread = torch.from_numpy(np.maximum(level[outer], MIN_LEVEL))[..., None]
        else:
            spread = float(level)
        if ends[0]:
            values = _undo_black(values, observed, spread)
        if ends[1]:
            values = 1 - _undo_black(1 - values, 1 - observed, spread)
        corrected[target] = values.numpy()[inner]
    return corrected


def _undo_black(values: torch.Tensor, observed: torch.Tensor, level: float | torch.Tensor) -> torch.Tensor:
    """Denoised ``values`` (H, W, C) corrected for clipping at 0 of the ``observed`` noisy ones."""
    last = len(_SHIFT) - 1
    where = (values * (_BINS / level)).nan_to_num_(nan=last).clamp_(0, last).int()
    some = where[::2, ::2]  # denoised values vary little: a quarter of them tells what to expect of a cell

    def at(table: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return table.index_select(0, where.flatten()).view(where.shape)  # three times as fast as table[where]

    # Four fifths of the expected share are full evidence, as counts vary; squared, so that weak evidence counts less.
    share = _local_mean(at(_SHARE, some), CELL // 2).clamp(min=1e-3)
    clipped = 1.25 * _local_mean((observed == 0).float()) / share
    level_of_some = level[::2, ::2] if isinstance(level, torch.Tensor) else level
    variance = _local_mean(at(_SPREAD, some).mul_(level_of_some**2), CELL // 2).clamp(min=1e-12)
    noise = (observed - values).square_().masked_fill_(where >= _REACH, 0)
    spread = 1.25 * _local_mean(noise) / variance
    weight = clipped.clamp(max=1).square() * spread.nan_to_num(nan=0).clamp(max=1).square()
    # By the side of a cell, not to the picture's size, which is no multiple of it: so tiles agree with the whole.
    planes = weight.permute(2, 0, 1)[None]  # channels_last
    weight = interpolate(planes, scale_factor=CELL, mode="bilinear")[0].permute(1, 2, 0)
    return weight[: values.shape[0], : values.shape[1]].mul(at(_SHIFT, where)).mul_(level).add_(values)


def clipped_share(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The share of values exactly 0 or 1 around each pixel of a plane (H, W) in [0, 1], scaled to another size."""
    clipped = (plane == 0) | (plane == 1)
    if not clipped.any():
        return np.zeros(shape, np.float32)
    share = _local_mean(_tensor(clipped.astype(np.float32)[..., None])).permute(2, 0, 1)
    return interpolate(share[None], size=shape, mode="nearest")[0, 0].numpy()


def remaining_deviation(share: np.ndarray) -> np.ndarray:
    """The standard deviation of noise of which ``share`` (at most 0.5) is clipped, relative to unclipped noise."""
    distance = -ndtri(np.clip(share, 1e-4, 0.5))
    return np.interp(distance, _DISTANCE, _VARIANCE**0.5)


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture))


def _local_mean(values: torch.Tensor, cell: int = CELL) -> torch.Tensor:
    """The mean of (H, W, C) over each cell and its eight neighbors."""
    height, width, channels = values.shape
    rows, columns = -(-height // cell), -(-width // cell)
    missing = (0, 0, 0, columns * cell - width, 0, rows * cell - height)
    whole = pad(values, missing) if any(missing) else values
    # Rows first, as they lie in memory: several times as fast as avg_pool2d.
    sums = whole.view(rows, cell, -1).sum(1).view(rows, columns, cell, channels).sum(2)
    counts = _sizes(height, cell)[:, None] * _sizes(width, cell)
    planes = (sums / counts[..., None]).permute(2, 0, 1)[None]
    return avg_pool2d(planes, 3, stride=1, padding=1, count_include_pad=False)[0].permute(1, 2, 0)


def _sizes(length: int, cell: int) -> torch.Tensor:
    """The sizes of the cells along a side; the last one may be cut."""
    return (length - torch.arange(0, length, cell, device="cpu")).clamp(max=cell)
