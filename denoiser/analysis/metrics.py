"""Full-reference metrics: PSNR, SSIM and edge fidelity.

All take float arrays in [0, 1], (H, W) or (H, W, C), the clean picture first. They neither clip nor round: do that
before for the figure of a file.
"""

from typing import Any

import numpy as np
from scipy.ndimage import laplace
from skimage.metrics import structural_similarity


def psnr(clean: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB with peak 1 (255 in 8-bit units), over all pixels and channels.

    Any shape; infinite for equal pictures.
    """
    _same_shape(clean, other)
    error = float(np.mean((np.asarray(clean, np.float64) - np.asarray(other, np.float64)) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim(clean: np.ndarray, other: np.ndarray) -> float:
    """Structural similarity, -1..1, 1 for equal pictures: mean over pixels and channels.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", TIP 2004, with that
    paper's 11x11 Gaussian window (sigma 1.5), as scikit-image computes it. NaN for pictures under 11 pixels on a side,
    where the window does not fit.
    """
    _same_shape(clean, other)
    if min(clean.shape[:2]) < 11:
        return float("nan")
    similarity: Any = structural_similarity(  # a number: neither the gradient nor the full image is asked for
        clean,
        other,
        data_range=1.0,
        channel_axis=-1 if clean.ndim == 3 else None,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(similarity)


def edge_fidelity(clean: np.ndarray, other: np.ndarray) -> float:
    """Edge preservation index, -1..1, 1 if every edge and texture is preserved: the correlation of the Laplacians.

    The Laplacian of the luminance keeps edges and fine texture and is zero in flat areas. Both noise and smoothing
    decorrelate it, so the figure rises only if noise is removed *and* detail is kept; PSNR, dominated by flat areas,
    can rise while detail is lost. Chosen over Pratt's figure of merit, which hardly falls under noise in textured
    pictures (it does not count a false edge near a true one). NaN if either picture is flat.

    Sattar et al., "Image Enhancement Based on a Nonlinear Multiscale Method", TIP 1997,
    https://doi.org/10.1109/83.585239
    """
    _same_shape(clean, other)
    details = []
    for picture in (clean, other):
        luminance = np.asarray(picture, np.float64)
        luminance = luminance.mean(-1) if luminance.ndim == 3 else luminance
        detail = laplace(luminance, mode="nearest")
        details.append(detail - detail.mean())
    energy = float(np.sqrt((details[0] ** 2).sum() * (details[1] ** 2).sum()))
    return float((details[0] * details[1]).sum()) / energy if energy > 1e-12 else float("nan")


def _same_shape(clean: np.ndarray, other: np.ndarray) -> None:
    if clean.shape != other.shape:
        raise ValueError(f"the pictures differ in shape: {clean.shape} and {other.shape}")
