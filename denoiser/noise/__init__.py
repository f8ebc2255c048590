"""Synthetic noise: clean picture + parameters + seed -> noisy picture."""

from .random import NumpyRandom, TorchRandom
from .registry import NOISES, Noise, Parameter, add_noise

__all__ = ["NOISES", "Noise", "NumpyRandom", "Parameter", "TorchRandom", "add_noise"]
