"""What a network is given for a picture, and its estimate made a picture again."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from .analysis.clipping import are_counts, undo_clipping
from .analysis.measured_parts import hidden_pixels, is_graphic, is_pattern, measured_parts
from .analysis.noise_level import brighten
from .analysis.noise_model import PoissonGaussian, Stabilizer
from .analysis.signal_dependence import estimate_noise
from .analysis.weak_noise import blend, blind_share
from .images.alpha import fill_hidden
from .images.picture import Picture

_Level = float | np.ndarray | torch.Tensor | PoissonGaussian | None
Sigma = _Level | Sequence[_Level]
"""Noise in 8-bit units: a level, a map of levels (H, W), a model; one of each picture of a batch; None estimates."""


def sigma_of_each(
    sigma: Sigma, count: int, height: int, width: int
) -> list[float | np.ndarray | PoissonGaussian | None]:
    """The noise level of each of ``count`` pictures: a number or a map (H, W) of its own, or the model or None of all.

    Raises:
        ValueError: ``sigma`` has another shape, or a value outside 0..255.
    """
    if sigma is None or isinstance(sigma, PoissonGaussian):
        return [sigma] * count
    apart = None | PoissonGaussian | np.ndarray | torch.Tensor
    if isinstance(sigma, list | tuple) and len(sigma) == count and any(isinstance(one, apart) for one in sigma):
        return [sigma_of_each(one, 1, height, width)[0] for one in sigma]
    try:
        levels = np.asarray(sigma.detach().cpu().float() if isinstance(sigma, torch.Tensor) else sigma, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"sigma must be a number, or numbers in an array, a tensor or a list: {error}") from error
    if not ((levels >= 0) & (levels <= 255)).all():  # False for NaN too
        bad = f"{levels:.7g}" if levels.ndim == 0 else f"values from {levels.min():g} to {levels.max():g}"
        raise ValueError(f"sigma must be from 0 to 255 (8-bit units) or None to estimate it, got {bad}")
    if levels.size == 1:  # a number keeps its last bit: given, an estimated level does what it does unasked
        return [float(sigma) if isinstance(sigma, int | float) else levels.item()] * count
    if levels.ndim == 1 and len(levels) == count:
        return levels.tolist()
    maps = levels[:, 0] if levels.ndim == 4 and levels.shape[1] == 1 else levels
    if maps.shape in ((height, width), (1, height, width), (count, height, width)):
        return list(np.broadcast_to(maps, (count, height, width)))
    raise ValueError(
        f"sigma has shape {levels.shape}; give a number, a map of shape ({height}, {width}), or one of them for each "
        f"of the {count} pictures"
    )


def sigma_without_map(sigma: Sigma, height: int, width: int) -> float | PoissonGaussian | None:
    """The noise of one picture, where a map of levels cannot be used.

    Raises:
        ValueError: ``sigma`` is a map, or what :func:`sigma_of_each` refuses.
    """
    (one,) = sigma_of_each(sigma, 1, height, width)
    if isinstance(one, np.ndarray):
        raise ValueError("sigma is a map: give one level or a PoissonGaussian, or None to estimate it")
    return one


def scaled(
    sigma: float | np.ndarray | PoissonGaussian | None, factor: float
) -> float | np.ndarray | PoissonGaussian | None:
    """The noise of a picture times ``factor``; None stays None."""
    return sigma.scaled(factor) if isinstance(sigma, PoissonGaussian) else None if sigma is None else sigma * factor


MEAN_WINDOW, MEAN_PASSES = 33, 3
"""Side of the window over which a blind network's estimate is given the mean of its input, pixels, and how often."""
MIN_SHARE = 0.05
"""A blind network's estimate that counts less is not computed."""
UNSURE_GRAY, UNSURE = 1.3, 0.7
"""Texture that an estimated level may hold, 8-bit units, of gray and of color pictures: it is not removed."""


