"""The texts of the page that are made of figures and of what strangers wrote.

All HTML comes from templates that escape whatever is put into them.
"""

import math
import re
from collections import defaultdict
from typing import Any

import jinja2

from ..experiment import Experiment
from ..hub.catalogue import Catalogue
from ..hub.checkpoints import ADDRESS, PURPOSES
from ..hub.facts import Facts
from ..hub.safe_markdown import safe_markdown
from ..noise import NOISES
from .model_pool import Loaded

HUB_ADDRESS = re.compile(r"(https://huggingface\.co/[\w.-]+(?:/[\w.-]*\w)*)")
SIGMA_SOURCES = {"known": "given", "manual": "given", "estimate": "estimated"}
"""What the figures call a noise level, by where it came from."""

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("denoiser.demo"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
)


def render(template: str, **values: Any) -> str:
    """A template of this package with its values filled in, escaped."""
    return _templates.get_template(template).render(**values)


def render_message(text: str, failed: bool = False) -> str:
    """A sentence for the visitor; "" for none."""
    if not text:
        return ""
    parts = [(part, index % 2 == 1) for index, part in enumerate(HUB_ADDRESS.split(text))]
    return render("message.html", parts=parts, failed=failed)


def render_info(label: str, *paragraphs: str) -> str:
    """A mark that opens an explanation of what has this label."""
    return render("info.html", label=label, paragraphs=paragraphs)


def formula_of(noise: str) -> list[str]:
    """A noise's formula, and the unit and range of each of its parameters."""
    kind = NOISES[noise]
    units = [
        f"{parameter.label}: {parameter.low:g} to {parameter.high:g} {parameter.unit}." for parameter in kind.parameters
    ]
    return [kind.summary, *units]


def format_number(value: float, digits: int) -> str:
    """A figure for reading: equal pictures have an infinite PSNR, flat or tiny ones have no SSIM or edges."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "\u221e" if value > 0 else "\u2013"


def _measure(result: Experiment, name: str, digits: int, live: bool = False) -> dict[str, object]:
    """One measure of the noisy and the denoised picture, as the template wants it; dots while it is not known."""
    if name not in result.figures:
        return {"text": "\u2026", "change": "", "worse": False}
    noisy, denoised = result.figures[name]
    change, about = denoised - noisy, "\u2248 " if live else ""
    return {
        "text": f"{about}{format_number(noisy, digits)} \u2192 {format_number(denoised, digits)}",
        "change": f"{change:+.{digits}f}" if math.isfinite(change) else "",
        "worse": change < 0,
    }


def render_figures(result: Experiment, checkpoint: str, sigma_mode: str, live: bool = False) -> str:
    """The row of figures under the pictures.

    Args:
        result: What was computed; figures that it lacks are dots.
        checkpoint: The name of the network's checkpoint.
        sigma_mode: Where the noise level came from: "known", "estimate" or "manual".
        live: Whether a slider is moving: the picture may be reduced, and figures of it are about right.
    """
    blind = result.sigma_used is None
    height, width = result.noisy.pixels.shape[:2]
    return render(
        "figures.html",
        clean=result.clean is not None,
        psnr=_measure(result, "psnr", 2, live),
        ssim=_measure(result, "ssim", 3),
        edges=_measure(result, "edge_fidelity", 2),
        sigma_added="" if result.sigma_added is None else f"{result.sigma_added:.1f}",
        sigma=f"{result.removed if blind else result.sigma_used:.1f}",
        sigma_source="removed" if blind else SIGMA_SOURCES[sigma_mode],
        amount=f"{width * height / 1e6:.2f} MP" if width * height >= 10_000 else f"{width} \u00d7 {height} pixels",
        seconds=f"{result.seconds:.2f}",
        width=width,
        height=height,
        checkpoint=checkpoint,
    )


def checkpoint_label(facts: Facts) -> str:
    """One line in the menu of checkpoints: what it is for, how good, how large."""
    parts = [facts.name]
    if facts.name in PURPOSES:
        parts.append(PURPOSES[facts.name].partition(":")[0])
    elif facts.blind:
        parts.append("photos with noise of their own")
    elif facts.channels:
        parts.append("gray pictures" if facts.channels == 1 else "Gaussian noise")
    if (value := dict(facts.psnr).get("cbsd68, sigma=25")) is not None:
        parts.append(f"{value:.1f} dB at \u03c3 25")
    if facts.parameters:
        parts.append(f"{facts.parameters / 1e6:.1f} M")
    return " \u00b7 ".join(parts)


def psnr_summary(facts: Facts) -> str:
    """The card's measurements on one line: the first data set's, with the level known to the network."""
    groups: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for where, value in facts.psnr:
        dataset, _, condition = where.partition(", ")
        if not re.search("estimated|ensemble" + ("" if facts.channels == 1 else "|gr[ae]y"), condition):
            level = re.sub(", gr[ae]y$", "", condition.removeprefix("sigma="))
            groups[dataset].append((level, value))
    for dataset, rows in sorted(groups.items(), key=lambda group: not re.match("cbsd68|bsd68|nam25", group[0])):
        values, levels = " / ".join(f"{value:.2f}" for _, value in rows), " / ".join(level for level, _ in rows)
        at = f"at \u03c3 {levels}" if re.fullmatch(r"[\d. /]+", levels) else f"({levels})"
        return f"{values} dB on {dataset} {at}"
    return "its card gives none"


def render_facts(facts: Facts) -> str:
    """What is known of a checkpoint; it comes from anyone's card."""
    rows = [("Network", facts.architecture + (", gray" if facts.channels == 1 else ""))]
    if facts.parameters and facts.megabytes:
        rows.append(("Size", f"{facts.parameters / 1e6:.2f} M parameters, {facts.megabytes:.1f} MB"))
    if facts.sigma_range:
        low, high = facts.sigma_range
        blind = ", finds the level itself" if facts.blind else ""
        rows.append(("Trained for", f"\u03c3 {low:g} to {high:g}{blind}"))
    rows += [("PSNR", psnr_summary(facts)), ("License", facts.license or "not stated")]
    if facts.last_modified:
        rows.append(("Last change", facts.last_modified))
    repo_id, commit = facts.name.partition("@")[0], facts.revision or ""
    address = f"{ADDRESS}{repo_id}/tree/{commit}"
    return render("facts.html", rows=rows, repo_id=repo_id, commit=commit[:8], address=address)


def render_listing(catalogue: Catalogue) -> str:
    """Everything on offer with its facts, before anything is fetched."""
    rows = []
    for facts in catalogue.entries():
        size = f"{facts.parameters / 1e6:.2f} M" if facts.parameters else ""
        levels = "\u2013".join(f"{level:g}" for level in facts.sigma_range or ())
        quality = psnr_summary(facts) if facts.psnr else ""
        rows.append((facts.name, facts.architecture, size, levels, quality, facts.license, facts.last_modified))
    heads = ("Checkpoint", "Network", "Parameters", "\u03c3", "PSNR", "License", "Last change")
    status = "Asking the Hub what there is \u2026" if catalogue.listing else catalogue.status
    return render("listing.html", heads=heads, rows=rows, status=status)


def card_markdown(loaded: Loaded) -> str:
    """A checkpoint's card for the page; anyone may have written it."""
    base = ""
    if loaded.facts.revision:
        base = f"{ADDRESS}{loaded.facts.name.partition('@')[0]}/blob/{loaded.facts.revision}/"
    return safe_markdown(loaded.card, base) or "*This checkpoint has no card.*"
