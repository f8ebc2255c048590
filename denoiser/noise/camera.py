"""The noise of a finished photograph: linear light, demosaicing, tone curve, JPEG."""

import numpy as np
import torch

from .additive import lowpass
from .jpeg import jpeg
from .mosaic import mosaic_noise
from .random import Array, Random


def _tone_curve(linear: Array) -> Array:
    """Linear light -> photograph: gamma, then a smooth S-shaped curve (Brooks et al.)."""
    display = linear.clip(1e-8, 1) ** (1 / 2.2)
    return 3 * display**2 - 2 * display**3


def _inverse_tone_curve(x: Array) -> Array:
    """The inverse of :func:`_tone_curve`."""
    if isinstance(x, torch.Tensor):
        return (0.5 - torch.sin(torch.arcsin(1 - 2 * x.clip(0, 1)) / 3)) ** 2.2
    return (0.5 - np.sin(np.arcsin(1 - 2 * x.clip(0, 1)) / 3)) ** 2.2


# Mid-gray in linear light, and the slope of the tone curve there.
_MID_GRAY = float(_inverse_tone_curve(np.array(0.5)))
_SLOPE = float(_tone_curve(np.array(_MID_GRAY + 1e-6)) - _tone_curve(np.array(_MID_GRAY - 1e-6))) / 2e-6

_LUMA_GRAIN = 0.65
"""Pixels. The brightness noise of neighbors then correlates by 0.55, as in photographs of several makers."""


def camera(x: Array, random: Random[Array], sigma: float, chroma: float, grain: float, quality: float) -> Array:
    """The noise of a finished photograph: shot noise in linear light, then demosaicing, tone curve and JPEG.

    The picture is converted to linear light; noise of variance proportional to the light (and a little read noise) is
    added there; its brightness is correlated over about a pixel, as by demosaicing, its color over ``grain`` pixels, as
    by the camera's own color smoothing; tone curve and JPEG follow. Dark tones are noisier than light ones, red and
    blue noisier than green (white balance, with random gains for each picture).

    ``sigma``: standard deviation of the brightness noise at mid-gray before JPEG, 8-bit units, 0..50.
    ``chroma``: that of the color noise relative to it, 0..2. ``grain``: size of the color blotches, pixels, 0..4.
    ``quality``: of the JPEG, 1..100.
    Source: Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019, https://arxiv.org/abs/1811.11127
    (linear light, noise, tone curve); the two grains are modeled instead of a demosaicing, so that no artifact of one
    counts as noise.
    """
    light = _inverse_tone_curve(x)
    deviation = _deviation(x, light, random, sigma)
    white = random.normal(x)
    luma = _channel_mean(white)
    noise = lowpass(luma, _LUMA_GRAIN) * x.shape[-3] ** 0.5
    if x.shape[-3] > 1:
        noise = noise + lowpass(white - luma, grain) * (chroma * 1.5**0.5)
    return jpeg(_tone_curve(light + noise * deviation), random, quality)


def raw(
    x: Array,
    random: Random[Array],
    sigma: float,
    chroma: float,
    smoothing: float,
    grain: float,
    sharpening: float,
    scale: float,
    quality: float,
) -> Array:
    """The noise of a raw mosaic after a camera's steps: demosaicing, smoothing, sharpening, resizing, tone curve, JPEG.

    Its strength depends on the light as in :func:`camera`. It is drawn where the sensor has its photosites, each red,
    green or blue, and goes through the steps of a camera without the picture, whose artifacts would count as noise.
    Random for each picture: the algorithm of demosaicing (bilinear or gradient-corrected), the variance of the read
    noise (0.5 to 10 % of mid-gray's shot noise) and the gains of white balance (1.2 to 3).

    ``sigma``: standard deviation of a photosite's noise at mid-gray, 8-bit units, 0..50. A full-frame sensor (60,000
    electrons at white and ISO 100) has 2 at ISO 800 and 9 at ISO 12,800; a phone's (1,700) has 13 and 51.
    ``chroma``: gain of the color noise by the camera's color matrix, 0..3.
    ``smoothing``: share of the fine noise that the camera's noise reduction removes, 0..1; of color it removes more.
    ``grain``: standard deviation of its low-pass, so the size of the color blotches that stay, in pixels of the camera,
    0..4; half of it for brightness. ``sharpening``: gain of the finest brightness noise by unsharp masking, 0..2.
    ``scale``: how many times larger the camera's picture was, 0.5..2. ``quality``: of the JPEG, 1..100.
    Source: Brooks et al. as for :func:`camera`; Malvar, He and Cutler, "High-Quality Linear Interpolation for
    Demosaicing of Bayer-Patterned Color Images", ICASSP 2004 (demosaicing).
    """
    light = _inverse_tone_curve(x)
    read = 0.005 + 0.095 * random.uniform(x[..., :1, :1], channels=1)
    deviation = _deviation(x, light, random, sigma, read, strongest_gain=3)
    noise = mosaic_noise(x, random, chroma, smoothing, grain, sharpening, scale)
    return jpeg(_tone_curve(light + noise * deviation), random, quality)


def _deviation(
    x: Array,
    light: Array,
    random: Random[Array],
    sigma: float,
    read: float | Array = 0.02,
    strongest_gain: float = 2.4,
) -> Array:
    """The standard deviation of the noise in linear light, ``sigma`` at mid-gray in 8-bit units of the photograph.

    ``read``: variance of the read noise relative to that of mid-gray's shot noise: visible in the blacks only.
    """
    deviation = (sigma / 255 / _SLOPE) * ((light + read * _MID_GRAY) / ((1 + read) * _MID_GRAY)) ** 0.5
    # Tone curves differ in the highlights: the noise there is from as strong as in the shadows to nine times weaker.
    deviation = deviation * (1 + random.uniform(x[..., :1, :1], channels=1) * 1.6 * (0.5 - x.clip(0, 1)))
    if x.shape[-3] > 1:
        deviation = deviation * _white_balance(random.uniform(x[..., :1, :1]), strongest_gain)
    return deviation


def _channel_mean(x: Array) -> Array:
    if isinstance(x, torch.Tensor):
        return x.mean(-3, keepdim=True)
    return x.mean(-3, keepdims=True)


def _white_balance(draw: Array, strongest_gain: float) -> Array:
    """Noise factors of the channels by white balance, (.., 3, 1, 1), from random values in [0, 1) of that shape.

    Under daylight or lamplight red or blue is amplified at least 1.2 times over green; n times fewer photons brought to
    the same brightness are n ** 0.5 times noisier. The mean variance over the channels stays the same.
    """
    gains = 1.2 + (strongest_gain - 1.2) * draw
    gains[..., 1, :, :] = 1
    return (gains / _channel_mean(gains)) ** 0.5