class NetworkInput:
    """A picture as a network takes it, as a whole and by tiles.

    Colors that nobody sees and highlights are replaced, gray in three planes becomes one plane, and noise that depends
    on the signal is brought to one level.

    Args:
        picture: What to denoise; networks are made for pictures that are not dim (:func:`brighten`).
        sigma: Its noise level in 8-bit units: a number, a map (H, W), a model, or None to estimate it.
        infer: The network, if it takes no noise level; else None.

    Attributes:
        pixels: float32 (H, W, C), before its noise is brought to one level.
        hidden: Pixels that were replaced, (H, W): they stay as they are. None if there are none.
        clean: Whether there is nothing to remove.
        level: Standard deviation of the noise that the network is told, a number or (H, W); None for blind networks.
        share: How much the estimate of a blind network counts, 0 to 1; see :func:`blind_share`.
    """

    def __init__(
        self,
        picture: Picture,
        sigma: float | np.ndarray | PoissonGaussian | None,
        infer: Callable[[np.ndarray, None], np.ndarray] | None = None,
    ):
        blind = infer is not None
        self._picture, self._stabilizer = picture, None
        self.hidden: np.ndarray | None = hidden_pixels(picture)
        nothing = self.hidden is not None and bool(self.hidden.all())
        pixels = picture.pixels if self.hidden is None or nothing else fill_hidden(picture.pixels, self.hidden)
        self._is_gray = pixels.shape[2] == 3 and is_gray(pixels)
        self.pixels: np.ndarray = np.ascontiguousarray(pixels[..., :1]) if self._is_gray else pixels
        alpha = None if self.hidden is None else (~self.hidden).astype(np.float32)
        seen = dataclasses.replace(picture, pixels=self.pixels, alpha=alpha)
        measured = measured_parts(seen) if blind else seen.pixels
        # A blind network takes the edges of graphics for noise.
        self.clean: bool = nothing or (blind and is_graphic(measured))
        if sigma is None or (blind and not isinstance(sigma, PoissonGaussian)):
            sigma = 0.0 if self.clean else removable_noise(seen)
            self.clean = self.clean or (blind and sigma == 0.0 and is_pattern(measured))
        if isinstance(sigma, PoissonGaussian) and sigma.depends_on_signal:
            self._stabilizer = Stabilizer(sigma, float(self.pixels.min()), float(self.pixels.max()))
            level = self._stabilizer.sigma
        else:
            level = (sigma.read if isinstance(sigma, PoissonGaussian) else sigma) / 255
        self.level: float | np.ndarray | None = None if blind else level
        lowest, step = float(self.pixels.min()), 1 / picture.maximum if picture.maximum > 1 else 0.0
        self._counts = lowest == 0 and are_counts(self.pixels, float(np.max(level)), step)
        self._is_uncut, self._lowest = self._counts or lowest < 0, np.float32(min(lowest, 0))
        self.clean = self.clean or (self.level is not None and not np.any(self.level))
        # Noise that depends on the signal was found because it is strong.
        self.share: float = 1.0
        if infer is not None and not self.clean and self._stabilizer is None:
            self.share = blind_share(measured, 255 * float(level), infer)
            self.clean = self.share < MIN_SHARE

    def stabilize(self, tile: np.ndarray) -> np.ndarray:
        """A tile (h, w, C) of ``pixels`` with noise of the level ``level``."""
        return self._stabilizer.apply(tile) if self._stabilizer else tile

    def correct(
        self,
        estimate: np.ndarray,
        tile: np.ndarray,
        level: float | np.ndarray | None,
        change: np.ndarray | None,
        noisy: np.ndarray,
    ) -> np.ndarray:
        """A tile of pixels from the network's estimate for the stabilized ``tile``; ``estimate`` is overwritten.

        ``noisy`` is the tile before it was stabilized.

        Where the noise is weak ``change`` says how the estimate depends on the tile, see
        :func:`denoiser.analysis.weak_noise.blend`.
        """
        if self._stabilizer is None and level is not None and np.max(level) > 0 and not self._counts:
            estimate = undo_clipping(estimate, tile, level)
        if level is not None:
            if change is not None:
                step = 1 / self._picture.maximum if self._picture.maximum > 1 else 0.0
                estimate = blend(estimate, tile, level, change, step)
        else:
            if self._stabilizer is None:
                estimate = tile + np.float32(self.share) * (estimate - tile)
            # No level was given: a network that takes it for less, or for cut off, shifts dark areas as a whole.
            if self._stabilizer or self._is_uncut:
                for _ in range(MEAN_PASSES):  # each cuts off at black what the one before took too much of
                    np.maximum(estimate, self._lowest, out=estimate)
                    estimate += uniform_filter(tile - estimate, MEAN_WINDOW, axes=(0, 1))
        return self._stabilizer.keep_flux(self._stabilizer.invert(estimate), noisy) if self._stabilizer else estimate

    def restore(self, pixels: np.ndarray) -> np.ndarray:
        """Denoised ``pixels`` with the planes of the picture."""
        return pixels.repeat(3, axis=2) if self._is_gray else pixels


def removable_noise(picture: Picture) -> float | PoissonGaussian:
    """The estimated noise of a picture, a level in 8-bit units or a model, less what its texture may have added."""
    picture, gain = brighten(picture)
    found = estimate_noise(picture)
    if isinstance(found, PoissonGaussian):
        return found.scaled(1 / gain)
    unsure = UNSURE_GRAY if picture.pixels.shape[2] == 1 or is_gray(picture.pixels) else UNSURE
    return max(0.0, found**2 - unsure**2) ** 0.5 / gain


def is_gray(pixels: np.ndarray) -> bool:
    """Whether the planes of (H, W, 3) are equal; by bands, as most pictures differ in the first."""
    bands = (pixels[top : top + 256] for top in range(0, len(pixels), 256))
    return all((band == band[..., :1]).all() for band in bands)
