"""Degradations: clean picture + parameters + seed -> noisy picture.

Every kind of noise is one function of a clean picture ``x`` in [0, 1], written once for numpy and torch; only JPEG is a
real file's for arrays and ``_jpeg.py``'s for tensors. ``NOISES`` lists them with their parameters and ranges;
:func:`add_noise` is the way in::

    noisy = add_noise(picture, "gaussian", seed=0, sigma=25)

Results are floating point, neither clipped nor rounded: what a file would hold is ``noisy.clip(0, 1)`` in 8 bits, and
whoever wants that does it. Only JPEG, and "camera", which ends in one, are in [0, 1] and whole levels by nature.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image

from ._jpeg import compress


class NumpyRandom:
    """Random draws for channel-first numpy pictures (C, H, W).

    They are drawn in the order of a picture in memory, (H, W, C), so that the Gaussian noise of a picture is
    ``numpy.random.default_rng(seed).standard_normal((H, W, C), dtype=float32)``, as the PSNR protocol has it.
    """

    def __init__(self, seed: int):
        self._generator = np.random.default_rng(seed)

    def _drawn(self, draw: Callable, x: np.ndarray, channels: int | None) -> np.ndarray:
        return np.moveaxis(draw((*x.shape[1:], channels or x.shape[0]), dtype=np.float32), -1, 0)

    def normal(self, x: np.ndarray, channels: int | None = None) -> np.ndarray:
        """Standard normal draws of the shape of ``x``, or with another channel count."""
        return self._drawn(self._generator.standard_normal, x, channels)

    def uniform(self, x: np.ndarray, channels: int | None = None) -> np.ndarray:
        """Draws from [0, 1) of the shape of ``x``, or with another channel count."""
        return self._drawn(self._generator.random, x, channels)

    def poisson(self, rate: np.ndarray) -> np.ndarray:
        """Counts with the given rates."""
        counts = self._generator.poisson(np.moveaxis(rate, 0, -1))
        return np.moveaxis(counts, -1, 0).astype(np.float32)


class TorchRandom:
    """Random draws for batches of pictures (B, C, H, W) on any device: what training uses."""

    def __init__(self, generator: torch.Generator):
        self._generator = generator

    def _shape(self, x: torch.Tensor, channels: int | None) -> tuple[int, ...]:
        return (*x.shape[:-3], channels or x.shape[-3], *x.shape[-2:])

    def normal(self, x: torch.Tensor, channels: int | None = None) -> torch.Tensor:
        return torch.randn(self._shape(x, channels), generator=self._generator, device=x.device)

    def uniform(self, x: torch.Tensor, channels: int | None = None) -> torch.Tensor:
        return torch.rand(self._shape(x, channels), generator=self._generator, device=x.device)

    def poisson(self, rate: torch.Tensor) -> torch.Tensor:
        return torch.poisson(rate, generator=self._generator)


def gaussian(x, random, sigma):
    """Additive white Gaussian noise: y = x + n, n ~ N(0, (sigma / 255)^2).

    The field's reference model. ``sigma``: standard deviation in 8-bit units, 0..100.
    Source: Gonzalez and Woods, "Digital Image Processing", 5.2.
    """
    return x + random.normal(x) * (sigma / 255)


def poisson(x, random, peak):
    """Photon (shot) noise: y = Poisson(peak * x) / peak.

    ``peak``: expected photons at white, 1..1000; fewer means noisier, the variance at x is x / peak.
    Source: Hasinoff, "Photon, Poisson Noise", Computer Vision: A Reference Guide, 2014.
    """
    return random.poisson(x.clip(0, None) * peak) / peak


def sensor(x, random, gain, read):
    """A camera sensor: 255 y = gain * Poisson(255 x / gain) + N(0, read^2).

    ``gain``: 8-bit levels per electron, 0.01..20 (rises with ISO); the shot variance at x is gain * x / 255.
    ``read``: read noise in 8-bit units, 0..50. Without tone curve or demosaicing: those come with camera pictures.
    Source: Foi et al., "Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data", TIP 2008,
    https://doi.org/10.1109/TIP.2008.2001399
    """
    electrons = random.poisson(x.clip(0, None) * (255 / gain))
    return electrons * (gain / 255) + random.normal(x) * (read / 255)


def speckle(x, random, sigma):
    """Multiplicative noise: y = x + x * n, n ~ N(0, sigma^2).

    ``sigma``: standard deviation relative to the pixel's own value, 0..1. The simple model of radar and ultrasound
    speckle. Source: Gonzalez and Woods, 5.2; Goodman, "Some Fundamental Properties of Speckle", JOSA 1976.
    """
    return x * (1 + random.normal(x) * sigma)


def salt_and_pepper(x, random, amount):
    """Impulse noise: a share of the pixels turns white or black, half each, all channels together.

    ``amount``: per cent of the pixels, 0..50. Source: Gonzalez and Woods, 5.2.
    """
    draw = random.uniform(x, channels=1)
    pepper, salt = draw < amount / 200, draw >= 1 - amount / 200
    # Arithmetic instead of where(): the same expression for numpy and torch.
    kept = 1 - (1 * pepper + 1 * salt)
    return x * kept + 1 * salt


def uniform(x, random, width):
    """Additive uniform noise: y = x + u, u ~ U(-width / 255, width / 255).

    ``width``: half the width of the interval in 8-bit units, 0..100; the standard deviation is width / sqrt(3). Close
    to what coarse quantisation leaves. Source: Gonzalez and Woods, 5.2.
    """
    return x + (random.uniform(x) * 2 - 1) * (width / 255)


def jpeg(x, random, quality):
    """JPEG compression, baseline with 4:2:0 chroma as most files on the web. Draws nothing: the seed has no effect.

    ``quality``: libjpeg's quality, 1..95. The picture is clipped and rounded to 8 bits first.
    Source: Wallace, "The JPEG Still Picture Compression Standard", CACM 1991.
    """
    if isinstance(x, torch.Tensor):  # on its device, by the same steps
        return compress(x, quality)
    if max(x.shape[1:]) > 65500:
        raise ValueError("JPEG holds at most 65500 pixels a side: crop the picture, or choose another noise")
    pixels = np.moveaxis(np.rint(x.clip(0, 1) * 255).astype(np.uint8), 0, -1)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.save(buffer, "JPEG", quality=round(float(quality)), subsampling="4:2:0")
    with Image.open(buffer) as opened:
        decoded = np.asarray(opened, dtype=np.float32).reshape(pixels.shape)
    return np.moveaxis(decoded / 255, -1, 0)


def correlated(x, random, sigma, grain):
    """Correlated Gaussian noise, as film grain and resized or demosaiced photographs have it.

    White Gaussian noise through a Gaussian low-pass of standard deviation ``grain`` pixels, scaled back to standard
    deviation ``sigma``: each pixel is as noisy as under :func:`gaussian`, but neighbours agree.

    ``sigma``: 8-bit units, 0..100. ``grain``: pixels, 0..5; 0 is white noise.
    Source: Goossens, Pizurica and Philips, "Removal of Correlated Noise by Modeling the Signal of Interest in the
    Wavelet Domain", TIP 2009 (the model); the filter is periodic here, so that its gain is exact.
    """
    return x + _lowpass(random.normal(x), grain) * (sigma / 255)


def _lowpass(noise, grain):
    """White noise through a Gaussian filter of standard deviation ``grain`` pixels that keeps its variance."""
    fft, frequencies = np.fft, np.fft.fftfreq
    if isinstance(noise, torch.Tensor):  # made on its device: copying them there would make a GPU wait
        fft, frequencies = torch.fft, partial(torch.fft.fftfreq, dtype=noise.dtype, device=noise.device)
    squared = frequencies(noise.shape[-2])[:, None] ** 2 + frequencies(noise.shape[-1])[None, :] ** 2
    response = np.e ** (-2 * np.pi**2 * grain**2 * squared)
    response = response / (response**2).mean(axis=(-2, -1), keepdims=True) ** 0.5
    return fft.ifft2(fft.fft2(noise) * response).real


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
    noise = _lowpass(luma, _DEMOSAIC) * x.shape[-3] ** 0.5
    if x.shape[-3] > 1:
        noise = noise + _lowpass(white - luma, grain) * (chroma * 1.5**0.5)
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


@dataclass(frozen=True)
class Parameter:
    """One number of a noise: its name in the function, what to call it, its unit, range, and a typical value."""

    name: str
    label: str
    unit: str
    low: float
    high: float
    default: float
    step: float


@dataclass(frozen=True)
class Noise:
    """One kind of noise: the function and what a person needs to choose it."""

    name: str
    label: str
    apply: Callable
    parameters: tuple[Parameter, ...]

    @property
    def summary(self) -> str:
        """The formula: the first line of the function's docstring."""
        return self.apply.__doc__.splitlines()[0]


