"""Reports of a run: run.json (the facts for the card), log.jsonl, curve.png and samples.png."""

import contextlib
import csv
import json
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from denoiser import Denoiser, experiment
from denoiser.images.picture import read

from .evaluate import EVALUATION_FILE
from .state import write_atomically, write_text
from .validation import Noise, middle

RUN_FILE, LOG_FILE, CURVE_FILE = "run.json", "log.jsonl", "curve.png"
SAMPLES_FILE, FAILURE_FILE = "samples.png", "failure.png"
SAMPLES_SIDE = 192
NOT_STATED = "not stated"
LOSS_COLORS = ("#0f766e", "#b45309", "#6d28d9")


def commit() -> str:
    """The commit of the code, with a plus where it was changed since; "unknown" outside a checkout."""

    def git(*arguments: str) -> str:
        result = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=20, check=True
        )
        return result.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def count_licenses(files: list[Path], names: list[str]) -> dict[str, int]:
    """Photographs per license, from tables ``*.tsv`` (columns "file" and "licence") beside or above the files."""
    stated: dict[str, str] = {}
    for folder in {folder for path in files for folder in (path.parent, path.parent.parent)}:
        for table in folder.glob("*.tsv"):
            with open(table, encoding="utf-8", newline="") as lines:
                rows = csv.DictReader(lines, delimiter="\t")
                if {"file", "licence"} <= set(rows.fieldnames or ()):
                    stated |= {row["file"]: row["licence"] for row in rows}
    return dict(Counter(stated.get(name, NOT_STATED) for name in names).most_common())


def read_log(run: Path) -> list[dict]:
    """The records of the log; an incomplete line is skipped."""
    records = []
    for line in _log_text(run).splitlines():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return records


def _log_text(run: Path) -> str:
    path = run / LOG_FILE
    return path.read_text(encoding="utf-8") if path.exists() else ""


def add_to_log(run: Path, record: dict) -> None:
    """Add a line to the log; the whole file is written again, as a full disk would leave a part of the line."""
    write_text(run / LOG_FILE, _log_text(run) + json.dumps(record) + "\n")


def trim_log(run: Path, step: int) -> None:
    """Trim the log of a run that resumes at ``step``: later records and incomplete lines are dropped."""
    lines = [json.dumps(record) + "\n" for record in read_log(run) if record["step"] <= step]
    write_text(run / LOG_FILE, "".join(lines))


def begin_anew(run: Path) -> None:
    """Delete what an earlier run, of which there is no state, has left: it would count for this one."""
    for name in (LOG_FILE, RUN_FILE, EVALUATION_FILE):
        (run / name).unlink(missing_ok=True)


def draw_curve(run: Path) -> None:
    """Loss and validation PSNR over the steps, from the log; each kind of loss on a scale of its own."""
    from matplotlib.figure import Figure  # takes longer than any other import of the trainer but torch's

    records = read_log(run)
    steps = [record["step"] for record in records]
    figure = Figure(figsize=(9, 3.2), dpi=110)
    left, right = figure.subplots(1, 2)
    kinds = list(dict.fromkeys(record["objective"] for record in records))
    left.set(title="Training loss (smoothed)", xlabel="step")
    for index, kind in enumerate(kinds):
        axes = left.twinx() if index else left
        color = LOSS_COLORS[index % len(LOSS_COLORS)]
        rows = [record for record in records if record["objective"] == kind]
        axes.plot([row["step"] for row in rows], [row["loss"] for row in rows], ".-", color=color, markersize=3)
        axes.set_ylabel(kind.replace("_", " ").upper(), color=color)
        axes.spines[["top"]].set_visible(False)
        if index > 1:  # beside the second one's
            axes.spines["right"].set_position(("outward", 62 * (index - 1)))
    for key in [key for key in records[-1] if key.startswith("psnr_")]:
        right.plot(steps, [record.get(key) for record in records], label=_label(key.removeprefix("psnr_")))
    right.set(title="Validation PSNR, dB", xlabel="step")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.25)
    right.spines[["top", "right"]].set_visible(False)
    left.spines["right"].set_visible(len(kinds) > 1)
    # A layout that finds these by itself draws everything twice.
    figure.subplots_adjust(0.095, 0.17, 0.985, 0.89, wspace=0.2 + 0.22 * (len(kinds) - 1))
    write_atomically(run / CURVE_FILE, lambda path: figure.savefig(path, format="png"))


def _label(name: str) -> str:
    return f"\u03c3 = {name}" if name.isdigit() else name


def draw_samples(run: Path, crops: list[np.ndarray], noises: list[Noise]) -> None:
    """Noisy, denoised and amplified difference of the middle of the last held-out crops, one row each.

    ``noises``: kind and parameters of each row's, weakest first; None for pairs, which have their own.
    """
    denoiser = Denoiser.from_pretrained(run / "checkpoint", device="cpu")
    rows = []
    for index, crop in enumerate(crops[-2:]):
        result = _denoise_crop(denoiser, crop, noises[index % len(noises)])
        delta, _ = experiment.difference(result.noisy, result.denoised)
        rows.append(np.concatenate([middle(part, SAMPLES_SIDE) for part in (*_pixels(result), delta)], axis=1))
    width = min(row.shape[1] for row in rows)
    strip = Image.fromarray(np.concatenate([row[:, :width] for row in rows], axis=0).squeeze())
    write_atomically(run / SAMPLES_FILE, lambda path: strip.save(path, format="png"))


def draw_failure(run: Path, crop: np.ndarray, noise: Noise) -> None:
    """Draw noisy, denoised and clean of one crop; of pairs it holds both."""
    result = _denoise_crop(Denoiser.from_pretrained(run / "checkpoint", device="cpu"), crop, noise)
    clean = crop if noise else np.split(crop, 2, axis=2)[0]
    strip = np.concatenate([*_pixels(result), clean], axis=1)
    write_atomically(run / FAILURE_FILE, lambda path: Image.fromarray(strip.squeeze()).save(path, format="png"))


def _denoise_crop(denoiser: Denoiser, crop: np.ndarray, noise: Noise) -> experiment.Experiment:
    noisy = crop if noise else np.split(crop, 2, axis=2)[1]
    kind, parameters = noise or (None, None)
    return experiment.run(denoiser, read(Image.fromarray(noisy.squeeze())), kind, parameters, seed=0, measures=())


def _pixels(result: experiment.Experiment) -> list[np.ndarray]:
    """Noisy and denoised, uint8 (H, W, C)."""
    pictures = (result.noisy, result.denoised)
    return [np.asarray(picture.to_pil()).reshape(picture.pixels.shape) for picture in pictures]


def write_facts(run: Path, facts: dict) -> None:
    """run.json."""
    write_text(run / RUN_FILE, json.dumps(facts, indent=1) + "\n")
