"""Tables and plots of :mod:`benchmarks.techniques`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from denoiser.analysis.regions import REGIONS
from denoiser.techniques import Technique

if TYPE_CHECKING:
    from .techniques import Measurement

START, END = "<!-- techniques -->", "<!-- /techniques -->"
COLORS = {"spatial": "#64748b", "variational": "#7c3aed", "transform": "#b45309", "non-local": "#be123c"}
LEARNED = "#0f766e"


def load_now() -> str:
    """What else the machine does, as a sentence, where the system says it."""
    try:
        one = os.getloadavg()[0]
    except (AttributeError, OSError):
        return ""
    shared = " Other programs ran at the same time: times are too long." if one > (os.cpu_count() or 1) else ""
    return f"; load {one:.0f}.{shared}"


def mean(measured: Iterable["Measurement"], figure: str) -> float:
    """The mean of a figure; NaN if there is none."""
    values = [one.figures[figure] for one in measured if np.isfinite(one.figures[figure])]
    return float(np.mean(values)) if values else float("nan")


def tables(
    measured: list["Measurement"],
    techniques: list[Technique],
    spent: dict[str, tuple[float, float]],
    noises: dict[str, list[dict[str, float]]],
) -> str:
    """Everything as Markdown."""
    names = list(dict.fromkeys(one.technique for one in measured))
    sets = list(dict.fromkeys(one.set for one in measured))
    kinds = list(dict.fromkeys(one.noise for one in measured))
    family = {one.name: one.family for one in techniques}
    first = "gaussian" if "gaussian" in kinds else kinds[0]
    parts = [
        f"### All measures, {first.replace('_', ' ')} noise\n",
        _measures(measured, names, sets, first, family, spent),
    ]
    parts += [
        f"\n### PSNR by kind of noise, {' and '.join(_color(sets))}\n",
        _by_noise(measured, names, kinds, noises, _color(sets)),
    ]
    if "set12" in sets and len(sets) > 1:
        parts += ["\n### PSNR by kind of noise, set12 (gray)\n", _by_noise(measured, names, kinds, noises, ["set12"])]
    return "\n".join(parts)


def _color(sets: list[str]) -> list[str]:
    return [name for name in sets if name != "set12"] or sets


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _measures(
    measured: list["Measurement"],
    names: list[str],
    sets: list[str],
    kind: str,
    family: dict[str, str],
    spent: dict[str, tuple[float, float]],
) -> str:
    heads = ["technique", "family", *(f"{name}, PSNR" for name in sets), "SSIM", "VIF", "edges", *REGIONS, "s/MP", "MB"]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for name in names:
        ours = [one for one in measured if (one.technique, one.noise) == (name, kind)]
        cells = [
            name,
            family.get(name, ""),
            *(_psnr_by_strength([one for one in ours if one.set == s], 2) for s in sets),
        ]
        cells += [_number(mean(ours, figure), 3) for figure in ("ssim", "vif", "edge_fidelity")]
        cells += [_number(_decibels(ours, region), 1) for region in REGIONS]
        cells += [_number(spent[name][0], 2), f"{spent[name][1]:.0f}"] if name in spent else ["", ""]
        lines.append(_row(cells))
    return "\n".join(lines)


def _psnr_by_strength(measured: list["Measurement"], digits: int) -> str:
    """The mean PSNR at each strength: "31.30 / 28.11 / 25.00"; "" where nothing was measured."""
    groups = [[one for one in measured if one.strength == strength] for strength in range(3)]
    return " / ".join(_number(mean(group, "psnr"), digits) for group in groups) if measured else ""


def _decibels(measured: list["Measurement"], region: str) -> float:
    """The mean over pictures of the PSNR within a region."""
    values = [one.figures[region] for one in measured]
    values = [-10 * np.log10(max(value, 1e-8)) for value in values if np.isfinite(value)]
    return float(np.mean(values)) if values else float("nan")


def _by_noise(
    measured: list["Measurement"],
    names: list[str],
    kinds: list[str],
    noises: dict[str, list[dict[str, float]]],
    sets: list[str],
) -> str:
    heads = ["technique", *(f"{kind.replace('_', ' ')} {_strengths(noises[kind])}" for kind in kinds)]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for name in names:
        ours = [one for one in measured if one.technique == name and one.set in sets]
        if ours:
            by_kind = ([one for one in ours if one.noise == kind] for kind in kinds)
            lines.append(_row([name, *(_psnr_by_strength(group, 1) for group in by_kind)]))
    return "\n".join(lines)


def _strengths(steps: list[dict[str, float]]) -> str:
    """What differs between the strengths: "15 / 25 / 50", or "1, 3 / 3, 6 / 8, 12" for two parameters."""
    moving = [name for name in steps[0] if len({step[name] for step in steps}) > 1]
    return " / ".join(", ".join(f"{step[name]:g}" for name in moving) for step in steps)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else ""


def write_between_marks(path: Path, text: str) -> None:
    """Replace what is between the marks of a page."""
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


def plots(
    measured: list["Measurement"], techniques: list[Technique], spent: dict[str, tuple[float, float]], folder: Path
) -> None:
    """Quality for time, and the gain in each region, at the first noise."""
    from matplotlib.figure import Figure

    kind = "gaussian" if any(one.noise == "gaussian" for one in measured) else measured[0].noise
    chosen = [one for one in measured if one.noise == kind and one.strength == 1]
    colored = [one for one in techniques if any(row.technique == one.name and row.set != "set12" for row in chosen)]
    rows = [one for one in chosen if one.set != "set12"]
    figure = Figure(figsize=(7.2, 4.2), dpi=120)
    axes = figure.subplots()
    for technique in colored:
        value = mean((row for row in rows if row.technique == technique.name), "psnr")
        color = COLORS.get(technique.family, LEARNED)
        axes.scatter([spent[technique.name][0]], [value], color=color, zorder=3)
        place = {"xytext": (6, -3), "textcoords": "offset points", "fontsize": 8, "color": color}
        axes.annotate(technique.name, (spent[technique.name][0], value), **place)
    axes.set_xscale("log")
    axes.set_xlabel("seconds a megapixel")
    axes.set_ylabel("PSNR, dB")
    axes.margins(x=0.2)
    axes.grid(alpha=0.25, which="both")
    figure.tight_layout()
    figure.savefig(folder / "techniques-time.png", metadata={"Software": None})

    figure = Figure(figsize=(7.2, 4.2), dpi=120)
    axes = figure.subplots()
    noisy = next(row.technique for row in rows)
    for index, (region, color) in enumerate(zip(REGIONS, ("#94a3b8", "#0f766e", "#b45309"))):
        base = _decibels([one for one in rows if one.technique == noisy], region)
        gains = [_decibels([row for row in rows if row.technique == one.name], region) - base for one in colored]
        axes.bar(np.arange(len(colored)) + 0.27 * (index - 1), gains, 0.25, label=region, color=color)
    axes.axhline(0, color="#334155", linewidth=0.8)
    axes.set_xticks(range(len(colored)), [one.name for one in colored], rotation=40, ha="right", fontsize=8)
    axes.set_ylabel("gain over the noisy picture, dB")
    axes.grid(alpha=0.25, axis="y")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(folder / "techniques-regions.png", metadata={"Software": None})
