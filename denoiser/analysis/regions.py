"""Flat areas, edges and texture of a clean picture, by one rule, so that errors can be told apart by where they are."""

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.feature import structure_tensor, structure_tensor_eigenvalues

SCALE = 2
"""Deviation of the Gaussian window over which gradients are gathered, pixels."""
MIN_GRADIENT = 4 / 255
"""Root mean square gradient of brightness below which an area is flat, per pixel."""
MIN_COHERENCE = 0.6
"""Share of one direction, (l1 - l2) / (l1 + l2), from which on it is an edge: a line or step has 1, noise-like texture
near 0."""
REGIONS = ("flat", "edge", "texture")


def regions(clean: np.ndarray) -> np.ndarray:
    """What each pixel belongs to, from the structure tensor of the brightness.

    The eigenvalues l1 >= l2 of the tensor are the mean squared gradient along and across the main direction around a
    pixel. Flat: (l1 + l2)^0.5 is less than 4 levels a pixel. Of the rest, edge: most of the gradient has one direction,
    (l1 - l2) / (l1 + l2) at least 0.6; texture: it has several.

    Source: Bigun and Granlund, "Optimal Orientation Detection of Linear Symmetry", ICCV 1987.

    Args:
        clean: Float (H, W, C) in [0, 1].

    Returns:
        Indices into ``REGIONS``, uint8 (H, W).
    """
    brightness = gaussian_filter(clean.astype(np.float64).mean(2), 0.5)  # single values of 8 bits are no gradient
    tensor = structure_tensor(brightness, sigma=SCALE, mode="nearest")
    large, small = structure_tensor_eigenvalues(tensor) / 8**2  # the sum of Sobel's weights on either side, squared
    total = large + small
    edge = large - small >= MIN_COHERENCE * total
    return np.where(total**0.5 < MIN_GRADIENT, 0, np.where(edge, 1, 2)).astype(np.uint8)
