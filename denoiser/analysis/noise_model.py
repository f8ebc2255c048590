"""Noise whose variance depends on the signal: its model, and the transform that makes its variance constant.

A sensor counts photons and adds noise of its own: the variance at the value x is gain * x + read^2. A denoiser for
noise of one level is given the picture transformed so that the noise has one level everywhere, and its result is
transformed back. The algebraic inverse would be biased: a denoiser returns the mean of the transformed values, and the
transform of the mean is another value. The exact unbiased one is the value whose noise, cut off where a file ends and
transformed, has this mean. So zeros are counts where they are counts, and cut-off noise where they are that.

Sources: Foi et al., "Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data", TIP 2008,
https://doi.org/10.1109/TIP.2008.2001399 (the model); Makitalo and Foi, "Optimal Inversion of the Generalized Anscombe
Transformation for Poisson-Gaussian Noise", TIP 2013, https://doi.org/10.1109/TIP.2012.2202675 (the inverse).
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.special import gammaln, ndtr

MAX_COUNT = 60
"""Poisson counts are summed up to here; from a third of it on they are as good as Gaussian."""
FAR = 30
"""Deviations beyond which a Gaussian is nothing: its density would underflow, which numpy may be told to raise."""
FLUX_WINDOW, MAX_FLUX = 128, 0.25
"""Side of the window over which means are kept, pixels, the two margins of a tile; the most that they are changed."""
GRID = 4097
"""Values at which the transform is tabulated."""
MAX_CONTRAST, MAX_SPREAD = 5, 1.5
"""Largest ratio of the deviations in a picture that is allowed for, and the same times the relative deviation: what
strong noise takes far down, where the transform is steep, would lie far out."""


@dataclass(frozen=True)
class PoissonGaussian:
    """Noise of a sensor: the variance at the value x is gain * x + read^2 + (relative * x)^2, 8-bit units.

    Attributes:
        gain: 8-bit levels per electron: 255 / gain is the number of photons at white. 0: no shot noise.
        read: Standard deviation of the read noise, 8-bit units.
        relative: Deviation of multiplicative noise (speckle) as a share of the value.
    """

    gain: float
    read: float
    relative: float = 0.0

    def __post_init__(self) -> None:
        for name, high in (("gain", 255.0), ("read", 255.0), ("relative", 1.0)):
            if not 0 <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be from 0 to {high:g}, got {getattr(self, name):g}")

    @property
    def depends_on_signal(self) -> bool:
        """Whether it is more than noise of one level, ``read``."""
        return self.gain > 0 or self.relative > 0

    def scaled(self, factor: float) -> "PoissonGaussian":
        """The noise of the picture times ``factor``."""
        return PoissonGaussian(min(self.gain * factor, 255.0), min(self.read * factor, 255.0), self.relative)

    def deviation(self, values: np.ndarray) -> np.ndarray:
        """The standard deviation, on the scale of ``values``, in [0, 1]."""
        values = np.maximum(values, 0)
        return (self.gain / 255 * values + (self.read / 255) ** 2 + (self.relative * values) ** 2) ** 0.5

    def sample(self, values: np.ndarray, low: float = 0.0, high: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """What a file holds where the true value is one of ``values`` (N,): (N, M) values and their weights.

        Poisson counts with the nodes of a Gauss-Hermite quadrature around each, cut off at ``low`` and ``high``.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(16)
        center, spread, chance = self._mixture(values)
        sampled = (center[..., None] + spread[:, None, None] * nodes).clip(low, high)
        return sampled.reshape(len(values), -1), (chance[..., None] * weights / weights.sum()).reshape(len(values), -1)

    def moments(self, values: np.ndarray, low: float = 0.0, high: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance, each (N,), of what a file holds where the true value is one of ``values`` (N,)."""
        center, spread, chance = self._mixture(values)
        spread = np.maximum(spread, 1e-9)[:, None]
        mean, square = np.zeros_like(center), np.zeros_like(center)
        for end, sign in ((high, 1), (low, -1)):  # the Gaussian up to each end, and what is cut off there
            distance = ((end - center) / spread).clip(-FAR, FAR)
            share, density = ndtr(distance), spread * np.exp(-(distance**2) / 2) / (2 * np.pi) ** 0.5
            beyond = 1 - share if sign > 0 else share
            mean += sign * (center * share - density) + end * beyond
            square += sign * ((center**2 + spread**2) * share - (end + center) * density) + end**2 * beyond
        mean, square = ((chance * one).sum(1) / chance.sum(1) for one in (mean, square))
        return mean, square - mean**2

    def share_below(self, values: np.ndarray, end: float) -> np.ndarray:
        """The share of noisy values that are below ``end``, where the true value is one of ``values`` (N,); (N,)."""
        center, spread, chance = self._mixture(values)
        below = ndtr(((end - center) / np.maximum(spread, 1e-9)[:, None]).clip(-FAR, FAR))
        return (chance * below).sum(1) / chance.sum(1)

    def _mixture(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The Gaussians that the noise at ``values`` (N,) is made of: means (N, M), deviations (N,), weights (N, M)."""
        gain = self.gain / 255
        counts = np.arange(MAX_COUNT)
        few = values < gain * (MAX_COUNT / 3)
        rate = np.maximum(values / gain if gain else values, 1e-9)[:, None]
        exponent = counts * np.log(rate) - rate - gammaln(counts + 1)
        chance = np.exp(exponent.clip(-60)) * few[:, None]  # less would underflow, too
        chance[~few, 0] = 1
        center = np.where(few[:, None], gain * counts, values[:, None])
        spread = np.where(few, np.hypot(self.read / 255, self.relative * values), self.deviation(values))
        return center, spread, chance


class Stabilizer:
    """The variance-stabilizing transform of a noise model: 0 stays 0 and 1 stays 1.

    Args:
        model: The noise.
        low: The darkest value in the noisy picture: below 0, its noise is not cut off there.
        high: The brightest one: above 1, likewise.

    Attributes:
        sigma: Standard deviation of the noise in the transformed picture, on its scale.
    """

    def __init__(self, model: PoissonGaussian, low: float = 0.0, high: float = 1.0):
        high = max(high, 1.0)
        self._values = np.linspace(0, high, round(GRID * high))
        deviation = np.hypot(model.deviation(self._values), (3 / 8) ** 0.5 * model.gain / 255)  # Anscombe's offset
        contrast = min(MAX_CONTRAST, MAX_SPREAD / max(model.relative, 1e-6))
        deviation = np.maximum(deviation, max(float(np.interp(1, self._values, deviation)) / contrast, 1e-4))
        steps = (1 / deviation[1:] + 1 / deviation[:-1]) / 2 * self._values[1]
        transformed = np.append(0, np.cumsum(steps))
        self.sigma: float = 1 / float(np.interp(1, self._values, transformed))
        self._transformed = transformed * self.sigma
        if low < 0:  # there the noise is that at black
            self._values = np.append(low, self._values)
            self._transformed = np.append(low * self.sigma / deviation[0], self._transformed)
        self._true = np.linspace(0, high**0.5, 400) ** 2  # finer where the transform is steep
        cut = (0.0 if low >= 0 else low), (1.0 if high <= 1 else high)
        sampled, weights = model.sample(self._true, low=cut[0], high=cut[1])
        self._means = np.maximum.accumulate((self.apply(sampled) * weights).sum(1) / weights.sum(1))
        self._file_means, _ = model.moments(self._true, *cut)
        self._slopes = np.gradient(self._file_means, self._true)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """A picture, transformed; same shape and dtype."""
        return np.interp(pixels, self._values, self._transformed).astype(pixels.dtype)

    def invert(self, pixels: np.ndarray) -> np.ndarray:
        """Means of transformed noisy values -> the true values; same shape and dtype."""
        return np.interp(pixels, self._means, self._true).astype(pixels.dtype)

    def keep_flux(self, restored: np.ndarray, noisy: np.ndarray) -> np.ndarray:
        """A restored picture with the local mean that the noisy one says it has; black stays black.

        A denoiser's estimate is an average of transformed values, and the inverse of that is less than the average of
        the values. Under the model the noisy picture less what a file holds of the restored one has the mean 0.

        Args:
            restored: True values, float32 (H, W, C).
            noisy: The noisy picture as it was, not transformed; the same shape.

        Returns:
            float32, the same shape.
        """
        # Means of four pixels, of which there are fewer: restored ones differ little.
        given, some = _halved(noisy), _halved(restored)
        missing = given - np.interp(some, self._true, self._file_means)
        light = np.interp(some, self._true, self._slopes) * some
        missing, light = (uniform_filter(one, FLUX_WINDOW // 2, axes=(0, 1)) for one in (missing, light))
        share = (missing / np.maximum(light, 1e-6)).clip(-MAX_FLUX, MAX_FLUX).astype(np.float32)
        return restored * (1 + share.repeat(2, 0).repeat(2, 1)[: restored.shape[0], : restored.shape[1]])


def _halved(pixels: np.ndarray) -> np.ndarray:
    """Means over blocks of 2 x 2 pixels of (H, W, C)."""
    even = np.pad(pixels, [(0, side % 2) for side in pixels.shape[:2]] + [(0, 0)], "edge")
    rows = even[::2] + even[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) / 4
