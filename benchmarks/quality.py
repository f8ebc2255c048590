"""Quality for time: our checkpoints beside the published denoisers, as Markdown and as a plot.

    python -m benchmarks.quality --data data
    python -m benchmarks.quality --data data --checkpoints color-small --plot docs/quality.png

``--data`` holds ``cbsd68/``, ``kodak24/``, ``mcmaster/`` and ``set12/`` (and ``nam25/clean``, ``nam25/noisy`` for blind
checkpoints). Color checkpoints are measured on CBSD68, Kodak24 and McMaster, gray ones on BSD68 (CBSD68 in gray) and
Set12, blind ones on the pairs of nam25, all under the protocol of ``train.evaluate``. Times and time ratios are those
of ``benchmarks.speed``, from the same run. PSNR of other methods is as published; their times, where given, are of
networks of their shape with random weights, here.
"""

import argparse
import sys
from pathlib import Path

import torch

from denoiser import Denoiser, DenoiserError, bundled_checkpoints
from train.data.sources import Source, find_images, match_pairs
from train.evaluate import evaluate, machine

from . import speed
from .results import positive

SIGMAS = (15, 25, 50)
# At sigma 15, 25, 50, as the papers of FFDNet, DRUNet and Restormer report them.
PUBLISHED = {
    "(C)BM3D": {
        "CBSD68": (33.52, 30.71, 27.38),
        "Kodak24": (34.28, 31.68, 28.46),
        "McMaster": (34.06, 31.66, 28.51),
        "BSD68": (31.08, 28.57, 25.60),
        "Set12": (32.37, 29.97, 26.72),
    },
    "DnCNN": {
        "CBSD68": (33.90, 31.24, 27.95),
        "Kodak24": (34.60, 32.14, 28.95),
        "McMaster": (33.45, 31.52, 28.62),
        "BSD68": (31.73, 29.23, 26.23),
        "Set12": (32.86, 30.44, 27.18),
    },
    "FFDNet": {
        "CBSD68": (33.87, 31.21, 27.96),
        "Kodak24": (34.63, 32.13, 28.98),
        "McMaster": (34.66, 32.35, 29.18),
        "BSD68": (31.63, 29.19, 26.29),
        "Set12": (32.75, 30.43, 27.32),
    },
    "DRUNet": {
        "CBSD68": (34.30, 31.69, 28.51),
        "Kodak24": (35.31, 32.89, 29.86),
        "McMaster": (35.40, 33.14, 30.08),
        "BSD68": (31.91, 29.48, 26.59),
        "Set12": (33.25, 30.94, 27.90),
    },
    "Restormer": {
        "CBSD68": (34.40, 31.79, 28.60),
        "Kodak24": (35.47, 33.04, 30.01),
        "McMaster": (35.61, 33.34, 30.30),
        "BSD68": (31.96, 29.52, 26.62),
        "Set12": (33.42, 31.08, 28.00),
    },
}
MIN_PLOTTED_PSNR = 30.0  # dB
SETS = {
    "CBSD68": ("cbsd68", 3),
    "Kodak24": ("kodak24", 3),
    "McMaster": ("mcmaster", 3),
    "BSD68": ("cbsd68", 1),
    "Set12": ("set12", 1),
}
"""Folder and channels of each test set."""


Pictures = dict[str, tuple[list[Source], list[Source] | None]]
"""Clean pictures by test set, and the noisy ones of real pairs."""


def find_pictures(denoiser: Denoiser, data: Path) -> Pictures:
    """The test sets of the checkpoint's kind; real pairs for a blind one.

    Raises:
        FileNotFoundError, ValueError: They are not there.
    """
    if denoiser.model.config.blind:
        return {"nam25": match_pairs([str(data / "nam25" / "clean")], [str(data / "nam25" / "noisy")])}
    return {
        name: (find_images([str(data / folder)]), None)
        for name, (folder, channels) in SETS.items()
        if channels == denoiser.model.config.channels
    }


