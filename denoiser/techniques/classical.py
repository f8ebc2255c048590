"""Classical methods, most of them thin calls into SciPy and scikit-image.

All take float32 pixels (H, W, C), the standard deviation of the noise on the same [0, 1] scale, and parameters of their
own, and return the same shape. The first line of each docstring is what people read: the principle and what to expect.
``registry.py`` has the parameters' rules and the sources.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from skimage import restoration

from ..errors import DenoiserError

TINY = 1e-6
"""Least noise level that is computed with: the methods divide by it."""
BAND = 256
"""Rows that are computed at a time where whole pictures would take several times their memory."""


def gaussian_filter(pixels: np.ndarray, sigma: float, width: float) -> np.ndarray:
    """A weighted mean of the neighborhood, the same everywhere. Fast, and blurs edges as much as noise."""
    return ndimage.gaussian_filter(pixels, (width, width, 0), mode="reflect")


def median_filter(pixels: np.ndarray, sigma: float, side: float) -> np.ndarray:
    """The middle value of the neighborhood. Removes single outliers, keeps edges, and loses thin lines."""
    return ndimage.median_filter(pixels, (int(side), int(side), 1), mode="reflect")


def wiener_filter(pixels: np.ndarray, sigma: float, side: float, noise: float) -> np.ndarray:
    """Shrinks each pixel to the mean of its window, the more the less the window varies. Noise stays at edges."""
    # scipy.signal.wiener divides by zero where a window is constant.
    mean = ndimage.uniform_filter(pixels, int(side), axes=(0, 1), mode="reflect")
    variance = ndimage.uniform_filter(pixels**2, int(side), axes=(0, 1), mode="reflect") - mean**2
    expected = max(noise * sigma, TINY) ** 2
    return mean + np.maximum(variance - expected, 0) / np.maximum(variance, expected) * (pixels - mean)


def bilateral_filter(pixels: np.ndarray, sigma: float, color: float, space: float) -> np.ndarray:
    """A mean whose weights fall with distance and with difference in color. Keeps edges, turns slopes into steps."""

    # That of scikit-image (0.26) reads its table of distances askew and takes what is beyond the border for black.
    def weigh(difference: torch.Tensor, y: int, x: int) -> torch.Tensor:
        exponent = difference.div_(-2 * max(color * sigma, TINY) ** 2)
        return exponent.sub_((y**2 + x**2) / (2 * space**2)).exp_()

    reach = max(1, round(2 * space))
    offsets = [(y, x) for y, x in _half(reach) if y**2 + x**2 <= reach**2]
    return _weighted_mean(pixels, offsets, reach, weigh)


def _half(reach: int) -> list[tuple[int, int]]:
    """Rows and columns to half of the neighbors within a square: with the opposite ones they are all."""
    return [(y, x) for y in range(reach + 1) for x in range(-reach, reach + 1) if (y, x) > (0, 0)]


def _weighted_mean(
    pixels: np.ndarray,
    offsets: list[tuple[int, int]],
    reach: int,
    weigh: Callable[[torch.Tensor, int, int], torch.Tensor],
    border: int = 0,
) -> np.ndarray:
    """The mean of each pixel and its neighbors, reflected at the border; the pixel itself has the weight 1.

    Args:
        pixels: (H, W, C).
        offsets: Rows and columns to half of the neighbors; the opposite ones have the same weights.
        reach: The largest of them.
        weigh: Squared difference to the neighbor, the mean over the channels, (1, h, w), which may be overwritten, and
            the offset -> weights, (1, h - 2 border, w - 2 border).
        border: Pixels around one that its weights depend on.
    """
    margin = reach + border
    padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    smooth = np.empty_like(pixels)
    for top in range(0, len(pixels), BAND):
        band = torch.from_numpy(padded[top : top + BAND + 2 * margin]).permute(2, 0, 1).contiguous()
        inner = band[:, border : band.shape[1] - border, border : band.shape[2] - border]
        total, weights = inner.clone(), torch.ones_like(inner[:1])
        for y, x in offsets:
            first, second = _overlap(band, y, x)
            weight = weigh((first - second).square_().mean(0, keepdim=True), y, x)
            pairs = zip(_overlap(inner, y, x)[::-1], _overlap(total, y, x), _overlap(weights, y, x))
            for other, sums, counts in pairs:
                sums.addcmul_(weight, other)
                counts.add_(weight)
        mean = (total / weights)[:, reach:-reach, reach:-reach]
        smooth[top : top + BAND] = mean.permute(1, 2, 0).numpy()
    return smooth


def _overlap(planes: torch.Tensor, y: int, x: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Views of (C, H, W) in which what is ``y`` rows and ``x`` columns apart has the same place."""
    rows, columns = planes.shape[1] - y, planes.shape[2] - abs(x)
    left, right = max(-x, 0), max(x, 0)
    return planes[:, :rows, left : left + columns], planes[:, y:, right : right + columns]


