"""SURE: Stein's unbiased estimate of the error against the clean picture, from the noisy one and its noise level."""

from dataclasses import dataclass

import torch

from ..analysis.sure import clipping, stein_risk
from ._base import Network, Objective

STEP = 0.1
"""Step of the finite difference, relative to the noise: large against the rounding of float32, and of TF32 on a GPU."""


@dataclass(frozen=True)
class Sure(Objective):
    """Minimize Stein's unbiased risk estimate, the divergence in it by a random probe.

    Soltanayev and Chun, "Training deep learning based denoisers without ground truth data", NeurIPS 2018,
    https://arxiv.org/abs/1803.01314; Metzler et al., "Unsupervised Learning with Stein's Unbiased Risk Estimator",
    2018, https://arxiv.org/abs/1805.10531; the probe: Ramani, Blu and Unser, "Monte-Carlo SURE", TIP 2008,
    https://doi.org/10.1109/TIP.2008.2001404. Assumption: Gaussian noise, independent between pixels, of a known or
    well estimated level. A sensor's noise, whose variance grows with the signal, is brought to one level before, as
    :class:`denoiser.Denoiser` does it (:class:`denoiser.analysis.noise_model.Stabilizer`), and is Gaussian enough then.
    Where noise is cut off at black or white its variance is what that leaves; where that is little it is left out.

    Attributes:
        sigma: Standard deviation of the noise in 8-bit units, with ``gain`` that of its constant part, if it is known;
            None: estimated for each picture.
        gain: Of a sensor whose noise is known, 8-bit levels per electron: the variance at x, in 8-bit units, is
            gain * x + sigma^2.
    """

    sigma: float | None = None
    gain: float = 0.0

    label = "SURE"
    source = "Soltanayev and Chun, NeurIPS 2018, https://arxiv.org/abs/1803.01314"
    assumption = "The noise is Gaussian (or a sensor's), independent between pixels, and its level is right."
    float32 = True

    def __post_init__(self) -> None:
        if self.sigma is not None and not 0 < self.sigma <= 255:
            raise ValueError(f"sigma must be above 0 and at most 255 (8-bit units), got {self.sigma:g}")
        if not 0 <= self.gain <= 255:
            raise ValueError(f"gain must be from 0 to 255, got {self.gain:g}")
        if self.gain and self.sigma is None:
            raise ValueError("with gain, give sigma too: the noise where there is no light")

    def error(
        self, network: Network, noisy: torch.Tensor, level: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        usable, remaining = clipping(noisy)
        variance = level.square().view(-1, 1, 1, 1) * remaining
        probe = torch.randn(noisy.shape, generator=generator, device=noisy.device, dtype=noisy.dtype)
        step = (STEP * level).clamp(min=1e-4).view(-1, 1, 1, 1)
        restored, moved = network(torch.cat([noisy, noisy + step * probe]), torch.cat([level, level])).chunk(2)
        risk = stein_risk(noisy, restored, (moved - restored) / step, probe, variance)
        return (risk * usable).sum((1, 2, 3)) / usable.sum((1, 2, 3)).clamp(min=1)
