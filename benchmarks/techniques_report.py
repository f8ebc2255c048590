"""Tables and plots of :mod:`benchmarks.techniques`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from denoiser.analysis.regions import REGIONS
from denoiser.techniques import Technique

if TYPE_CHECKING:
    from .techniques import Measurement

START, END = "<!-- techniques -->", "<!-- /techniques -->"
COLORS = {"spatial": "#64748b", "variational": "#7c3aed", "transform": "#b45309", "non-local": "#be123c"}
LEARNED = "#0f766e"


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


def between_marks(page: Path) -> str:
    """What is between the marks of a page."""
    return page.read_text(encoding="utf-8").partition(START)[2].partition(END)[0].strip()


def write_between_marks(page: Path, text: str) -> None:
    """Replace what is between the marks of a page."""
    whole = page.read_text(encoding="utf-8")
    before, _, rest = whole.partition(START)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


def read_tables(text: str) -> dict[str, dict[str, list[str]]]:
    """The tables of a text by their headings: rows by their first cell, the head of the table among them."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("### "):
            heading = line.removeprefix("### ")
        elif line.startswith("| ") and not line.startswith("| ---"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(heading, {})[cells[0]] = cells
    return found


def merge(old: str, new: str, order: list[str]) -> str:
    """The tables ``old`` with the rows of ``new`` in them, techniques in ``order``; what ``new`` lacks stays empty.

    Raises:
        ValueError: They are not of the same pictures and noises.
    """
    pictures = [text.partition(". ")[0] for text in (old, new)]
    before, now = read_tables(old), read_tables(new)
    heads = {heading: next(iter(rows.values())) for heading, rows in before.items()}
    unknown = {cell for heading, rows in now.items() for cell in next(iter(rows.values()))} - set().union(
        *heads.values()
    )
    if pictures[0] != pictures[1] or unknown:
        raise ValueError(f"the page's tables are of other pictures or noises: {pictures[0]}")
    intro, machine = (text.partition("\n")[0] for text in (old, new))
    machine = machine.partition(". ")[2]
    if machine not in intro:
        names = [name for name in order if any(name in rows for rows in now.values())]
        intro += f" {', '.join(names)}: {machine}"
    parts = [intro]
    for heading, rows in before.items():
        head, fresh = heads[heading], dict(now.get(heading, {}))
        fresh_head = fresh.pop(head[0], head)
        fresh.pop("(noisy)", None)  # it may lack columns here, and is the same
        by_head = {name: dict(zip(fresh_head, cells)) for name, cells in fresh.items()}
        merged = rows | {name: [cells.get(one, "") for one in head] for name, cells in by_head.items()}
        ranked = sorted(merged, key=lambda name: order.index(name) if name in order else -1)  # the head and (noisy)
        lines = [_row(head), _row(["---"] * len(head)), *(_row(merged[name]) for name in ranked if name != head[0])]
        parts += [f"\n### {heading}\n", *lines]
    return "\n".join(parts)


def plots(text: str, families: dict[str, str], folder: Path) -> None:
    """Quality for time, and the gain in each region, at the middle strength and the mean, from the tables.

    Args:
        text: What :func:`tables` made.
        families: Of the techniques.
        folder: Where the pictures go.
    """
    from matplotlib.figure import Figure

    (heading, table), *_ = read_tables(text).items()
    rows = [dict(zip(next(iter(table.values())), cells)) for cells in [*table.values()][1:]]
    noisy, *rows = [row for row in rows if row[_first_psnr(row)]]
    figure = Figure(figsize=(7.2, 4.6), dpi=120)
    axes = figure.subplots()
    middle = [(float(row["s/MP"]), float(row[_first_psnr(row)].split("/")[1])) for row in rows]
    axes.set_xscale("log")
    axes.set_xlabel("processor seconds a megapixel")
    axes.set_ylabel(
        f"PSNR on {_first_psnr(noisy).partition(',')[0]}, dB ({heading.partition(', ')[2]}, middle strength)"
    )
    axes.grid(alpha=0.25, which="both")
    for (seconds, value), row in zip(middle, rows):
        axes.scatter([seconds], [value], color=COLORS.get(families.get(row["technique"], ""), LEARNED), zorder=3)
    axes.margins(x=0.25, y=0.12)
    figure.tight_layout()
    _label(axes, middle, [(row["technique"], COLORS.get(families.get(row["technique"], ""), LEARNED)) for row in rows])
    figure.savefig(folder / "techniques-time.png", metadata={"Software": None})

    figure = Figure(figsize=(7.2, 4.2), dpi=120)
    axes = figure.subplots()
    for index, (region, color) in enumerate(zip(REGIONS, ("#94a3b8", "#0f766e", "#b45309"))):
        gains = [float(row[region] or "nan") - float(noisy[region] or "nan") for row in rows]
        axes.bar(np.arange(len(rows)) + 0.27 * (index - 1), gains, 0.25, label=region, color=color)
    axes.axhline(0, color="#334155", linewidth=0.8)
    axes.set_xticks(range(len(rows)), [row["technique"] for row in rows], rotation=40, ha="right", fontsize=8)
    axes.set_ylabel(f"gain, dB ({heading.partition(', ')[2]})")
    axes.grid(alpha=0.25, axis="y")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(folder / "techniques-regions.png", metadata={"Software": None})


def _first_psnr(row: dict[str, str]) -> str:
    """The head of the first set's PSNR."""
    return next(head for head in row if head.endswith("PSNR"))


def _label(axes: Any, points: list[tuple[float, float]], labels: list[tuple[str, str]]) -> None:
    """Names beside points, each at the first place around its point that is free."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(points)]
    sides = [
        (8, 0, "left", "center"),
        (-8, 0, "right", "center"),
        (0, 7, "center", "bottom"),
        (0, -7, "center", "top"),
    ]
    for (name, color), point in zip(labels, points):
        for x, y, horizontal, vertical in sides:
            place = {"xytext": (x, y), "textcoords": "offset points", "ha": horizontal, "va": vertical}
            text = axes.annotate(name, point, fontsize=8, color=color, **place)
            box = text.get_window_extent(renderer)
            if not any(box.overlaps(other) for other in taken):
                break
            if (x, y) != sides[-1][:2]:
                text.remove()
        taken.append(box)
