"""Measure a checkpoint.

    python -m train.evaluate color-small --data cbsd68 --sigma 15 25 50

The protocol is the literature's. The clean 8-bit picture / 255 gets Gaussian noise in float32, neither clipped nor
rounded; the output is clipped to [0, 1] and rounded to 8 bits; PSNR over all pixels and channels with peak 255, mean
over the pictures. The noise of picture i (sorted by file name) is
``numpy.random.default_rng(i).standard_normal(shape, dtype=float32)``. A grey checkpoint gets ``convert("L")``.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from denoiser import Denoiser, DenoiserError
from denoiser.metrics import psnr, ssim
from denoiser.noise import add_noise

from .data import find_images


def load_clean(path: Path, channels: int) -> np.ndarray:
    """The clean picture as float32 (H, W, 3) or (H, W), 8-bit values / 255."""
    with Image.open(path) as opened:
        return np.asarray(opened.convert("L" if channels == 1 else "RGB"), dtype=np.float32) / 255


def evaluate(
    denoiser: Denoiser, paths: list[Path], sigma: float, gray: bool = False, estimate: bool = False
) -> dict[str, float]:
    """Mean figures of one noise level over pictures.

    Args:
        denoiser: What to measure.
        paths: Clean pictures.
        sigma: Noise standard deviation, 8-bit units.
        gray: Measure on grey versions even if the checkpoint is for colour.
        estimate: Let the denoiser estimate sigma instead of telling it.

    Returns:
        noisy_psnr, psnr, ssim, and seconds_per_megapixel (median over pictures; the denoiser's call alone).
    """
    rows = []
    for index, path in enumerate(tqdm(paths, f"sigma {sigma:g}", leave=False)):
        clean = load_clean(path, 1 if gray else denoiser.model.config.channels)
        noisy = add_noise(clean, "gaussian", seed=index, sigma=sigma)
        started = time.perf_counter()
        restored = denoiser(noisy, None if estimate else sigma)
        seconds = time.perf_counter() - started
        restored = np.rint(restored * 255).astype(np.float32) / 255
        rows.append(
            {
                "noisy_psnr": psnr(clean, noisy),
                "psnr": psnr(clean, restored),
                "ssim": ssim(clean, restored),
                "seconds_per_megapixel": seconds / (clean.shape[0] * clean.shape[1] / 1e6),
            }
        )
    result = {name: statistics.fmean(row[name] for row in rows) for name in ("noisy_psnr", "psnr", "ssim")}
    return result | {"seconds_per_megapixel": statistics.median(row["seconds_per_megapixel"] for row in rows)}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m train.evaluate", description="Measure a checkpoint.")
    parser.add_argument("checkpoint", help="a folder, a bundled name or user/repo")
    parser.add_argument("--data", type=Path, required=True, nargs="+", help="folders of clean pictures")
    parser.add_argument("--sigma", type=float, nargs="+", default=[15, 25, 50], help="noise levels, 8-bit units")
    parser.add_argument("--gray", action="store_true", help="measure a colour checkpoint on grey pictures")
    parser.add_argument("--estimate", action="store_true", help="let the denoiser estimate sigma")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    try:
        paths = find_images(options.data)
        denoiser = Denoiser.from_pretrained(options.checkpoint, device=options.device, dtype=options.dtype)
    except (DenoiserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    denoiser(load_clean(paths[0], denoiser.model.config.channels), 25)  # the first call sets the kernels up
    where = f"{denoiser.device.type}, {str(denoiser.dtype).removeprefix('torch.')}"
    print(f"{options.checkpoint} on {len(paths)} pictures of {', '.join(map(str, options.data))} ({where})")
    print("| sigma | noisy PSNR | PSNR | SSIM | s/MP |\n| --- | --- | --- | --- | --- |")
    results = {}
    for sigma in options.sigma:
        row = results[f"{sigma:g}"] = evaluate(denoiser, paths, sigma, options.gray, options.estimate)
        print(
            f"| {sigma:g} | {row['noisy_psnr']:.2f} | {row['psnr']:.2f} | {row['ssim']:.4f} "
            f"| {row['seconds_per_megapixel']:.2f} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
