"""What of a picture its noise is measured in: nothing of graphics, no area of one tone, of a large picture a sample."""

import itertools

import numpy as np
from scipy.ndimage import maximum_filter

from ..images.picture import Picture

SAMPLES, SAMPLE_SIDE = 4, 384
"""Parts across and down that a large picture is measured by, and their side, pixels."""
BLOCK = 4
"""Side of the blocks that are looked at for a constant tone, pixels."""
MIN_BLOCKS = 64
"""Blocks that a picture must have to be called a graphic."""
FEW_VALUES, MIN_GAP = 4, 16 / 255
"""So few values, so far apart, are a drawn pattern: noise has those between them, too."""
SIDES = 32, 16
"""Sides of the squares that what is measured is put together from, pixels: the first that leave enough."""
MIN_FLAT, FEW_TONES, MOST = 0.003, 4, 0.9
"""Least share of the blocks that areas of one tone have; most of them are of so few tones, unlike those of a sky."""
NEAR = 4
"""JPEG takes a flat area's colors to blocks up to so many away."""
MIN_LEFT = 0.3
"""Least share of all other blocks that the squares must hold: graphics have their areas of one tone everywhere."""
QUIETEST, MIN_RANGE, MIN_STEPS = 0.005, 3 / 255, 2.5
"""The quietest of the squares' blocks have values at least so far apart, also in steps between values: a clean picture
also has areas that are nearly of one tone, which must be measured."""


def measured_parts(picture: Picture) -> np.ndarray:
    """The pixels that the noise of a picture is measured in, (H, W, C) of another size, or all of them.

    A large picture is sampled: noise is the same everywhere, and time is not. Frames, captions and logos of one exact
    tone that somebody has put on a noisy picture hold none of its noise, nor does what is fully transparent. Where such
    areas are, the rest is put together as a mosaic of squares without them, if enough is left.
    """
    pixels = _sample(picture.pixels)
    if min(pixels.shape[:2]) < BLOCK:
        return pixels
    low, high = _ends(pixels)
    hidden = np.zeros(low.shape[:2], bool)
    if picture.alpha is not None:
        hidden |= _blocks(_sample(picture.alpha[..., None]) == 0).any(axis=(1, 3, 4))
    flat = (low == high).all(-1) & ((np.abs(low) > 0.5 / 255) & (np.abs(low - 1) > 0.5 / 255)).any(-1)
    # Each: what is not measured, the same with what lies near it, the least range of the values of the other blocks.
    choices = [(hidden, hidden, 0.0)] if hidden.any() else []
    if flat.mean() > MIN_FLAT and _are_of_few_tones(low[flat]):
        least = max(MIN_RANGE * peak(pixels), MIN_STEPS * float(np.diff(np.unique(high)).min(initial=1)))
        choices.insert(0, (hidden | flat, hidden | np.asarray(maximum_filter(flat, 2 * NEAR + 1)), least))
    for (areas, left_out, least), side in itertools.product(choices, SIDES):
        count = side // BLOCK
        rows, columns = (length // count for length in left_out.shape)
        squares = left_out[: rows * count, : columns * count].reshape(rows, count, columns, count)
        kept = ~np.any(squares, axis=(1, 3))
        if not kept.any() or kept.sum() * count**2 < MIN_LEFT * (~areas).sum():
            continue
        if np.quantile(_squares((high - low).max(-1), kept, count), QUIETEST) >= least:
            return _mosaic(_squares(pixels, kept, side))
    return pixels


def peak(pixels: np.ndarray) -> float:
    """The highest value, but for highlights brighter than white, to which levels of a dim picture are relative."""
    return min(1.0, float(pixels.max()))


def is_graphic(pixels: np.ndarray, spread: float = 0.0) -> bool:
    """Whether a picture is drawn, not taken: text, line art, a screenshot. Edges there look like noise to estimators.

    Noise leaves no 4 x 4 block constant; only saturated areas of a photograph are constant all the same, and those are
    black or white. So a picture is a graphic if most of its blocks are constant and neither black nor white, or if some
    are constant and next to none lie between black and white. So is one of few values far apart, a fine pattern.

    Args:
        pixels: Float (H, W, C) in [0, 1].
        spread: Blocks whose values differ by no more count as constant: of noise weaker than this little is left to do.
    """
    if (pixels.shape[0] // BLOCK) * (pixels.shape[1] // BLOCK) < MIN_BLOCKS:
        return False
    low, high = _ends(pixels)
    constant = (high - low <= spread).all(-1)
    between = ((low > 0.5 / 255) & (high < 1 - 0.5 / 255)).all(-1)
    if (constant & between).mean() > 0.4 or (constant.mean() > 0.05 and between.mean() < 0.05):
        return True
    return all(_has_few_values(pixels[..., channel]) for channel in range(pixels.shape[2]))


def _has_few_values(plane: np.ndarray) -> bool:
    """Whether a plane (H, W) in [0, 1] has a few values far apart; its first row tells most at once."""
    if len(np.unique(plane[0])) > FEW_VALUES:
        return False
    values = np.unique(plane)
    return len(values) <= FEW_VALUES and bool(np.diff(values).min(initial=1) > MIN_GAP)


def _are_of_few_tones(colors: np.ndarray) -> bool:
    """Whether most of the colors (N, C) are the same few."""
    _, counts = np.unique(colors.astype(float) @ 1e4 ** np.arange(colors.shape[1]), return_counts=True)
    return bool(np.sort(counts)[-FEW_TONES:].sum() >= MOST * len(colors))


def _sample(planes: np.ndarray) -> np.ndarray:
    """Large (H, W, C) as a mosaic of evenly spaced parts."""
    height, width = planes.shape[:2]
    if height * width <= 2 * (SAMPLES * SAMPLE_SIDE) ** 2 or min(height, width) < SAMPLES * SAMPLE_SIDE:
        return planes
    tops, lefts = (np.linspace(0, side - SAMPLE_SIDE, SAMPLES).astype(int) for side in (height, width))
    rows = [
        np.concatenate([planes[top : top + SAMPLE_SIDE, left : left + SAMPLE_SIDE] for left in lefts], axis=1)
        for top in tops
    ]
    return np.concatenate(rows)


def _blocks(planes: np.ndarray) -> np.ndarray:
    """(H, W, C) as blocks (rows, 4, columns, 4, C)."""
    rows, columns = (side // BLOCK for side in planes.shape[:2])
    return planes[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK, planes.shape[2])


def _ends(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value of each block of each plane, (rows, columns, C)."""
    blocks = _blocks(pixels)
    # Rows first: of whole rows numpy takes the least many times faster than over two axes.
    return blocks.min(1).min(2), blocks.max(1).max(2)


def _squares(values: np.ndarray, kept: np.ndarray, side: int) -> np.ndarray:
    """The ``kept`` (rows, columns) squares of (H, W, ...), (count, side, side, ...)."""
    rows, columns = kept.shape
    cut = values[: rows * side, : columns * side].reshape(rows, side, columns, side, *values.shape[2:])
    return cut.swapaxes(1, 2)[kept]


def _mosaic(squares: np.ndarray) -> np.ndarray:
    """Squares (count, side, side, C) beside each other, as many as fill a rectangle that is nearly a square."""
    across = int(len(squares) ** 0.5)
    down, side = len(squares) // across, squares.shape[1]
    joined = squares[: down * across].reshape(down, across, *squares.shape[1:]).swapaxes(1, 2)
    return joined.reshape(down * side, across * side, -1)
