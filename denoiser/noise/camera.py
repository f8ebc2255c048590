"""The noise of a finished photograph: linear light, demosaicing, tone curve, JPEG."""

import numpy as np
import torch

from .additive import lowpass
from .jpeg import jpeg


def _tone(linear):
    """Linear light -> a photograph: gamma, then a smooth S-shaped curve (Brooks et al.)."""
    display = linear.clip(1e-8, 1) ** (1 / 2.2)
    return 3 * display**2 - 2 * display**3


def _untone(x):
    """The inverse of :func:`_tone`."""
    functions = torch if isinstance(x, torch.Tensor) else np
    return (0.5 - functions.sin(functions.arcsin(1 - 2 * x.clip(0, 1)) / 3)) ** 2.2


_MIDDLE = _untone(np.float64(0.5))  # mid-grey in linear light, and how steep the tone curve is there
_SLOPE = (_tone(_MIDDLE + 1e-6) - _tone(_MIDDLE - 1e-6)) / 2e-6


def camera(x, random, sigma, chroma, grain, quality):
    """A finished photograph's noise: shot noise in linear light, then demosaicing, tone curve and JPEG.

    The picture goes back to linear light; noise of variance proportional to the light (and a little read noise) is
    added there; demosaicing leaves its brightness grained over about a pixel, the camera's own colour smoothing leaves
    coarse coloured blotches; tone curve and JPEG follow. Dark tones are noisier than light ones, red and blue than
    green (white balance, gains drawn for each picture), and neighbours agree.

    ``sigma``: standard deviation of the brightness noise at mid-grey before JPEG, 8-bit units, 0..50.
    ``chroma``: that of the colour noise relative to it, 0..2. ``grain``: size of the colour blotches, pixels, 0..4.
    ``quality``: of the JPEG, 1..100.
    Source: Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019, https://arxiv.org/abs/1811.11127
    (linear light, noise, tone curve); the two grains are modelled instead of a demosaicing, so that no artefact of one
    is taken for noise.
    """
    light = _untone(x)
    # Read noise is what 2 % of mid-grey's light makes: visible in the blacks only.
    deviation = (sigma / 255 / _SLOPE) * ((light + 0.02 * _MIDDLE) / (1.02 * _MIDDLE)) ** 0.5
    # Makers' curves bend the highlights differently: from as loud as the shadows to nine times quieter.
    deviation = deviation * (1 + random.uniform(x[..., :1, :1], channels=1) * 1.6 * (0.5 - x.clip(0, 1)))
    if x.shape[-3] > 1:
        deviation = deviation * _white_balance(random.uniform(x[..., :1, :1]))
    white = random.normal(x)
    luma = white.mean(-3, keepdims=True)
    noise = lowpass(luma, _DEMOSAIC) * x.shape[-3] ** 0.5
    if x.shape[-3] > 1:
        noise = noise + lowpass(white - luma, grain) * (chroma * 1.5**0.5)
    return jpeg(_tone(light + noise * deviation), random, quality)


def _white_balance(draw):
    """How much noisier each channel is by the gains of white balance, from draws in [0, 1) of (.., 3, 1, 1).

    Under daylight or lamplight red or blue is amplified 1.2 to 2.4 times over green; n times fewer photons brought to
    the same brightness are n ** 0.5 times noisier. The mean variance over the channels stays what it was.
    """
    gains = 1.2 + 1.2 * draw
    gains[..., 1, :, :] = 1
    return (gains / gains.mean(-3, keepdims=True)) ** 0.5


_DEMOSAIC = 0.65  # pixels; neighbours' brightness noise then correlates by 0.55, as in photographs of several makers
