"""Training without clean pictures against training with them, from the same start and in the same time, as Markdown.

    python -m benchmarks.self_supervised --data data
    python -m benchmarks.self_supervised --data data --sets cells --starts checkpoint --pictures 12 --adapt 60

``--data`` holds ``cbsd68/`` and ``set12/``; ``cells`` are drawn: filaments and spots as a microscope shows them, which
no checkpoint has met. Of every three pictures two are trained on, noisy as 8-bit files hold them
(clipped and rounded), and one is measured: PSNR of the 8-bit result of ``denoiser(noisy)`` against the clean picture.
"fresh" starts are a small network with random weights, the others that checkpoint. The methods run by
their recipes in ``train/configs``, for ``--minutes``; ``clean`` is the same recipe on noisy/clean pairs. The correlated
noise is Gaussian noise smoothed over a pixel (``grain`` 1): there Noise2Void is run with and without its structured
variant, SURE is told the level that it refuses to estimate, and all networks are blind. It takes hours: ``--results``
keeps what is measured in a file as it goes, and the same command goes on from there.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from scipy.ndimage import gaussian_filter

from denoiser import Denoiser, DenoiserError, add_noise
from denoiser.adaptation import adapt
from denoiser.analysis.metrics import psnr
from train.__main__ import main as train
from train.data.sources import find_images, split_held_out
from train.evaluate import load_clean, machine

from .results import keep_result, read_results

RECIPES = Path(__file__).parents[1] / "train" / "configs"
SETS = {
    "cbsd68": (3, "color-base", "photo"),
    "set12": (1, "gray-base", "gray-base"),
    "cells": (1, "gray-base", "gray-base"),
}
"""Channels of each test set, and the checkpoints to start from: given the noise level, and blind."""
BLIND = ("correlated",)
"""Noises whose level cannot be estimated, so that the networks are blind."""
NOISES = {
    "gaussian": ("gaussian", {"sigma": 25}),
    "sensor": ("sensor", {"gain": 8, "read": 5}),
    "correlated": ("correlated", {"sigma": 25, "grain": 1}),
}
FRESH = {"architecture": "unet", "widths": [16, 32], "blocks": [1, 1]}
FRESH_RATE = 2e-3


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        recipe: Its file in ``train/configs``.
        pairs: Whether it trains on noisy/clean pairs.
        objective: Parameters beside those of the recipe.
        noises: The noises it is run on.
    """

    recipe: str
    pairs: bool = False
    objective: dict = field(default_factory=dict)
    noises: tuple[str, ...] = tuple(NOISES)


METHODS = {
    "clean pictures": Method("neighbor2neighbor", pairs=True),
    "noise2noise": Method("noise2noise"),
    "neighbor2neighbor": Method("neighbor2neighbor"),
    "noise2void": Method("noise2void"),
    "noise2void, structure [3, 3]": Method("noise2void", objective={"structure": [3, 3]}, noises=("correlated",)),
    "sure": Method("sure", noises=("gaussian", "sensor")),
    "sure, told the level": Method("sure", objective={"sigma": 25}, noises=("correlated",)),
}


