"""Blind estimation of noise whose variance depends on the signal: one level, or a :class:`PoissonGaussian`."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

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
DARK, DARK_CHANCE, DARK_WEIGHT = np.array([0.001, 0.25, 0.6]), 0.02, 3.0
"""Values, relative to the level, below which the share of values is compared, too; by how much a share may be wrong, as
patches of even brightness have fewer extremes; what more costs beside a wrong variance. Without read noise what holds
no electron is black; with it half is, and the rest is above."""
COSTS = (0.0, 0.02, 0.06, 0.08)
"""Added to the misfits of photons, speckle, and either with read noise: the more usual and the simpler win ties."""
MIN_WORTH = 1.0
"""Weaker noise, 8-bit units, is left at one level."""
MIN_MISFIT, MAX_SHARE, MAX_MISFIT, MIN_RATIO, MAX_DARK = 0.09, 0.6, 0.23, 1.4, 0.5
"""One level is given up if it misfits by so much (mean of the logarithm of the variance), if a model has at most this
share of the misfit and no more than what noise of photographs has, and if the deviations of the noise in the picture
have this ratio or it has at most half the misfit of dark values."""
MAX_HIGHEST = 1.35
"""Largest deviation of a model relative to :func:`highest_level`: photons have up to 1.24, most printed dots more."""


def estimate_noise(picture: Picture) -> float | PoissonGaussian:
    """Estimate the noise of a picture.

    The variance is measured in the fine cosine coefficients of the quietest patches of similar brightness, and a model
    is fitted to what a file holds of such noise: its mean and variance after it is cut off at black and white, and the
    share of dark values. One level is the answer unless another model fits much better.

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
    dark = DARK * level / 255
    if picture.maximum > 1:  # a file's values differ by steps
        dark = (np.round(dark * picture.maximum) + 0.5) / picture.maximum
    measured = _measure(pixels, dark)
    if measured is None:
        return level
    start = float(np.median(measured.variances)) ** 0.5 * 255
    tone = 255 * float(np.median(measured.tones)) + 0.1
    shot, share = start**2 / tone, start / tone
    limits = min(float(pixels.min()), 0.0), max(float(pixels.max()), 1.0)

    def fit(make: Callable[[list[float]], PoissonGaussian], first: list[float]) -> _Fit:
        return _fit(make, first, measured, limits, dark)

    flat = fit(lambda p: PoissonGaussian(0, p[0]), [start])
    if flat.misfit < MIN_MISFIT:
        return level
    photons = fit(lambda p: PoissonGaussian(p[0], 0), [shot])
    starts = [shot / 2, start / 1.4], [photons.model.gain, start / 6]  # much read noise and little: the best is local
    fits = [
        photons,
        fit(lambda p: PoissonGaussian(0, 0, min(p[0], 1)), [share]),
        min((fit(lambda p: PoissonGaussian(p[0], p[1]), one) for one in starts), key=lambda one: one.total),
        fit(lambda p: PoissonGaussian(0, p[1], min(p[0], 1)), [share / 1.4, start / 1.4]),
    ]
    cost, best = min(((cost, one) for one, cost in zip(fits, COSTS)), key=lambda pair: pair[0] + pair[1].total)
    deviations = best.model.deviation(np.quantile(measured.tones, (0.05, 0.95)))
    if 255 * deviations[1] > MAX_HIGHEST * highest_level(pixels):
        return level  # edges
    if cost + best.total > MAX_SHARE * flat.total or cost + best.misfit > MAX_MISFIT:
        return level
    is_level = deviations[1] < MIN_RATIO * deviations[0] and best.dark >= MAX_DARK * flat.dark
    return level if is_level else best.model


class _Measured(NamedTuple):
    """What is measured of B bins of patches, of C planes each."""

    tones: np.ndarray
    """Mean color (B, C)."""
    weights: np.ndarray
    """Squared direction of color (B, C) in which the variance is measured."""
    variances: np.ndarray
    """Of the noise (B,)."""
    even: np.ndarray
    """Mean color (B, C) of patches of even brightness."""
    dark: np.ndarray
    """Share of their values below each end of ``DARK``, (B, C, ends)."""


class _Fit(NamedTuple):
    model: PoissonGaussian
    misfit: float
    """Of the variances."""
    dark: float
    """Of the shares of dark values."""

    @property
    def total(self) -> float:
        return self.misfit + DARK_WEIGHT * self.dark


