"""The crop of the first tab's picture that another tab looks at: its overview, its place, and how it is had."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ..errors import DenoiserError
from ..techniques.registry import SMALLEST
from .checkpoint_picker import Selection
from .denoise_tab import DenoiseTab
from .experiment_runner import Crop, experiment_options
from .figures import render_message
from .guard import FAILED
from .model_pool import Loaded
from .photo_controls import IMMEDIATE, QUEUED
from .photo_parts import MIDDLE, locate
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
    """What a tab is to look at: the controls of the first tab, and the place of the crop.

    Attributes:
        photo: Path of the upload; None without one.
        area: The part of it that the first tab works on; of a large photo never all.
        place: Of the crop in that, see :func:`denoiser.demo.photo_parts.locate`.
        selection: The checkpoint of the first tab.
        options: Those of :func:`denoiser.demo.experiment_runner.experiment_options`.
    """

    photo: str | None
    area: str
    place: str
    selection: Selection | None
    options: dict[str, Any]

    @property
    def key(self) -> str:
        """Names the pixels that are looked at, and what is said of their noise."""
        return repr((self.photo, self.area, self.place, sorted(self.options.items(), key=str)))


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
        ui = first.layout
        self.inputs = [
            *(ui.photo, ui.noisy_already, ui.noise, ui.seed, ui.selection, ui.sigma_mode, ui.sigma, ui.area, ui.part),
            *(self._place, *ui.parameter_sliders),
        ]

    def connect(self, tab: gr.Tab, computing: dict[str, Any]) -> None:
        """Compute when the tab is opened, and when another crop is chosen.

        Args:
            tab: Which.
            computing: The event that computes.
        """
        ui = self._first.layout
        opened = tab.select(
            self.on_opened,
            [ui.photo, ui.area, ui.part, self._shown],
            [self._overview, self._place, self._shown],
            **QUEUED,
        )
        opened.success(**computing)
        chosen = self._overview.input(self._first.controls.on_part_chosen, None, self._place, **IMMEDIATE)
        chosen.success(**computing)

    def on_opened(self, photo: str | None, area: str, part: str, shown: str) -> list:
        """The overview, if the first tab has another picture than it shows."""
        area = self._area(photo, area, part)
        key = f"{photo} {area}"
        if photo is None or key == shown:
            return [gr.skip(), gr.skip(), gr.skip()]
        try:
            return [self.state.experiment_runner.crop_overview(photo, area), MIDDLE, key]
        except gr.Error:
            return ["", MIDDLE, ""]  # computing will say what is wrong

    def wanted(
        self,
        photo: str | None,
        noisy_already: bool,
        noise: str,
        seed: float | None,
        selection: Selection | None,
        sigma_mode: str,
        sigma: float,
        area: str,
        part: str,
        place: str,
        *levels: float,
    ) -> Wanted:
        """What the values of ``inputs`` ask for."""
        options = experiment_options(noisy_already, noise, seed, sigma_mode, sigma, 1.0, levels)
        del options["strength"]
        return Wanted(photo, self._area(photo, area, part), place, selection, options)

    def take(self, wanted: Wanted) -> Crop:
        """The crop.

        Raises:
            gr.Error: There is no photo, or it is too small, or something is wrong with it.
        """
        crop = self.state.experiment_runner.crop(wanted.photo, wanted.area, wanted.place, **wanted.options)
        if min(crop.noisy.pixels.shape[:2]) < SMALLEST:
            raise gr.Error(f"This needs a picture of at least {SMALLEST} pixels a side: take a larger one.")
        return crop

    def loaded(self, wanted: Wanted) -> Loaded:
        """The checkpoint of the first tab.

        Raises:
            gr.Error: It is not loaded any more.
        """
        return self._first.picker.loaded(wanted.selection)

    def _area(self, photo: str | None, area: str, part: str) -> str:
        long = self.state.experiment_runner.is_long(photo, area)
        return locate("part" if long else area, part)


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
