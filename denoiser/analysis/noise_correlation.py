"""Whether neighboring pixels share their noise, from the noisy picture alone."""

import numpy as np
from scipy.ndimage import uniform_filter

BLOCK = 16
"""Side of the blocks of which the quietest are measured, pixels."""
QUIET = 0.1
"""Share of the blocks, those with the least variance: there noise outweighs texture."""
SHARED = 0.15
"""Correlation from which on neighbors count as sharing their noise."""
TREND = 5
"""Side of the square over which the picture's own trend is taken, pixels."""
# White noise less its mean over TREND x TREND pixels: lag-1 covariance over variance, in units of 1 / TREND^2.
_BIAS = (-2 + (TREND - 1) / TREND) / (TREND**2 - 1)


def neighbor_correlation(pixels: np.ndarray) -> float:
    """The correlation of the noise of pixels that share a side, in the quietest blocks of a picture.

    About 0 for white noise, more where neighbors share it: grain, demosaicing, scaling, JPEG, a camera's own denoising.

    Args:
        pixels: Float (H, W, C).

    Returns:
        -1..1, the mean over rows and columns; 0 for a picture without 16 blocks, or without noise.
    """
    rows, columns = (side // BLOCK for side in pixels.shape[:2])
    if rows * columns < 16:
        return 0.0
    products = []
    for plane in np.moveaxis(pixels[: rows * BLOCK, : columns * BLOCK].astype(np.float64), -1, 0):
        plane = plane - uniform_filter(plane, TREND)
        for shifted in (np.roll(plane, -1, 0), np.roll(plane, -1, 1)):
            cells = np.stack([plane**2, plane * shifted]).reshape(2, rows, BLOCK, columns, BLOCK)
            variance, covariance = cells.mean((2, 4)).reshape(2, -1)
            usable = variance > 1e-10  # constant areas have no noise
            if usable.any():
                quiet = usable & (variance <= np.quantile(variance[usable], QUIET))
                products.append(covariance[quiet].sum() / variance[quiet].sum())
    return float(np.clip(np.mean(products) - _BIAS, -1, 1)) if products else 0.0
