"""The rate of ``python -m denoiser.bulk`` against the command line's, per core.

    python -m benchmarks.bulk

Both do the same pictures on all cores, in turns: one process with a thread for each core, and a worker with one thread
for each. The rate is in megapixels a second and core, from the first result that is written to the last: starting,
which is done once, is not in it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def make_pictures(folder: Path, count: int, side: int) -> None:
    """Photographs are not needed for the time: smooth pictures with noise of level 25."""
    y, x = np.mgrid[:side, :side] / side
    for index in range(count):
        waves = np.stack([np.sin(9 * x + index), np.sin(7 * y), np.sin(5 * (x + y))], axis=2)
        noise = np.random.default_rng(index).standard_normal((side, side, 3))
        Image.fromarray(np.clip(128 + 60 * waves + 25 * noise, 0, 255).astype(np.uint8)).save(
            folder / f"{index:04d}.png"
        )


def rate(command: list[str], output: Path, threads: int, pixels: int) -> float:
    """Megapixels a second, from the first result to the last, by the times at which their files were written."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([sys.executable, "-m", *command], env=environment, check=True, capture_output=True)
    times = sorted(path.stat().st_mtime for path in output.glob("*.png"))
    return (len(times) - 1) * pixels / 1e6 / (times[-1] - times[0])


def compare(source: Path, cores: int, checkpoint: str, sigma: str, pixels: int) -> tuple[float, float]:
    """The rates of the command line and of a bulk run on so many cores, megapixels a second and core."""
    options = ["--checkpoint", checkpoint, "--sigma", sigma]
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder) / "one", Path(folder) / "other"
        plain = rate(["denoiser", str(source), "-o", str(one), *options], one, cores, pixels)
        bulk = ["denoiser.bulk", str(source), str(other), *options, "--workers", str(cores), "--device", "cpu"]
        return plain / cores, rate(bulk, other, 1, pixels) / cores


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bulk", description="Bulk runs against the command line."
    )
    parser.add_argument("--checkpoint", default="color-small")
    parser.add_argument("--sigma", default="25", help="given, so that only the network is measured (default 25)")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--side", type=int, default=512, help="of the pictures, pixels (default 512)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"{cores} cores, MP/s a core\n\n| round | command line | bulk | ratio |\n| --- | --- | --- | --- |")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder), options.pictures, options.side)
        for index in range(options.rounds):
            plain, bulk = compare(Path(folder), cores, options.checkpoint, options.sigma, options.side**2)
            ratios.append(bulk / plain)
            print(f"| {index + 1} | {plain:.3f} | {bulk:.3f} | {ratios[-1]:.2f} |", flush=True)
    print(f"\nmedian ratio {statistics.median(ratios):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
