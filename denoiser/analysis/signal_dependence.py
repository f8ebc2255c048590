"""Blind estimation of noise whose variance depends on the signal: one level, or a :class:`PoissonGaussian`."""

from collections.abc import Callable, Iterable

import numpy as np
from scipy.optimize import minimize

from ..images.picture import Picture
from .measured_parts import measured_parts
from .noise_level import (
    FINE,
    FINEST,
    brighten,
    cosines,
    estimate_sigma,
    frequencies,
    highest_level,
    largest_difference,
    windows,
)
from .noise_model import PoissonGaussian

MAX_BINS, MIN_BINS, MIN_PATCHES = 12, 4, 100
"""Patches are sorted by brightness into bins, each of which gives one measurement for each direction of color."""
QUIET, MIN_QUIET = 0.1, 60
"""Share of the patches of a bin, and least number, that are measured: those with the least texture."""
MIN_FLAT = 0.75
"""Least energy of the finest coefficients relative to all fine ones that noise has: 1 but for the texture in it."""
DIRECTIONS = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
"""Directions of color in which photographs have little texture, so that noise shows."""
MAX_WHITE = 0.1
"""Largest share of values at white in a block: of noise cut off there little is left to measure."""
COSTS = (0.0, 0.02, 0.06, 0.08)
"""Added to the misfits of photons, speckle, and either with read noise: the more usual and the simpler win ties."""
MIN_WORTH = 1.0
"""Weaker noise, 8-bit units, is left at one level."""
MIN_MISFIT, MAX_SHARE, MAX_MISFIT, MIN_RATIO = 0.09, 0.6, 0.23, 1.4
"""One level is given up if it misfits by so much (mean of the logarithm of the variance), if a model has at most this
share of the misfit and no more than what noise of photographs has, and if the deviations of the noise in the picture
have this ratio."""
MAX_HIGHEST = 1.35
"""Largest deviation of a model relative to :func:`highest_level`: photons have up to 1.24, most printed dots more."""


def estimate_noise(picture: Picture) -> float | PoissonGaussian:
    """Estimate the noise of a picture.

    The variance is measured in the fine cosine coefficients of the quietest patches of similar brightness, and a model
    is fitted to what a file holds of such noise: its mean and variance after it is cut off at black and white. One
    level is the answer unless another model fits much better.

    Source: Foi et al., see :mod:`denoiser.analysis.noise_model`, of whose fit this is a simpler form.

    Returns:
        :func:`estimate_sigma`'s level, 8-bit units, or a model.
    """
    picture, gain = brighten(picture)
    found = _estimate_noise(picture)
    return found.scaled(1 / gain) if isinstance(found, PoissonGaussian) else found / gain


def _estimate_noise(picture: Picture) -> float | PoissonGaussian:
    """:func:`estimate_noise` for a picture that is not dim."""
    level = estimate_sigma(picture)
    if level < MIN_WORTH:
        return level
    pixels = measured_parts(picture)
    measured = _measure(pixels)
    if measured is None:
        return level
    tones, _, energies = measured
    start = float(np.median(energies)) ** 0.5 * 255
    tone = 255 * float(np.median(tones)) + 0.1
    shot, share = start**2 / tone, start / tone

    def fit(make: Callable[[list[float]], PoissonGaussian], first: list[float]) -> tuple[float, PoissonGaussian]:
        return _fit(make, first, measured, (min(float(pixels.min()), 0.0), max(float(pixels.max()), 1.0)))

    flat = fit(lambda p: PoissonGaussian(0, p[0]), [start])
    if flat[0] < MIN_MISFIT:
        return level
    fits = [
        fit(lambda p: PoissonGaussian(p[0], 0), [shot]),
        fit(lambda p: PoissonGaussian(0, 0, min(p[0], 1)), [share]),
        fit(lambda p: PoissonGaussian(p[0], p[1]), [shot / 2, start / 1.4]),
        fit(lambda p: PoissonGaussian(0, p[1], min(p[0], 1)), [share / 1.4, start / 1.4]),
    ]
    misfit, model = min(((fit[0] + cost, fit[1]) for fit, cost in zip(fits, COSTS)), key=lambda pair: pair[0])
    deviations = model.deviation(np.quantile(tones, (0.05, 0.95)))
    if 255 * deviations[1] > MAX_HIGHEST * highest_level(pixels):
        return level  # edges
    if misfit > min(MAX_SHARE * flat[0], MAX_MISFIT) or deviations[1] < MIN_RATIO * deviations[0]:
        return level
    return model


