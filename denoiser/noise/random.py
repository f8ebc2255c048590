"""Random numbers for noise: one interface for numpy pictures (C, H, W) and torch batches (B, C, H, W)."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import torch

Array = TypeVar("Array", np.ndarray, torch.Tensor)
"""The planes of pictures: numpy (C, H, W) or torch (B, C, H, W)."""


class Random(Protocol[Array]):
    """What a noise function draws from."""

    def normal(self, x: Array, channels: int | None = None) -> Array:
        """Standard normal values of the shape of ``x``, or with another channel count."""
        ...

    def uniform(self, x: Array, channels: int | None = None) -> Array:
        """Values from [0, 1) of the shape of ``x``, or with another channel count."""
        ...

    def poisson(self, rate: Array) -> Array:
        """Poisson counts with the given rates."""
        ...


class NumpyRandom:
    """Random numbers for channel-first numpy pictures (C, H, W).

    They are drawn in the order of a picture in memory, (H, W, C): the Gaussian noise of a picture is
    ``numpy.random.default_rng(seed).standard_normal((H, W, C), dtype=float32)``, as in the PSNR protocol.
    """

    def __init__(self, seed: int):
        self._generator = np.random.default_rng(seed)

    def _draw(self, function: Callable[..., np.ndarray], x: np.ndarray, channels: int | None) -> np.ndarray:
        return np.moveaxis(function((*x.shape[1:], channels or x.shape[0]), dtype=np.float32), -1, 0)

    def normal(self, x: np.ndarray, channels: int | None = None) -> np.ndarray:
        return self._draw(self._generator.standard_normal, x, channels)

    def uniform(self, x: np.ndarray, channels: int | None = None) -> np.ndarray:
        return self._draw(self._generator.random, x, channels)

    def poisson(self, rate: np.ndarray) -> np.ndarray:
        counts = self._generator.poisson(np.moveaxis(rate, 0, -1))
        return np.moveaxis(counts, -1, 0).astype(np.float32)


class TorchRandom:
    """Random numbers for batches of pictures (B, C, H, W) on any device, for training."""

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
