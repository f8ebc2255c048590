"""Whether neighboring pixels share their noise, from the noisy picture alone.

Texture is shared by neighbors, too. It is mostly of brightness, so that noise is measured in the direction of color
that has the least of it; a gray picture's correlation counts only if its finest cosine coefficients are as much weaker
than the less fine ones as those of shared noise are.
"""

import numpy as np
from scipy.ndimage import uniform_filter

from .noise_level import FINE, FINEST, color_directions, cosines, frequencies, windows

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

QUIET_PATCHES, MIN_PATCHES = 0.05, 200
"""Share of the patches of 8 x 8 pixels, those with the least texture, and their least number."""
FALL = 0.45
"""How much less energy than the less fine ones the finest coefficients have, at least, where neighbors share noise. In
crops of 64 to 256 pixels of photographs, noise that correlates by 0.2 to 0.3 has 0.45 to 0.75."""
MIN_COLOR = 0.25
"""Level of the noise of color relative to that of brightness, texture included, from which on it speaks for both."""
ROUNDING = 0.6
"""Level below which the finest coefficients hold the rounding to 8 bits, 8-bit units: it says nothing of noise."""


def neighbor_correlation(pixels: np.ndarray) -> float:
    """The correlation of the noise of pixels that share a side, in the quietest blocks of a picture.

    About 0 for white noise, more where neighbors share it: grain, demosaicing, scaling, JPEG, a camera's own denoising.

    Args:
        pixels: Float (H, W, C).

    Returns:
        -1..1, the mean over rows and columns; 0 for a picture without 16 blocks, or without noise.
    """
    if min(pixels.shape[:2]) < BLOCK:
        return 0.0
    brightness = pixels.astype(np.float64).mean(2)
    fall, level = _finest(brightness)
    if pixels.shape[2] == 3:
        color = (pixels @ color_directions(pixels)[:, :1]).sum(2).astype(np.float64)  # of the least deviation
        if _finest(color)[1] > max(ROUNDING, MIN_COLOR * level):  # else the colors may share their noise
            return _correlation(color)
    correlation = _correlation(brightness)
    if correlation > SHARED and fall < FALL and level > ROUNDING:  # texture
        return SHARED * max(fall, 0.0) / FALL
    return correlation


def _correlation(plane: np.ndarray) -> float:
    """Of neighbors in a plane (H, W), in its quietest blocks."""
    rows, columns = (side // BLOCK for side in plane.shape)
    if rows * columns < 16:
        return 0.0
    plane = plane[: rows * BLOCK, : columns * BLOCK]
    plane, products = plane - uniform_filter(plane, TREND), []
    for shifted in (np.roll(plane, -1, 0), np.roll(plane, -1, 1)):
        cells = np.stack([plane**2, plane * shifted]).reshape(2, rows, BLOCK, columns, BLOCK)
        variance, covariance = cells.mean((2, 4)).reshape(2, -1)
        usable = variance > 1e-10  # constant areas have no noise
        if usable.any():
            quiet = usable & (variance <= np.quantile(variance[usable], QUIET))
            products.append(covariance[quiet].sum() / variance[quiet].sum())
    return float(np.clip(np.mean(products) - _BIAS, -1, 1)) if products else 0.0


def _finest(plane: np.ndarray) -> tuple[float, float]:
    """How much less energy the finest coefficients of quiet patches have than fine ones; their level, 8-bit units."""
    coefficients = cosines(windows(plane))
    sums = frequencies(coefficients)
    texture = (coefficients[:, (sums > 0) & (sums < FINE)] ** 2).sum(1)
    count = min(len(texture), max(MIN_PATCHES, int(QUIET_PATCHES * len(texture))))
    quiet = coefficients[np.argpartition(np.where(texture > 1e-9, texture, np.inf), count - 1)[:count]]
    fine, finest = (float((quiet[:, part] ** 2).mean()) for part in ((sums >= FINE) & (sums < FINEST), sums >= FINEST))
    return 1 - finest / max(fine, 1e-12), 255 * finest**0.5
