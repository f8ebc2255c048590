"""Random draws, one interface for numpy pictures (C, H, W) and torch batches (B, C, H, W)."""

from collections.abc import Callable

import numpy as np
import torch


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
