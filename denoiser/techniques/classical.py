"""Classical methods, thin calls into SciPy and scikit-image.

All take float32 pixels (H, W, C) and the standard deviation of the noise on the same [0, 1] scale, and return the same
shape. What each sets from the noise level is in its docstring; the factors were set on six held-out photographs.
"""

import numpy as np
from scipy import ndimage
from skimage import restoration


def gaussian_filter(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """A weighted mean of the neighborhood, the same everywhere. Fast, and blurs edges as much as noise.

    Width: sigma / 28 pixels, sigma in 8-bit units. Source: Gonzalez and Woods, "Digital Image Processing", 3.5.
    """
    width = 255 * sigma / 28
    return ndimage.gaussian_filter(pixels, (width, width, 0), mode="reflect")


def median_filter(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """The middle value of the neighborhood. Removes single outliers, keeps edges, and loses thin lines.

    Window: 3 x 3, and 5 x 5 from 30 levels on. Source: Tukey, "Exploratory Data Analysis", 1977.
    """
    side = 5 if 255 * sigma >= 30 else 3
    return ndimage.median_filter(pixels, (side, side, 1), mode="reflect")


def wiener_filter(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Shrinks each pixel to the mean of its window, the more the less the window varies. Noise stays at edges.

    Window: 5 x 5. Source: Lee, "Digital Image Enhancement and Noise Filtering by Use of Local Statistics", PAMI 1980.
    """
    # scipy.signal.wiener divides by zero where a window is constant.
    mean = ndimage.uniform_filter(pixels, 5, axes=(0, 1), mode="reflect")
    variance = ndimage.uniform_filter(pixels**2, 5, axes=(0, 1), mode="reflect") - mean**2
    noise = max(sigma, 1e-6) ** 2
    return mean + np.maximum(variance - noise, 0) / np.maximum(variance, noise) * (pixels - mean)


def bilateral_filter(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """A mean whose weights fall with distance and with difference in color. Keeps edges, turns slopes into steps.

    Deviation of color: sigma; of space: 2.5 pixels. Source: Tomasi and Manduchi, ICCV 1998.
    """
    color = pixels.shape[2] == 3
    options = {"sigma_color": max(sigma, 1e-3), "sigma_spatial": 2.5, "win_size": 9}
    planes = pixels.clip(0, 1) if color else pixels[..., 0].clip(0, 1)
    smooth = restoration.denoise_bilateral(planes, channel_axis=-1 if color else None, **options)
    return smooth.astype(np.float32).reshape(pixels.shape)


def total_variation(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """The picture near the noisy one with little gradient in total. Clean edges; slopes become stairs.

    Weight: 0.7 sigma. Source: Rudin, Osher and Fatemi, Physica D 1992; solved as in Chambolle, JMIV 2004.
    """
    return restoration.denoise_tv_chambolle(pixels, weight=max(0.7 * sigma, 1e-6), channel_axis=-1).astype(np.float32)


def wavelet_shrinkage(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Small wavelet coefficients go to zero. Fast, adapts to each scale; ripples beside edges.

    Threshold of each band: sigma^2 / the deviation of its signal. Source: Chang, Yu and Vetterli, "Adaptive Wavelet
    Thresholding for Image Denoising and Compression" (BayesShrink), TIP 2000.
    """
    options = {"sigma": max(sigma, 1e-6), "method": "BayesShrink", "mode": "soft", "rescale_sigma": False}
    return restoration.denoise_wavelet(pixels, channel_axis=-1, **options).astype(np.float32).reshape(pixels.shape)


def nonlocal_means(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """A mean of pixels whose surroundings look alike. Strong on repeated patterns; blotches where nothing repeats.

    Patches: 5 x 5, at most 6 pixels away; decay 0.6 sigma. Source: Buades, Coll and Morel, CVPR 2005.
    """
    options = {"h": max(0.6 * sigma, 1e-6), "sigma": sigma, "patch_size": 5, "patch_distance": 6, "fast_mode": True}
    return restoration.denoise_nl_means(pixels, channel_axis=-1, **options).astype(np.float32).reshape(pixels.shape)
