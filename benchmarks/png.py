"""Writing and reading PNG, against Pillow at its default: ratios of times, measured in turn, and of sizes.

    python -m benchmarks.png photographs

Each picture is taken as it is, with noise of sigma 25, smoothed, replaced by a drawn page of its size, and as 16-bit
color (which Pillow cannot hold: the ratio is to its 8-bit time a byte). Ratios are medians over the pictures and
rounds, so that a busy machine changes them little.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from denoiser import read_frames, save_image
from denoiser.images.frame import Frame
from denoiser.images.picture import Picture
from train.data.sources import find_images

from .noise_level import text_page

LIMIT = 12
ROUNDS = 5


def times_faster(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    """Their time over ours, the median of calls in turn."""
    found: list[float] = []
    for _ in range(ROUNDS):
        marks = [time.perf_counter()]
        for function in (theirs, ours):
            function()
            marks.append(time.perf_counter())
        found.append((marks[1] - marks[0]) / (marks[2] - marks[1]))
    return statistics.median(found)


def ratios(planes: np.ndarray, folder: Path, fast: bool) -> dict[str, float]:
    """Pillow's time over ours for a picture (H, W, 3), and our size over Pillow's."""
    ours, theirs = folder / "ours.png", folder / "theirs.png"
    picture = Picture.from_frame(Frame(planes, float(np.iinfo(planes.dtype).max)))
    image = Image.fromarray(planes if planes.dtype == np.uint8 else (planes >> 8).astype(np.uint8))
    itemsize = planes.dtype.itemsize
    write = times_faster(lambda: save_image(picture, ours, fast), lambda: image.save(theirs)) * itemsize
    read = times_faster(lambda: read_frames(ours), lambda: np.asarray(Image.open(theirs))) * itemsize
    return {"write": write, "read": read, "size": ours.stat().st_size / theirs.stat().st_size / itemsize}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.png", description="PNG against Pillow.")
    parser.add_argument("data", nargs="+", help="photographs: files or folders of them")
    options = parser.parse_args(arguments)
    try:
        sources = find_images(options.data)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    every = -(-len(sources) // LIMIT)
    photographs = [np.asarray(source.read(3)) for source in sources[::every]]
    noise = np.random.default_rng(0)
    kinds = {
        "8 bits": lambda x: x,
        "8 bits, sigma 25": lambda x: np.clip(x + 25 * noise.standard_normal(x.shape), 0, 255).astype(np.uint8),
        "smooth": lambda x: gaussian_filter(x, (8, 8, 0)),
        "drawn": lambda x: np.asarray(text_page(0).resize(x.shape[1::-1], Image.Resampling.NEAREST).convert("RGB")),
        "16 bits": lambda x: x.astype(np.uint16) * 256 + noise.integers(0, 256, x.shape, np.uint16),
    }
    print(f"{len(photographs)} pictures; times faster than Pillow (8 bits, a byte), and size relative to its\n")
    print("| picture | writing | size | writing, fast | size, fast | reading |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in kinds.items():
            rows = [ratios(make(photograph), Path(folder), False) for photograph in photographs]
            fast = [ratios(make(photograph), Path(folder), True) for photograph in photographs]

            def median(of: list[dict[str, float]], key: str) -> float:
                return statistics.median(row[key] for row in of)

            cells = [median(rows, "write"), median(rows, "size"), median(fast, "write"), median(fast, "size")]
            print("|", name, "|", " | ".join(f"{cell:.2f}" for cell in [*cells, median(rows, "read")]), "|", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