def _measure(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Mean color (N, C), squared color direction (N, C), noise variance (N,) of bins of patches; None if too few."""
    if largest_difference(pixels) < 1.5 / 255:  # gray, up to the rounding of JPEG
        pixels = pixels.mean(axis=2, keepdims=True)
    directions = DIRECTIONS if pixels.shape[2] == 3 else np.ones((1, 1))
    colors = [windows(plane) for plane in np.moveaxis(pixels, -1, 0)]
    white = np.mean([(one >= 1 - 0.5 / 255).mean((2, 3)) for one in colors], axis=0).ravel()
    coefficients = np.stack([cosines(one) for one in colors], axis=1)
    sums = frequencies(coefficients[:, 0])
    along = np.einsum("dc,ncyx->dnyx", directions, coefficients)
    texture = (along[..., (sums > 0) & (sums < FINE)] ** 2).sum(2)
    energies, finest = ((along[..., sums >= start] ** 2).mean(2) for start in (FINE, FINEST))
    usable = (white < MAX_WHITE) & (energies.min(0) > 1e-9)
    means = coefficients[usable, :, 0, 0] / np.prod(coefficients.shape[2:]) ** 0.5
    if len(means) < MIN_BINS * MIN_PATCHES:
        return None
    found, ratios = [], []
    for direction, coarse, fine, finer in zip(directions**2, *(one[:, usable] for one in (texture, energies, finest))):
        for members in _bins(means @ direction, MAX_BINS):
            count = max(MIN_QUIET, int(QUIET * len(members)))
            quiet = members[np.argpartition(coarse[members], min(count, len(members)) - 1)[:count]]
            found.append((means[quiet].mean(0), direction, fine[quiet].mean()))
            ratios.append(finer[quiet].mean() / fine[quiet].mean())
    # Without color the texture of bright areas looks like photons, but for its spectrum, which falls.
    if len(directions) == 1:
        found = [one for one, ratio in zip(found, ratios) if min(ratio, np.median(ratios)) >= MIN_FLAT]
    if not found:
        return None
    tones, weights, variances = zip(*found)
    return np.array(tones), np.array(weights), np.array(variances)


def _bins(tones: np.ndarray, count: int) -> list[np.ndarray]:
    """Indices of blocks of similar brightness; both the frequent and the rare tones of a picture get bins."""
    ranks = np.argsort(np.argsort(tones)) / len(tones)
    spread = (tones - tones.min()) / max(1e-9, np.ptp(tones) * (1 + 1e-6))
    numbers = ((ranks + spread) / 2 * count).astype(int)
    members = [np.flatnonzero(numbers == number) for number in range(count)]
    return [some for some in members if len(some) >= MIN_PATCHES]


_VALUES = np.linspace(0, 1, 48) ** 1.5


def _misfit(
    model: PoissonGaussian, measured: tuple[np.ndarray, np.ndarray, np.ndarray], limits: tuple[float, float]
) -> float:
    """Mean distance of measured variances from a model's, as logarithms; texture, which adds to them, costs less.

    Args:
        model: The noise.
        measured: See :func:`_measure`.
        limits: Between which the noisy values lie: those of the picture, or 0 and 1 where the noise is cut off.
    """
    tones, weights, energies = measured
    sampled, chances = model.sample(_VALUES, 12, *limits)
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
    limits: tuple[float, float],
) -> tuple[float, PoissonGaussian]:
    """The model of least misfit, from positive starting values for its parameters: (misfit, model)."""
    first = np.log(np.maximum(start, 1e-6))
    simplex = np.vstack([first, first + np.diag([0.7, -0.7][: len(start)])])

    def build(logarithms: Iterable[float]) -> PoissonGaussian:
        return make([min(float(np.exp(one)), 255.0) for one in logarithms])

    options = {"xatol": 0.03, "fatol": 1e-3, "maxfev": 80, "initial_simplex": simplex}
    found = minimize(lambda p: _misfit(build(p), measured, limits), first, method="Nelder-Mead", options=options)
    return float(found.fun), build(found.x.tolist())