def _measure(pixels: np.ndarray, dark: np.ndarray) -> _Measured | None:
    """Measure the noise in bins of patches of similar brightness; None if there are too few patches."""
    if largest_difference(pixels) < 1.5 / 255:  # gray, up to the rounding of JPEG
        pixels = pixels.mean(axis=2, keepdims=True)
    directions = DIRECTIONS if pixels.shape[2] == 3 else np.ones((1, 1))
    colors = [windows(plane) for plane in np.moveaxis(pixels, -1, 0)]
    white = np.mean([(one >= 1 - 0.5 / 255).mean((2, 3)) for one in colors], axis=0).ravel()
    below = np.stack([[(one < end).mean((2, 3)).ravel() for end in dark] for one in colors]).transpose(2, 0, 1)
    coefficients = np.stack([cosines(one) for one in colors], axis=1)
    sums = frequencies(coefficients[:, 0])
    along = np.einsum("dc,ncyx->dnyx", directions, coefficients)
    coarse = (sums > 0) & (sums < FINE)
    texture = (along[..., coarse] ** 2).sum(2)
    energies, finest = ((along[..., sums >= start] ** 2).mean(2) for start in (FINE, FINEST))
    usable = (white < MAX_WHITE) & (energies.min(0) > 1e-9)
    means, below = coefficients[usable, :, 0, 0] / np.prod(coefficients.shape[2:]) ** 0.5, below[usable]
    shades = (coefficients.mean(1)[usable][:, coarse] ** 2).sum(1)
    if len(means) < MIN_BINS * MIN_PATCHES:
        return None
    found, ratios = [], []
    for direction, rough, fine, finer in zip(directions**2, *(one[:, usable] for one in (texture, energies, finest))):
        for members in _bins(means @ direction, MAX_BINS):
            count = max(MIN_QUIET, int(QUIET * len(members)))
            quiet, even = (
                members[np.argpartition(one[members], min(count, len(members)) - 1)[:count]] for one in (rough, shades)
            )
            shares = means[even].mean(0), below[even].mean(0)
            found.append((means[quiet].mean(0), direction, fine[quiet].mean(), *shares))
            ratios.append(finer[quiet].mean() / fine[quiet].mean())
    # Without color the texture of bright areas looks like photons, but for its spectrum, which falls.
    if len(directions) == 1:
        found = [one for one, ratio in zip(found, ratios) if min(ratio, np.median(ratios)) >= MIN_FLAT]
    if not found:
        return None
    return _Measured(*map(np.array, zip(*found)))


def _bins(tones: np.ndarray, count: int) -> list[np.ndarray]:
    """Indices of blocks of similar brightness; both the frequent and the rare tones of a picture get bins."""
    ranks = np.argsort(np.argsort(tones)) / len(tones)
    spread = (tones - tones.min()) / max(1e-9, np.ptp(tones) * (1 + 1e-6))
    numbers = ((ranks + spread) / 2 * count).astype(int)
    members = [np.flatnonzero(numbers == number) for number in range(count)]
    return [some for some in members if len(some) >= MIN_PATCHES]


_VALUES = np.linspace(0, 1, 48) ** 1.5


def _misfit(
    model: PoissonGaussian, measured: _Measured, limits: tuple[float, float], dark: np.ndarray
) -> tuple[float, float]:
    """Mean distance of measured variances from a model's, and of the shares of dark values.

    The variances as logarithms; texture, which adds to them, costs less.

    Args:
        model: The noise.
        measured: See :func:`_measure`.
        limits: Between which the noisy values lie: those of the picture, or 0 and 1 where the noise is cut off.
        dark: Below which values the shares are counted.
    """
    means, variances = model.moments(_VALUES, *limits)
    expected = (np.interp(measured.tones, means, variances) * measured.weights).sum(1)
    excess = np.log(measured.variances / np.maximum(expected, 1e-9))
    shares = [np.interp(measured.even, means, model.share_below(_VALUES, end)) for end in dark]
    return (
        float(np.mean(np.where(excess > 0, np.minimum(excess, 1), np.minimum(-1.5 * excess, 2)))),
        float(np.maximum(np.abs(np.stack(shares, axis=-1) - measured.dark) - DARK_CHANCE, 0).mean()),
    )


def _fit(
    make: Callable[[list[float]], PoissonGaussian],
    start: list[float],
    measured: _Measured,
    limits: tuple[float, float],
    dark: np.ndarray,
) -> _Fit:
    """The model of least misfit, from positive starting values for its parameters."""
    first = np.log(np.maximum(start, 1e-6))
    simplex = np.vstack([first, first + np.diag([0.7, -0.7][: len(start)])])

    def build(logarithms: Iterable[float]) -> _Fit:
        model = make([min(float(np.exp(one)), 255.0) for one in logarithms])
        return _Fit(model, *_misfit(model, measured, limits, dark))

    options = {"xatol": 0.03, "fatol": 1e-3, "maxfev": 80, "initial_simplex": simplex}
    return build(minimize(lambda p: build(p).total, first, method="Nelder-Mead", options=options).x.tolist())
