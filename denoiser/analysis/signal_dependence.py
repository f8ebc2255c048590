"""Blind estimation of noise whose variance depends on the signal: one level, or a :class:`PoissonGaussian`."""

from collections.abc import Callable, Iterable

import numpy as np
import pywt
from scipy.optimize import minimize

from ..images.picture import Picture
from .noise_level import estimate_sigma, sample_parts
from .noise_model import PoissonGaussian

BLOCK = 8
"""Side of a block of wavelet coefficients, twice as many pixels: its mean energy is a measurement of the variance."""
MAX_BINS, MIN_BINS, BLOCKS_PER_BIN, MIN_BLOCKS = 12, 4, 8, 6
"""Blocks are sorted by brightness into bins, each of which gives one measurement for each direction of color."""
QUANTILE, BIAS = 0.3, 0.9
"""The energy of a bin is this quantile over its blocks, as texture only adds; white noise then has this share of it."""
DIRECTIONS = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
"""Directions of color in which photographs have little texture, so that noise shows."""
MAX_WHITE = 0.1
"""Largest share of values at white in a block: of noise cut off there little is left to measure."""
COSTS = (0.0, 0.02, 0.03, 0.06)
"""Added to the misfits of photons, speckle, and either with read noise: the more usual and the simpler win ties."""
MIN_WORTH = 1.0
"""Weaker noise, 8-bit units, is left at one level."""
MIN_MISFIT, MAX_SHARE, MIN_RATIO = 0.09, 0.6, 1.4
"""One level is given up if it misfits by so much (mean of the logarithm of the variance), if a model has at most this
share of the misfit, and if the deviations of the noise in the picture have this ratio."""


def estimate_noise(picture: Picture) -> float | PoissonGaussian:
    """Estimate the noise of a picture.

    The variance is measured in the finest diagonal wavelet coefficients of blocks of similar brightness, and a model is
    fitted to what a file holds of such noise: its mean and variance after it is cut off at black and white. One level
    is the answer unless another model fits much better.

    Source: Foi et al., see :mod:`denoiser.analysis.noise_model`, of whose fit this is a simpler form.

    Returns:
        :func:`estimate_sigma`'s level, 8-bit units, or a model.
    """
    level = estimate_sigma(picture)
    if level < MIN_WORTH:
        return level
    measured = _measure(sample_parts(picture.pixels))
    if measured is None:
        return level
    tones, _, energies = measured
    start = float(np.median(energies)) ** 0.5 * 255
    tone = 255 * float(np.median(tones)) + 0.1
    shot, share = start**2 / tone, start / tone

    flat = _fit(lambda p: PoissonGaussian(0, p[0]), [start], measured)
    fits = [
        _fit(lambda p: PoissonGaussian(p[0], 0), [shot], measured),
        _fit(lambda p: PoissonGaussian(0, 0, min(p[0], 1)), [share], measured),
        _fit(lambda p: PoissonGaussian(p[0], p[1]), [shot / 2, start / 1.4], measured),
        _fit(lambda p: PoissonGaussian(0, p[1], min(p[0], 1)), [share / 1.4, start / 1.4], measured),
    ]
    misfit, model = min(((fit[0] + cost, fit[1]) for fit, cost in zip(fits, COSTS)), key=lambda pair: pair[0])
    deviations = model.deviation(np.quantile(tones, (0.05, 0.95)))
    if flat[0] < MIN_MISFIT or misfit > MAX_SHARE * flat[0] or deviations[1] < MIN_RATIO * deviations[0]:
        return level
    return model


def _measure(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Mean color (N, C), squared color direction (N, C), noise variance (N,) of bins of blocks; None if too few."""
    if np.ptp(pixels, axis=2).max() < 1.5 / 255:  # gray, up to the rounding of JPEG
        pixels = pixels.mean(axis=2, keepdims=True)
    directions = DIRECTIONS if pixels.shape[2] == 3 else np.ones((1, 1))
    _, (_, _, diagonal) = pywt.dwt2(pixels, "db2", mode="periodization", axes=(0, 1))
    rows, columns = (side // (2 * BLOCK) for side in pixels.shape[:2])
    if rows * columns < MIN_BINS * BLOCKS_PER_BIN:
        return None

    def blocks(planes: np.ndarray, side: int) -> np.ndarray:
        """Planes (H, W, C) as (blocks, side, side, C)."""
        cut = planes[: rows * side, : columns * side].reshape(rows, side, columns, side, -1)
        return cut.swapaxes(1, 2).reshape(rows * columns, side, side, -1)

    colors = blocks(pixels, 2 * BLOCK)
    energies = (blocks(diagonal @ directions.T, BLOCK) ** 2).mean((1, 2))
    white = (colors >= 1 - 0.5 / 255).mean((1, 2, 3))
    usable = (white < MAX_WHITE) & (energies.min(1) > 1e-9)
    means, energies = colors.mean((1, 2))[usable], energies[usable]
    bins = min(MAX_BINS, len(means) // BLOCKS_PER_BIN)
    if bins < MIN_BINS:
        return None
    found = []
    for direction, energy in zip(directions**2, energies.T):
        for members in _bins(means @ direction, bins):
            variance = np.quantile(energy[members], QUANTILE)
            nearest = members[np.argsort(np.abs(energy[members] - variance))[: max(3, len(members) // 3)]]
            found.append((means[nearest].mean(0), direction, variance / BIAS))
    tones, weights, variances = zip(*found)
    return np.array(tones), np.array(weights), np.array(variances)


def _bins(tones: np.ndarray, count: int) -> list[np.ndarray]:
    """Indices of blocks of similar brightness; both the frequent and the rare tones of a picture get bins."""
    ranks = np.argsort(np.argsort(tones)) / len(tones)
    spread = (tones - tones.min()) / max(1e-9, np.ptp(tones) * (1 + 1e-6))
    numbers = ((ranks + spread) / 2 * count).astype(int)
    members = [np.flatnonzero(numbers == number) for number in range(count)]
    return [some for some in members if len(some) >= MIN_BLOCKS]


_VALUES = np.linspace(0, 1, 48) ** 1.5


def _misfit(model: PoissonGaussian, measured: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    """Mean distance of measured variances from a model's, as logarithms; texture, which adds to them, costs less."""
    tones, weights, energies = measured
    sampled, chances = model.sample(_VALUES, points=12)
    chances = chances / chances.sum(1, keepdims=True)
    means = (sampled * chances).sum(1)
    variances = (sampled**2 * chances).sum(1) - means**2
    expected = (np.interp(tones, means, variances) * weights).sum(1)
    excess = np.log(energies / np.maximum(expected, 1e-9))
    return float(np.mean(np.where(excess > 0, np.minimum(excess, 1), np.minimum(-1.5 * excess, 2))))


def _fit(
    make: Callable[[list[float]], PoissonGaussian],
    start: list[float],
    measured: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[float, PoissonGaussian]:
    """The model of least misfit, from positive starting values for its parameters: (misfit, model)."""
    first = np.log(np.maximum(start, 1e-6))
    simplex = np.vstack([first, first + np.diag([0.7, -0.7][: len(start)])])

    def build(logarithms: Iterable[float]) -> PoissonGaussian:
        return make([min(float(np.exp(one)), 255.0) for one in logarithms])

    options = {"xatol": 0.03, "fatol": 1e-3, "maxfev": 80, "initial_simplex": simplex}
    found = minimize(lambda p: _misfit(build(p), measured), first, method="Nelder-Mead", options=options)
    return float(found.fun), build(found.x.tolist())
