"""The techniques by name, and the one way to call them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..analysis.noise_level import estimate_sigma
from ..images.picture import ImageLike, read
from .classical import (
    bilateral_filter,
    gaussian_filter,
    median_filter,
    nonlocal_means,
    total_variation,
    wavelet_shrinkage,
    wiener_filter,
)

SMALLEST = 8
"""Shorter side of the smallest picture that the windows and wavelets fit, pixels."""


@dataclass(frozen=True)
class Technique:
    """A method.

    Attributes:
        name: How it is called for.
        label: What a person reads.
        family: "spatial", "variational", "transform" or "non-local".
        apply: Pixels (H, W, C) and the noise level on their [0, 1] scale -> the same shape.
    """

    name: str
    label: str
    family: str
    apply: Callable[[np.ndarray, float], np.ndarray]


TECHNIQUES: dict[str, Technique] = {
    technique.name: technique
    for technique in (
        Technique("gaussian", "Gaussian filter", "spatial", gaussian_filter),
        Technique("median", "Median filter", "spatial", median_filter),
        Technique("wiener", "Wiener filter", "spatial", wiener_filter),
        Technique("bilateral", "Bilateral filter", "spatial", bilateral_filter),
        Technique("tv", "Total variation", "variational", total_variation),
        Technique("wavelet", "Wavelet shrinkage", "transform", wavelet_shrinkage),
        Technique("nlm", "Non-local means", "non-local", nonlocal_means),
    )
}


def apply_technique(image: ImageLike, name: str, sigma: float | None = None) -> Any:
    """Denoise a picture with a classical method.

    Args:
        image: Whatever :class:`denoiser.Denoiser` takes, but for batches.
        name: One of ``TECHNIQUES``.
        sigma: Standard deviation of the noise in 8-bit units (0..255); None estimates it.

    Returns:
        The same kind (a PIL image for a path), size, depth and channel count.

    Raises:
        ValueError: There is no such technique, ``sigma`` is out of range, or the picture is too small.
        ImageUnreadable, ImageTooLarge: The message says what is wrong with the picture.
    """
    if name not in TECHNIQUES:
        raise ValueError(f"unknown technique {name!r}; there are: {', '.join(TECHNIQUES)}")
    if sigma is not None and not 0 <= sigma <= 255:
        raise ValueError(f"sigma must be from 0 to 255 (8-bit units) or None to estimate it, got {sigma:g}")
    picture = read(image)
    if min(picture.pixels.shape[:2]) < SMALLEST:
        raise ValueError(f"techniques need pictures of at least {SMALLEST} pixels a side; use a checkpoint")
    level = (estimate_sigma(picture) if sigma is None else sigma) / 255
    return picture.restore(TECHNIQUES[name].apply(picture.pixels, level) if level else picture.pixels)
