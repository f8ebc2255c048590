"""The tab "Compare techniques": one crop through many techniques, beside each other."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ..analysis.metrics import MEASURES
from ..analysis.residual import CHANCE, Residual
from ..errors import DenoiserError
from ..hub.checkpoints import bundled_checkpoints
from ..techniques import TECHNIQUES, Outcome, Technique, compare, learned
from .checkpoint_picker import SessionChoices
from .crop_choice import COMPUTING, CropChoice, Wanted, explain, publish_picture
from .denoise_tab import DenoiseTab
from .experiment_runner import Crop
from .figures import render
from .photo_controls import IMMEDIATE

IN_USE = "in-use"
"""Stands for the checkpoint of the first tab in the list of techniques."""
USUAL = ("gaussian", "median", "bilateral", "tv", "wavelet", "pca", "nlm", IN_USE)
"""Chosen at first."""
FAMILIES = {
    "spatial": "Spatial filters",
    "variational": "Variational",
    "transform": "Transforms",
    "non-local": "Self-similarity",
    "learned": "Networks",
}
KINDS = {
    "part": "part of the noise removed",
    "structure": "structure removed, {:.0f}\u00a0%",
    "grain": "coarse grain removed",
    "more": "more than noise removed",
    "noise": "noise removed",
}
"""What a residual is, in few words."""
MAP_COLOR = (255, 140, 0, 150)
"""Of areas where structure was removed, RGBA."""
GAUSSIAN = 0.02
"""Distance from the Gaussian distribution below which a residual's values have it."""
PEAK = 0.6
"""Density at the top of the histogram; that of Gaussian noise is 0.4 at most."""
MAX_ROWS = 50
"""That are kept for a page."""
LEAST_SIGMA = 0.05
"""8-bit levels; weaker noise is none."""
NO_NOISE = "There is no noise to remove: raise it on the first tab."
TOLD_NOTHING = (
    "Noise was added, but the level that the techniques are told is 0: on the first tab, let it be known, or give one "
    "above 0."
)
NO_LEVEL = (
    "No noise is found here that each pixel has by itself: a camera leaves grain that neighbors share, and these "
    "techniques and the estimate of their error are for the other kind. The first tab removes grain; to compare, take "
    "a clean photo and add noise there."
)
"""What is said instead of a comparison: of noise that was added, of a level of 0, and of a photo's own noise."""


@dataclass
class Kept:
    """What a page has computed of one crop, so that another choice of techniques computes the new ones alone.

    Attributes:
        key: Of the crop, see :class:`Wanted`.
        head: Fields of the component's value that all techniques share.
        rows: A row for each technique and its moved parameters.
    """

    key: str = ""
    head: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


