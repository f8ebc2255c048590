"""Several techniques on one noisy picture, one after the other."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..analysis.metrics import edge_fidelity, psnr, ssim
from .technique import Technique

MEASURES = {"psnr": psnr, "ssim": ssim, "edge_fidelity": edge_fidelity}
"""What :func:`compare` computes with a clean picture."""


@dataclass(frozen=True)
class Outcome:
    """What a technique did.

    Attributes:
        technique: Which.
        pixels: The denoised picture, float32 (H, W, C), as an 8-bit file holds it.
        seconds: That it took.
        figures: Those of ``MEASURES``, against the clean picture; empty without one.
    """

    technique: Technique
    pixels: np.ndarray
    seconds: float
    figures: dict[str, float] = field(default_factory=dict[str, float])


def compare(
    noisy: np.ndarray,
    sigma: float,
    techniques: Iterable[Technique],
    clean: np.ndarray | None = None,
    progress: Callable[[float], object] | None = None,
    parameters: Mapping[str, Mapping[str, float]] | None = None,
) -> Iterator[Outcome]:
    """Run techniques on a picture; each outcome comes as soon as it is there, and a caller may stop between them.

    Args:
        noisy: Float32 (H, W, C), nominally in [0, 1].
        sigma: Standard deviation of the noise in 8-bit units.
        techniques: Which.
        clean: What to measure against, the same shape.
        progress: Called with the share of all done, in (0, 1]; an exception it raises stops them.
        parameters: By the name of the technique, those that are not to follow their rules.

    Raises:
        ValueError, DenoiserError: See :meth:`Technique.denoise`.
    """
    chosen = list(techniques)
    for index, technique in enumerate(chosen):
        report = progress and (lambda share, index=index: progress((index + share) / len(chosen)))
        started = time.perf_counter()
        pixels = technique.denoise(noisy, sigma, report, **(parameters or {}).get(technique.name, {}))
        seconds = time.perf_counter() - started
        pixels = np.rint(pixels.clip(0, 1) * 255) / np.float32(255)
        figures = {} if clean is None else {name: measure(clean, pixels) for name, measure in MEASURES.items()}
        yield Outcome(technique, pixels, seconds, figures)
