"""Blind estimation of the noise level: the standard deviation of white noise, from the noisy picture alone."""

import math
import os
from dataclasses import replace
from typing import IO, overload

import numpy as np
import torch
from PIL import Image
from scipy.fft import dctn
from scipy.special import ndtri

from ..images.frame import Frame
from ..images.picture import NETWORK_RANGE, ImageLike, Picture, read
from .clipping import clipped_share, remaining_deviation
from .measured_parts import hidden_pixels, is_graphic, is_pattern, measured_parts, peak

MAX_CLIPPED = 0.1
"""Share of clipped values around a patch up to which it is preferred: what is left of its noise is known well."""
MIN_GRAPHICS = 0.75
"""Share of clipped values above which an area counts as clean print: noise leaves at least half unclipped."""
PATCH = 8
MAX_PATCHES, MIN_PATCHES = 20_000, 200
"""Patches that are measured, and of them the fewest that a level is taken from."""
MAX_COLORS = 250_000
QUIET, MANY, AGREE = 0.03, 0.3, 1.15
"""Shares of the patches, those with the least texture: the level is that of the first, or of the second where the two
levels differ by no more than this ratio, as more patches measure it better. Set on held-out photographs."""
MAX_TOGETHER = 0.5
"""Correlation of neighbors, of whether they are clipped, in patches that are in part, above which they are areas: the
edges of print on white, and no noise, which clips here and there."""
MAX_DISTANCE = 0.2
"""Root mean square distance of values from black or white up to which a picture has no other tones."""
MIN_WHITE = 0.45
"""Level from which on white noise is more than rounding to 8 bits can be, which has 0.29."""
MAX_STEP = 4 / 255
"""The largest step between two values that a dim picture may get as it is made brighter."""
FEW, FAR_ABOVE = 0.005, 8
"""The share of the values, and their distance as a ratio, that say nothing of how bright the others are."""
FINEST, FALL, MIN_FALL, CHANCE = 12, 0.54, 0.07, 4
"""Without color, texture shows by its spectrum: its energy at ``FINEST`` is about ``FALL`` of that of all that is fine,
that of white noise the same. Levels that differ by more than ``MIN_FALL``, and than by chance, which is ``CHANCE`` over
the root of the number of patches, are taken apart by it."""
MAX_TEXTURE, MIN_RISE = 5.0, 2.0
"""Noise that JPEG or a camera has smoothed falls, too, but its coarse energy is not ``MIN_RISE`` times the fine one, as
that of texture. A level above ``MAX_TEXTURE`` may be such noise; less is texture where it falls."""

MIDDLE, FINE, END = PATCH - 3, PATCH, 2 * PATCH
"""Sums of the two frequencies of a coefficient: from where on it is no longer coarse, fine; the end."""

TO_SIGMA = 255 / float(ndtri(0.75))
"""Standard deviation of Gaussian noise in 8-bit units, relative to its median absolute value."""


@overload
def estimate_sigma(
    picture: Picture | str | os.PathLike[str] | IO[bytes] | Frame | Image.Image | np.ndarray,
) -> float: ...
@overload
def estimate_sigma(picture: torch.Tensor) -> float | list[float]: ...
def estimate_sigma(picture: ImageLike) -> float | list[float]:
    """Estimate the standard deviation of white noise in a picture.

    Patches of 8x8 pixels are ordered by the energy of their coarse cosine coefficients, which is texture; in those that
    have least of it, the fine coefficients are noise (Ponomarenko, Lukin, Zriakhov, Kaarna and Astola, "An Automatic
    Approach to Lossy Compression of AVIRIS Images", IGARSS 2007). White noise has independent coefficients, so choosing
    patches by some of them says nothing of the others. The level is that of the color with the least texture, unless
    this has little noise and the planes have more: what JPEG or a camera has left of it is in the brightness. Half the
    brightness gives half the estimate.

    A gray picture stored as three equal planes is treated as gray, and so is a toned one; a constant plane is ignored.
    Areas with clipped noise are excluded; if nothing else remains, the clipping is corrected for.

    Args:
        picture: Whatever :class:`Denoiser` takes; what is fully transparent is not measured.

    Returns:
        Sigma in 8-bit units, of a batch (B, C, H, W) a list of one for each picture; 0 for pictures under 4 pixels on a
        side, which are too small, and for what is drawn, in which there is none (:func:`is_graphic`,
        :func:`is_pattern`).
    """
    if isinstance(picture, torch.Tensor) and picture.ndim == 4:
        return [estimate_sigma(read(one)) for one in picture]
    bright, gain = brighten(picture if isinstance(picture, Picture) else read(picture))
    pixels = measured_parts(bright)
    if min(pixels.shape[:2]) < 4 or is_graphic(pixels, 1.01 / 255 * peak(pixels)):
        return 0.0
    level, small = _level_of_large_patches(pixels), _level_of_small_patches(pixels)
    level = float(min(small if small < 0.9 * level else level, highest_level(pixels)))
    return 0.0 if level and is_pattern(pixels, level) else level / gain


