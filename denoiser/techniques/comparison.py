"""Several techniques on one noisy picture, one after the other."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..analysis.metrics import MEASURES
from ..analysis.noise_model import PoissonGaussian
from ..analysis.residual import Residual, examine_residual
from ..analysis.sure import RiskEstimate, estimate_risk
from ..noise import add_noise
from .technique import Technique


@dataclass(frozen=True)
class Outcome:
    """What a technique did.

    Attributes:
        technique: Which.
        pixels: The denoised picture, float32 (H, W, C), as an 8-bit file holds it.
        seconds: That it took.
        figures: Those of ``MEASURES``, against the clean picture; empty without one.
        residual: What can be said of what was removed; None if the noise was not given.
        risk: The error estimated without a clean picture; None with one, or where that cannot be.
    """

    technique: Technique
    pixels: np.ndarray
    seconds: float
    figures: dict[str, float] = field(default_factory=dict[str, float])
    residual: Residual | None = None
    risk: RiskEstimate | None = None


def compare(
    noisy: np.ndarray,
    sigma: float,
    techniques: Iterable[Technique],
    clean: np.ndarray | None = None,
    progress: Callable[[float], object] | None = None,
    parameters: Mapping[str, Mapping[str, float]] | None = None,
    noise: float | PoissonGaussian | None = None,
) -> Iterator[Outcome]:
    """Run techniques on a picture; each outcome comes as soon as it is there, and a caller may stop between them.

    Args:
        noisy: Float32 (H, W, C), nominally in [0, 1].
        sigma: Standard deviation of the noise in 8-bit units.
        techniques: Which.
        clean: What to measure against, the same shape.
        progress: Called with the share of all done, in (0, 1]; an exception it raises stops them.
        parameters: By the name of the technique, those that are not to follow their rules.
        noise: Its level in 8-bit units or its model, above 0, if each outcome is to have ``residual``, and ``risk``
            where there is no clean picture, which takes two more runs.

    Raises:
        ValueError, DenoiserError: See :meth:`Technique.denoise`.
    """
    chosen = list(techniques)
    for index, technique in enumerate(chosen):
        report = progress and (lambda share, index=index: progress((index + share) / len(chosen)))
        moved = (parameters or {}).get(technique.name, {})
        started = time.perf_counter()
        pixels = technique.denoise(noisy, sigma, report, **moved)
        seconds = time.perf_counter() - started
        pixels = _as_file(pixels)
        figures = {} if clean is None else {name: measure(clean, pixels) for name, measure in MEASURES.items()}
        residual, risk = None, None
        if noise is not None:
            residual = examine_residual(noisy, pixels, noise)
            if clean is None:
                with contextlib.suppress(ValueError):  # nothing can be said of this picture
                    risk = estimate_risk(functools.partial(technique.denoise, sigma=sigma, **moved), noisy, noise)
        yield Outcome(technique, pixels, seconds, figures, residual, risk)


def sweep(
    clean: np.ndarray, levels: Iterable[float], techniques: Iterable[Technique], seed: int = 0
) -> Iterator[tuple[float, Outcome]]:
    """Techniques at several levels of Gaussian noise on one picture.

    Args:
        clean: Float32 (H, W, C) in [0, 1].
        levels: Standard deviations of the noise in 8-bit units.
        techniques: Which.
        seed: Of the noise; it differs in strength alone.

    Yields:
        A level and an outcome, all techniques of a level after one another.
    """
    chosen = list(techniques)
    for level in levels:
        noisy = _as_file(add_noise(clean, "gaussian", seed, sigma=level))
        for outcome in compare(noisy, level, chosen, clean):
            yield level, outcome


def _as_file(pixels: np.ndarray) -> np.ndarray:
    """Pixels as an 8-bit file holds them."""
    return np.rint(pixels.clip(0, 1) * 255) / np.float32(255)
