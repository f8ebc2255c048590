"""The classical methods and the checkpoints beside each other, by kind of noise, picture set and region.

    python -m benchmarks.techniques --data data
    python -m benchmarks.techniques --data data --every 12 --crop 128 --only gaussian nlm color-base --noises gaussian
    python -m benchmarks.techniques --data data --every 6 --crop 128 --results results.jsonl --write docs/techniques.md
    python -m benchmarks.techniques --data data --every 12 --crop 128 --only bm3d --write docs/techniques.md

``--data`` holds ``cbsd68/``, ``kodak24/``, ``set12/``. Every noise has three strengths. Noisy pictures are neither
clipped nor rounded; the methods are given the deviation of the noise, and their results are clipped and rounded
to 8 bits. VIF, visual information fidelity, is the perceptual measure; it needs torchmetrics and no weights. Regions
are cut from the clean picture (``denoiser.analysis.regions``). Processor seconds and memory are those of a picture of
512 x 512 pixels, each technique in a process of its own. With ``--only``, ``--write`` replaces the rows of those
techniques in the page, and the others stay. It takes hours: ``--results`` keeps what is measured in a file as it goes,
and the same command goes on from there. Remove the file if a technique or checkpoint has changed.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from denoiser import Denoiser, DenoiserError, add_noise, bundled_checkpoints
from denoiser.analysis.regions import REGIONS, regions
from denoiser.techniques import TECHNIQUES, Technique, compare, learned
from train.data.sources import find_images
from train.evaluate import load_clean, machine, peak_memory, reset_peak_memory
from train.validation import middle

from . import techniques_report as report
from .results import keep_result, positive, read_results

SETS = {"cbsd68": 3, "kodak24": 3, "set12": 1}
"""Folders and their channels."""
NOISES: dict[str, list[dict[str, float]]] = {
    "gaussian": [{"sigma": 15}, {"sigma": 25}, {"sigma": 50}],
    "poisson": [{"peak": 255}, {"peak": 60}, {"peak": 15}],
    "sensor": [{"gain": 1, "read": 3}, {"gain": 3, "read": 6}, {"gain": 8, "read": 12}],
    "speckle": [{"sigma": 0.1}, {"sigma": 0.2}, {"sigma": 0.4}],
    "salt_and_pepper": [{"amount": 2}, {"amount": 5}, {"amount": 15}],
    "uniform": [{"width": 25}, {"width": 45}, {"width": 85}],
    "jpeg": [{"quality": 40}, {"quality": 20}, {"quality": 10}],
    "correlated": [{"sigma": 15, "grain": 1}, {"sigma": 25, "grain": 1}, {"sigma": 50, "grain": 1}],
    "camera": [{"sigma": 5}, {"sigma": 10}, {"sigma": 20}],
    "raw": [{"sigma": 10}, {"sigma": 20}, {"sigma": 40}],
}
"""Parameters of each noise, from weak to strong."""
NOTHING = "(noisy)"
COST_SIDE = 512
Vif = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Measurement:
    """One technique on one picture.

    Attributes:
        technique: Its name; ``NOTHING`` for the noisy picture itself.
        set: Of the picture.
        noise: Its kind.
        strength: Index into its ``NOISES``.
        figures: By name; "flat", "edge" and "texture" are the mean squared errors there, NaN for a region under 1 %.
    """

    technique: str
    set: str
    noise: str
    strength: int
    figures: dict[str, float]


def load_vif() -> Vif:
    """Visual information fidelity of pixels (H, W, C) in [0, 1]: clean, other -> 0..1.

    Sheikh and Bovik, "Image Information and Visual Quality", TIP 2006.
    """
    try:
        from torchmetrics.functional.image import visual_information_fidelity
    except ImportError:
        raise DenoiserError("VIF needs torchmetrics: pip install 'denoising-autoencoder[dev]'") from None

    def vif(clean: np.ndarray, other: np.ndarray) -> float:
        first, second = (torch.from_numpy(255 * one).permute(2, 0, 1)[None] for one in (other, clean))
        return float(visual_information_fidelity(first, second))

    return vif


def load_crops(folder: Path, channels: int, every: int, side: int) -> list[np.ndarray]:
    """The middle of every n-th picture, float32 (H, W, C) in [0, 1]; ``side`` 0 for all of it."""
    pictures = [load_clean(source, channels) for source in find_images([folder])[::every]]
    return [middle(one.reshape(*one.shape[:2], channels), side or max(one.shape)) for one in pictures]


def by_region(clean: np.ndarray, other: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The mean squared error in each region."""
    error = ((clean - other) ** 2).mean(2)
    areas = {name: labels == index for index, name in enumerate(REGIONS)}
    return {name: float(error[area].mean()) if area.mean() > 0.01 else float("nan") for name, area in areas.items()}


def measure(
    techniques: list[Technique], clean: np.ndarray, noisy: np.ndarray, vif: Vif
) -> list[tuple[str, dict[str, float]]]:
    """The figures of each technique, and of the noisy picture itself, which comes first."""
    labels, sigma = regions(clean), min(255 * float(np.mean((noisy - clean) ** 2)) ** 0.5, 255.0)
    nothing = Technique(NOTHING, NOTHING, "", lambda pixels, sigma: pixels)
    rows = []
    for outcome in compare(noisy, sigma, [nothing, *techniques], clean):
        figures = outcome.figures | {"vif": vif(clean, outcome.pixels)} | by_region(clean, outcome.pixels, labels)
        rows.append((outcome.technique.name, figures))
    return rows


