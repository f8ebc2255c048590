"""The techniques by name, and the one way to call them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..analysis.measured_parts import hidden_pixels
from ..analysis.noise_level import estimate_sigma
from ..images.alpha import fill_hidden
from ..images.picture import ImageLike, read
from . import classical
from .technique import Parameter, Technique

SMALLEST = 8
"""Shorter side of the smallest picture that the windows and wavelets fit, pixels."""


def _side(high: float, base: float, slope: float = 0.0) -> Parameter:
    return Parameter("side", "Window", "pixels", 3, high, 2, base, slope)


def _relative(name: str, label: str, low: float, high: float, base: float, slope: float = 0.0) -> Parameter:
    return Parameter(name, label, "times sigma", low, high, 0, base, slope)


TECHNIQUES: dict[str, Technique] = {
    technique.name: technique
    for technique in (
        Technique(
            "gaussian",
            "Gaussian filter",
            "spatial",
            classical.gaussian_filter,
            (Parameter("width", "Width", "pixels", 0.1, 4, 0, 0.264, 0.0238),),
            "two short one-dimensional sums",
            'Gonzalez and Woods, "Digital Image Processing", 3.5',
        ),
        Technique(
            "median",
            "Median filter",
            "spatial",
            classical.median_filter,
            (_side(9, 2, 0.0667),),
            "sorting a window",
            'Tukey, "Exploratory Data Analysis", 1977',
        ),
        Technique(
            "wiener",
            "Wiener filter",
            "spatial",
            classical.wiener_filter,
            (_side(11, 4.57, 0.0857), _relative("noise", "Assumed noise", 0.5, 2, 1.07)),
            "mean and variance of a window, as running sums",
            'Lee, "Digital Image Enhancement and Noise Filtering by Use of Local Statistics", PAMI 1980',
        ),
        Technique(
            "bilateral",
            "Bilateral filter",
            "spatial",
            classical.bilateral_filter,
            (
                _relative("color", "Tolerance", 0.5, 6, 1.15, 0.0171),
                Parameter("space", "Reach", "pixels", 0.5, 4, 0, 2.74),
            ),
            "a weight for each of 4 to 196 neighbors",
            'Tomasi and Manduchi, "Bilateral Filtering for Gray and Color Images", ICCV 1998',
        ),
        Technique(
            "tv",
            "Total variation",
            "variational",
            classical.total_variation,
            (_relative("weight", "Weight of the gradient", 0.1, 3, 0.623, 0.00331),),
            "up to 200 iterations over the picture",
            "Rudin, Osher and Fatemi, Physica D 1992; solved as in Chambolle, JMIV 2004",
        ),
        Technique(
            "wavelet",
            "Wavelets, BayesShrink",
            "transform",
            classical.bayes_shrinkage,
            (_relative("noise", "Assumed noise", 0.5, 2, 1),),
            "a wavelet transform and back, a few operations",
            'Chang, Yu and Vetterli, "Adaptive Wavelet Thresholding for Image Denoising and Compression", TIP 2000',
        ),
        Technique(
            "visushrink",
            "Wavelets, VisuShrink",
            "transform",
            classical.visu_shrinkage,
            (_relative("threshold", "Share of the universal threshold", 0.1, 1.2, 0.168, 0.00589),),
            "a wavelet transform and back, a few operations",
            'Donoho and Johnstone, "Ideal Spatial Adaptation by Wavelet Shrinkage", Biometrika 1994',
        ),
        Technique(
            "pca",
            "Patch PCA",
            "transform",
            classical.patch_pca,
            (_relative("threshold", "Threshold", 1, 5, 2.79), _side(9, 7)),
            "two products with a matrix as large as a patch squared",
            'Deledalle, Salmon and Dalalyan, "Image Denoising with Patch Based PCA: Local versus Global", BMVC 2011',
        ),
        Technique(
            "nlm",
            "Non-local means",
            "non-local",
            classical.nonlocal_means,
            (
                _relative("decay", "Tolerance of differences", 0.1, 2, 0.91, -0.0053),
                _side(9, 2.857, 0.0286),
                Parameter("reach", "Reach", "pixels", 3, 12, 1, 7),
            ),
            "a comparison of patches for each of 49 to 625 neighbors",
            'Buades, Coll and Morel, "A Non-Local Algorithm for Image Denoising", CVPR 2005',
        ),
        Technique(
            "bm3d",
            "BM3D (non-commercial)",
            "non-local",
            classical.bm3d,
            (_relative("noise", "Assumed noise", 0.5, 2, 1),),
            "a search for similar patches and two transforms of stacks, twice",
            "Dabov, Foi, Katkovnik and Egiazarian, TIP 2007; Makinen, Azzari and Foi, TIP 2020",
            package="bm3d",
        ),
    )
}


def apply_technique(
    image: ImageLike,
    name: str,
    sigma: float | None = None,
    progress: Callable[[float], object] | None = None,
    **parameters: float,
) -> Any:
    """Denoise a picture with a classical method.

    Args:
        image: Whatever :class:`denoiser.Denoiser` takes, but for batches.
        name: One of ``TECHNIQUES``.
        sigma: Standard deviation of the noise in 8-bit units (0..255); None estimates it.
        progress: Called with the share done, in (0, 1]; an exception it raises stops the computation.
        parameters: Of the technique, those that are not to follow their rules: ``TECHNIQUES[name].parameters``.

    Returns:
        The same kind (a PIL image for a path), size, depth and channel count.

    Raises:
        ValueError: There is no such technique or parameter, a value is out of range, or the picture is too small.
        DenoiserError: The technique needs a package that is missing; the message says which.
        ImageUnreadable, ImageTooLarge: The message says what is wrong with the picture.
    """
    if name not in TECHNIQUES:
        raise ValueError(f"unknown technique {name!r}; there are: {', '.join(TECHNIQUES)}")
    if sigma is not None:
        try:
            sigma = float(sigma)
        except (TypeError, ValueError):
            raise ValueError(f"techniques take one noise level or None, not {type(sigma).__name__}") from None
    if sigma is not None and not 0 <= sigma <= 255:
        raise ValueError(f"sigma must be from 0 to 255 (8-bit units) or None to estimate it, got {sigma:g}")
    picture = read(image)
    if min(picture.pixels.shape[:2]) < SMALLEST:
        raise ValueError(f"techniques need pictures of at least {SMALLEST} pixels a side; use a checkpoint")
    level = estimate_sigma(picture) if sigma is None else sigma
    hidden = hidden_pixels(picture)
    if not level or (hidden is not None and hidden.all()):
        return picture.restore(picture.pixels)
    pixels = picture.pixels if hidden is None else fill_hidden(picture.pixels, hidden)
    result = TECHNIQUES[name].denoise(pixels, level, progress, **parameters)
    if hidden is not None:  # what nobody sees, and highlights, stay as they are
        result = np.where(hidden[..., None], picture.pixels, result)
    return picture.restore(result)
