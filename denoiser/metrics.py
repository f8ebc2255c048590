"""How close a picture is to the clean one: PSNR, SSIM and edge fidelity.

All take float arrays in [0, 1], (H, W) or (H, W, C), clean first. They measure what they are given: clip and round
first if you want the figure of a file.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.filters import sobel
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
    paper's 11x11 Gaussian window (sigma 1.5), as scikit-image computes it. Not a number for pictures under 11 pixels
    on a side, where the window does not fit.
    """
    _same_shape(clean, other)
    if min(clean.shape[:2]) < 11:
        return float("nan")
    return float(
        structural_similarity(
            clean,
            other,
            data_range=1.0,
            channel_axis=-1 if clean.ndim == 3 else None,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def edge_fidelity(clean: np.ndarray, other: np.ndarray) -> float:
    """Pratt's figure of merit of the edges, 0..1: 1 if every edge is where it was and none was invented.

    Edges are the strongest tenth of the Sobel gradients of the luminance, with the clean picture's threshold for both.
    Each edge pixel found in ``other`` counts 1 / (1 + d^2 / 9), d being its distance in pixels to the nearest edge of
    ``clean``, and the sum is divided by the larger of the two edge counts: smoothing loses edges, left-over noise
    invents them, and both lower the figure. Chosen over a gradient correlation because it says in one number what
    PSNR hides: where the detail went. Not a number if the clean picture has no edges.

    Pratt, "Digital Image Processing", 1978; Abdou and Pratt, Proc. IEEE 1979 (scaling constant 1/9).
    """
    _same_shape(clean, other)
    gradients = [sobel(picture.mean(-1) if picture.ndim == 3 else picture) for picture in (clean, other)]
    threshold = np.quantile(gradients[0], 0.9)
    true_edges, found = gradients[0] > threshold, gradients[1] > threshold
    if threshold <= 0 or not true_edges.any():
        return float("nan")
    distance = distance_transform_edt(~true_edges)
    return float((1 / (1 + distance[found] ** 2 / 9)).sum() / max(true_edges.sum(), found.sum()))


def _same_shape(clean: np.ndarray, other: np.ndarray) -> None:
    if clean.shape != other.shape:
        raise ValueError(f"the pictures differ in shape: {clean.shape} and {other.shape}")