def highest_level(pixels: np.ndarray) -> float:
    """The level that noise cannot exceed, 8-bit units: that of all that is neither black nor white, if this is near.

    Noise around black or a brighter value, cut off there, has at least its own mean square. So print and dithered
    pictures, of which every patch is edges, are not read as noise.

    Args:
        pixels: Float (H, W, C), of which most are in [0, 1].

    Returns:
        Infinity for a picture that has other tones.
    """
    distance = np.abs(np.minimum(pixels, 1 - pixels))
    between = distance[distance > 0]
    level = float(np.square(between).mean()) ** 0.5 if between.size else np.inf
    return 255 * level if level < MAX_DISTANCE else np.inf


def brighten(picture: Picture) -> tuple[Picture, float]:
    """A dim picture made as bright as others, by a power of two, and this; thresholds and networks are made for those.

    Any other picture is returned as it is. The noise is brighter by the same factor. Highlights are cut off at the end
    of :data:`denoiser.images.picture.NETWORK_RANGE`.
    """
    most = MAX_STEP * picture.maximum if picture.maximum > 1 else np.inf
    gain = 2.0 ** math.floor(math.log2(max(1.0, min(0.999 / max(_brightness(picture), 1e-6), most))))
    if gain == 1:
        return picture, gain
    pixels = np.clip(picture.pixels * np.float32(gain), *NETWORK_RANGE)
    return replace(picture, pixels=pixels, maximum=picture.maximum / gain), gain


def _brightness(picture: Picture) -> float:
    """The highest value that is seen, in a deep picture but for a few far above it: hot pixels, stars, a scale bar.

    Of values below zero, as they are where a background was subtracted, it is the distance from zero.
    """
    pixels, hidden = picture.pixels, hidden_pixels(picture)
    seen = True if hidden is None else ~hidden[..., None]
    highest = float(max(np.max(pixels, where=seen, initial=0), -np.min(pixels, where=seen, initial=0)))
    if picture.dtype == np.uint8:
        return highest
    every = _stride(pixels)
    values = np.abs(pixels[::every, ::every])
    values = values if hidden is None else values[~hidden[::every, ::every]]
    if values.size == 0 or values.mean() > (1 / FAR_ABOVE + FEW) * highest:
        return highest
    usual = float(np.quantile(values, 1 - FEW))
    return usual if 0 < usual < highest / FAR_ABOVE else highest


