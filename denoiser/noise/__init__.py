"""Degradations: clean picture + parameters + seed -> noisy picture.

Every kind of noise is one function of a clean picture ``x`` in [0, 1], written once for numpy and torch; only JPEG is a
real file's for arrays and ``jpeg.py``'s for tensors. ``NOISES`` lists them with their parameters and ranges;
:func:`add_noise` is the way in::

    noisy = add_noise(picture, "gaussian", seed=0, sigma=25)

Results are floating point, neither clipped nor rounded: what a file would hold is ``noisy.clip(0, 1)`` in 8 bits, and
whoever wants that does it. Only JPEG, and "camera", which ends in one, are in [0, 1] and whole levels by nature.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ._random import NumpyRandom, TorchRandom
from .additive import correlated, gaussian, salt_and_pepper, uniform
from .camera import camera
from .jpeg import jpeg
from .signal_dependent import poisson, sensor, speckle

__all__ = ["NOISES", "Noise", "NumpyRandom", "Parameter", "TorchRandom", "add_noise"]


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