class CompareTab:
    """The tab, made within the gr.Blocks that is open.

    Args:
        first: The first tab.
        tab: What it is in.
    """

    def __init__(self, first: DenoiseTab, tab: gr.Tab):
        self._first, self.state = first, first.state
        self._runs = SessionChoices()
        with gr.Row(elem_classes="laboratory"):
            with gr.Column(scale=0, min_width=300, elem_classes="laboratory-controls"):
                self._crop = CropChoice(first, "compare")
                gr.HTML(_render_chooser(), elem_id="chooser", padding=False)
            with gr.Column(scale=1, min_width=300):
                self._message = gr.HTML(elem_id="compare-message", padding=False)
                self._results = gr.HTML(
                    html_template=render("comparison.html"),
                    js_on_load=Path(__file__).with_name("comparison.js").read_text(encoding="utf-8"),
                    elem_id="comparison",
                    apply_default_css=False,
                    padding=False,
                )
        self._choice, self._kept = gr.Textbox("", visible=False), gr.State(None)
        self._connect(tab)

    def _connect(self, tab: gr.Tab) -> None:
        computing = COMPUTING | {
            "fn": self.run,
            "inputs": [self._choice, self._kept, *self._crop.inputs],
            "outputs": [self._results, self._kept, self._message],
            "js": '(choice, ...values) => [window.readChoice?.() ?? "", ...values]',
            "trigger_mode": "multiple",  # a newer run ends an older one
        }
        self._results.input(**computing)
        self._results.stop(self.on_cancelled, None, None, **IMMEDIATE)
        self._crop.connect(tab, computing)

    def on_cancelled(self, request: gr.Request) -> None:
        """End the run under way after the technique that is computed now."""
        self._runs.begin(request.session_hash or "")

    def run(self, request: gr.Request, choice: str, kept: Kept | None, *values: Any) -> Iterator[dict]:
        """The chosen techniques one after the other; yields after each what is known."""
        session = request.session_hash or ""
        number = self._runs.begin(session)
        try:
            for value, found in self._compute(choice, kept, self._crop.wanted(*values)):
                over = self._runs.latest(session) != number
                value |= {"run": number, "running": "" if over else value["running"], "cancelled": over}
                yield {self._results: json.dumps(value), self._kept: found, self._message: ""}
                if over:
                    return
        except Exception as error:
            if self._runs.latest(session) == number:
                yield {self._results: "", self._message: explain(error)}

    def _compute(self, choice: str, kept: Kept | None, wanted: Wanted) -> Iterator[tuple[dict[str, Any], Kept]]:
        """The component's value, and what is to be kept, before each technique and after the last."""
        names, moved = read_choice(choice)
        techniques = self._techniques(names, wanted)  # checkpoints by name alone
        crop = self._crop.take(wanted)
        if crop.sigma < LEAST_SIGMA:
            said = NO_LEVEL if crop.added is None else TOLD_NOTHING if crop.added >= LEAST_SIGMA else NO_NOISE
            raise gr.Error(said, print_exception=False)
        if kept is None or kept.key != wanted.key or not Path(kept.head["noisy"]["path"]).exists():
            kept = Kept(wanted.key, self._head(crop))
        rules = {name: technique.settings(crop.sigma) for name, technique in TECHNIQUES.items()}
        for key in [*kept.rows][:-MAX_ROWS]:
            del kept.rows[key]
        keys = {one.name: f"{one.name} {sorted(moved.get(one.name, {}).items())}" for one in techniques}

        def value(running: str = "") -> dict[str, Any]:
            rows = [kept.rows.get(keys[one.name]) or _description(one) for one in techniques]
            return kept.head | {"rules": rules, "rows": rows, "running": running}

        for technique in techniques:
            if keys[technique.name] not in kept.rows:
                yield value(technique.name), kept
                kept.rows[keys[technique.name]] = self._row(crop, technique, moved.get(technique.name, {}))
        yield value(), kept

    def _techniques(self, names: list[str], wanted: Wanted) -> list[Technique]:
        """The chosen ones."""
        names = [self._crop.loaded(wanted).facts.name if name == IN_USE else name for name in names]
        networks = {*bundled_checkpoints(), self._crop.loaded(wanted).facts.name}
        chosen = [_find(name) for name in dict.fromkeys(names) if name in TECHNIQUES or name in networks]
        if not chosen:
            raise gr.Error("Choose a technique in the list.")
        return chosen

    def _head(self, crop: Crop) -> dict[str, Any]:
        """What all techniques share: the pictures they start from, and what is known of these."""
        height, width = crop.noisy.pixels.shape[:2]
        clean = crop.clean and crop.clean.pixels
        noisy = {"psnr": -20 * math.log10(crop.sigma / 255)}
        if clean is not None:
            noisy = {name: _finite(measure(clean, crop.noisy.pixels)) for name, measure in MEASURES.items()}
        return {
            "width": width,
            "height": height,
            "sigma": crop.sigma,
            "added": crop.added,
            "noisy": noisy | {"path": self._save(crop.noisy.pixels, "noisy")},
            "clean": None if clean is None else {"path": self._save(clean, "clean")},
        }

    def _row(self, crop: Crop, technique: Technique, moved: dict[str, float]) -> dict[str, Any]:
        """What a technique did, or why it did not."""
        clean = crop.clean and crop.clean.pixels
        try:
            if technique.family == "learned":  # before the turn, as loading takes one of its own
                denoiser = self.state.model_pool.get(technique.name, fetch=False).denoiser
                # Without a clean picture its error is estimated by SURE. A model of the noise says more than a level.
                denoiser = denoiser if crop.clean else denoiser.in_float32()
                technique = learned(lambda pixels, sigma: denoiser(pixels, crop.noise), technique.name)
            with self.state.experiment_runner.turn():
                (outcome,) = compare(
                    crop.noisy.pixels, crop.sigma, [technique], clean, None, {technique.name: moved}, crop.noise
                )
        except (gr.Error, DenoiserError) as error:
            if isinstance(error.__cause__ or error, DenoiserError | ValueError):  # it concerns this technique alone
                return _description(technique) | {"error": getattr(error, "message", str(error))}
            raise
        return _description(technique) | self._show(outcome, crop.sigma)

    def _uncertainty(self, levels: np.ndarray, sigma: float, name: str) -> dict[str, Any]:
        """The map of how uncertain each pixel (H, W) is, white where as much as the noise, and a sentence."""
        path = self._save(np.repeat(levels[..., None] / sigma, 3, 2), f"{name}-uncertain")
        mean, most = float(np.mean(levels**2)) ** 0.5, float(np.quantile(levels, 0.99))
        said = f"\u00b1 {mean:.1f} levels, up to \u00b1 {most:.1f}"
        return {"uncertainty": path, "uncertain": said}

    def _show(self, outcome: Outcome, sigma: float) -> dict[str, Any]:
        residual, name = outcome.residual, outcome.technique.name.replace("/", "-")
        shown: dict[str, Any] = {figure: _finite(value) for figure, value in outcome.figures.items()}
        if outcome.risk:
            low, high = outcome.risk.psnr_range
            shown |= {"psnr": _finite(outcome.risk.psnr), "low": _finite(low), "high": _finite(high)}
            shown |= self._uncertainty(outcome.risk.uncertainty, sigma, name)
        if residual:
            marked = residual.structure > CHANCE
            shown |= {"verdict": str(residual), "removed": KINDS[residual.kind].format(100 * residual.share)}
            shown["histogram"] = _render_histogram(residual, outcome.technique.label)
            if residual.kind == "structure":
                shown["map"] = self._save(marked[..., None] * np.array(MAP_COLOR, np.uint8), "map")
        return shown | {"seconds": outcome.seconds, "path": self._save(outcome.pixels, name)}

    def _save(self, pixels: np.ndarray, name: str) -> str:
        return publish_picture(self._results, self.state, pixels, name)