def _sigma(high: float = 100) -> Parameter:
    return Parameter("sigma", "Noise level σ", "8-bit levels", 0, high, 25, 1)


NOISES: dict[str, Noise] = {
    noise.name: noise
    for noise in (
        Noise("gaussian", "Gaussian", gaussian, (_sigma(),)),
        Noise(
            "poisson", "Poisson (photons)", poisson, (Parameter("peak", "Photons at white", "photons", 1, 1000, 60, 1),)
        ),
        Noise(
            "sensor",
            "Camera sensor (Poisson-Gaussian)",
            sensor,
            (
                Parameter("gain", "Gain", "8-bit levels per electron", 0.01, 20, 3, 0.01),
                Parameter("read", "Read noise", "8-bit levels", 0, 50, 6, 0.5),
            ),
        ),
        Noise(
            "speckle", "Speckle", speckle, (Parameter("sigma", "Relative deviation", "of the pixel", 0, 1, 0.2, 0.01),)
        ),
        Noise(
            "salt_and_pepper",
            "Salt and pepper",
            salt_and_pepper,
            (Parameter("amount", "Pixels hit", "%", 0, 50, 5, 0.5),),
        ),
        Noise("uniform", "Uniform", uniform, (Parameter("width", "Half width", "8-bit levels", 0, 100, 40, 1),)),
        Noise("jpeg", "JPEG compression", jpeg, (Parameter("quality", "Quality", "1..95", 1, 95, 20, 1),)),
        Noise(
            "correlated",
            "Correlated Gaussian (grain)",
            correlated,
            (_sigma(), Parameter("grain", "Grain size", "pixels", 0, 5, 1, 0.1)),
        ),
        Noise(
            "camera",
            "Camera photograph (finished)",
            camera,
            (
                Parameter("sigma", "Brightness noise at mid-grey", "8-bit levels", 0, 50, 10, 0.5),
                Parameter("chroma", "Colour noise", "of it", 0, 2, 1, 0.05),
                Parameter("grain", "Colour blotches", "pixels", 0, 4, 2, 0.1),
                Parameter("quality", "JPEG quality", "1..100", 1, 100, 92, 1),
            ),
        ),
    )
}


