"""Large pictures in overlapping tiles, in bounded memory.

Each tile is computed with a margin of its surroundings and the margin is thrown away. Where the margin covers the
network's receptive field the result is that of the whole picture; there is nothing to blend and no seam.
"""

from collections.abc import Callable, Iterator

import numpy as np


def tiles(height: int, width: int, size: int, margin: int, multiple: int) -> Iterator[tuple[tuple[slice, slice], ...]]:
    """Cut a picture into tiles.

    Where a picture is thinner than a tile, tiles are longer instead, up to the same area with their margins: those of
    square tiles would cost a thin picture many times its pixels.

    Yields ``(outer, inner, target)`` pairs of slices: what to cut out of the picture, which part of that result to
    keep, and where to put it. Tiles start at multiples of ``multiple``, so that strided layers see the same grid in a
    tile as in the whole picture; ``size`` and ``margin`` are rounded up to such multiples.
    """
    size, margin = _round_up(size, multiple), _round_up(margin, multiple)
    rows, columns = _sides(height, width, size, margin, multiple)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            outer, inner, target = [], [], []
            for start, length, side in ((top, height, rows), (left, width, columns)):
                end = min(start + side, length)
                begin = max(start - margin, 0)
                outer.append(slice(begin, min(end + margin, length)))
                inner.append(slice(start - begin, end - begin))
                target.append(slice(start, end))
            yield tuple(outer), tuple(inner), tuple(target)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _sides(height: int, width: int, size: int, margin: int, multiple: int) -> tuple[int, int]:
    """Height and width of the tiles' inner part."""
    outer = size + 2 * margin
    padded = [_round_up(side, multiple) for side in (height, width)]
    if padded[0] * padded[1] <= outer**2:
        return tuple(padded)
    sides = [size, size]
    for thin, long in ((0, 1), (1, 0)):
        if padded[thin] <= outer:  # it takes no margin across
            sides[thin] = padded[thin]
            sides[long] = (outer**2 // padded[thin] - 2 * margin) // multiple * multiple
    return tuple(sides)


def computed_pixels(height: int, width: int, size: int, margin: int, multiple: int) -> int:
    """How many pixels are computed for a picture in such tiles, each padded to ``multiple``."""
    return sum(
        _round_up(rows.stop - rows.start, multiple) * _round_up(columns.stop - columns.start, multiple)
        for (rows, columns), _, _ in tiles(height, width, size, margin, multiple)
    )


def apply_tiled(
    function: Callable[[np.ndarray], np.ndarray],
    pixels: np.ndarray,
    size: int,
    margin: int,
    multiple: int,
    progress: Callable[[float], object] | None = None,
) -> np.ndarray:
    """``function`` over a picture (H, W, C) in tiles.

    Args:
        function: (h, w, C) -> (h, w, C).
        pixels: The picture.
        size: Side of the tiles' inner part, pixels.
        margin: Surroundings computed and thrown away, pixels.
        multiple: The function's grid.
        progress: Called with the share done, in (0, 1], after each tile. An exception it raises stops the work.
    """
    jobs = list(tiles(*pixels.shape[:2], size, margin, multiple))
    result = np.empty_like(pixels)
    for done, (outer, inner, target) in enumerate(jobs, start=1):
        result[target] = function(pixels[outer])[inner]
        if progress:
            progress(done / len(jobs))
    return result
