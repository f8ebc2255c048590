"""The noise level and the strength at which a denoiser does best on a picture, without the clean one.

A network is told the noise level. For pictures unlike those of its training another level than the true one, or only
part of the removal, can leave less error: Stein's estimate (:mod:`denoiser.analysis.sure`) says which, on the middle of
the picture. For photographs with Gaussian noise the true level at full strength is best.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from .analysis.noise_correlation import SHARED, neighbor_correlation
from .analysis.noise_model import PoissonGaussian
from .analysis.signal_dependence import estimate_noise
from .analysis.sure import choose
from .images.picture import ImageLike, Picture, read
from .network_input import NetworkInput, sigma_without_map
from .pipeline import Denoiser

FACTORS = (1.0, 0.8, 1.25)
"""Levels that are tried, relative to that of the picture."""
SIDE = 512
"""Of the part of the picture that is looked at, pixels."""
MIN_GAIN = 0.2
"""Decibels that a setting must gain over the picture's own level at full strength: clipped values and a level that was
estimated make differences of 0.1 that are none."""


@dataclass(frozen=True)
class Tuned:
    """What :func:`tune` chose.

    Attributes:
        sigma: What to tell the denoiser of the noise: a level in 8-bit units or a model.
        strength: From 0 to 1.
        before: Estimated PSNR at the picture's own level and full strength, dB.
        after: That of the chosen setting, dB.
        note: Why nothing could be chosen; "" if something was.
    """

    sigma: float | PoissonGaussian
    strength: float = 1.0
    before: float = math.nan
    after: float = math.nan
    note: str = ""

    def __str__(self) -> str:
        if self.note:
            return f"not tuned: {self.note}"
        if self.after == self.before:
            return f"the level of the noise and full strength are best, by SURE: about {self.after:.1f} dB"
        level = "" if isinstance(self.sigma, PoissonGaussian) else f"noise level {self.sigma:.1f}, "
        gain = f"about {self.after - self.before:.2f} dB better by SURE, {self.after:.1f} dB"
        return f"{level}strength {self.strength:.2f}: {gain}"


def tune(
    denoiser: Denoiser,
    image: ImageLike,
    sigma: float | PoissonGaussian | None = None,
    progress: Callable[[float], object] | None = None,
) -> Tuned:
    """Choose the noise level to tell a denoiser, and the strength, by Stein's estimate of the error.

    Args:
        denoiser: Whose settings are chosen; of a blind one, or where the noise is a model, it is the strength alone.
        image: The noisy picture, whatever a denoiser takes or one that was read; its middle is looked at.
        sigma: Its noise, as a level in 8-bit units or a model, which must be independent between pixels. None
            estimates it; if neighbors share it nothing is chosen, and ``note`` says so.
        progress: Called with the share done, in (0, 1]; an exception it raises stops it.

    Returns:
        What to call the denoiser with: ``denoiser(image, tuned.sigma, tuned.strength)``.

    Raises:
        ImageUnreadable, ImageTooLarge: See :class:`Denoiser`.
        ValueError: ``sigma`` is out of range.
    """
    picture = image if isinstance(image, Picture) else read(image)
    pixels = NetworkInput(picture, 0.0).pixels
    visible = dataclasses.replace(picture, pixels=pixels, alpha=None)
    given = sigma_without_map(sigma, *pixels.shape[:2])
    noise = estimate_noise(visible) if given is None else given
    if sigma is None and (correlation := neighbor_correlation(pixels)) > SHARED:
        reason = f"neighboring pixels share their noise (correlation {correlation:.2f}), which SURE cannot see"
        return Tuned(noise, note=reason)
    if noise == 0:
        return Tuned(noise, note="no noise was found" if sigma is None else "the level of its noise is given as 0")
    top, left = (max(0, (side - SIDE) // 2) for side in pixels.shape[:2])
    levels = [noise] if isinstance(noise, PoissonGaussian) else [min(factor * noise, 255.0) for factor in FACTORS]
    del levels[1 if denoiser.model.config.blind else len(levels) :]
    denoiser = denoiser.in_float32()
    # As a model: of a level a blind network would look for dependence on the signal in each moved picture.
    told = [one if isinstance(one, PoissonGaussian) else PoissonGaussian(0, one) for one in levels]
    try:
        estimates = [functools.partial(denoiser, sigma=one) for one in told]
        _, found = choose(estimates, pixels[top : top + SIDE, left : left + SIDE], noise, progress)
    except ValueError as error:
        return Tuned(noise, note=str(error))
    risk, level = min(zip(found, levels), key=lambda pair: pair[0].least_mse)
    own, least = found[0], max(risk.least_mse, 1e-8)
    if own.mse <= 0:
        return Tuned(noise, note="there is less noise than its level says, or too little of the picture for SURE")
    if not least < 10 ** (-MIN_GAIN / 10) * own.mse:
        return Tuned(noise, before=own.psnr, after=own.psnr)
    return Tuned(level, risk.strength, own.psnr, -10 * math.log10(least))