def draw_cells(seed: int, side: int = 192) -> np.ndarray:
    """Bright filaments and spots on gray, blurred as by a microscope: float32 (side, side, 1) in [0.3, 0.9]."""
    random = np.random.default_rng(seed)
    angles = random.uniform(0, 2 * np.pi, (side // 5, 1)) + np.cumsum(random.normal(0, 0.08, (side // 5, side)), 1)
    start = random.uniform(0, side, (2, side // 5, 1))
    rows, columns = (start + 0.7 * np.cumsum([np.sin(angles), np.cos(angles)], 2)).astype(int) % side
    filaments, spots = np.zeros((2, side, side))
    np.add.at(filaments, (rows, columns), 1.0)
    spots[tuple(random.integers(0, side, (2, side // 2)))] = 1
    light = gaussian_filter(filaments, 1.1) / 2 + 6 * gaussian_filter(spots, 1.3)
    return (0.3 + 0.6 * (light / np.quantile(light, 0.999)).clip(0, 1))[..., None].astype(np.float32)


def load_set(data: Path, name: str, count: int) -> list[np.ndarray]:
    """Clean pictures of a set, at most ``count``."""
    if name == "cells":
        return [draw_cells(seed) for seed in range(count)]
    return [load_clean(source, SETS[name][0]) for source in find_images([str(data / name)])[:count]]


def write_pictures(folder: Path, pictures: list[np.ndarray], noise: str) -> None:
    """Clean pictures, one noisy shot of each, and two in a folder of its own, as 8-bit PNG."""
    kind, parameters = NOISES[noise]
    for index, clean in enumerate(pictures):
        _save(clean, folder / "clean" / f"{index:02d}.png")
        for shot in range(2):
            noisy = add_noise(clean, kind, seed=1000 * shot + index, **parameters)
            _save(noisy, folder / "shots" / f"{index:02d}" / f"{shot}.png")
            if shot == 0:
                _save(noisy, folder / "noisy" / f"{index:02d}.png")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(pixels.squeeze().clip(0, 1) * 255).astype(np.uint8)).save(path)


def run(folder: Path, method: Method, start: str, channels: int, blind: bool, budget: list[str]) -> Path:
    """Train by a method; returns the checkpoint.

    Raises:
        RuntimeError: The run failed; its message is on standard error.
    """
    recipe = yaml.safe_load((RECIPES / f"{method.recipe}.yaml").read_text(encoding="utf-8"))
    if method.pairs:
        del recipe["objective"]
        places = ["--clean", str(folder / "clean"), "--noisy", str(folder / "noisy")]
    else:
        recipe["objective"] |= method.objective
        shots = "shots" if recipe["objective"]["kind"] == "noise2noise" else "noisy"
        places = ["--noisy", str(folder / shots)]
        if shots == "shots":  # the scenes that the others hold out by the names of their pictures
            _, groups = split_held_out(find_images([folder / "noisy"]), recipe["data"]["validation_share"], {})
            recipe["data"]["held_out"] = {
                group: [Path(source.name).stem for source in sources] for group, sources in groups.items()
            }
    recipe["model"] = {"blind": blind}
    if start == "fresh":
        recipe["model"] |= FRESH | {"channels": channels}
        recipe["optimizer"]["rate"] = FRESH_RATE
    else:
        places += ["--init", start]
    output = Path(tempfile.mkdtemp(dir=folder))
    (output / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    command = ["--config", str(output / "recipe.yaml"), "--output", str(output / "run"), "--workers", "0", *budget]
    if train([*command, *places, "--cache", str(folder / "cache"), "--save-every", "1e6"]):
        raise RuntimeError(f"{method.recipe} from {start} failed, see above")
    return output / "run" / "checkpoint"


def measure(denoise, pictures: list[np.ndarray], noise: str) -> float:
    """Mean PSNR of what ``denoise`` makes of noisy 8-bit pictures, dB."""
    kind, parameters = NOISES[noise]
    scores = []
    for index, clean in enumerate(pictures):
        noisy = add_noise(clean, kind, seed=9000 + index, **parameters)
        noisy = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
        scores.append(psnr(clean, denoise(noisy) / np.float32(255)))
    return statistics.fmean(scores)


def denoise_adapted(denoiser: Denoiser, seconds: float, noisy: np.ndarray) -> np.ndarray:
    """A picture, denoised by weights that were adapted to it."""
    return adapt(denoiser, noisy, seconds).denoiser(noisy)


class Results:
    """What is measured, kept in a file as it goes, so that the same command goes on from it.

    Args:
        path: Of JSON lines; None keeps nothing.
    """

    def __init__(self, path: Path | None):
        self.path, self.known = path, dict[str, str]()
        self.known.update(read_results(path))

    def measure(self, key: str, score: Callable[[], float]) -> str:
        """A cell of the table: what is known, or else measured now, dB."""
        if key not in self.known:
            try:
                self.known[key] = f"{score():.2f}"
            except RuntimeError as error:  # a result as well: SURE on shared noise may diverge
                self.known[key] = "fails"
                print(f"{key}: {error}", file=sys.stderr)
            print(f"{key}: {self.known[key]}", file=sys.stderr, flush=True)
            keep_result(self.path, key, self.known[key])
        return self.known[key]


def compare(name: str, pictures: list[np.ndarray], options: argparse.Namespace) -> list[str]:
    """The table of a test set and its clean pictures."""
    channels, *checkpoints = SETS[name]
    training = [picture for index, picture in enumerate(pictures) if index % 3]
    measured = pictures[::3]
    results = Results(options.results)
    cases = [
        ("fresh" if start == "fresh" else checkpoints[noise in BLIND], noise)
        for start in options.starts
        for noise in options.noises
    ]
    adapting = f"--adapt {options.adapt:g}"
    labels = ["noisy", "start", *options.methods, *([adapting] if options.adapt else [])]
    rows: dict[str, list[str]] = {label: [] for label in labels}

    def score(label: str, start: str, noise: str, folder: Path) -> float:
        if label == "noisy":
            return measure(lambda noisy: noisy, measured, noise)
        if label in METHODS:
            trained = run(folder, METHODS[label], start, channels, noise in BLIND, options.budget)
            return measure(Denoiser.from_pretrained(trained, device=options.device), measured, noise)
        known = Denoiser.from_pretrained(start, device=options.device)
        return measure(known if label == "start" else partial(denoise_adapted, known, options.adapt), measured, noise)

    for start, noise in cases:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_pictures(folder, training, noise)
            for label, cells in rows.items():
                if label in METHODS and noise not in METHODS[label].noises:
                    cells.append("")
                elif label in ("start", adapting) and start == "fresh":
                    cells.append("-")
                else:
                    key = f"{name}, {start}, {noise}, {label}, {' '.join(options.budget)}, {len(pictures)} pictures"
                    cells.append(results.measure(key, partial(score, label, start, noise, folder)))
    heads = [f"{start}, {noise}" for start, noise in cases]
    lines = [f"{name}: {len(training)} pictures trained on, {len(measured)} measured", ""]
    lines += ["| PSNR, dB | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    return [*lines, *(f"| {label} | {' | '.join(cells)} |" for label, cells in rows.items()), ""]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.self_supervised", description="Without clean pictures.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the test sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS)[:2])
    parser.add_argument("--noises", nargs="+", choices=list(NOISES), default=list(NOISES))
    parser.add_argument("--starts", nargs="+", choices=["fresh", "checkpoint"], default=["fresh", "checkpoint"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--pictures", type=int, default=30, help="of each set at most (default 30)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=5, help="of each run (default 5)")
    budget.add_argument("--steps", type=int, help="of each run, instead of minutes")
    parser.add_argument("--adapt", type=float, default=0, metavar="SECONDS", help="also adapt to each measured picture")
    parser.add_argument("--device", default="auto", help="of what is measured (default auto)")
    parser.add_argument("--results", type=Path, help="keep what is measured in this file, and go on from it")
    options = parser.parse_args(arguments)
    options.budget = ["--steps", str(options.steps)] if options.steps else ["--minutes", str(options.minutes)]
    try:
        sets = {name: load_set(options.data, name, options.pictures) for name in options.sets}  # all are there
        tables = [compare(name, pictures, options) for name, pictures in sets.items()]
    except (DenoiserError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    length = f"{options.steps} steps" if options.steps else f"{options.minutes:g} minutes"
    load = f", {os.getloadavg()[0]:.1f} processes on it" if hasattr(os, "getloadavg") else ""
    print(f"{length} a run; {machine(torch.device('cpu'))}{load}\n")
    print("\n".join(line for table in tables for line in table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
