"""What of a picture its noise is measured in: nothing of graphics, no area of one tone, of a large picture a sample."""

import numpy as np
from scipy.ndimage import maximum_filter, percentile_filter

from ..images.picture import NETWORK_RANGE, Picture

SAMPLES, SAMPLE_SIDE = 4, 384
"""Parts across and down that a large picture is measured by, and their side, pixels."""
BLOCK = 4
"""Side of the blocks that are looked at for a constant tone, pixels."""
MIN_BLOCKS = 64
"""Blocks that a picture must have to be called a graphic."""
FEW_VALUES, MIN_GAP = 4, 16 / 255
"""So few values, so far apart, are a drawn pattern: noise has those between them, too."""
FEW_COLORS, FEW_OF_ALL = 64, 0.25
"""So few colors, and of all that could be made of their values so small a share, are drawn: noise mixes them freely."""
MIN_ALIKE = 0.1
"""Share of the squares of four pixels, but for black and white ones, that are of one tone where a few tones are drawn.
Photon counts have at most 0.02, noise of half a step or more in a photograph of 4 or 5 bits 0.07."""
MIN_FLAT, FEW_TONES, MOST = 0.003, 4, 0.9
"""Least share of the blocks that areas of one tone have; most of them are of so few tones, unlike those of a sky."""
NEAR = 4
"""JPEG takes a flat area's colors to blocks up to so many away."""
MIN_LEFT, MIN_SIDE = 0.15, 16
"""Least share of all other blocks that a rectangle must hold, and its least side, pixels: graphics have their areas of
one tone everywhere."""
QUIETEST, MIN_RANGE, MIN_STEPS = 0.005, 3 / 255, 2.5
"""The quietest of its blocks have values at least so far apart, also in steps between values: a clean picture also has
areas that are nearly of one tone, which must be measured."""
MIN_TONES, MIN_COLORS, MAX_COLORS = 32, 256, 100_000
"""Tones or colors that it must have: a posterized picture and one with a palette have fewer; how many are looked at."""
SQUARE, SQUARES, FEWEST_SQUARES = 64, 6, 4
"""Side of the squares that spectra are taken of, pixels, half of it in small pictures; the most of them in a row; the
fewest that count as quiet."""
FINE, NEAR_LINES, BETWEEN_LINES, EVEN, LEAST = 0.2, 7, 0.1, 0.5, 0.6
"""What lies between the lines of a spectrum, above ``FINE`` (cycles a pixel), is the lower quarter of the energies in a
window of that side. In a drawn pattern it has at most ``BETWEEN_LINES`` of the energy, and its weakest twentieth less
than ``EVEN`` of its strongest: white noise is even there. So are one or two of 1,000 crops of photographs with noise of
five levels, and none with stronger noise or that of a camera. White noise puts its level everywhere: at least ``LEAST``
of it where a pattern has least."""
MAX_CELLS = 10_000
"""Cells that the largest rectangle is looked for in, about: blocks, or squares of several in a large picture."""


def measured_parts(picture: Picture) -> np.ndarray:
    """The pixels that the noise of a picture is measured in: all of them, or a part (H, W, C).

    A large picture is sampled: noise is the same everywhere, and time is not. Frames, captions and logos of one exact
    tone that somebody has put on a noisy picture hold none of its noise, nor does what :func:`hidden_pixels` has. Where
    such areas are, it is the largest rectangle without them, if there is noise all over it.
    """
    pixels = _sample(picture.pixels)
    if min(pixels.shape[:2]) < BLOCK:
        return pixels
    low, high = _ends(pixels)
    hidden = np.zeros(low.shape[:2], bool)
    if (unseen := hidden_pixels(picture)) is not None:
        hidden |= _blocks(_sample(unseen[..., None])).any(axis=(1, 3, 4))
    flat = (low == high).all(-1) & ((np.abs(low) > 0.5 / 255) & (np.abs(low - 1) > 0.5 / 255)).any(-1)
    if flat.mean() > MIN_FLAT and _are_of_few_tones(low[flat]):
        part = _largest_clear(hidden | np.asarray(maximum_filter(flat, 2 * NEAR + 1)), hidden | flat)
        if part and _holds_noise(pixels[part], float(np.diff(np.unique(high)).min(initial=1))):
            return pixels[part]
    part = _largest_clear(hidden, hidden) if hidden.any() else None
    return pixels[part] if part else pixels


