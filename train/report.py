"""What a run leaves for people: run.json (the facts a card is made of), curve.png and samples.png."""

import csv
import json
import subprocess
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image

from denoiser import Denoiser, experiment
from denoiser.image import read

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RUN_FILE, LOG_FILE, CURVE_FILE, SAMPLES_FILE = "run.json", "log.jsonl", "curve.png", "samples.png"
SAMPLE_SIGMAS = (25, 50)


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


def licences(paths: list[Path]) -> dict[str, int]:
    """Photographs per licence, from a table ``*.tsv`` with the columns file and licence beside or above them."""
    stated: dict[str, str] = {}
    for folder in {folder for path in paths for folder in (path.parent, path.parent.parent)}:
        for table in folder.glob("*.tsv"):
            with open(table, encoding="utf-8", newline="") as lines:
                rows = csv.DictReader(lines, delimiter="\t")
                if {"file", "licence"} <= set(rows.fieldnames or ()):
                    stated |= {row["file"]: row["licence"] for row in rows}
    counts = Counter(stated[path.name] for path in paths if path.name in stated)
    return dict(counts.most_common())


def draw_curve(run: Path) -> None:
    """Loss and validation PSNR over the steps, from the log."""
    records = [json.loads(line) for line in (run / LOG_FILE).read_text(encoding="utf-8").splitlines()]
    steps = [record["step"] for record in records]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), dpi=110, layout="constrained")
    left.plot(steps, [record["loss"] for record in records], color="#0f766e")
    left.set(title="Training loss (smoothed)", xlabel="step", yscale="log")
    for key in [key for key in records[-1] if key.startswith("psnr_")]:
        right.plot(steps, [record.get(key) for record in records], label=f"\u03c3 = {key.removeprefix('psnr_')}")
    right.set(title="Validation PSNR, dB", xlabel="step")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(run / CURVE_FILE)
    plt.close(figure)


def draw_samples(run: Path, pictures: list[torch.Tensor]) -> None:
    """Noisy, denoised and amplified difference of two held-out pictures, one row each."""
    denoiser = Denoiser.from_pretrained(run / "checkpoint", device="cpu")
    rows = []
    for sigma, picture in zip(SAMPLE_SIGMAS, pictures[-2:]):
        clean = np.rint(picture[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        source = read(Image.fromarray(clean.squeeze()))
        result = experiment.run(denoiser, source, "gaussian", {"sigma": sigma}, seed=0)
        delta, _ = experiment.difference(result.noisy, result.denoised)
        strip = [np.asarray(image).reshape(*delta.shape) for image in (result.noisy, result.denoised)]
        rows.append(np.concatenate([*strip, delta], axis=1))
    Image.fromarray(np.concatenate(rows, axis=0).squeeze()).save(run / SAMPLES_FILE)


def write_facts(run: Path, facts: dict) -> None:
    """run.json."""
    (run / RUN_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