def read_choice(choice: str) -> tuple[list[str], dict[str, dict[str, float]]]:
    """The techniques and the moved parameters that a page has chosen; what is not understood is left out.

    Args:
        choice: JSON, as ``readChoice`` in comparison.js writes it; anyone may send anything.
    """
    try:
        given = json.loads(choice or "null")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        return list(USUAL), {}
    names, moved = given.get("techniques"), given.get("parameters")
    parameters = {}
    for name, values in moved.items() if isinstance(moved, dict) else ():
        known = {one.name: one for one in TECHNIQUES[name].parameters} if name in TECHNIQUES else {}
        numbers = values.items() if isinstance(values, dict) else ()
        moves = {key: value for key, value in numbers if key in known and isinstance(value, int | float)}
        if moves:
            parameters[name] = {key: min(max(value, known[key].low), known[key].high) for key, value in moves.items()}
    return [str(name) for name in names] if isinstance(names, list) else list(USUAL), parameters


def _render_chooser() -> str:
    """The list of techniques with what each does, its parameters and their rules."""
    groups: dict[str, list[Technique]] = {family: [] for family in FAMILIES}
    for technique in TECHNIQUES.values():
        groups[technique.family].append(technique)
    for name in (IN_USE, *bundled_checkpoints()):
        groups["learned"].append(_find(name))
    return render("chooser.html", groups=groups, families=FAMILIES, usual=USUAL, in_use=IN_USE)


def _render_histogram(residual: Residual, label: str) -> str:
    """What was removed as a histogram, and in figures: its deviation, what neighbors share, and its distribution."""
    heights = [[round(20 * min(one / PEAK, 1), 1) for one in part] for part in (residual.density, residual.gaussian)]
    values = "Gaussian" if residual.distance < GAUSSIAN else "not Gaussian"
    said = f"\u03c3 {residual.deviation:.1f} of {residual.expected:.1f}, neighbors correlate by "
    said += f"{residual.correlation:.2f}, values {values}"
    return render(
        "histogram.html", label=label, bars=heights[0], curve=[round(20 - one, 1) for one in heights[1]], said=said
    )


def _find(name: str) -> Technique:
    """A technique by name; a checkpoint's is for its description, and denoises nothing."""
    return TECHNIQUES.get(name) or learned(lambda pixels, sigma: pixels, name)


def _description(technique: Technique) -> dict[str, Any]:
    return {"name": technique.name, "label": technique.label, "family": FAMILIES[technique.family]}


def _finite(value: float) -> float | None:
    """A figure as JSON can hold it."""
    return value if math.isfinite(value) else None
