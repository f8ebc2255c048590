"""A cache of decoded photographs on disk, shared by runs."""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

KEPT = 4
"""Caches that are kept: every choice of sizes makes another, of a gigabyte for a few hundred photographs."""
NAME = re.compile("[0-9a-f]{24}")
PIXELS, TABLE = "pixels.npy", "table.json"


def cached(
    folder: Path | None, decode: Callable[[], tuple[list[np.ndarray], list[tuple[str, str]], bool]]
) -> tuple[np.ndarray, dict]:
    """Photographs from the cache folder, or decoded and put there.

    Args:
        folder: Of this choice of photographs and sizes, named by 24 hexadecimal digits; None for no cache.
        decode: Returns uint8 pictures (H, W, C), what was skipped (name, reason), and whether that is lasting: worth
            remembering.

    Returns:
        The pixels of all pictures end to end, uint8 (pixels, C), and the table of their ``sizes`` and of what was
        ``skipped``.
    """
    if folder and (folder / TABLE).exists():
        with contextlib.suppress(OSError):  # it may be another's, for reading only
            os.utime(folder / TABLE)  # last used now
        # Deleted meanwhile, or damaged: decode again. Read, not mapped: crops touch a page per row, and the small
        # pages of a file cost 12 % of a step on a CPU.
        with contextlib.suppress(OSError, ValueError, EOFError):
            return np.load(folder / PIXELS), json.loads((folder / TABLE).read_text())
    images, skipped, lasting = decode()
    table = {"sizes": [image.shape[:2] for image in images], "skipped": skipped}
    if not images:
        return np.empty((0, 0), np.uint8), table
    flat = np.empty((sum(image.shape[0] * image.shape[1] for image in images), images[0].shape[2]), dtype=np.uint8)
    start = 0
    while images:  # freed one by one, so that the memory is needed once, not twice
        image = images.pop(0)
        flat[start : start + image.shape[0] * image.shape[1]] = image.reshape(-1, image.shape[2])
        start += image.shape[0] * image.shape[1]
    if folder and lasting:
        try:
            _store(folder, flat, table)
        except OSError as error:  # a full disk, a folder for reading only: the run needs no cache
            print(f"the photographs are not cached in {folder.parent}: {error}", file=sys.stderr)
        with contextlib.suppress(OSError):  # another run prunes at the same time
            _prune(folder.parent)
    return flat, table


def _store(folder: Path, flat: np.ndarray, table: dict) -> None:
    """The pixels, then the table: where there is a table, the pixels are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in (
        (PIXELS, lambda path: np.save(path, flat)),
        (TABLE, lambda path: path.write_text(json.dumps(table))),
    ):
        own = folder / f"partial-{os.getpid()}-{name}"  # another process may be filling the same cache
        try:
            write(own)
            os.replace(own, folder / name)
        finally:
            own.unlink(missing_ok=True)


def _prune(caches: Path) -> None:
    """Leave the caches used last, and nothing that a killed run left; what is not a cache is not touched."""
    ours = [folder for folder in caches.iterdir() if NAME.fullmatch(folder.name)]
    for left in (partial for folder in ours for partial in folder.glob("partial-*")):
        if left.stat().st_mtime < time.time() - 86400:
            left.unlink(missing_ok=True)
    tables = [folder / TABLE for folder in ours if (folder / TABLE).exists()]
    for table in sorted(tables, key=lambda table: table.stat().st_mtime)[:-KEPT]:
        table.unlink(missing_ok=True)  # first: pixels without a table are no cache
        (table.parent / PIXELS).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else lies there
            table.parent.rmdir()
