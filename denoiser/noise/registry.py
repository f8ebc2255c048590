"""The registry of noises, and :func:`add_noise`.

A noise is one function of a clean picture ``x`` in [0, 1], written once for numpy and torch (JPEG uses libjpeg for
arrays and :mod:`denoiser.noise.jpeg` for tensors). ``NOISES`` lists them with their parameters and ranges::

    noisy = add_noise(picture, "gaussian", seed=0, sigma=25)

Results are floating point, neither clipped nor rounded: a caller that needs what a file would hold clips and rounds.
JPEG, and "camera" and "raw", which end in JPEG, are in [0, 1] and in 8-bit levels by nature.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from ..images.picture import check_floats
from .additive import correlated, gaussian, salt_and_pepper, uniform
from .camera import camera, raw
from .jpeg import jpeg
from .random import NumpyRandom
from .signal_dependent import poisson, sensor, speckle


@dataclass(frozen=True)
class Parameter:
    """One parameter of a noise.

    Attributes:
        name: The argument of the noise's function.
        label: For people.
        unit: For people.
        low: Lowest value.
        high: Highest value.
        default: A typical value.
        step: Of a slider.
    """

    name: str
    label: str
    unit: str
    low: float
    high: float
    default: float
    step: float


@dataclass(frozen=True)
class Noise:
    """One kind of noise.

    Attributes:
        name: In ``NOISES``.
        label: For people.
        apply: ``apply(x, random, **parameters)``: planes in [0, 1], numpy (C, H, W) or torch (B, C, H, W), and a
            :class:`~denoiser.noise.random.Random` -> noisy planes, same type and shape.
        parameters: In the order of the function's arguments.
    """

    name: str
    label: str
    apply: Callable[..., Any]
    parameters: tuple[Parameter, ...]

    @property
    def summary(self) -> str:
        """The formula: the first line of the function's docstring."""
        return (self.apply.__doc__ or "").partition("\n")[0]


_SIGMA = Parameter("sigma", "Noise level (σ)", "8-bit levels", 0, 100, 25, 1)
# Of finished photographs.
_BLOTCHES = Parameter("grain", "Color blotches", "pixels", 0, 4, 2, 0.1)
_QUALITY = Parameter("quality", "JPEG quality", "1..100", 1, 100, 92, 1)

NOISES: dict[str, Noise] = {
    noise.name: noise
    for noise in (
        Noise("gaussian", "Gaussian", gaussian, (_SIGMA,)),
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
            (_SIGMA, Parameter("grain", "Grain size", "pixels", 0, 5, 1, 0.1)),
        ),
        Noise(
            "camera",
            "Camera photograph (finished)",
            camera,
            (
                Parameter("sigma", "Brightness noise at mid-gray", "8-bit levels", 0, 50, 10, 0.5),
                Parameter("chroma", "Color noise", "of it", 0, 2, 1, 0.05),
                _BLOTCHES,
                _QUALITY,
            ),
        ),
        Noise(
            "raw",
            "Camera, from its raw mosaic",
            raw,
            (
                Parameter("sigma", "Sensor noise at mid-gray", "8-bit levels", 0, 50, 15, 0.5),
                Parameter("chroma", "Color noise gain", "by the color matrix", 0, 3, 1.5, 0.05),
                Parameter("smoothing", "Noise reduction", "share of the fine noise", 0, 1, 0.5, 0.05),
                _BLOTCHES,
                Parameter("sharpening", "Sharpening", "gain of the finest noise", 0, 2, 0.5, 0.05),
                Parameter("scale", "Reduced by", "times", 0.5, 2, 1, 0.05),
                _QUALITY,
            ),
        ),
    )
}


ImageArray = TypeVar("ImageArray", np.ndarray, torch.Tensor)


def add_noise(image: ImageArray, kind: str = "gaussian", seed: int = 0, **parameters: float) -> ImageArray:
    """Add noise to a clean picture. The same seed gives the same noise, for numpy and torch.

    Args:
        image: Float in [0, 1]: numpy (H, W) or (H, W, C), or torch (H, W), (C, H, W) or (B, C, H, W). In a batch,
            picture b gets the noise of ``seed + b``.
        kind: A name in ``NOISES``.
        seed: Non-negative integer.
        parameters: The noise's parameters, within their ranges; missing ones take their defaults.

    Returns:
        The noisy picture, float32, same type and shape, neither clipped nor rounded.

    Raises:
        ValueError: Unknown noise or parameter, a value out of range, or an array that is not a picture.
        ImageUnreadable: Values that are no numbers, or white is not at 1.
        TypeError: It is no array.
    """
    noise, values = check_parameters(kind, parameters)
    if not isinstance(image, np.ndarray | torch.Tensor):
        raise TypeError(f"add_noise takes a numpy array or a torch tensor, not {type(image).__name__}")
    floating = image.is_floating_point() if isinstance(image, torch.Tensor) else np.issubdtype(image.dtype, np.floating)
    if not floating:
        raise ValueError(f"a clean picture is floating point in [0, 1], not {image.dtype}: divide by its white first")
    if 0 in image.shape:
        raise ValueError(f"an array of shape {tuple(image.shape)} has no pixels")
    if isinstance(image, torch.Tensor):
        if image.ndim == 4:
            return torch.stack([add_noise(picture, kind, seed + b, **values) for b, picture in enumerate(image)])
        planes = image.detach().cpu().float().numpy()
        check_floats(planes, "the picture")
        return torch.from_numpy(_add_noise(planes, noise, seed, values)).to(image.device)
    planes = np.asarray(image, dtype=np.float32)
    check_floats(planes, "the picture")
    if planes.ndim == 3:
        planes = np.moveaxis(planes, -1, 0)
    noisy = _add_noise(planes, noise, seed, values)
    return np.ascontiguousarray(np.moveaxis(noisy, 0, -1) if noisy.ndim == 3 else noisy)


def check_parameters(kind: str, parameters: Mapping[str, float]) -> tuple[Noise, dict[str, float]]:
    """The noise of a name, and all its parameters; missing ones take their defaults.

    Raises:
        ValueError: Unknown noise or parameter, or a value out of range.
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
    return noise, values


def _add_noise(planes: np.ndarray, noise: Noise, seed: int, values: dict[str, float]) -> np.ndarray:
    """Noise onto a picture (H, W) or (C, H, W)."""
    if planes.ndim not in (2, 3):
        raise ValueError(f"an array of shape {planes.shape} is neither (H, W), (H, W, C) nor a torch tensor")
    if planes.ndim == 3 and planes.shape[0] not in (1, 3):
        raise ValueError(f"a picture has 1 or 3 channels, not {planes.shape[0]}; take alpha off first")
    noisy = noise.apply(planes if planes.ndim == 3 else planes[None], NumpyRandom(seed), **values)
    return np.ascontiguousarray(noisy.astype(np.float32).reshape(planes.shape))
