"""An experiment: add noise to a picture, denoise it, compare. The demo shows it and its API returns it.

All pictures are as files hold them: the noisy and the denoised picture are clipped and rounded to the depth of the
input before they are used or measured. (The PSNR protocol of the model cards does not clip or round the noisy one.)
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .analysis.metrics import MEASURES, mean_squared_error
from .analysis.noise_model import PoissonGaussian
from .images.picture import Picture
from .network_input import removable_noise
from .noise import add_noise
from .noise.registry import check_parameters
from .pipeline import Denoiser

GAINS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
"""Amplifications that :func:`difference` chooses from."""


@dataclass(frozen=True)
class Experiment:
    """Pictures (of the input's depth) and figures of one run.

    Attributes:
        clean: The picture before noise was added, or None if none was.
        noisy: The denoiser's input.
        denoised: The denoiser's output, clipped and rounded to the picture's depth.
        sigma_added: Standard deviation of the noise before clipping, 8-bit units; None without added noise.
        sigma_used: The noise level given to the denoiser, 8-bit units, of a model the root of the mean variance; None
            for blind checkpoints.
        removed: Standard deviation of noisy - denoised, 8-bit units.
        seconds: Time of the denoising alone.
        figures: Those of ``MEASURES`` that were asked for, as (noisy, denoised) pairs; empty without a clean picture.
    """

    clean: Picture | None
    noisy: Picture
    denoised: Picture
    sigma_added: float | None
    sigma_used: float | None
    removed: float
    seconds: float
    figures: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Degraded:
    """A picture with noise, and what is known of it.

    Attributes:
        clean: The picture before noise was added, or None if none was.
        noisy: With noise, of the same depth.
        sigma_added: Standard deviation of the noise before clipping, 8-bit units; None without added noise.
        model: Of the noise that was added, where its variance depends on the signal.
    """

    clean: Picture | None
    noisy: Picture
    sigma_added: float | None = None
    model: PoissonGaussian | None = None

    def noise(self, known: bool = True) -> float | PoissonGaussian:
        """The noise that was added, as a level in 8-bit units or a model; estimated if it is not to be ``known``."""
        if not known or self.sigma_added is None:
            return removable_noise(self.noisy)
        return self.model or min(self.sigma_added, 255.0)


def degrade(
    picture: Picture,
    noise: str | None,
    parameters: dict[str, float] | None = None,
    seed: int = 0,
    pause: Callable[[], object] | None = None,
) -> Degraded:
    """Add noise to a picture, as a file holds it; the arguments are those of :func:`run`."""
    if noise is None:
        return Degraded(None, picture)
    pixels = add_noise(picture.pixels, noise, seed, **(parameters or {}))
    added = mean_squared_error(picture.pixels, pixels, pause) ** 0.5 * 255
    return Degraded(picture, picture.with_pixels(pixels), added, _model(noise, parameters or {}))


def run(
    denoiser: Denoiser,
    picture: Picture,
    noise: str | None = "gaussian",
    parameters: dict[str, float] | None = None,
    seed: int = 0,
    sigma: float | str = "known",
    strength: float = 1.0,
    progress: Callable[[float], object] | None = None,
    measures: Sequence[str] = tuple(MEASURES),
) -> Experiment:
    """Run one experiment.

    Args:
        denoiser: The checkpoint to use.
        picture: As :func:`denoiser.images.picture.read` gives it.
        noise: A name in ``NOISES``; None if the picture is noisy already.
        parameters: Of the noise; defaults for those left out.
        seed: Of the noise.
        sigma: The noise level for the denoiser, 8-bit units: a number, "known" (the model of the noise that was added,
            or its standard deviation; estimated if none was) or "estimate".
        strength: 0..1, see :class:`Denoiser`.
        progress: Called with the share of the denoising done, and again with 0 and 1 while noise is added and figures
            are computed; an exception it raises stops it.
        measures: Names in ``MEASURES`` of the figures to compute; the rest can follow with :func:`measure`.

    Raises:
        ValueError: A parameter is out of range; the message says which.
    """
    if isinstance(sigma, str) and sigma not in ("known", "estimate"):
        raise ValueError(f'sigma must be a number, "known" or "estimate", got {sigma!r}')
    start = degrade(picture, noise, parameters, seed, (lambda: progress(0.0)) if progress else None)
    noisy, given = start.noisy, start.noise(sigma == "known") if isinstance(sigma, str) else float(sigma)
    started = time.perf_counter()
    pixels = denoiser.denoise_pixels(noisy, given, strength, progress)
    seconds = time.perf_counter() - started
    denoised = noisy.with_pixels(pixels)
    del pixels
    result = Experiment(
        clean=start.clean,
        noisy=noisy,
        denoised=denoised,
        sigma_added=start.sigma_added,
        sigma_used=None if denoiser.model.config.blind else mean_level(given, noisy),
        removed=_deviation(noisy, denoised) * 255,
        seconds=seconds,
        figures={},
    )
    return measure(result, measures, (lambda: progress(1.0)) if progress else None)


def _model(noise: str, parameters: dict[str, float]) -> PoissonGaussian | None:
    """The model of a noise whose variance depends on the signal; None for others."""
    values = check_parameters(noise, parameters)[1]
    if noise == "poisson":
        return PoissonGaussian(255 / values["peak"], 0)
    if noise == "sensor":
        return PoissonGaussian(values["gain"], values["read"])
    return PoissonGaussian(0, 0, values["sigma"]) if noise == "speckle" else None


def mean_level(noise: float | PoissonGaussian, noisy: Picture) -> float:
    """The standard deviation of noise over a picture, 8-bit units."""
    if not isinstance(noise, PoissonGaussian):
        return noise
    deviation = noise.deviation(noisy.pixels[::4, ::4])
    return 255 * float(np.mean(deviation**2)) ** 0.5


def measure(
    result: Experiment, measures: Sequence[str] = tuple(MEASURES), pause: Callable[[], object] | None = None
) -> Experiment:
    """The experiment with its figures.

    Args:
        result: What :func:`run` returned.
        measures: Names in ``MEASURES``.
        pause: Called now and then; an exception it raises stops it.
    """
    if result.clean is None:
        return result
    clean, pictures = result.clean.pixels, (result.noisy.pixels, result.denoised.pixels)
    figures = {}
    for name in measures:
        noisy, denoised = (MEASURES[name](clean, pixels, pause) for pixels in pictures)
        figures[name] = noisy, denoised
    return dataclasses.replace(result, figures=figures)


def difference(first: Picture, second: Picture, gain: int | None = None) -> tuple[np.ndarray, int]:
    """first - second, signed and amplified for display: mid-gray (128) is no difference.

    Args:
        first: One picture.
        second: Another of the same size and channel count.
        gain: The amplification; by default the largest of ``GAINS`` at which 99 % of the values stay in range.

    Returns:
        uint8 (H, W, C) and the gain.
    """
    if gain is None:
        sample = np.abs(first.pixels[::2, ::2] - second.pixels[::2, ::2]) * 255
        spread = float(np.quantile(sample, 0.99))
        gain = max((candidate for candidate in GAINS if candidate * spread <= 127), default=1)
    result = np.empty(first.pixels.shape, np.uint8)
    for rows in _row_bands(first):
        delta = (first.pixels[rows] - second.pixels[rows]) * 255
        result[rows] = np.rint(np.clip(128 + gain * delta, 0, 255)).astype(np.uint8)
    return result, gain


def _row_bands(picture: Picture) -> list[slice]:
    """Rows of about a megapixel each: what is computed of them takes little memory."""
    height, width = picture.pixels.shape[:2]
    rows = max(1, 1_000_000 // width)
    return [slice(top, top + rows) for top in range(0, height, rows)]


def _deviation(first: Picture, second: Picture) -> float:
    """The standard deviation of the difference of two pictures, on their scale."""
    shift = float(first.pixels.mean(dtype=np.float64) - second.pixels.mean(dtype=np.float64))
    return max(0.0, mean_squared_error(first.pixels, second.pixels) - shift**2) ** 0.5
