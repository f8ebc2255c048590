"""What the checkpoints do to nearly clean 8-bit pictures, of which nothing may get worse.

    python -m benchmarks.weak_noise --data photographs

For each noise level the gain in PSNR of the denoised 8-bit file over the noisy one, mean and least over the pictures:
the middle 192 x 192 of those in ``train/held_out.yaml`` if they are among ``--data``, else of all. The level is given.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import yaml

from denoiser import Denoiser, DenoiserError, bundled_checkpoints
from denoiser.analysis.metrics import psnr
from train.data.sources import Source, find_images
from train.validation import center_crops

SIGMAS = (0.5, 1, 2, 3, 5)
HELD_OUT = Path(__file__).parents[1] / "train" / "held_out.yaml"


def held_out(sources: list[Source]) -> list[Source]:
    """Those named in ``train/held_out.yaml``; all if there are none."""
    groups = yaml.safe_load(HELD_OUT.read_text(encoding="utf-8"))
    named = {name for names in groups.values() for name in names}
    return [source for source in sources if source.name in named] or sources


def gains(denoiser: Denoiser, crops: list[np.ndarray], sigma: float) -> list[float]:
    """The gain of each uint8 crop (H, W, C), dB."""
    values = []
    for seed, crop in enumerate(crops):
        noise = np.random.default_rng(seed).standard_normal(crop.shape)
        noisy = np.clip(np.rint(crop + sigma * noise), 0, 255).astype(np.uint8)
        denoised = denoiser(noisy, sigma)
        clean, noisy, denoised = (picture / np.float32(255) for picture in (crop, noisy, denoised))
        values.append(psnr(clean, denoised) - psnr(clean, noisy))
    return values


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.weak_noise", description="Gain at weak noise.")
    parser.add_argument("checkpoints", nargs="*", help="default: all bundled ones that are given the level")
    parser.add_argument("--data", nargs="+", required=True, help="photographs: folders or tar files")
    parser.add_argument("--size", type=int, default=192, help="side of the crops (default 192)")
    options = parser.parse_args(arguments)
    try:
        sources = held_out(find_images(options.data))
        denoisers = {name: Denoiser.from_pretrained(name) for name in options.checkpoints or bundled_checkpoints()}
    except (DenoiserError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(sources)} pictures; gain in dB, mean (least)\n")
    print("| checkpoint | " + " | ".join(f"sigma {sigma:g}" for sigma in SIGMAS) + " |")
    print("| --- |" + " --- |" * len(SIGMAS))
    for name, denoiser in denoisers.items():
        if denoiser.model.config.blind:
            continue
        crops, _ = center_crops(sources, denoiser.model.config.channels, size=options.size)
        cells = []
        for sigma in SIGMAS:
            values = gains(denoiser, crops, sigma)
            cells.append(f"{np.mean(values):+.2f} ({min(values):+.2f})")
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
