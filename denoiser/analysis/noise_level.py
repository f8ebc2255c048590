"""Blind estimation of the noise level: the standard deviation of white noise, from the noisy picture alone."""

import numpy as np
import pywt
from scipy.special import ndtri

from ..images.picture import ImageLike, Picture, read
from .clipping import clipped_share, remaining_deviation

MAX_CLIPPED = 0.01
"""Share of clipped values around a pixel up to which its noise counts as unclipped."""
MIN_GRAPHICS = 0.6
"""Share of clipped values above which an area counts as clean print: noise leaves at least half unclipped."""
PATCH = 8
MAX_PATCHES, MIN_PATCHES = 15_000, 2_000
MAX_COLORS = 250_000
BLOCK = 8
"""Side of the blocks of wavelet coefficients of which the quietest are taken."""
MIN_WHITE = 0.9
"""Level from which on white noise is more than rounding to 8 bits can be."""
QUIET, QUIET_SHARE = 0.02, 0.75
"""The quietest blocks are at this quantile of their medians; white noise on photographs then has this share of its
level (0.73 without any texture)."""

TO_SIGMA = 255 / float(ndtri(0.75))
"""Standard deviation of Gaussian noise in 8-bit units, relative to its median absolute value."""

SAMPLES, SAMPLE_SIDE = 4, 384
"""Parts across and down that a large picture is measured by, and their side, pixels."""
CONSTANT_BLOCK = 4
MIN_BLOCKS = 64
"""Blocks that a picture must have to be called a graphic."""


def estimate_sigma(picture: ImageLike | Picture) -> float:
    """Estimate the standard deviation of white noise in a picture.

    Two estimators with different failures are combined. Color patches of 8x8 pixels are redundant: in many directions
    of their 192 dimensions there is only noise, and the smallest eigenvalues of the covariance are its variance (Chen,
    Zhu and Heng, "An Efficient Statistical Method for Image Noise Level Estimation", ICCV 2015). That is accurate to a
    few percent on the most detailed photograph, but misses noise that JPEG, scaling or a camera has smoothed. The
    finest diagonal wavelet coefficients (Donoho and Johnstone, "Ideal Spatial Adaptation by Wavelet Shrinkage",
    Biometrika 1994) measure such noise, but count fine texture as noise, so only the quietest parts of the picture are
    taken. The first estimate is used unless these parts are much noisier and the noise of the colors is not white.
    Half the brightness gives half the estimate.

    A gray picture stored as three equal planes is treated as gray, and so is a toned one; a constant plane is ignored.
    Areas with clipped noise are excluded; if nothing else remains, the clipping is corrected for.

    Args:
        picture: Whatever :func:`denoiser.images.picture.read` takes; alpha is ignored.

    Returns:
        Sigma in 8-bit units; 0 for pictures under 4 pixels on a side, which are too small, and for graphics, in which
        there is none (:func:`is_graphic`).
    """
    pixels = (picture if isinstance(picture, Picture) else read(picture)).pixels
    if min(pixels.shape[:2]) < 4 or is_graphic(pixels):
        return 0.0
    pixels = sample_parts(pixels)
    if np.ptp(pixels, axis=2).max() < 1.5 / 255:  # gray, up to the rounding of JPEG or weak noise
        gray = pixels.mean(axis=2, keepdims=True)
        differences = pixels - gray
        # Their deviation is the part of the planes' noise that the mean has lost.
        return float(np.hypot(_from_wavelets(gray), 255 * differences.std(axis=(0, 1)).mean()))
    level = _from_wavelets(pixels)
    directions = _color_directions(pixels)
    # One direction means a gray picture; its patches are not redundant enough.
    smallest = _from_patches(pixels, directions) if directions.shape[1] > 1 else None
    if smallest is None:
        return level
    # Where the color with the least texture holds white noise beyond that of rounding, all else is texture. Where it
    # holds none, the brightness may have what JPEG or a camera has left of noise.
    diagonal = pywt.dwt2(pixels @ directions[:, 0], "db2")[1][2]
    white = smallest > MIN_WHITE and float(np.median(np.abs(diagonal))) * TO_SIGMA < 1.25 * smallest
    return smallest if white or smallest > 0.6 * level else level


def sample_parts(pixels: np.ndarray) -> np.ndarray:
    """A large picture as a mosaic of evenly spaced parts: noise is the same everywhere, and time is not."""
    height, width = pixels.shape[:2]
    if height * width <= 2 * (SAMPLES * SAMPLE_SIDE) ** 2 or min(height, width) < SAMPLES * SAMPLE_SIDE:
        return pixels
    tops, lefts = (np.linspace(0, side - SAMPLE_SIDE, SAMPLES).astype(int) for side in (height, width))
    rows = [
        np.concatenate([pixels[top : top + SAMPLE_SIDE, left : left + SAMPLE_SIDE] for left in lefts], axis=1)
        for top in tops
    ]
    return np.concatenate(rows)