def total_variation(pixels: np.ndarray, sigma: float, weight: float) -> np.ndarray:
    """The picture near the noisy one with little gradient in total. Clean edges; slopes become stairs."""
    return restoration.denoise_tv_chambolle(pixels, weight=max(weight * sigma, TINY), channel_axis=-1)


def bayes_shrinkage(pixels: np.ndarray, sigma: float, noise: float) -> np.ndarray:
    """Small wavelet coefficients go to zero, by a threshold for each scale. Fast, with ripples beside edges."""
    return _shrink(pixels, noise * sigma, "BayesShrink")


def visu_shrinkage(pixels: np.ndarray, sigma: float, threshold: float) -> np.ndarray:
    """Wavelet coefficients below one threshold, set by the largest of noise, go to zero. Smooth, and loses texture."""
    return _shrink(pixels, threshold * sigma, "VisuShrink")


def _shrink(pixels: np.ndarray, sigma: float, method: str) -> np.ndarray:
    options = {"sigma": max(sigma, TINY), "method": method, "mode": "soft", "rescale_sigma": False}
    return restoration.denoise_wavelet(pixels, channel_axis=-1, **options)


def patch_pca(pixels: np.ndarray, sigma: float, threshold: float, side: float) -> np.ndarray:
    """Patches in the basis of their principal components, without the small coefficients. Keeps what often repeats."""
    side, (height, width, channels) = int(side), pixels.shape
    border = side - 1  # with it, each pixel is in as many patches
    padded = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="reflect")
    patches = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1))
    every = max(1, int((height * width / 20_000) ** 0.5))
    sample = patches[::every, ::every].reshape(-1, channels * side**2)
    mean = sample.mean(0)
    _, basis = np.linalg.eigh(np.cov(sample, rowvar=False))
    basis = basis.astype(pixels.dtype)
    total = np.zeros_like(padded)
    for top in range(0, len(patches), 32):  # by bands: all patches at once would take as many times the memory
        band = patches[top : top + 32]
        coefficients = (band.reshape(-1, len(mean)) - mean) @ basis
        coefficients[np.abs(coefficients) < threshold * sigma] = 0
        restored = (coefficients @ basis.T + mean).reshape(band.shape)
        for row in range(side):
            for column in range(side):
                area = total[top + row : top + row + len(band), column : column + band.shape[1]]
                area += restored[..., row, column]
    return total[border : border + height, border : border + width] / side**2


def nonlocal_means(pixels: np.ndarray, sigma: float, decay: float, side: float, reach: float) -> np.ndarray:
    """A mean of pixels whose surroundings look alike. Strong on repeated patterns; blotches where nothing repeats."""

    # The fast mode of scikit-image (0.26) compares patches of a row and a column less, off the center.
    patch = int(side)

    def weigh(difference: torch.Tensor, y: int, x: int) -> torch.Tensor:
        for axis in (1, 2):  # the mean over the patch
            parts = difference.unfold(axis, patch, 1).unbind(-1)
            difference = functools.reduce(torch.Tensor.add_, parts[1:], parts[0].clone()).div_(patch)
        return difference.sub_(2 * sigma**2).clamp_(min=0).div_(-(max(decay * sigma, TINY) ** 2)).exp_()

    return _weighted_mean(pixels, _half(int(reach)), int(reach), weigh, border=patch // 2)


def bm3d(pixels: np.ndarray, sigma: float, noise: float) -> np.ndarray:
    """Patches that look alike are stacked; small coefficients of the stack go to zero. The best without training."""
    try:
        from bm3d import bm3d as gray  # pyright: ignore[reportMissingImports]
        from bm3d import bm3d_rgb as color  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DenoiserError(
            "BM3D needs its authors' package, which is for non-commercial use only: pip install "
            "'denoising-autoencoder[bm3d]'"
        ) from None
    if not np.ptp(pixels):
        return pixels
    level = max(noise * sigma, TINY)
    if np.ptp(pixels, axis=2).any():
        return color(pixels, level)
    # It divides by the range of the color differences, which is zero here.
    return np.asarray(gray(pixels[..., 0], level)).reshape(*pixels.shape[:2], 1).repeat(pixels.shape[2], axis=2)