def hidden_pixels(picture: Picture) -> np.ndarray | None:
    """Pixels (H, W) that nobody sees, and those of which a value is at an end of the network's range; None if none."""
    low, high = NETWORK_RANGE
    hidden = np.zeros(picture.pixels.shape[:2], bool)
    if picture.alpha is not None:
        hidden |= picture.alpha == 0
    if picture.pixels.max() >= high or picture.pixels.min() <= low:
        hidden |= ((picture.pixels >= high) | (picture.pixels <= low)).any(2)
    return hidden if hidden.any() else None


def _largest_clear(left_out: np.ndarray, areas: np.ndarray) -> tuple[slice, slice] | None:
    """The largest rectangle, in pixels, without blocks that are left out; None if it is small beside all but ``areas``.

    Row by row: of the columns of clear cells that end there, each is as wide as its neighbors are at least as high.
    """
    step = max(1, round((left_out.size / MAX_CELLS) ** 0.5))
    rows, columns = (length // step for length in left_out.shape)
    cells = np.any(left_out[: rows * step, : columns * step].reshape(rows, step, columns, step), axis=(1, 3))
    best, heights = (0, 0, 0, 0, 0), [0] * columns
    for row in range(rows):
        heights = [0 if out else height + 1 for out, height in zip(cells[row], heights)]
        growing: list[tuple[int, int]] = []  # (first column, height), ever higher
        for column, height in enumerate([*heights, 0]):
            first = column
            while growing and growing[-1][1] >= height:
                first, tall = growing.pop()
                best = max(best, (tall * (column - first), row + 1 - tall, row + 1, first, column))
            growing.append((first, height))
    area, top, bottom, left, right = best
    scale = step * BLOCK
    if area * step**2 < MIN_LEFT * (~areas).sum() or min(bottom - top, right - left) * scale < MIN_SIDE:
        return None
    return slice(top * scale, bottom * scale), slice(left * scale, right * scale)


def _holds_noise(pixels: np.ndarray, step: float) -> bool:
    """Whether noise is all over ``pixels``, and no drawn pattern; ``step``: between the picture's values."""
    low, high = _ends(pixels)
    if np.quantile((high - low).max(-1), QUIETEST) < max(MIN_RANGE * peak(pixels), MIN_STEPS * step):
        return False
    colors = pixels.reshape(-1, pixels.shape[2])
    colors = colors[:: max(1, len(colors) // MAX_COLORS)]
    if len(np.unique(_keys(colors))) < (MIN_TONES if (colors == colors[:, :1]).all() else MIN_COLORS):
        return False
    return not is_pattern(pixels)


def is_pattern(pixels: np.ndarray, level: float = np.inf) -> bool:
    """Whether the quiet squares of a picture hold a drawn pattern: little is between the lines of its spectrum.

    So are a printed screen, hatching, a weave, the dots of a display and a tile that is repeated. Noise has all
    frequencies, also those between the lines of a photographed fabric.

    Args:
        pixels: Float (H, W, C) in [0, 1].
        level: Of white noise, 8-bit units, that the pattern may be instead: noise upon a pattern is no pattern.
    """
    side = SQUARE if min(pixels.shape[:2]) >= 1.5 * SQUARE else SQUARE // 2
    if min(pixels.shape[:2]) < 1.5 * side:
        return False
    rows, columns = (np.linspace(0, n - side, min(SQUARES, -(-n // side))).astype(int) for n in pixels.shape[:2])
    squares = np.stack([pixels[top : top + side, left : left + side] for top in rows for left in columns])
    window = np.hanning(side + 2)[1:-1, None]
    squares = (squares - squares.mean((1, 2), keepdims=True)) * (window * window.T)[..., None]
    energies = np.abs(np.fft.fft2(squares, axes=(1, 2))) ** 2
    fine = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side)] * 2)) > FINE
    totals = energies[:, fine].sum((1, 2))
    order = np.argsort(totals, kind="stable")[(totals <= 1e-6).sum() :]  # but for areas of one tone
    if len(order) < FEWEST_SQUARES:
        return False
    spectra = np.moveaxis(energies[order[: max(FEWEST_SQUARES, len(order) // 4)]].mean(0), -1, 0)
    between = np.stack([percentile_filter(one, 25, NEAR_LINES, mode="wrap") for one in spectra])[:, fine]
    weakest, strongest = np.quantile(between, (0.05, 0.95), axis=1)
    share = between.sum(1) / np.maximum(spectra[:, fine].sum(1), 1e-12)
    if share.mean() >= BETWEEN_LINES or (weakest / np.maximum(strongest, 1e-12)).mean() >= EVEN:
        return False
    return bool(weakest.mean() < (LEAST * level / 255) ** 2 * (window**2).sum() ** 2)


def peak(pixels: np.ndarray) -> float:
    """The highest value, but for highlights brighter than white, to which levels of a dim picture are relative."""
    return min(1.0, float(pixels.max()))


def is_graphic(pixels: np.ndarray, spread: float = 0.0) -> bool:
    """Whether a picture is drawn, not taken: text, line art, a screenshot. Edges there look like noise to estimators.

    Noise leaves no 4 x 4 block constant; only saturated areas of a photograph are constant all the same, and those are
    black or white. So a picture is a graphic if most of its blocks are constant and neither black nor white, or if some
    are constant and next to none lie between black and white. So is one of few values far apart, a fine pattern, and
    one of few colors or gray tones.

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
    if all(_has_few_values(pixels[..., channel]) for channel in range(pixels.shape[2])):
        return True
    return _has_few_colors(pixels)


def _has_few_values(plane: np.ndarray) -> bool:
    """Whether a plane (H, W) in [0, 1] has a few values far apart; its first row tells most at once."""
    if len(np.unique(plane[0])) > FEW_VALUES:
        return False
    values = np.unique(plane)
    return len(values) <= FEW_VALUES and bool(np.diff(values).min(initial=1) > MIN_GAP)


def _has_few_colors(pixels: np.ndarray) -> bool:
    """Whether a picture (H, W, C) has a few colors, or gray tones in areas; its first row tells most at once."""
    if len(np.unique(_keys(pixels[0]))) > FEW_COLORS:
        return False
    if (pixels == pixels[..., :1]).all():
        return _has_areas_of_few_tones(pixels[..., 0])
    colors = len(np.unique(_keys(pixels.reshape(-1, pixels.shape[2]))))
    possible = np.prod([len(np.unique(pixels[..., channel])) for channel in range(pixels.shape[2])])
    return bool(colors <= min(FEW_COLORS, FEW_OF_ALL * possible))


def _has_areas_of_few_tones(plane: np.ndarray) -> bool:
    """Whether a plane (H, W) in [0, 1] is drawn in a few tones with others between them. Counts are not: they differ
    from pixel to pixel."""
    tones = np.unique(plane)
    if len(tones) > min(FEW_COLORS, FEW_OF_ALL * (255 * np.ptp(tones) + 1)):
        return False
    first = plane[:-1, :-1]
    alike = (plane[1:, :-1] == first) & (plane[:-1, 1:] == first) & (plane[1:, 1:] == first)
    between = ~(alike & ((first <= 0) | (first >= 1)))
    return bool(between.any() and alike[between].mean() > MIN_ALIKE)


def _are_of_few_tones(colors: np.ndarray) -> bool:
    """Whether most of the colors (N, C) are the same few."""
    _, counts = np.unique(_keys(colors), return_counts=True)
    return bool(np.sort(counts)[-FEW_TONES:].sum() >= MOST * len(colors))


def _keys(colors: np.ndarray) -> np.ndarray:
    """A number for each of the colors (N, C)."""
    return colors.astype(float) @ 1e4 ** np.arange(colors.shape[1])


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