def is_graphic(pixels: np.ndarray) -> bool:
    """Whether a picture is drawn, not taken: text, line art, a screenshot. Edges there look like noise to estimators.

    Noise leaves no 4 x 4 block constant; only saturated areas of a photograph are constant all the same, and those are
    black or white. So a picture is a graphic if most of its blocks are constant and neither black nor white, or if some
    are constant and next to none lie between black and white.

    Args:
        pixels: Float (H, W, C) in [0, 1].
    """
    rows, columns = (side // CONSTANT_BLOCK for side in pixels.shape[:2])
    if rows * columns < MIN_BLOCKS:
        return False
    cut = pixels[: rows * CONSTANT_BLOCK, : columns * CONSTANT_BLOCK]
    blocks = cut.reshape(rows, CONSTANT_BLOCK, columns, CONSTANT_BLOCK, -1)
    low, high = blocks.min((1, 3)), blocks.max((1, 3))
    constant = (low == high).all(-1)
    between = ((low > 0.5 / 255) & (high < 1 - 0.5 / 255)).all(-1)
    return bool((constant & between).mean() > 0.4 or (constant.mean() > 0.05 and between.mean() < 0.05))


def _color_directions(pixels: np.ndarray) -> np.ndarray:
    """Principal directions (C, directions) of the colors with a deviation above one level: only they hold noise."""
    every = max(1, int((pixels.shape[0] * pixels.shape[1] / MAX_COLORS) ** 0.5))
    flat = pixels[::every, ::every].reshape(-1, pixels.shape[2])
    spread, directions = np.linalg.eigh(np.atleast_2d(np.cov(flat, rowvar=False)))
    return directions[:, spread > 1 / 255**2].astype(pixels.dtype)


def _from_wavelets(pixels: np.ndarray) -> float:
    """Sigma from the median of the finest diagonal coefficients of the quietest blocks; of all where they agree."""
    _, (_, _, diagonal) = pywt.dwt2(pixels, "db2", axes=(0, 1))
    levels, blocks = [], []
    for index, plane in enumerate(np.moveaxis(np.abs(diagonal), -1, 0)):
        # Exact zeros are areas without noise: flat graphics, clipped sky. So are areas of print, mostly black or white.
        share = clipped_share(pixels[..., index], plane.shape)
        valid = (plane > 1e-6) & (share < MIN_GRAPHICS)
        unclipped = valid & (share < MAX_CLIPPED)
        enough = unclipped.sum() > 0.1 * valid.sum()
        coefficients = plane[unclipped] if enough else plane[valid] / remaining_deviation(share[valid])
        if coefficients.size:  # a constant plane has none
            levels.append(float(np.median(coefficients)) * TO_SIGMA)
        rows, columns = (side // BLOCK * BLOCK for side in plane.shape)
        cut = np.where(share < MAX_CLIPPED, plane, np.nan)[:rows, :columns]
        cut = cut.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK * BLOCK)
        medians = np.median(cut, axis=1)
        blocks.append(medians[medians > 1e-6] * TO_SIGMA)  # False for NaN, the median of an excluded block
    overall, medians = sum(levels) / max(1, len(levels)), np.concatenate(blocks)
    quiet = float(np.quantile(medians, QUIET)) / QUIET_SHARE if medians.size else overall
    return overall if overall < 1.1 * quiet else quiet


def _from_patches(pixels: np.ndarray, directions: np.ndarray) -> float | None:
    """Sigma from the smallest eigenvalues of patches along color ``directions``; None if too few are unclipped."""
    height, width = (side - PATCH + 1 for side in pixels.shape[:2])
    if min(height, width) < 1:
        return None
    step = max(1, int((height * width / (16 * MAX_PATCHES)) ** 0.5))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH), axis=(0, 1))[::step, ::step]
    shares = [clipped_share(plane, windows.shape[:2]) for plane in np.moveaxis(pixels, -1, 0)]
    rows, columns = np.nonzero(np.max(shares, axis=0) < MAX_CLIPPED)
    if rows.size < MIN_PATCHES:
        return None
    every = -(-rows.size // MAX_PATCHES)
    patches = windows[rows[::every], columns[::every]]
    if directions.shape[1] < pixels.shape[2]:
        patches = np.einsum("ncyx,cd->ndyx", patches, directions)
    patches = patches.reshape(len(patches), -1)
    patches = patches - patches.mean(0)
    values = np.linalg.eigvalsh((patches.T @ patches / len(patches)).astype(np.float64)).clip(min=0)
    # The largest set of smallest eigenvalues whose mean does not exceed its median is noise only.
    mean = 0.0
    for count in range(len(values), 0, -1):
        mean = values[:count].mean()
        if np.sum(values[:count] > mean) >= np.sum(values[:count] < mean):
            break
    return 255 * float(mean) ** 0.5
