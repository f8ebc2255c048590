"""How near SURE's estimate, made without the clean picture, comes to the true PSNR, at known noise.

    python -m benchmarks.sure color-base gray-base --data data/cbsd68
    python -m benchmarks.sure color-base --data data/cbsd68 --every 8 --crop 256 --plot docs/sure.png
    python -m benchmarks.sure color-base --data data/cbsd68 --every 8 --crop 192 --tune

Noise as in the literature: neither clipped nor rounded. For each noise: the mean PSNR over the pictures, true and
estimated; of single pictures the mean difference, the standard error that the estimate gives itself, the largest
difference, the share of pictures within 0.2 dB, and the share whose true PSNR is in the interval of two standard errors
(95 % by chance); both differences with the energy of the picture's own noise in place of its mean, which only one
who has the clean picture knows: what is left is the chance of the probe and of how the error lies to the noise.
"Divergence alone" is the PSNR from the uncertainty map, right for the best possible denoiser only.
With ``--tune``: the true PSNR at the true level and full strength, at what ``denoiser.tune`` chooses, and at the best
of its settings by the clean picture.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from denoiser import Denoiser, DenoiserError, PoissonGaussian, add_noise, tune
from denoiser.analysis.metrics import psnr
from denoiser.analysis.sure import estimate_risk, noise_variance
from denoiser.tuning import FACTORS

from .clipping import data_options, label, load_pictures

CASES = [
    ("gaussian", {"sigma": 15}, 15.0),
    ("gaussian", {"sigma": 25}, 25.0),
    ("gaussian", {"sigma": 50}, 50.0),
    ("sensor", {"gain": 1, "read": 5}, PoissonGaussian(1, 5)),
    ("sensor", {"gain": 4, "read": 8}, PoissonGaussian(4, 8)),
]
HEADS = (
    "checkpoint | noise | true | SURE | mean difference | own error | largest | within 0.2 dB | in its interval | "
    "mean difference, energy known | largest, energy known | divergence alone"
)


@dataclass(frozen=True)
class Row:
    """One picture: true and estimated PSNR, the latter with the energy of the noise known, too; the estimate's own
    standard error; PSNR by divergence alone; dB. Whether the true PSNR is in the estimate's interval."""

    true: float
    estimated: float
    known: float
    standard_error: float
    divergence: float
    covered: bool


def measure(denoiser: Denoiser, clean: np.ndarray, case: tuple, seed: int) -> Row:
    """One picture (H, W, C) with one of ``CASES``."""
    kind, parameters, noise = case
    noisy = add_noise(clean, kind, seed, **parameters)
    found = estimate_risk(lambda pixels: denoiser(pixels, noise), noisy, noise, seed)
    decibels = 10 / np.log(10) * found.standard_error / max(found.mse, 1e-12)
    divergence = -20 * np.log10(float(np.mean(found.uncertainty.astype(np.float64) ** 2)) ** 0.5 / 255)
    chance = float(np.mean((noisy - clean).astype(np.float64) ** 2) - np.mean(noise_variance(noisy, noise)))
    known = -10 * np.log10(max(found.mse - chance, 1e-12))
    true, (low, high) = psnr(clean, found.restored), found.psnr_range
    return Row(true, found.psnr, float(known), float(decibels), float(divergence), low <= true <= high)


def line(name: str, case: tuple, rows: list[Row]) -> str:
    """A row of the table."""
    keys = ("true", "estimated", "known", "standard_error", "divergence")
    true, estimated, known, errors, divergence = (np.array([getattr(row, key) for row in rows]) for key in keys)
    apart, left = np.abs(estimated - true), np.abs(known - true)
    cells = [f"{one:.2f}" for one in (true.mean(), estimated.mean(), apart.mean(), errors.mean(), apart.max())]
    cells += [f"{100 * np.mean(one):.0f} %" for one in (apart <= 0.2, [row.covered for row in rows])]
    cells += [f"{one:.2f}" for one in (left.mean(), left.max(), divergence.mean())]
    return f"| `{name}` | {label(*case[:2])} | {' | '.join(cells)} |"


def tuning(denoiser: Denoiser, clean: np.ndarray, case: tuple, seed: int) -> tuple[float, float, float]:
    """True PSNR of one picture at the true level, as ``tune`` chooses, and at the best of its settings, dB."""
    kind, parameters, noise = case
    noisy = add_noise(clean, kind, seed, **parameters)
    tuned = tune(denoiser, noisy, noise)
    results = [denoiser(noisy, factor * noise) for factor in FACTORS]
    blends = []
    for result in results:
        removed = (noisy - result).astype(np.float64)
        share = float(((noisy - clean) * removed).sum() / (removed**2).sum())
        blends.append(psnr(clean, noisy - np.float32(np.clip(share, 0, 1)) * (noisy - result)))
    return psnr(clean, results[0]), psnr(clean, denoiser(noisy, tuned.sigma, tuned.strength)), max(blends)


def plot(points: dict[str, list[Row]], path: Path) -> None:
    """Estimated against true PSNR of every picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 5.0), dpi=120)
    axes = figure.subplots()
    for (name, rows), color in zip(points.items(), ("#0f766e", "#b45309", "#be123c", "#7c3aed", "#64748b")):
        axes.scatter([row.true for row in rows], [row.estimated for row in rows], s=14, color=color, label=name)
    ends = [min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])]
    axes.plot(ends, ends, color="#334155", linewidth=0.8, zorder=0)
    axes.set_xlabel("true PSNR, dB")
    axes.set_ylabel("estimated without the clean picture, dB")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sure", description="SURE against the true PSNR.")
    parser.add_argument("checkpoints", nargs="+")
    data_options(parser)
    parser.add_argument("--crop", type=int, help="only the corner of this side of each picture")
    parser.add_argument("--tune", action="store_true", help="what choosing level and strength gains, instead")
    parser.add_argument("--plot", type=Path, help="write the plot of the first checkpoint here")
    options = parser.parse_args(arguments)
    points: dict[str, list[Row]] = {}
    try:
        for name in options.checkpoints:
            denoiser = Denoiser.from_pretrained(name, device="cpu", dtype="float32")
            pictures = [
                one[: options.crop, : options.crop] for one in load_pictures(options, denoiser.model.config.channels)
            ]
            if not points:
                print(f"{len(pictures)} pictures\n")
                heads = "checkpoint | noise | true level | chosen | best" if options.tune else HEADS
                print(f"| {heads} |\n|" + " --- |" * (heads.count("|") + 1))
            for case in CASES[: 3 if options.tune else None]:  # those of a level
                cases = tqdm(enumerate(pictures), total=len(pictures), leave=False)
                if options.tune:
                    means = np.mean([tuning(denoiser, clean, case, seed) for seed, clean in cases], 0)
                    print(f"| `{name}` | {label(*case[:2])} | " + " | ".join(f"{one:.2f}" for one in means) + " |")
                    continue
                rows = [measure(denoiser, clean, case, seed) for seed, clean in cases]
                print(line(name, case, rows), flush=True)
                if name == options.checkpoints[0]:
                    points[label(*case[:2])] = rows
    except (DenoiserError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.plot:
        plot(points, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
