"""How noisy is a picture? The level of its white noise, from the picture alone."""

import numpy as np
import pywt
from scipy.special import ndtri

from .clipping import clipped_share, noise_left

CLEAN = 0.01
"""Share of clipped values around a pixel below which its noise counts as whole."""
NEVER_NOISY = 0.6
PATCH = 8
MOST_PATCHES, LEAST_PATCHES = 15_000, 2_000
MOST_COLORS = 250_000
BLOCK = 16
"""Side of the blocks of wavelet coefficients among which the quietest are looked for."""

TO_SIGMA = 255 / float(ndtri(0.75))
"""From the median absolute value of Gaussian noise to its standard deviation in 8-bit units."""


def estimate_sigma(pixels: np.ndarray) -> float:
    """Estimate the standard deviation of white noise in a picture.

    Two estimators that fail differently. Color patches of 8x8 pixels are so redundant that the picture leaves many
    directions of their 192 dimensions to the noise alone, whose variance is then the floor of the covariance's
    eigenvalues (Chen, Zhu and Heng, "An Efficient Statistical Method for Image Noise Level Estimation", ICCV 2015):
    within a few percent on the most detailed photograph, but blind to noise that JPEG, scaling or a camera has
    smoothed. The finest diagonal wavelet coefficients (Donoho and Johnstone, "Ideal Spatial Adaptation by Wavelet
    Shrinkage", Biometrika 1994) still see that, but take fine texture for noise: a few levels too much on detailed
    photographs, tens on text. The first is believed unless the picture's quiet parts are much noisier than it says.

    A gray picture kept as three equal planes counts as gray, and so does a toned one; of one with an even plane the
    other two are looked at. Where the file's range has cut noise off the picture is left out; if nothing else remains,
    that is allowed for.

    Args:
        pixels: Float (H, W, C) in [0, 1].

    Returns:
        Sigma in 8-bit units; 0 for pictures under 4 pixels on a side, which are too small to tell.
    """
    if min(pixels.shape[:2]) < 4:
        return 0.0
    if np.ptp(pixels, axis=2).max() < 1.5 / 255:  # gray, but for what a JPEG rounds
        pixels = pixels.mean(axis=2, keepdims=True)
    level, quiet = _from_wavelets(pixels)
    colors = _colors(pixels)
    # A single direction is a gray picture's, whose patches are not redundant enough.
    floor = _from_patches(pixels, colors) if colors.shape[1] > 1 else None
    if floor is not None and (floor > 0.6 * quiet or floor < 0.3):
        return floor
    return level if quiet > 2 else quiet  # where even the quiet parts have next to nothing, the rest is texture


def _colors(pixels: np.ndarray) -> np.ndarray:
    """Directions in which the pixels' colors spread by more than a level, (C, directions): noise is in no other."""
    every = max(1, int((pixels.shape[0] * pixels.shape[1] / MOST_COLORS) ** 0.5))
    flat = pixels[::every, ::every].reshape(-1, pixels.shape[2])
    spread, directions = np.linalg.eigh(np.atleast_2d(np.cov(flat, rowvar=False)))
    return directions[:, spread > 1 / 255**2].astype(pixels.dtype)


def _from_wavelets(pixels: np.ndarray) -> tuple[float, float]:
    """The median absolute deviation of the finest diagonal coefficients: everywhere, and where it is quiet."""
    _, (_, _, diagonal) = pywt.dwt2(pixels, "db2", axes=(0, 1))
    levels, blocks = [], []
    for index, plane in enumerate(np.moveaxis(np.abs(diagonal), -1, 0)):
        # Exact zeros are areas that never had noise: flat graphics, clipped sky. Nor had print, for the most part black
        # or white: noise would have left half the values elsewhere.
        share = clipped_share(pixels[..., index], plane.shape)
        alive = (plane > 1e-6) & (share < NEVER_NOISY)
        whole = alive & (share < CLEAN)
        enough = whole.sum() > 0.1 * alive.sum()
        coefficients = plane[whole] if enough else plane[alive] / noise_left(share[alive])
        if coefficients.size:  # an empty plane says nothing of the others' noise
            levels.append(float(np.median(coefficients)) * TO_SIGMA)
        rows, columns = (side // BLOCK * BLOCK for side in plane.shape)
        cut = np.where(share < CLEAN, plane, np.nan)[:rows, :columns]
        cut = cut.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK * BLOCK)
        medians = np.median(cut, axis=1)
        blocks.append(medians[medians > 1e-6] * TO_SIGMA)  # a median of nothing, NaN, is not either
    level, blocks = sum(levels) / max(1, len(levels)), np.concatenate(blocks)
    return level, float(np.quantile(blocks, 0.2)) if blocks.size else level


def _from_patches(pixels: np.ndarray, colors: np.ndarray) -> float | None:
    """The floor of the patches' eigenvalues along ``colors``; None where too few patches keep their noise whole."""
    height, width = (side - PATCH + 1 for side in pixels.shape[:2])
    if min(height, width) < 1:
        return None
    step = max(1, int((height * width / (16 * MOST_PATCHES)) ** 0.5))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH), axis=(0, 1))[::step, ::step]
    shares = [clipped_share(plane, windows.shape[:2]) for plane in np.moveaxis(pixels, -1, 0)]
    rows, columns = np.nonzero(np.max(shares, axis=0) < CLEAN)
    if rows.size < LEAST_PATCHES:
        return None
    every = -(-rows.size // MOST_PATCHES)
    patches = windows[rows[::every], columns[::every]]
    if colors.shape[1] < pixels.shape[2]:
        patches = np.einsum("ncyx,cd->ndyx", patches, colors)
    patches = patches.reshape(len(patches), -1)
    patches = patches - patches.mean(0)
    values = np.linalg.eigvalsh((patches.T @ patches / len(patches)).astype(np.float64)).clip(min=0)
    # The largest set of the smallest eigenvalues whose mean is no more than its median is noise alone.
    for count in range(len(values), 0, -1):
        mean = values[:count].mean()
        if np.sum(values[:count] > mean) >= np.sum(values[:count] < mean):
            break
    return 255 * float(mean**0.5)