def measure_all(options: argparse.Namespace, techniques: list[Technique]) -> list[Measurement]:
    """Everything that is not in the file of results."""
    found, vif = [], load_vif()
    results: dict[str, dict[str, dict[str, float]]] = {}
    for case, rows in read_results(options.results):
        results.setdefault(case, {}).update(rows)
    sets = {name: load_crops(options.data / name, SETS[name], options.every, options.crop) for name in options.sets}
    for name, crops in sets.items():
        cases = [(kind, strength) for kind in options.noises for strength in range(len(NOISES[kind]))]
        for kind, strength in tqdm(cases, desc=name, leave=False):
            for seed, clean in enumerate(crops):
                case = f"{name}, every {options.every}, crop {options.crop}, picture {seed}, {kind} {strength}"
                known = results.setdefault(case, {})
                if missing := [one for one in techniques if one.name not in known]:
                    noisy = add_noise(clean, kind, seed, **NOISES[kind][strength])
                    rows = dict(measure(missing, clean, noisy, vif))
                    known |= rows
                    keep_result(options.results, case, rows)
                chosen = [NOTHING, *(one.name for one in techniques)]
                found += [Measurement(technique, name, kind, strength, known[technique]) for technique in chosen]
    return found


def technique_named(name: str, dtype: str = "float32") -> Technique:
    """A classical method or a checkpoint.

    Raises:
        DenoiserError: There is no such checkpoint.
    """
    if name in TECHNIQUES:
        return TECHNIQUES[name]
    return learned(Denoiser.from_pretrained(name, device="cpu", dtype=dtype), name)


def cost(name: str) -> tuple[float, float]:
    """Processor seconds a megapixel, and MB above what the process had before, in this process: for a fresh one.

    Time of one thread on the processor, as other programs may run at the same time.
    """
    torch.set_num_threads(1)
    technique = technique_named(name)
    technique.denoise(np.zeros((32, 32, 3), np.float32) + np.linspace(0, 1, 32, dtype=np.float32)[:, None], 25)
    clean = np.zeros((COST_SIDE, COST_SIDE, 3), np.float32) + np.linspace(0, 1, COST_SIDE, dtype=np.float32)[:, None]
    noisy, device = add_noise(clean, "gaussian", sigma=25), torch.device("cpu")
    reset_peak_memory(device)  # imports and loading may have taken more than there is now
    before = peak_memory(device)
    started = time.process_time()
    technique.denoise(noisy, 25)
    return (time.process_time() - started) / (COST_SIDE**2 / 1e6), peak_memory(device) - before


def costs(names: list[str]) -> dict[str, tuple[float, float]]:
    """The cost of each, in a fresh process."""
    found = {}
    for name in tqdm(names, desc="cost", leave=False):
        command = [sys.executable, "-m", "benchmarks.techniques", "--data", ".", "--cost", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, megabytes = done.stdout.split()
        found[name] = float(seconds), float(megabytes)
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.techniques", description="Techniques side by side.")
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with the test sets")
    add("--only", nargs="+", help="techniques and checkpoints (default: all that are installed and bundled)")
    add("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    add("--noises", nargs="+", choices=list(NOISES), default=list(NOISES))
    add("--every", type=positive, default=1, help="take every n-th picture")
    add("--crop", type=int, default=0, help="the middle of this side (default: whole pictures)")
    add("--results", type=Path, help="keep what is measured in this file, and go on from it")
    add("--write", type=Path, help="put the tables between the marks of this page")
    add("--plots", type=Path, help="write the plots into this folder")
    add("--cost", help=argparse.SUPPRESS)  # what the fresh process measures
    options = parser.parse_args(arguments)
    try:
        if options.cost:
            print(*cost(options.cost))
            return 0
        if options.write:
            report.between_marks(options.write)  # what cannot be written is said now, not after hours
        if options.plots:
            options.plots.mkdir(parents=True, exist_ok=True)
        missing = [one.label for one in TECHNIQUES.values() if not one.available]
        names = options.only or [one.name for one in TECHNIQUES.values() if one.available] + bundled_checkpoints()
        chosen = [technique_named(name) for name in names]
        measured = measure_all(options, chosen)
        spent = costs(names)
    except (DenoiserError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    subset = "whole pictures" if not options.crop else f"their middle {options.crop} x {options.crop} pixels"
    pictures = {name: len(find_images([options.data / name])[:: options.every]) for name in options.sets}
    text = "\n".join(
        [
            f"{', '.join(f'{count} of {name}' for name, count in pictures.items())}, {subset}. "
            f"{machine(torch.device('cpu'))}."
            + (f" Not installed, and left out: {', '.join(missing)}." if missing else ""),
            "",
            report.tables(measured, chosen, spent, NOISES),
        ]
    )
    print(text)
    try:
        if options.write:
            if options.only and (old := report.between_marks(options.write)).count("###"):
                text = report.merge(old, text, [*TECHNIQUES, *bundled_checkpoints()])
            report.write_between_marks(options.write, text)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.plots:
        report.plots(text, {name: item.family for name, item in TECHNIQUES.items()}, options.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
