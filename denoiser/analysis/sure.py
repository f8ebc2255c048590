"""How good a denoised picture is, without the clean one: Stein's unbiased risk estimate (SURE).

For Gaussian noise the mean squared error of an estimate f(y) has the same mean as

    |f(y) - y|^2 / N - sigma^2 + 2 sigma^2 div f(y) / N,

in which the clean picture does not occur. The divergence is measured by one more evaluation at a randomly moved picture
(Monte-Carlo SURE). Where the variance depends on the signal, as a sensor's does, it stands in the sums for each pixel,
taken at the noisy value, of which it is a linear function, so that the mean stays right; the terms of higher order of
Poisson noise are left out, which is accurate from about ten photons on.

The function must be (almost) continuous: of hard thresholds and medians the divergence is rough. What it is told of the
noise must not be estimated from the picture that is moved.

Sources: Stein, Annals of Statistics 1981; Ramani, Blu and Unser, "Monte-Carlo SURE", TIP 2008,
https://doi.org/10.1109/TIP.2008.2001404; Le Montagner, Angelini and Olivo-Marin, "An Unbiased Risk Estimator for Image
Denoising in the Presence of Mixed Poisson-Gaussian Noise", TIP 2014, https://doi.org/10.1109/TIP.2014.2300821; the
standard error: Bellec and Zhang, "Second-order Stein: SURE for SURE and Other Applications", Annals of Statistics 2021,
https://arxiv.org/abs/1811.04121; the uncertainty: Manor and Michaeli, "On the Posterior Distribution in Denoising",
ICLR 2024, https://arxiv.org/abs/2309.13598.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from .clipping import remaining_deviation
from .noise_model import PoissonGaussian

STEP = 0.02
"""Step of the finite difference, relative to the noise: large against the rounding of float32. With 0.1 the error is
estimated 3 % too high at sigma 50: a picture that is moved so far is a noisier one."""
WINDOW, MAX_CLIPPED = 9, 0.2
"""Where more than this share of the values in a window of this side is black or white, too little noise is left."""
SPREAD = 3
"""Width of the Gaussian window over which the uncertainty of a pixel is averaged, pixels."""

Estimate = Callable[[np.ndarray], np.ndarray]
"""Noisy pixels (H, W, C) -> their denoised picture, the same shape."""


def stein_risk(noisy: Any, restored: Any, change: Any, probe: Any, variance: Any) -> Any:
    """Terms whose mean is an estimate of the mean squared error; arrays or tensors of one shape.

    Args:
        noisy: y.
        restored: f(y).
        change: (f(y + step * probe) - f(y)) / step.
        probe: Random, with mean 0 and variance 1.
        variance: Of the noise.
    """
    return (restored - noisy) ** 2 - variance + 2 * variance * probe * change


_REMAINING = torch.from_numpy(remaining_deviation(np.linspace(0, MAX_CLIPPED, 201)) ** 2).float()


def clipping(noisy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What cutting off at black and white has left of the noise of (B, C, H, W) in [0, 1].

    Returns:
        1 where that is enough for an estimate, else 0; the share of its variance.
    """
    clipped = ((noisy == 0) | (noisy == 1)).float()
    share = F.avg_pool2d(clipped, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
    entry = (share * (len(_REMAINING) - 1) / MAX_CLIPPED).round().long().clamp(max=len(_REMAINING) - 1)
    return (share <= MAX_CLIPPED).float(), _REMAINING.to(noisy.device)[entry]


@dataclass(frozen=True)
class RiskEstimate:
    """What SURE says of a denoised picture.

    Attributes:
        restored: The denoised picture, float32 (H, W, C).
        mse: Estimated mean squared error on the [0, 1] scale; by chance it can be negative where the error is small.
        standard_error: Of ``mse``.
        strength: The share of what was removed, 0 to 1, at which a blend of noisy and denoised has the least estimated
            error.
        least_mse: The estimated mean squared error of that blend.
        used: Share of the values that could be used: areas where noise is cut off at black or white are left out.
        uncertainty: Expected standard deviation of the error of each pixel, (H, W), 8-bit units: what the picture
            leaves open if the denoiser is the best one for such pictures. A denoiser's own faults are not in it.
    """

    restored: np.ndarray = field(repr=False)
    mse: float
    standard_error: float
    strength: float
    least_mse: float
    used: float
    uncertainty: np.ndarray = field(repr=False)

    @property
    def psnr(self) -> float:
        """The estimated PSNR, dB; infinite where ``mse`` is not positive."""
        return _psnr(self.mse)

    @property
    def psnr_range(self) -> tuple[float, float]:
        """Two standard errors below and above, dB; the second may be infinite."""
        return _psnr(self.mse + 2 * self.standard_error), _psnr(self.mse - 2 * self.standard_error)

    def __str__(self) -> str:
        if self.mse <= 0:
            return "no estimate of the PSNR: there is less noise than its level says, or too little of the picture"
        low, high = self.psnr_range
        return f"estimated PSNR {self.psnr:.1f} dB ({low:.1f} to {high:.1f})"


def _psnr(mse: float) -> float:
    return -10 * math.log10(mse) if mse > 0 else float("inf")


def noise_variance(noisy: np.ndarray, noise: float | PoissonGaussian) -> np.ndarray:
    """The variance of the noise of each value on the [0, 1] scale: its mean is right, single ones may be negative.

    Raises:
        ValueError: The picture is not finite (H, W, C), or the level is not from 0 to 255.
    """
    if np.ndim(noisy) != 3 or not isinstance(noisy, np.ndarray) or not np.isfinite(noisy).all():
        raise ValueError("give the picture as an array (H, W, C) of finite numbers, a gray one as (H, W, 1)")
    if not isinstance(noise, PoissonGaussian):
        if not 0 <= noise <= 255:  # False for NaN too
            raise ValueError(f"the level of the noise must be from 0 to 255 (8-bit units), got {noise:g}")
        return np.full(noisy.shape, (noise / 255) ** 2)
    relative = noise.relative**2 / (1 + noise.relative**2)  # of the squared noisy value, which the noise is part of
    additive = noise.gain / 255 * noisy.astype(np.float64) + (noise.read / 255) ** 2
    return (1 - relative) * additive + relative * noisy**2


def estimate_risk(denoise: Estimate, noisy: np.ndarray, noise: float | PoissonGaussian, seed: int = 0) -> RiskEstimate:
    """Estimate the mean squared error of a denoised picture, without the clean one.

    Args:
        denoise: What is measured; it is called twice. ``lambda pixels: denoiser(pixels, sigma)`` for a checkpoint, best
            in float32.
        noisy: Float32 (H, W, C), nominally in [0, 1]; independent noise of each value.
        noise: Its standard deviation in 8-bit units, or its model.
        seed: Of the random probe.

    Raises:
        ValueError: There is no noise, it is cut off at black or white everywhere, or see :func:`noise_variance`.
    """
    variance = noise_variance(noisy, noise)
    level = max(float(np.mean(variance)), 0.0) ** 0.5
    if level < 1e-4:
        raise ValueError("SURE needs the level of the noise, which is above 0")
    planes = torch.from_numpy(np.ascontiguousarray(noisy)).float().permute(2, 0, 1)[None]
    usable, remaining = (one[0].permute(1, 2, 0).numpy() for one in clipping(planes))
    variance = variance * remaining
    count = float(usable.sum())
    if not count:
        raise ValueError("the noise is cut off at black or white everywhere: nothing can be said of this picture")
    probe = np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), noisy.shape)
    restored = denoise(noisy)
    change = (denoise(noisy + np.float32(STEP * level) * probe) - restored).astype(np.float64) / (STEP * level)
    removed = (noisy - restored).astype(np.float64)

    mse = float((stein_risk(noisy, restored, change, probe, variance) * usable).sum()) / count
    # The derivative is taken as symmetric; the last term is the chance of the probe.
    moved = (variance * change) ** 2
    spread = 4 * variance * removed**2 + 4 * moved - 2 * variance**2 + 8 * moved
    divergence = variance * probe * change
    energy = max(float((removed**2 * usable).sum()), 1e-12)
    best = float(((variance - divergence) * usable).sum()) / energy
    strength = min(max(best, 0.0), 1.0)
    local = gaussian_filter(divergence.mean(2), SPREAD)
    return RiskEstimate(
        restored=restored,
        mse=mse,
        standard_error=max(float((spread * usable).sum()), 0.0) ** 0.5 / count,
        strength=strength,
        least_mse=mse + energy / count * (1 - strength) * (2 * best - 1 - strength),
        used=count / noisy.size,
        uncertainty=(255 * np.sqrt(local.clip(min=0))).astype(np.float32),
    )


def choose(
    estimates: Sequence[Estimate],
    noisy: np.ndarray,
    noise: float | PoissonGaussian,
    progress: Callable[[float], object] | None = None,
) -> tuple[int, list[RiskEstimate]]:
    """Which of several denoisers, or settings of one, has the least estimated error on a picture, and all estimates.

    All are moved by the same probe, and the chance of the noise is common to them: their differences are far more
    certain than each estimate. ``progress`` is called with the share done; an exception it raises stops it.
    """
    found = []
    for index, one in enumerate(estimates):
        found.append(estimate_risk(one, noisy, noise))
        if progress:
            progress((index + 1) / len(estimates))
    return min(range(len(found)), key=lambda index: found[index].mse), found
