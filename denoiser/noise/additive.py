"""Noise that does not depend on the picture: Gaussian, uniform, impulse, correlated."""

from functools import partial

import numpy as np
import torch

from .random import Array, Random


def gaussian(x: Array, random: Random[Array], sigma: float) -> Array:
    """Additive white Gaussian noise: y = x + n, n ~ N(0, (sigma / 255)^2).

    The reference model of the literature. ``sigma``: standard deviation in 8-bit units, 0..100.
    Source: Gonzalez and Woods, "Digital Image Processing", 5.2.
    """
    return x + random.normal(x) * (sigma / 255)


def salt_and_pepper(x: Array, random: Random[Array], amount: float) -> Array:
    """Impulse noise: a share of the pixels turns white or black, half each, all channels together.

    ``amount``: percent of the pixels, 0..50. Source: Gonzalez and Woods, 5.2.
    """
    draw = random.uniform(x, channels=1)
    pepper, salt = draw < amount / 200, draw >= 1 - amount / 200
    # Arithmetic instead of where(): the same expression for numpy and torch.
    kept = 1 - (1 * pepper + 1 * salt)
    return x * kept + 1 * salt


def uniform(x: Array, random: Random[Array], width: float) -> Array:
    """Additive uniform noise: y = x + u, u ~ U(-width / 255, width / 255).

    ``width``: half the width of the interval in 8-bit units, 0..100; the standard deviation is width / sqrt(3). Close
    to what coarse quantization leaves. Source: Gonzalez and Woods, 5.2.
    """
    return x + (random.uniform(x) * 2 - 1) * (width / 255)


def correlated(x: Array, random: Random[Array], sigma: float, grain: float) -> Array:
    """Correlated Gaussian noise, as film grain and resized or demosaiced photographs have it.

    White Gaussian noise through a Gaussian low-pass of standard deviation ``grain`` pixels, scaled back to standard
    deviation ``sigma``: each pixel is as noisy as under :func:`gaussian`, but neighbors are correlated.

    ``sigma``: 8-bit units, 0..100. ``grain``: pixels, 0..5; 0 is white noise.
    Source: Goossens, Pizurica and Philips, "Removal of Correlated Noise by Modeling the Signal of Interest in the
    Wavelet Domain", TIP 2009 (the model); the filter is periodic here, so that its gain is exact.
    """
    return x + lowpass(random.normal(x), grain) * (sigma / 255)


def lowpass(noise: Array, grain: float) -> Array:
    """White noise through a Gaussian filter of standard deviation ``grain`` pixels that keeps its variance."""
    fft, frequencies = np.fft, np.fft.fftfreq
    if isinstance(noise, torch.Tensor):  # created on the device: a copy to it would make a GPU wait
        fft, frequencies = torch.fft, partial(torch.fft.fftfreq, dtype=noise.dtype, device=noise.device)
    squared = frequencies(noise.shape[-2])[:, None] ** 2 + frequencies(noise.shape[-1])[None, :] ** 2
    response = np.e ** (-2 * np.pi**2 * grain**2 * squared)
    response = response / (response**2).mean(axis=(-2, -1), keepdims=True) ** 0.5
    return fft.ifft2(fft.fft2(noise) * response).real