def add_noise(image: np.ndarray | torch.Tensor, kind: str = "gaussian", seed: int = 0, **parameters: float):
    """Add noise to a clean picture. The same seed gives the same noise, for numpy and torch alike.

    Args:
        image: Float in [0, 1]: numpy (H, W) or (H, W, C), or torch (H, W), (C, H, W) or (B, C, H, W). In a batch,
            picture b gets the noise of ``seed + b``.
        kind: A name in ``NOISES``.
        seed: Non-negative integer.
        parameters: The noise's parameters, within their ranges; those left out take their defaults.

    Returns:
        The noisy picture, float32, same type and shape, neither clipped nor rounded.

    Raises:
        ValueError: Unknown noise or parameter, a value out of range, or a picture of another form.
    """
    if kind not in NOISES:
        raise ValueError(f"unknown noise {kind!r}; there are: {', '.join(NOISES)}")
    noise = NOISES[kind]
    values = {parameter.name: parameter.default for parameter in noise.parameters}
    if unknown := parameters.keys() - values.keys():
        raise ValueError(f"{kind} noise has no parameter {', '.join(sorted(unknown))}; it has {', '.join(values)}")
    values |= {name: float(value) for name, value in parameters.items()}
    for parameter in noise.parameters:
        if not parameter.low <= values[parameter.name] <= parameter.high:
            raise ValueError(
                f"{kind} noise: {parameter.name} must be from {parameter.low:g} to {parameter.high:g} "
                f"({parameter.unit}), got {values[parameter.name]:g}"
            )
    floating = image.is_floating_point() if isinstance(image, torch.Tensor) else np.issubdtype(image.dtype, np.floating)
    if not floating:
        raise ValueError(f"a clean picture is floating point in [0, 1], not {image.dtype}: divide by its white first")
    if isinstance(image, torch.Tensor):
        if image.ndim == 4:
            return torch.stack([add_noise(one, kind, seed + b, **values) for b, one in enumerate(image)])
        planes = image.detach().cpu().float().numpy()
    else:
        planes = np.asarray(image, dtype=np.float32)
    if planes.ndim not in (2, 3):
        raise ValueError(f"a picture of shape {tuple(image.shape)} is neither (H, W), (H, W, C) nor a torch tensor")
    if isinstance(image, np.ndarray) and planes.ndim == 3:
        planes = np.moveaxis(planes, -1, 0)
    flat = planes.ndim == 2
    if not flat and planes.shape[0] not in (1, 3):
        raise ValueError(f"a picture has 1 or 3 channels, not {planes.shape[0]}; take alpha off first")
    noisy = noise.apply(planes[None] if flat else planes, NumpyRandom(seed), **values).astype(np.float32)
    if flat:
        noisy = noisy[0]
    elif isinstance(image, np.ndarray):
        noisy = np.moveaxis(noisy, 0, -1)
    noisy = np.ascontiguousarray(noisy)
    return torch.from_numpy(noisy).to(image.device) if isinstance(image, torch.Tensor) else noisy
