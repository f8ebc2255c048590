"""Large pictures in overlapping tiles, in bounded memory.

Each tile is computed with a margin around it, and the margin is discarded. Where the margin covers the network's
receptive field the result equals that of the whole picture, without seams or blending.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Tile(NamedTuple):
    """One tile of a picture, as slices of rows and columns.

    Attributes:
        outer: The tile with its margin, in the picture.
        inner: The tile without its margin, in ``outer``.
        target: The tile without its margin, in the picture.
    """

    outer: tuple[slice, slice]
    inner: tuple[slice, slice]
    target: tuple[slice, slice]


def tiles(height: int, width: int, size: int, margin: int, multiple: int) -> Iterator[Tile]:
    """Cut a picture into tiles.

    Of the grids whose tiles with their margins have no larger area than a square one of ``size``, it is the one that
    computes the fewest pixels: a thin picture is cut across, with no margin along it. Tiles start at multiples of
    ``multiple``, so that strided layers have the same grid in a tile as in the whole picture; ``size`` and ``margin``
    are rounded up to such multiples.
    """
    size, margin = _round_up(size, multiple), _round_up(margin, multiple)
    rows, columns = _sides(height, width, size, margin, multiple)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield Tile(*zip(_slices(top, rows, height, margin), _slices(left, columns, width, margin)))


def _slices(start: int, side: int, length: int, margin: int) -> tuple[slice, slice, slice]:
    """The slices of a :class:`Tile` along one axis of ``length`` pixels."""
    end, outer_start = min(start + side, length), max(start - margin, 0)
    outer = slice(outer_start, min(end + margin, length))
    return outer, slice(start - outer_start, end - outer_start), slice(start, end)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _sides(height: int, width: int, size: int, margin: int, multiple: int) -> tuple[int, int]:
    """Height and width of the tiles' inner part."""
    area = (size + 2 * margin) ** 2
    height, width = _round_up(height, multiple), _round_up(width, multiple)
    best = math.inf, height, width
    for rows in range(1, height // multiple + 1):
        tile_height, outer_height, down = _cut(height, rows, margin, multiple)
        if down * width >= best[0]:
            break
        for columns in range(-(-outer_height * width // area), width // multiple + 1):
            tile_width, outer_width, across = _cut(width, columns, margin, multiple)
            if outer_height * outer_width <= area:
                best = min(best, (down * across, tile_height, tile_width))
                break
    return best[1:]


def _cut(length: int, count: int, margin: int, multiple: int) -> tuple[int, int, int]:
    """An axis in ``count`` tiles: the side of one, that of the longest with its margins, and the sum with margins."""
    side = _round_up(-(-length // count), multiple)
    return side, min(length, side + margin * min(count - 1, 2)), length + 2 * margin * (count - 1)


def computed_pixels(height: int, width: int, size: int, margin: int, multiple: int) -> int:
    """How many pixels are computed for a picture in such tiles, each padded to ``multiple``."""
    return sum(
        _round_up(rows.stop - rows.start, multiple) * _round_up(columns.stop - columns.start, multiple)
        for (rows, columns), _, _ in tiles(height, width, size, margin, multiple)
    )


def apply_tiled(
    function: Callable[..., np.ndarray],
    pixels: np.ndarray,
    size: int,
    margin: int,
    multiple: int,
    progress: Callable[[float], object] | None = None,
    maps: Sequence[np.ndarray] = (),
    in_place: bool = False,
) -> np.ndarray:
    """Apply ``function`` to a picture (H, W, ...) in tiles.

    Args:
        function: (h, w, ...) -> the same shape. The parts of ``maps`` are its further arguments.
        pixels: The picture.
        size: Side of the tiles' inner part, pixels.
        margin: Width of the discarded margin, pixels.
        multiple: Tiles start at multiples of it, pixels.
        progress: Called with the share done, in (0, 1], after each tile. An exception it raises stops the computation.
        maps: Arrays (H, W, ...) that are cut as the picture is.
        in_place: Put the result into ``pixels``, which halves the memory: what a later tile reads is written after it.
    """
    height, width = pixels.shape[:2]
    pieces = list(tiles(height, width, size, margin, multiple))
    result = pixels if in_place else np.empty_like(pixels)
    border = _round_up(margin, multiple)
    pending: list[tuple[tuple[slice, slice], np.ndarray]] = []
    for done, (outer, inner, target) in enumerate(pieces, start=1):
        while pending and pending[0][0][0].stop <= outer[0].start:
            where, values = pending.pop(0)
            result[where] = values
        values = function(pixels[outer], *(one[outer] for one in maps))[inner]
        if in_place:
            pending += _keep_borders(values, target, border)
            pending.sort(key=lambda piece: piece[0][0].stop)
            rows, columns = (slice(side.start, max(side.start, side.stop - border)) for side in target)
            result[rows, columns] = values[: rows.stop - rows.start, : columns.stop - columns.start]
        else:
            result[target] = values
        if progress:
            progress(done / len(pieces))
    for where, values in pending:
        result[where] = values
    return result


def _keep_borders(
    values: np.ndarray, target: tuple[slice, slice], border: int
) -> list[tuple[tuple[slice, slice], np.ndarray]]:
    """Copies of the borders of a tile that the tiles to the right and below read, and where they belong."""
    rows, columns = target
    bottom, right = (max(side.start, side.stop - border) for side in target)
    return [
        ((slice(bottom, rows.stop), columns), values[bottom - rows.start :].copy()),
        (
            (slice(rows.start, bottom), slice(right, columns.stop)),
            values[: bottom - rows.start, right - columns.start :].copy(),
        ),
    ]