def measure(denoiser: Denoiser, pictures: Pictures) -> dict[str, tuple[float, ...]]:
    """PSNR at the three levels on every set; of real pairs before and after, and the least gain."""
    figures = {}
    for name, (clean, noisy) in pictures.items():
        if noisy:
            row = evaluate(denoiser, clean, noisy_sources=noisy)
            least = min(picture["psnr"] - picture["noisy_psnr"] for picture in row["images"].values())
            figures[name] = (row["noisy_psnr"], row["psnr"], least)
        else:
            figures[name] = tuple(evaluate(denoiser, clean, sigma)["psnr"] for sigma in SIGMAS)
    return figures


def table(ours: dict[str, dict], times: dict[str, dict], parameters: dict[str, int]) -> str:
    """Everything as Markdown."""
    heads = ["", *SETS, "parameters", "s/MP, float32 (ratio)", "s/MP, bfloat16 (ratio)"]
    lines = ["| " + " | ".join(heads).strip() + " |", "|" + " --- |" * len(heads)]
    for name, sets in {**{f"`{name}`": row for name, row in ours.items()}, **PUBLISHED}.items():
        cells = [" / ".join(f"{value:.2f}" for value in sets.get(column, ())) for column in SETS]
        plain = name.strip("`")
        cells.append(f"{parameters[plain] / 1e6:.2f} M" if plain in parameters else "")
        for label in speed.DTYPES:
            cells.append("{:.2f} ({:.2f})".format(*times[plain][label]) if plain in times else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, sets in ours.items():
        if "nam25" in sets:
            before, after, least = sets["nam25"]
            lines += [
                "",
                f"`{name}` on the real pairs of nam25: {before:.2f} -> {after:.2f} dB on average, "
                f"{least:+.2f} dB on the one that gains least.",
            ]
    return "\n".join(lines)


def plot(ours: dict[str, dict], times: dict[str, dict], path: Path) -> None:
    """PSNR on CBSD68 at sigma 25 against seconds a megapixel in float32; published networks by their shape's time.

    Points below ``MIN_PLOTTED_PSNR`` are left out: they would squeeze the others together.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=150)
    axes = figure.subplots()
    for kind, rows, color in (("this project", ours, "#0f766e"), ("published", PUBLISHED, "#64748b")):
        points = [
            (times[name]["float32"][0], sets["CBSD68"][1], name)
            for name, sets in rows.items()
            if name in times and "CBSD68" in sets and sets["CBSD68"][1] > MIN_PLOTTED_PSNR
        ]
        axes.scatter([p[0] for p in points], [p[1] for p in points], color=color, label=kind, zorder=3)
        for seconds, value, name in points:
            # Names of neighbors stay apart: ours above their points, the others' beside them.
            place = {"xytext": (0, 7), "ha": "center"} if rows is ours else {"xytext": (7, -4)}
            axes.annotate(name, (seconds, value), textcoords="offset points", fontsize=9, color=color, **place)
    axes.set_xscale("log")
    axes.set_xlabel("seconds a megapixel on two processor cores, float32")
    axes.set_ylabel("PSNR on CBSD68, sigma 25, dB")
    axes.margins(x=0.15, y=0.12)
    axes.grid(alpha=0.25, which="both")
    axes.legend(loc="lower right", frameon=False)
    figure.tight_layout()
    figure.savefig(path)


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="Quality for time.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the test sets")
    parser.add_argument("--checkpoints", nargs="+", help="default: all bundled ones")
    parser.add_argument("--runs", type=positive, default=9, help="timed runs per network (default 9)")
    parser.add_argument("--plot", type=Path, help="write the plot here")
    options = parser.parse_args()
    try:
        denoisers = speed.load(options.checkpoints or bundled_checkpoints())
        pictures = {name: find_pictures(denoiser, options.data) for name, denoiser in denoisers.items()}
        times = speed.compare(denoisers, runs=options.runs, others=True)  # first, while nothing has warmed the machine
        ours = {name: measure(denoiser, pictures[name]) for name, denoiser in denoisers.items()}
    except (DenoiserError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parameters = {name: sum(p.numel() for p in denoiser.model.parameters()) for name, denoiser in denoisers.items()}
    dtypes = {str(denoiser.dtype).removeprefix("torch.") for denoiser in denoisers.values()}
    print(f"{machine(torch.device('cpu'))}; PSNR in {', '.join(sorted(dtypes))}; median of {options.runs} timed runs\n")
    print(table(ours, times, parameters))
    if options.plot:
        plot(ours, times, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
