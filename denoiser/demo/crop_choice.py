"""The crop of the first tab's picture that another tab looks at: its overview, its place, and how it is had."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ..errors import DenoiserError
from ..techniques.registry import SMALLEST
from .control_values import ControlValues
from .denoise_tab import DenoiseTab
from .experiment_runner import Crop
from .figures import render_message
from .guard import FAILED
from .model_pool import Loaded
from .photo_controls import IMMEDIATE, QUEUED
from .photo_parts import MIDDLE
from .state import DemoState

COMPUTING: dict[str, Any] = {
    "concurrency_id": "laboratory",
    "concurrency_limit": None,  # they wait for their turn at the ComputeGate
    "show_progress": "hidden",
    "api_visibility": "private",
}
"""Options of events that compute step by step."""


@dataclass(frozen=True)
class Wanted:
    """What a tab is to look at.

    Attributes:
        controls: Those of the first tab.
        place: Of the crop in what that works on, see :func:`denoiser.demo.photo_parts.locate`.
    """

    controls: ControlValues
    place: str

    @property
    def key(self) -> str:
        """Names the pixels that are looked at, and what is said of their noise."""
        return repr((self.place, dataclasses.replace(self.controls, selection=None, strength=1.0)))


class CropChoice:
    """An overview of the first tab's picture, within the gr.Blocks that is open, in which a crop is chosen.

    Args:
        first: The first tab.
        name: Begins the element's id.

    Attributes:
        inputs: The components whose values :meth:`wanted` takes.
    """

    def __init__(self, first: DenoiseTab, name: str):
        self._first, self.state = first, first.state
        self._overview = gr.HTML(
            js_on_load=Path(__file__).with_name("overview.js").read_text(encoding="utf-8"),
            elem_id=f"{name}-overview",
            elem_classes="crop-overview",
            padding=False,
            apply_default_css=False,
        )
        self._place = gr.Textbox(MIDDLE, visible=False)
        self._shown = gr.State("")  # what the overview shows
        self.inputs = [*first.layout.controls, self._place]

    def connect(self, tab: gr.Tab, computing: dict[str, Any]) -> None:
        """Compute when the tab is opened, and when another crop is chosen.

        Args:
            tab: Which.
            computing: The event that computes.
        """
        ui = self._first.layout
        opened = tab.select(
            self.on_opened, [*ui.controls, self._shown], [self._overview, self._place, self._shown], **QUEUED
        )
        opened.success(**computing)
        chosen = self._overview.input(self._first.controls.on_part_chosen, None, self._place, **IMMEDIATE)
        chosen.success(**computing)

    def on_opened(self, *values: Any) -> list:
        """The overview, if the first tab has another picture than it shows."""
        controls, (shown,) = ControlValues.read(values)
        runner = self.state.experiment_runner
        area = controls.short_area(runner)
        key = f"{controls.photo} {area}"
        if controls.photo is None:
            return ["", MIDDLE, ""]
        if key == shown:
            return [gr.skip(), gr.skip(), gr.skip()]
        try:
            return [runner.crop_overview(controls.photo, area), MIDDLE, key]
        except gr.Error:
            return ["", MIDDLE, ""]  # computing will say what is wrong

    def wanted(self, *values: Any) -> Wanted:
        """What the values of ``inputs`` ask for."""
        controls, (place,) = ControlValues.read(values)
        return Wanted(controls, place)

    def take(self, wanted: Wanted) -> Crop:
        """The crop.

        Raises:
            gr.Error: There is no photo, or it is too small, or something is wrong with it.
        """
        controls, runner = wanted.controls, self.state.experiment_runner
        area, sigma = controls.short_area(runner), controls.options["sigma"]
        crop = runner.crop(controls.photo, area, wanted.place, **controls.degradation, sigma=sigma)
        if min(crop.noisy.pixels.shape[:2]) < SMALLEST:
            raise gr.Error(f"This needs a picture of at least {SMALLEST} pixels a side: take a larger one.")
        return crop

    def loaded(self, wanted: Wanted) -> Loaded:
        """The checkpoint of the first tab.

        Raises:
            gr.Error: It is not loaded any more.
        """
        return self._first.picker.loaded(wanted.controls.selection)


def publish_picture(component: gr.HTML, state: DemoState, pixels: np.ndarray, name: str) -> str:
    """Write pixels, uint8 or float in [0, 1], to where the browser may ask for them for a component -> the path."""
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    return str(component.move_resource_to_block_cache(state.results.save(pixels, f"{name}.png")))


def explain(error: Exception) -> str:
    """An error as HTML for the visitor; what is not one of ours goes to the log."""
    if isinstance(error, gr.Error | DenoiserError):
        return render_message(getattr(error, "message", str(error)), failed=True)
    logging.exception("a computation of a tab failed")
    return render_message(FAILED, failed=True)