def _level_of_large_patches(pixels: np.ndarray) -> float:
    """The level by the patches of :func:`estimate_sigma`."""
    if largest_difference(pixels) < 1.5 / 255:  # gray, up to the rounding of JPEG or weak noise
        gray = pixels.mean(axis=2, keepdims=True)
        differences = pixels - gray
        # Their deviation is the part of the planes' noise that the mean has lost.
        return float(np.hypot(_level_without_color(gray), 255 * differences.std(axis=(0, 1)).mean()))
    directions = color_directions(pixels)
    share = _clipped(pixels).max(1)
    unclipped = share < MAX_CLIPPED
    # One direction means a toned picture: gray.
    if directions.shape[1] < 2 or unclipped.sum() < MIN_PATCHES:
        return _level_without_color(pixels)
    scale = _remaining(share[unclipped])
    colors = [cosines(windows(pixels @ one))[unclipped] / scale for one in directions.T[:2]]
    smallest, color = min(((_level(one), one) for one in colors), key=lambda pair: pair[0])
    # Where the color with the least of it holds white noise beyond that of rounding, with some texture, all else is
    # texture. Where it holds none, the brightness may have what JPEG or a camera has left of noise.
    middle, finest = _level(color, MIDDLE, FINE), _level(color, FINEST)
    if smallest > MIN_WHITE and (middle < 1.25 * smallest or (middle < 1.6 * smallest and finest > 0.9 * smallest)):
        return smallest
    level, smallest = _level_without_color(pixels), _less_texture(color, peak(pixels))
    return smallest if smallest > 0.6 * level else level


