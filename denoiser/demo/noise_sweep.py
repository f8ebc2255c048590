"""PSNR against the noise level, for techniques and checkpoints on one crop: a card of the tab about the inside."""

import math
from collections.abc import Iterator
from typing import Any

import gradio as gr

from ..hub.checkpoints import bundled_checkpoints
from ..techniques import TECHNIQUES, Technique, learned, sweep
from .checkpoint_picker import SessionChoices
from .crop_choice import COMPUTING, CropChoice, Wanted, explain
from .figures import render, render_message
from .photo_controls import IMMEDIATE

LEVELS = (5, 10, 15, 25, 35, 50, 75)
"""Standard deviations, 8-bit units."""
CLASSICAL = ("gaussian", "bilateral", "tv", "wavelet", "pca", "nlm")
LEARNED = ("bottleneck-color", "color-small", "color-base", "color-large")
"""Beside the checkpoint of the first tab."""
PIXELS = 160 * 160
"""Of what is computed: the middle of the crop."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 44, 170, 12, 40
"""Of the plot, and of its margins."""
LABEL_GAP = 15
"""Least distance of labels in the plot."""


class NoiseSweep:
    """The card, made within the gr.Blocks that is open.

    Args:
        crop: Of the tab that it is in.

    Attributes:
        plot: The component.
        empty: Its value before anything is computed.
    """

    def __init__(self, crop: CropChoice):
        self._crop, self.state = crop, crop.state
        self._runs, self._crops = SessionChoices(), SessionChoices()
        self.empty = _render_plot({}, "")
        with gr.Column(elem_id="sweep-card", elem_classes="card"):
            self.plot = gr.HTML(self.empty, elem_id="sweep", padding=False)
            with gr.Row(elem_id="sweep-row"):
                self._start = gr.Button("Compute", size="sm", variant="primary", elem_id="sweep-start", scale=0)
                self._cancel = gr.Button("Cancel", size="sm", elem_id="sweep-cancel", scale=0, interactive=False)
        self._start.click(self.run, crop.inputs, [self.plot, self._start, self._cancel], **COMPUTING)
        self._cancel.click(self.on_cancelled, None, None, **IMMEDIATE)

    def on_cancelled(self, request: gr.Request) -> None:
        """End the computation after the technique that is computed now."""
        self._runs.begin(request.session_hash or "")

    def end(self, session: str) -> None:
        """End the computation of a session whose crop is another now: nothing of it is shown."""
        self._crops.begin(session)
        self._runs.begin(session)

    def run(self, request: gr.Request, *values: Any) -> Iterator[dict]:
        """The plot, after each technique at each level."""
        session = request.session_hash or ""
        number, crop = self._runs.begin(session), self._crops.latest(session)
        found: dict[str, dict[float, float]] = {}
        buttons = {self._start: gr.update(interactive=False), self._cancel: gr.update(interactive=True)}
        over = {self._start: gr.update(interactive=True), self._cancel: gr.update(interactive=False)}
        try:
            for progress in self._compute(self._crop.wanted(*values), found):
                if self._runs.latest(session) != number:
                    break
                yield {self.plot: _render_plot(found, progress)} | buttons
            yield {self.plot: _render_plot(found, "") if self._crops.latest(session) == crop else self.empty} | over
        except Exception as error:
            yield {self.plot: explain(error)} | over

    def _compute(self, wanted: Wanted, found: dict[str, dict[float, float]]) -> Iterator[str]:
        """Fills ``found``, PSNR by technique and level; yields what is computed next."""
        crop = self._crop.take(wanted)
        if crop.clean is None:
            raise gr.Error("This needs a clean picture, to which noise is added: take another on the first tab.")
        techniques = self._techniques(wanted)
        outcomes = sweep(crop.clean.crop(PIXELS).pixels, LEVELS, techniques)
        found |= {technique.label: {} for technique in techniques}
        for index in range(len(LEVELS) * len(techniques)):
            level, technique = LEVELS[index // len(techniques)], techniques[index % len(techniques)]
            yield f"\u03c3 {level}: {technique.label} \u2026"
            with self.state.experiment_runner.turn():
                at, outcome = next(outcomes)
            if math.isfinite(outcome.figures["psnr"]):  # a flat picture may come back without any error
                found[outcome.technique.label][at] = outcome.figures["psnr"]

    def _techniques(self, wanted: Wanted) -> list[Technique]:
        """Checkpoints are loaded here, outside a turn at computing, as loading takes one itself."""
        in_use = self._crop.loaded(wanted)
        networks = {
            name: self.state.model_pool.get(name).denoiser for name in LEARNED if name in bundled_checkpoints()
        } | {in_use.facts.name: in_use.denoiser}
        return [TECHNIQUES[name] for name in CLASSICAL] + [learned(one, name) for name, one in networks.items()]


def _render_plot(found: dict[str, dict[float, float]], progress: str) -> str:
    """The plot as SVG, and its numbers as a table."""
    values = [value for levels in found.values() for value in levels.values()]
    low, high = (int(min(values)) - 1, int(max(values)) + 2) if values else (15, 40)
    low, high = low - low % 5, high + -high % 5

    def x(level: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (level - LEVELS[0]) / (LEVELS[-1] - LEVELS[0])

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    lines = [
        {
            "label": label,
            "learned": label not in {technique.label for technique in TECHNIQUES.values()},
            "points": [(round(x(level), 1), round(y(value), 1)) for level, value in levels.items()],
            "values": [f"{levels[level]:.2f}" if level in levels else "" for level in LEVELS],
        }
        for label, levels in found.items()
    ]
    _place_labels([line for line in lines if line["points"]])
    return render(
        "sweep.html",
        lines=lines,
        levels=[(level, round(x(level), 1)) for level in LEVELS],
        ticks=[(value, round(y(value), 1)) for value in range(low, high + 1, 5)],
        size=(WIDTH, HEIGHT),
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - BOTTOM,
        progress=render_message(progress),
    )


def _place_labels(lines: list[dict[str, Any]]) -> None:
    """Give each line ``label_y``, near its end and apart from the others."""
    placed = -float("inf")
    for line in sorted(lines, key=lambda line: line["points"][-1][1]):
        placed = max(line["points"][-1][1], placed + LABEL_GAP)
        line["label_y"] = round(placed, 1)
    above = float(HEIGHT - BOTTOM + LABEL_GAP)
    for line in sorted(lines, key=lambda line: -line["label_y"]):  # those pushed beyond the bottom come up again
        above = min(line["label_y"], above - LABEL_GAP)
        line["label_y"] = round(above, 1)
