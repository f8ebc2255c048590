"""Full-reference metrics: PSNR, SSIM and edge fidelity.

All take float arrays in [0, 1], (H, W) or (H, W, C), the clean picture first. They neither clip nor round: do that
before for the figure of a file.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.ndimage import laplace
from skimage.metrics import structural_similarity

BAND = 500_000
"""Pixels of a band. Pictures are compared by bands of rows, so that what is computed on the way takes little memory."""
SSIM_RADIUS = 5
"""Half of the window of SSIM, pixels."""

Pause = Callable[[], object] | None


def psnr(clean: np.ndarray, other: np.ndarray, pause: Pause = None) -> float:
    """Peak signal-to-noise ratio in dB with peak 1 (255 in 8-bit units), over all pixels and channels.

    Any shape; infinite for equal pictures. ``pause`` is called between bands of a large picture, here and below.
    """
    error = mean_squared_error(clean, other, pause)
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def mean_squared_error(clean: np.ndarray, other: np.ndarray, pause: Pause = None) -> float:
    """The mean of the squared differences of two arrays of any shape."""
    _same_shape(clean, other)
    clean, other = np.asarray(clean), np.asarray(other)
    if clean.ndim < 2 or not clean.size:
        return float(np.mean((clean.astype(np.float64) - other) ** 2))
    total = 0.0
    for top, bottom in _bands(len(clean), clean[0].size, pause):
        total += float(np.sum((clean[top:bottom].astype(np.float64) - other[top:bottom]) ** 2))
    return total / clean.size


def ssim(clean: np.ndarray, other: np.ndarray, pause: Pause = None) -> float:
    """Structural similarity, -1..1, 1 for equal pictures: mean over pixels and channels.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", TIP 2004, with that
    paper's 11x11 Gaussian window (sigma 1.5), as scikit-image computes it. NaN for pictures under 11 pixels on a side,
    where the window does not fit.
    """
    _same_shape(clean, other)
    inner = clean.shape[0] - 2 * SSIM_RADIUS  # rows at which the window fits
    if min(clean.shape[:2]) <= 2 * SSIM_RADIUS:
        return float("nan")
    total = 0.0
    for top, bottom in _bands(inner, clean[0].size, pause):
        rows = slice(top, bottom + 2 * SSIM_RADIUS)
        similarity: Any = structural_similarity(  # a number: neither the gradient nor the full image is asked for
            clean[rows],
            other[rows],
            data_range=1.0,
            channel_axis=-1 if clean.ndim == 3 else None,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        total += float(similarity) * (bottom - top)
    return total / inner


def edge_fidelity(clean: np.ndarray, other: np.ndarray, pause: Pause = None) -> float:
    """Edge preservation index, -1..1, 1 if every edge and texture is preserved: the correlation of the Laplacians.

    The Laplacian of the luminance keeps edges and fine texture and is zero in flat areas. Both noise and smoothing
    decorrelate it, so the figure rises only if noise is removed *and* detail is kept; PSNR, dominated by flat areas,
    can rise while detail is lost. Chosen over Pratt's figure of merit, which hardly falls under noise in textured
    pictures (it does not count a false edge near a true one). NaN if either picture is flat.

    Sattar et al., "Image Enhancement Based on a Nonlinear Multiscale Method", TIP 1997,
    https://doi.org/10.1109/83.585239
    """
    _same_shape(clean, other)
    sums, products = np.zeros(2), np.zeros((2, 2))
    for top, bottom in _bands(len(clean), clean[0].size, pause):
        details = np.stack([_laplacian(picture, top, bottom).ravel() for picture in (clean, other)])
        sums += details.sum(1)
        products += details @ details.T
    covariance = products - np.outer(sums, sums) / (clean.shape[0] * clean.shape[1])
    energy = float(np.sqrt(max(0.0, covariance[0, 0]) * max(0.0, covariance[1, 1])))
    return float(covariance[0, 1]) / energy if energy > 1e-12 else float("nan")


MEASURES = {"psnr": psnr, "ssim": ssim, "edge_fidelity": edge_fidelity}
"""The figures of a picture and its clean one, by name."""


def _laplacian(picture: np.ndarray, top: int, bottom: int) -> np.ndarray:
    """The Laplacian of the luminance in the rows from ``top`` to ``bottom``."""
    above = min(top, 1)  # a row of the neighboring bands, where there is one
    luminance = np.asarray(picture[top - above : bottom + 1], np.float64)
    luminance = luminance.mean(-1) if luminance.ndim == 3 else luminance
    return laplace(luminance, mode="nearest")[above : above + bottom - top]


def _bands(height: int, row_size: int, pause: Pause) -> Iterator[tuple[int, int]]:
    """First and last row (exclusive) of each band."""
    rows = max(1, BAND // max(1, row_size))
    for top in range(0, height, rows):
        if top and pause:
            pause()
        yield top, min(top + rows, height)


def _same_shape(clean: np.ndarray, other: np.ndarray) -> None:
    if clean.shape != other.shape:
        raise ValueError(f"the pictures differ in shape: {clean.shape} and {other.shape}")
