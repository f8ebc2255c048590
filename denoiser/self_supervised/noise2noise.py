"""Noise2Noise: two noisy pictures of a scene, one predicted from the other."""

from dataclasses import dataclass

import torch

from ._base import Network, Objective


@dataclass(frozen=True)
class Noise2Noise(Objective):
    """Predict one noisy shot of a scene from another.

    Lehtinen et al., "Noise2Noise: Learning Image Restoration without Clean Data", ICML 2018,
    https://arxiv.org/abs/1803.04189. The best prediction of noise of mean zero is the clean picture. Assumption: the
    scene and the camera stand still, and the noise of the shots is independent and has mean zero. How the pixels of one
    shot depend on each other does not matter: this is the method for noise that neighboring pixels share.

    The error is that against the other shot, less the variance of its noise, which is half the mean squared difference
    of the two: without bias the error against the clean picture.
    """

    label = "Noise2Noise"
    source = "Lehtinen et al., ICML 2018, https://arxiv.org/abs/1803.04189"
    assumption = "The shots of a scene differ in their noise only, which is independent and has mean zero."
    shots = 2

    @property
    def needs_independent_pixels(self) -> bool:
        return False

    def error(
        self, network: Network, noisy: torch.Tensor, level: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        first, second = noisy.chunk(2, dim=1)
        difference = (network(first, level) - second).square() - (first - second).square() / 2
        return difference.mean((1, 2, 3))
