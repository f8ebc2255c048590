"""What was removed from a noisy picture: noise, or structure too. No clean picture is needed.

What is removed of white noise is white: neighbors are independent, and its local energy, as it is and after a blur,
varies no more than chance allows. Where an outline or a texture was removed the local energy is larger. A denoiser that
leaves slow noise in the picture makes it smaller, which is no fault, so the test is one-sided.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from .noise_model import PoissonGaussian
from .sure import noise_variance

BLURS, WINDOW = (0.0, 1.0, 2.0), 4.0
"""Deviations of Gaussian windows, pixels: of the blurs before the energy is taken, and of that which averages it."""
CHANCE = 5.0
"""Standard deviations by which the local energy has to exceed that of noise to count as structure."""
MIN_SHARE = 0.01
"""Share of the picture from which on structure is reported."""
SHARED = 0.1
"""Correlation of neighbors from which on the whole residual is no white noise."""
MIN_REMOVED, MAX_REMOVED = 0.8, 1.15
"""Deviation of the residual relative to that of the noise: noise stays below the first, more was removed above."""
BINS = 41


@dataclass(frozen=True)
class Residual:
    """What can be said of noisy - denoised.

    Attributes:
        deviation: Its standard deviation, 8-bit units.
        expected: That of the noise, 8-bit units.
        correlation: Of neighbors that share a side, -1..1: about 0 for white noise.
        structure: How far the local energy exceeds that of noise, in standard deviations of chance, float32 (H, W):
            above ``CHANCE`` structure was removed.
        share: Of the picture above ``CHANCE``.
        centers: Values of the histogram, in standard deviations of the noise (``BINS``,).
        density: Of the residual there.
        gaussian: That of Gaussian noise there.
        distance: Largest distance of the residual's distribution from the Gaussian one of its own deviation, 0..1.
    """

    deviation: float
    expected: float
    correlation: float
    structure: np.ndarray = field(repr=False)
    share: float
    centers: np.ndarray = field(repr=False)
    density: np.ndarray = field(repr=False)
    gaussian: np.ndarray = field(repr=False)
    distance: float

    @property
    def looks_like_noise(self) -> bool:
        """Whether nothing but noise was found in it."""
        return self.share < MIN_SHARE and self.correlation < SHARED and self.deviation <= MAX_REMOVED * self.expected

    @property
    def kind(self) -> str:
        """What was removed: "noise", "part" of it, coarse "grain", "more" than noise, or "structure" in some areas."""
        if self.deviation < MIN_REMOVED * self.expected:
            return "part"
        if self.share >= MIN_SHARE:
            return "structure"
        if self.correlation >= SHARED:
            return "grain"
        return "more" if self.deviation > MAX_REMOVED * self.expected else "noise"

    def __str__(self) -> str:
        """A sentence or two for people."""
        return {
            "part": f"Only part of the noise was removed: {self.deviation:.1f} of {self.expected:.1f} levels. "
            "If the picture still looks noisy, raise the strength or the noise level.",
            "structure": f"Structure was removed in {100 * self.share:.0f} % of the picture: see the map. A lower "
            "noise level or strength keeps more of it.",
            "grain": "What was removed is shared by neighboring pixels: coarse grain, or fine texture everywhere. "
            "Compare with a lower strength.",
            "more": f"More was removed than the noise level says: {self.deviation:.1f} instead of {self.expected:.1f} "
            "levels. The level is too low, or texture was removed everywhere.",
            "noise": "What was removed looks like noise.",
        }[self.kind]


def examine_residual(noisy: np.ndarray, restored: np.ndarray, noise: float | PoissonGaussian) -> Residual:
    """Examine what was removed.

    Args:
        noisy: Float (H, W, C), nominally in [0, 1].
        restored: The denoised picture, same shape.
        noise: Its standard deviation in 8-bit units, or its model.

    Raises:
        ValueError: The pictures differ in shape, the noise is 0, or see :func:`noise_variance`.
    """
    if noisy.shape != restored.shape:
        raise ValueError(f"the pictures differ in shape: {noisy.shape} and {restored.shape}")
    variance = noise_variance(noisy, noise)
    if isinstance(noise, PoissonGaussian):  # the denoised picture is nearer to the true values
        variance = noise.deviation(restored.astype(np.float64)) ** 2
    mean_variance = float(np.mean(variance))
    if mean_variance <= 0:
        raise ValueError("give the level of the noise, which is above 0")
    removed = noisy.astype(np.float64) - restored
    standardized = removed / np.sqrt(np.maximum(variance, mean_variance / 100))
    correlation = _neighbor_correlation(standardized)
    structure = _structure(standardized, correlation)
    centers, density = _histogram(standardized)
    return Residual(
        deviation=255 * float(removed.std()),
        expected=255 * mean_variance**0.5,
        correlation=correlation,
        structure=structure,
        share=float((structure > CHANCE).mean()),
        centers=centers,
        density=density,
        gaussian=np.exp(-(centers**2) / 2) / (2 * np.pi) ** 0.5,
        distance=_distance(standardized),
    )


def _structure(standardized: np.ndarray, correlation: float) -> np.ndarray:
    """The largest excess of local energy over the blurs; see :attr:`Residual.structure`."""
    largest = np.full(standardized.shape[:2], -np.inf)
    # Noise that neighbors share is as if blurred already, by a Gaussian window whose values correlate so.
    grain = -1 / (4 * np.log(min(correlation, 0.99))) if correlation > SHARED else 0.0
    for blur in BLURS:
        local = gaussian_filter(standardized, (blur, blur, 0), mode="reflect") if blur else standardized
        energy = gaussian_filter((local**2).mean(2), WINDOW, mode="reflect")
        expected = 1 / (4 * np.pi * blur**2) if blur else 1.0  # what the window leaves of the variance of white noise
        # A level that is wrong, or noise that neighbors share, is the same everywhere and no structure.
        energy /= max(expected, float(np.median(energy)))
        # Squares of normal values have variance 2; they correlate over 2 pi blur^2 of the 4 pi WINDOW^2 pixels.
        area = max(1.0, 2 * np.pi * (blur**2 + grain))
        variance = 2 * area / (4 * np.pi * WINDOW**2) / standardized.shape[2]
        # The cube root of a mean of squares is nearly normal (Wilson and Hilferty, 1931).
        largest = np.maximum(largest, (np.cbrt(energy) - (1 - variance / 9)) / (variance**0.5 / 3))
    return largest.astype(np.float32)


def _neighbor_correlation(standardized: np.ndarray) -> float:
    """Mean correlation of values beside and below each other."""
    centered = standardized - standardized.mean((0, 1))
    energy = float((centered**2).mean())
    if energy < 1e-12:
        return 0.0
    pairs = [centered[1:] * centered[:-1], centered[:, 1:] * centered[:, :-1]]
    return float(np.mean([pair.mean() for pair in pairs if pair.size])) / energy if min(centered.shape[:2]) > 1 else 0.0


def _histogram(standardized: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    density, edges = np.histogram(standardized.clip(-4.99, 4.99), BINS, (-5, 5), density=True)
    return (edges[1:] + edges[:-1]) / 2, density


def _distance(standardized: np.ndarray) -> float:
    """Kolmogorov's distance from the Gaussian distribution of the same mean and deviation."""
    values = np.sort(standardized, axis=None)
    deviation = float(values.std())
    if deviation < 1e-9:
        return 1.0
    expected = ndtr((values - values.mean()) / deviation)
    return float(np.abs(expected - (np.arange(len(values)) + 0.5) / len(values)).max())
