"""Noise that depends on the signal: PSNR with one level for the whole picture, and with its model.

    python -m benchmarks.signal_dependent color-base --data data/cbsd68 data/kodak24 --every 8

Pictures are as 8-bit files hold them. The level is the standard deviation of the noise; with nothing known, the library
estimates level or model. Flux is the mean of the denoised picture relative to that of the clean one.
"""

import argparse
import statistics
import sys

import numpy as np
from tqdm import tqdm

from denoiser import Denoiser, DenoiserError, PoissonGaussian, add_noise
from denoiser.analysis.metrics import psnr

from .clipping import data_options, label, load_pictures, rounded

CASES = [
    ("poisson", {"peak": 10}, PoissonGaussian(25.5, 0)),
    ("poisson", {"peak": 30}, PoissonGaussian(8.5, 0)),
    ("poisson", {"peak": 60}, PoissonGaussian(4.25, 0)),
    ("poisson", {"peak": 255}, PoissonGaussian(1, 0)),
    ("sensor", {"gain": 3, "read": 6}, PoissonGaussian(3, 6)),
    ("sensor", {"gain": 1, "read": 20}, PoissonGaussian(1, 20)),
    ("speckle", {"sigma": 0.2}, PoissonGaussian(0, 0, 0.2)),
    ("speckle", {"sigma": 0.5}, PoissonGaussian(0, 0, 0.5)),
    ("gaussian", {"sigma": 5}, None),
    ("gaussian", {"sigma": 15}, None),
    ("gaussian", {"sigma": 25}, None),
    ("gaussian", {"sigma": 50}, None),
]


def measure(
    denoiser: Denoiser, clean: np.ndarray, kind: str, parameters: dict, model: PoissonGaussian | None, seed: int
) -> tuple[list[float], list[float]]:
    """PSNR and flux with one known level, with the known model, with nothing known; of one picture (H, W, C)."""
    degraded = add_noise(clean, kind, seed, **parameters)
    level = 255 * float(np.sqrt(np.mean((degraded - clean) ** 2)))
    noisy = rounded(degraded)
    results = [rounded(denoiser(noisy, sigma)) for sigma in (level, level if model is None else model, None)]
    return [psnr(clean, one) for one in results], [float(one.mean() / clean.mean()) for one in results]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.signal_dependent", description="What a model is worth.")
    parser.add_argument("checkpoint")
    data_options(parser)
    options = parser.parse_args(arguments)
    try:
        denoiser = Denoiser.from_pretrained(options.checkpoint, device="cpu")
    except DenoiserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    pictures = load_pictures(options, denoiser.model.config.channels)
    print(f"{options.checkpoint} on {len(pictures)} pictures\n")
    print("| noise | one level, known | model, known | nothing known | flux | least, most flux |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind, parameters, model in tqdm(CASES, leave=False):
        rows = [measure(denoiser, clean, kind, parameters, model, seed) for seed, clean in enumerate(pictures)]
        cells = [f"{statistics.fmean(column):.2f}" for column in zip(*(row[0] for row in rows))]
        flux = [" / ".join(f"{statistics.fmean(column):.3f}" for column in zip(*(row[1] for row in rows)))]
        blind = [row[1][2] for row in rows]
        print(
            "| " + " | ".join([label(kind, parameters), *cells, *flux, f"{min(blind):.3f}, {max(blind):.3f}"]) + " |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
