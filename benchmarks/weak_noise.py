"""What the checkpoints do to nearly clean 8-bit pictures, of which nothing may get worse.

    python -m benchmarks.weak_noise --data photographs

For each noise level the gain in PSNR of the denoised 8-bit file over the noisy one, mean and least over the pictures:
the middle 192 x 192 of those in ``train/held_out.yaml`` if they are among ``--data``, else of all, and of pictures that
are drawn. The level is given, or estimated with ``--estimate``. With ``--clean`` nothing is added, and the
figures are PSNR of what comes back, 99 at most; a clean picture should come back as it was.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import yaml

from denoiser import Denoiser, DenoiserError, bundled_checkpoints
from denoiser.analysis.metrics import psnr
from train.data.sources import Source, find_images
from train.validation import center_crops, middle

from .noise_level import DRAWN

SIGMAS = (0.5, 1, 2, 3, 5)
HELD_OUT = Path(__file__).parents[1] / "train" / "held_out.yaml"


def held_out(sources: list[Source]) -> list[Source]:
    """Those named in ``train/held_out.yaml``; all if there are none."""
    groups = yaml.safe_load(HELD_OUT.read_text(encoding="utf-8"))
    named = {name for names in groups.values() for name in names}
    return [source for source in sources if source.name in named] or sources


def drawn(kind: str, channels: int, size: int, count: int = 4) -> list[np.ndarray]:
    """The middle of pictures of a kind of ``benchmarks.noise_level``, uint8 (H, W, C)."""
    pictures = [np.asarray(DRAWN[kind](seed).convert("RGB" if channels == 3 else "L")) for seed in range(count)]
    return [middle(picture.reshape(*picture.shape[:2], channels), size) for picture in pictures]


def gains(denoiser: Denoiser, crops: list[np.ndarray], sigma: float, estimate: bool = False) -> list[float]:
    """The gain of each uint8 crop (H, W, C), dB."""
    values = []
    for seed, crop in enumerate(crops):
        noise = np.random.default_rng(seed).standard_normal(crop.shape)
        noisy = np.clip(np.rint(crop + sigma * noise), 0, 255).astype(np.uint8)
        denoised = denoiser(noisy, None if estimate else sigma)
        clean, noisy, denoised = (picture / np.float32(255) for picture in (crop, noisy, denoised))
        values.append(psnr(clean, denoised) - psnr(clean, noisy))
    return values


def report_clean(denoisers: dict[str, Denoiser], sources: list[Source], size: int) -> int:
    """Print what comes back of clean photographs; returns the exit status."""
    print(f"{len(sources)} clean photographs; PSNR of what comes back\n")
    print("| checkpoint | mean | least | below 48 dB |\n| --- | --- | --- | --- |")
    for name, denoiser in denoisers.items():
        crops = center_crops(sources, denoiser.model.config.channels, size=size)[0]
        values = np.array([min(99.0, psnr(crop / np.float32(255), denoiser(crop) / np.float32(255))) for crop in crops])
        print(f"| `{name}` | {values.mean():.1f} | {values.min():.1f} | {(values < 48).sum()} |", flush=True)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.weak_noise", description="Gain at weak noise.")
    parser.add_argument("checkpoints", nargs="*", help="default: all bundled ones that are given the level")
    parser.add_argument("--data", nargs="+", required=True, help="photographs: folders or tar files")
    parser.add_argument("--size", type=int, default=192, help="side of the crops (default 192)")
    parser.add_argument("--estimate", action="store_true", help="let the level be estimated")
    parser.add_argument("--clean", action="store_true", help="add no noise, and say what comes back")
    options = parser.parse_args(arguments)
    try:
        sources = held_out(find_images(options.data))
        denoisers = {name: Denoiser.from_pretrained(name) for name in options.checkpoints or bundled_checkpoints()}
    except (DenoiserError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.clean:
        return report_clean(denoisers, sources, options.size)
    print(
        f"{len(sources)} photographs; gain in dB, mean (least); level {'estimated' if options.estimate else 'given'}\n"
    )
    print("| checkpoint | pictures | " + " | ".join(f"&sigma; {sigma:g}" for sigma in SIGMAS) + " |")
    print("| --- | --- |" + " --- |" * len(SIGMAS))
    for name, denoiser in denoisers.items():
        if denoiser.model.config.blind:
            continue
        channels = denoiser.model.config.channels
        groups = {"photographs": center_crops(sources, channels, size=options.size)[0]}
        groups |= {kind: drawn(kind, channels, options.size) for kind in DRAWN}
        for kind, crops in groups.items():
            columns = [gains(denoiser, crops, sigma, options.estimate) for sigma in SIGMAS]
            cells = [f"{np.mean(values):+.2f} ({min(values):+.2f})" for values in columns]
            print(f"| `{name}` | {kind} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
