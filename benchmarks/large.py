"""Large pictures from file to file: where the time goes, and the peak memory, each size in a process of its own.

    python -m benchmarks.large color-small --megapixels 24 100

The picture is noisy, of 8-bit color, in PNG. "Network" is the network alone, over the same tiles.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from denoiser import Denoiser, DenoiserError
from denoiser.images.codecs import save_image
from denoiser.images.picture import read, read_frames
from denoiser.images.tiling import apply_tiled
from denoiser.pipeline import MARGIN, TILE
from train.evaluate import machine, peak_memory


def write_picture(path: Path, megapixels: float) -> None:
    """A smooth picture, 4:3, with noise of sigma 15."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width, random = height * 4 // 3, np.random.default_rng(0)
    pixels = np.empty((height, width, 3), np.uint8)
    slope = np.linspace(40, 215, width, dtype=np.float32)[:, None]
    for top in range(0, height, 256):
        rows = pixels[top : top + 256]
        rows[:] = np.clip(np.rint(slope + 15 * random.standard_normal(rows.shape, np.float32)), 0, 255)
    Image.fromarray(pixels).save(path, compress_level=1)


def measure(checkpoint: str, source: Path, target: Path) -> dict[str, float]:
    """Seconds of each part, and the peak memory of this process in MB before the network is measured by itself."""
    denoiser = Denoiser.from_pretrained(checkpoint, device="cpu")
    times = [time.perf_counter()]
    frames = read_frames(source)
    times.append(time.perf_counter())
    frames = [denoiser(frames.pop())]
    times.append(time.perf_counter())
    save_image(frames, target)
    times.append(time.perf_counter())
    parts: dict[str, float] = dict(zip(("read", "denoise", "write"), np.diff(times).tolist()))
    parts |= {"all": times[-1] - times[0], "MB": peak_memory(torch.device("cpu"))}
    picture = read(source)
    started = time.perf_counter()
    denoiser.noise_share(picture)  # whatever is found out of a picture before it is denoised
    estimated = time.perf_counter()
    level = None if denoiser.model.config.blind else np.array([15 / 255], np.float32)
    pixels = picture.pixels[:, :, None]
    apply_tiled(lambda tile: denoiser._infer(tile, level), pixels, TILE, MARGIN, denoiser.model.multiple, in_place=True)
    return parts | {"estimate": estimated - started, "network": time.perf_counter() - estimated}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description="Large pictures, file to file.")
    parser.add_argument("checkpoint")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[24, 100])
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)  # what the fresh process measures
    options = parser.parse_args(arguments)
    if options.part:
        measured = measure(options.checkpoint, *map(Path, options.part))
        print(*(f"{name}={value}" for name, value in measured.items()))
        return 0
    try:
        Denoiser.from_pretrained(options.checkpoint, device="cpu")
    except DenoiserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.checkpoint}, {machine(torch.device('cpu'))}\n")
    print("| MP | read, s | denoise, s | of it the estimate | the network | write, s | all / network | peak, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for megapixels in options.megapixels:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "noisy.png", Path(folder) / "clean.png"
            write_picture(source, megapixels)
            command = [sys.executable, "-m", "benchmarks.large", options.checkpoint, "--part", str(source), str(target)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        measured = {name: float(value) for name, _, value in (part.partition("=") for part in done.stdout.split())}
        columns = [measured[name] for name in ("read", "denoise", "estimate", "network", "write")]
        ratio = measured["all"] / measured["network"]
        cells = [f"{value:.1f}" for value in columns] + [f"{ratio:.2f}", f"{measured['MB']:.0f}"]
        print(f"| {megapixels:g} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
