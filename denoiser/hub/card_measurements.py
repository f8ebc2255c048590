"""The measurements of a checkpoint in its model card, as Markdown."""

import math
import statistics
from typing import Any

SAMPLES_FILE = "samples.webp"
MIN_GAIN = 1.0
"""Decibels by which a checkpoint must improve its noisy input on the mean: less, and it has learned nothing."""
_NOISE = "clean 8-bit picture / 255, y = x + n, n ~ N(0, (sigma/255)^2) in float32, neither clipped nor rounded; "
_SEED = "; noise of picture i from `numpy.random.default_rng(i)`"
_OUTPUT = (
    "output clipped to [0, 1] and rounded to 8 bits; PSNR over all pixels and channels with peak 255; mean over the "
    "pictures"
)


def mean_gain(evaluation: list[dict[str, Any]]) -> float:
    """The mean improvement over the noisy input, dB; infinite where no measurement has both figures."""
    pairs = [(entry["psnr"], entry["noisy_psnr"]) for entry in evaluation]
    gains = [after - before for after, before in pairs if after is not None and before is not None]
    return statistics.fmean(gains) if gains else math.inf


def one_per_level(evaluation: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the measurements of one level with several kinds of numbers (dtype) the last one."""
    keys = ("dataset", "sigma", "gray", "estimate", "self_ensemble")
    return list({tuple(entry.get(key, False) for key in keys): entry for entry in evaluation}.values())


def evaluation_table(evaluation: list[dict[str, Any]], name: str) -> str:
    """The measurements, the protocol, and the commands that repeat them."""
    lines = [
        "| data | pictures | sigma | noisy PSNR | PSNR | SSIM | edge fidelity | s/MP |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    several = len({entry["dtype"] for entry in evaluation}) > 1
    for entry in sorted(
        evaluation, key=lambda e: (e["dataset"], e["gray"], conditions(e), e["sigma"] or 0, e["dtype"])
    ):
        level = "real" if entry["sigma"] is None else f"{entry['sigma']:g}" + conditions(entry)
        level += f", {entry['dtype']}" * several
        figures = [("noisy_psnr", 2), ("psnr", 2), ("ssim", 4), ("edge_fidelity", 3), ("seconds_per_megapixel", 2)]
        shown = ["-" if entry[key] is None else f"{entry[key]:.{digits}f}" for key, digits in figures]
        lines.append(f"| {dataset_name(entry)} | {entry['pictures']} | {level} | {' | '.join(shown)} |")
    machines = dict.fromkeys(f"{entry['machine']}, {entry['dtype']}" for entry in evaluation)
    again, levels = [], {}
    added = any(entry["sigma"] is not None for entry in evaluation)
    lines += ["", f"Protocol: {_NOISE * added}{_OUTPUT}{_SEED * added}."]
    for entry in evaluation:
        if entry["sigma"] is not None:
            options = {"gray": entry["gray"], "estimate": entry["estimate"], "self-ensemble": entry["self_ensemble"]}
            options[f"dtype={entry['dtype']}"] = several
            more = "".join(f" --{option}" for option, given in options.items() if given)
            levels.setdefault(more, set()).add(f"{entry['sigma']:g}")
        if entry["sigma"] is None:
            gains = [picture["psnr"] - picture["noisy_psnr"] for picture in entry["images"].values()]
            gains = [gain for gain in gains if math.isfinite(gain)] or [0.0]
            dtype = entry["dtype"] if several else ""
            lines += [
                "",
                f"{dataset_name(entry)}: real pairs{' in ' * several}{dtype}, the noisy picture as it is; the pair "
                f"that gains least gains {min(gains):+.2f} dB, the one that gains most {max(gains):+.2f} dB.",
            ]
            option = f" --dtype={dtype}" * several
            again.append(f"`python -m train.evaluate {name} --data CLEAN --noisy NOISY{option}`")
    commands: dict[str, list[list[str]]] = {}
    for more, sigmas in levels.items():
        commands.setdefault(" ".join(sorted(sigmas, key=float)), []).append(more.split())
    for values, options in commands.items():
        shared = " ".join(["", *(option for option in options[0] if all(option in others for others in options))])
        further = [" ".join(option for option in one if option not in shared.split()) for one in options]
        also = ", ".join(f"`{one}`" for one in further if one)
        command = f"`python -m train.evaluate {name} --data DIR --sigma {values}{shared}`"
        again.append(command + (f", also with {also}" if also else ""))
    lines += [
        "",
        f"Times, other work beside it included: {'; '.join(machines)}; compare checkpoints by times of one run "
        f"(`python -m benchmarks.speed`). Again: {', '.join(dict.fromkeys(again))}.",
        "",
        "Noisy, denoised, and their difference (amplified, gray is none), on held-out photographs:",
        "",
        f"![Noisy, denoised and difference]({SAMPLES_FILE})",
    ]
    return "\n".join(lines)


def conditions(entry: dict[str, Any]) -> str:
    """The conditions of a measurement other than the noise level, as a suffix."""
    return ", estimated" * entry["estimate"] + ", self-ensemble" * entry.get("self_ensemble", False)


def dataset_name(entry: dict[str, Any]) -> str:
    """The data set of a measurement, as cards name it."""
    return entry["dataset"] + (" (grey)" if entry["gray"] else "")
