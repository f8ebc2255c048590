"""What a method of training without clean pictures has to offer."""

import math
from collections.abc import Callable
from typing import ClassVar

import torch

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Noisy crops (B, C, H, W) in [0, 1] and their noise levels (B,) on that scale -> the clean estimate, float32, same
shape. A blind network ignores the levels."""

MIN_ERROR = 1e-8
"""An estimate of the error may be lower, even negative: then it is wrong, and so is what the method assumes."""


def score(error: float) -> float:
    """10 log10(1 / error), dB."""
    return -10 * math.log10(max(error, MIN_ERROR))


IMPOSSIBLE = score(0)
"""The score of an error that cannot be."""


class Objective:
    """One method. Its parameters are the fields of a frozen dataclass.

    Attributes:
        label: Its name, for people.
        source: Where it was published.
        assumption: What the noise must be like, as one sentence.
        shots: Noisy pictures of a scene that it needs: 1, or 2 that follow each other in the channels.
        float32: Whether bfloat16 is too coarse for it.
    """

    label: ClassVar[str]
    source: ClassVar[str]
    assumption: ClassVar[str]
    shots: ClassVar[int] = 1
    float32: ClassVar[bool] = False

    @property
    def needs_independent_pixels(self) -> bool:
        """Whether it fails where neighboring pixels share their noise."""
        return True

    @property
    def turns(self) -> bool:
        """Whether crops may be turned by a quarter: not where rows and columns are told apart."""
        return True

    def error(
        self, network: Network, noisy: torch.Tensor, level: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """The squared error of each crop (B,) by the method's own measure, from noisy pictures alone.

        Args:
            network: What is measured.
            noisy: (B, shots * C, H, W).
            level: Standard deviation of the noise of each crop (B,), on the scale of ``noisy``.
            generator: Of what is drawn, on the device of ``noisy``.
        """
        raise NotImplementedError

    def loss(
        self, network: Network, noisy: torch.Tensor, level: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """What training minimizes, a scalar: the mean error, unless the method adds something to it."""
        return self.error(network, noisy, level, generator).mean()