def _level_of_small_patches(pixels: np.ndarray) -> float:
    """The mean level of the planes by patches of half the side: pixel art has no larger ones without edges."""
    levels = []
    for plane in np.moveaxis(pixels, -1, 0):
        if np.ptp(plane) == 0:
            continue
        patches = windows(plane, PATCH // 2)
        share = clipped_share(plane, patches.shape[:2]).ravel()
        unclipped = share < MAX_CLIPPED
        if unclipped.sum() < MIN_PATCHES:
            return np.inf
        levels.append(_level(cosines(patches)[unclipped] / _remaining(share[unclipped])))
    return sum(levels) / len(levels) if levels else np.inf


def _level_without_color(pixels: np.ndarray) -> float:
    """The mean level of the planes that are not constant, less what their texture adds."""
    levels = []
    for plane, share in zip(np.moveaxis(pixels, -1, 0), _clipped(pixels).T):
        coefficients = cosines(windows(plane))
        # Patches without any noise are flat graphics or clipped sky. So are areas of print, mostly black or white.
        valid = (np.abs(coefficients[:, frequencies(coefficients) >= FINE]).max(1) > 1e-5) & (share < MIN_GRAPHICS)
        unclipped = valid & (share < MAX_CLIPPED)
        if unclipped.sum() <= 0.1 * valid.sum() and _is_clipped_in_areas(plane):
            continue
        chosen = unclipped if unclipped.sum() > 0.1 * valid.sum() else valid
        if chosen.any():
            levels.append(_less_texture(coefficients[chosen] / _remaining(share[chosen]), peak(pixels)))
    return sum(levels) / max(1, len(levels))


def _is_clipped_in_areas(plane: np.ndarray) -> bool:
    """Whether the clipped values of a plane (H, W) lie together."""
    patches = windows(plane)
    clipped = ((patches <= 0) | (patches >= 1)).reshape(-1, *patches.shape[2:]).astype(np.float32)
    share = clipped.mean((1, 2))
    partly = (share > MAX_CLIPPED) & (share < MIN_GRAPHICS)
    clipped, share = clipped[partly], share[partly]
    if not len(clipped):
        return False
    both = [(clipped[:, 1:] * clipped[:, :-1]).mean((1, 2)), (clipped[..., 1:] * clipped[..., :-1]).mean((1, 2))]
    return float(np.median((sum(both) / 2 - share**2) / (share - share**2))) > MAX_TOGETHER


def _less_texture(coefficients: np.ndarray, peak: float) -> float:
    """The level of a plane from its coefficients (N, 8, 8), less what its texture adds; ``peak``: its largest value."""
    level, finest = _level(coefficients), _level(coefficients, FINEST)
    falls = finest <= (1 - max(MIN_FALL, CHANCE / len(coefficients) ** 0.5)) * level
    if not falls or (level > MAX_TEXTURE * peak and _rise(coefficients) < MIN_RISE):
        return level
    return (max(0.0, finest**2 - FALL * level**2) / (1 - FALL)) ** 0.5


def _rise(coefficients: np.ndarray) -> float:
    """The energy of the coarsest coefficients of the quietest patches, relative to that of the least fine ones."""
    sums = frequencies(coefficients)
    quiet = coefficients[_quietest((coefficients[:, (sums > 0) & (sums < FINE)] ** 2).sum(1), QUIET)]
    coarsest, fine = ((quiet[:, part] ** 2).mean() for part in ((sums > 0) & (sums < 4), (sums >= FINE) & (sums < 11)))
    return float(coarsest / max(fine, 1e-12))


def largest_difference(pixels: np.ndarray) -> float:
    """The largest difference between the planes of (H, W, C)."""
    planes = np.moveaxis(pixels, -1, 0)
    return max(float(np.abs(one - other).max()) for one, other in zip(planes, np.roll(planes, 1, 0)))


def color_directions(pixels: np.ndarray) -> np.ndarray:
    """Principal directions (C, directions) of the colors with a deviation above one level: only they hold noise."""
    every = _stride(pixels)
    flat = pixels[::every, ::every].reshape(-1, pixels.shape[2])
    spread, directions = np.linalg.eigh(np.atleast_2d(np.cov(flat, rowvar=False)))
    return directions[:, spread > 1 / 255**2].astype(pixels.dtype)


def _stride(pixels: np.ndarray) -> int:
    """The distance of the pixels across and down that stand for all of (H, W, C)."""
    return max(1, int((pixels.shape[0] * pixels.shape[1] / MAX_COLORS) ** 0.5))


def windows(plane: np.ndarray, patch: int = PATCH) -> np.ndarray:
    """Patches of a plane (H, W) on a regular grid, (rows, columns, 8, 8); smaller ones of a smaller plane."""
    sides = [min(patch, side) for side in plane.shape]
    every = np.lib.stride_tricks.sliding_window_view(plane, sides)
    step = max(1, round((every.shape[0] * every.shape[1] / MAX_PATCHES) ** 0.5))
    return every[::step, ::step]


def cosines(patches: np.ndarray) -> np.ndarray:
    """The cosine coefficients (N, 8, 8) of :func:`windows`."""
    return np.asarray(dctn(patches, axes=(2, 3), norm="ortho")).reshape(-1, *patches.shape[2:])


def _clipped(pixels: np.ndarray) -> np.ndarray:
    """The share of clipped values around each patch of each plane, (N, C)."""
    return np.stack([clipped_share(one, windows(one).shape[:2]).ravel() for one in np.moveaxis(pixels, -1, 0)], axis=1)


def _remaining(share: np.ndarray) -> np.ndarray:
    """What clipping has left of the noise of patches, as a factor for their coefficients."""
    return remaining_deviation(share)[:, None, None]


def frequencies(coefficients: np.ndarray) -> np.ndarray:
    """The sum of the two frequencies of each coefficient (8, 8), 0 to 14."""
    rows, columns = coefficients.shape[1:]
    return np.add.outer(np.arange(rows) * (PATCH / rows), np.arange(columns) * (PATCH / columns))


def _level(coefficients: np.ndarray, start: int = FINE, end: int = END) -> float:
    """Sigma from the coefficients (N, 8, 8) of a plane, of those whose frequencies add up to ``start`` to ``end``."""
    flat, sums = coefficients.reshape(len(coefficients), -1), frequencies(coefficients).ravel()
    texture = np.square(flat) @ ((sums > 0) & (sums < start)).astype(flat.dtype)
    fine = (sums >= start) & (sums < end)
    quiet = (flat[_quietest(texture, share)] for share in (QUIET, MANY))
    levels = [TO_SIGMA * float(np.median(np.abs(patches[:, fine]))) for patches in quiet]
    return levels[1] if levels[1] < AGREE * levels[0] else levels[0]


def _quietest(texture: np.ndarray, share: float) -> np.ndarray:
    """Which of the patches have the least texture: this share of them, and not too few."""
    last = min(len(texture), max(MIN_PATCHES, int(share * len(texture)))) - 1
    return texture <= np.partition(texture, last)[last]
