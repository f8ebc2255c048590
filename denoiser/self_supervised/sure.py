"""SURE: Stein's unbiased estimate of the error against the clean picture, from the noisy one and its noise level."""

from dataclasses import dataclass

import torch

from ._base import Network, Objective

STEP = 1e-3
"""Step of the finite difference: small against the noise, large against the rounding of float32."""


@dataclass(frozen=True)
class Sure(Objective):
    """Minimize Stein's unbiased risk estimate, the divergence in it by a random probe.

    Soltanayev and Chun, "Training deep learning based denoisers without ground truth data", NeurIPS 2018,
    https://arxiv.org/abs/1803.01314; Metzler et al., "Unsupervised Learning with Stein's Unbiased Risk Estimator",
    2018, https://arxiv.org/abs/1805.10531; the probe: Ramani, Blu and Unser, "Monte-Carlo SURE", TIP 2008,
    https://doi.org/10.1109/TIP.2008.2001404. Assumption: Gaussian noise, independent between pixels, of a known or
    well estimated level. With ``gain`` the variance grows with the signal, as a sensor's does; the shot noise enters to
    first order (Le Montagner, Angelini and Olivo-Marin, "An Unbiased Risk Estimator for Image Denoising in the Presence
    of Mixed Poisson-Gaussian Noise", TIP 2014, https://doi.org/10.1109/TIP.2014.2300821).

    Attributes:
        sigma: Standard deviation of the noise in 8-bit units, with ``gain`` that of its constant part; None: estimated
            for each picture.
        gain: The variance at x is gain * x / 255 + (sigma / 255)^2: 8-bit levels per electron.
    """

    sigma: float | None = None
    gain: float = 0.0

    label = "SURE"
    source = "Soltanayev and Chun, NeurIPS 2018, https://arxiv.org/abs/1803.01314"
    assumption = "The noise is Gaussian (or a sensor's), independent between pixels, and its level is right."
    float32 = True

    def __post_init__(self):
        if self.sigma is not None and not 0 < self.sigma <= 255:
            raise ValueError(f"sigma must be above 0 and at most 255 (8-bit units), got {self.sigma:g}")
        if not 0 <= self.gain <= 255:
            raise ValueError(f"gain must be from 0 to 255, got {self.gain:g}")
        if self.gain and self.sigma is None:
            raise ValueError("with gain, give sigma too: the noise where there is no light")

    def for_network(self, blind: bool) -> "Sure":
        # The others get pictures whose noise was brought to one level: that is all that is left to know.
        return self if blind else Sure()

    def variance(self, noisy: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """The variance of the noise, (B, 1, 1, 1) or with ``gain`` (B, C, H, W), on the squared scale of ``noisy``."""
        sigma = level if self.sigma is None else torch.full_like(level, self.sigma / 255)
        constant = sigma.square().view(-1, 1, 1, 1)
        return constant + noisy.clamp(min=0) * (self.gain / 255) if self.gain else constant

    def error(
        self, network: Network, noisy: torch.Tensor, level: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        variance = self.variance(noisy, level)
        probe = torch.randn(noisy.shape, generator=generator, device=noisy.device, dtype=noisy.dtype)
        restored, moved = network(torch.cat([noisy, noisy + STEP * probe]), torch.cat([level, level])).chunk(2)
        divergence = variance * probe * (moved - restored) / STEP
        return ((restored - noisy).square() - variance + 2 * divergence).mean((1, 2, 3))
