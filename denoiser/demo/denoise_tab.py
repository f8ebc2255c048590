"""What the denoise tab does: its handlers, and which event calls which."""

import dataclasses
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from .. import experiment
from ..errors import DenoiserError
from ..hub.checkpoints import DEFAULT_CHECKPOINT, bundled_checkpoints
from ..images.picture import Picture
from ..noise import NOISES
from .checkpoint_picker import CheckpointPicker, Selection
from .denoise_layout import SIGMA_MODES, DenoiseLayout
from .figures import render_figures, render_message
from .guard import FAILED
from .state import PHOTO_CHECKPOINT, DemoState

PARAMETERS = [(noise.name, parameter) for noise in NOISES.values() for parameter in noise.parameters]
IMMEDIATE = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
"""Options of events that are answered without waiting for others."""
PHOTO_NOTE = (
    f"{PHOTO_CHECKPOINT} is made for noisy photographs: it finds the noise by itself. Any other can be chosen above."
)


class DenoiseTab:
    """The handlers of the tab. Those that compute return a dictionary of components and their new values."""

    def __init__(self, state: DemoState, layout: DenoiseLayout):
        self.state, self.layout = state, layout
        self.picker = CheckpointPicker(state, layout)

    def connect(self, page: gr.Blocks) -> None:
        """Connect events and handlers.

        What computes waits for its turn at the ``ComputeGate``, so that two cores serve visitors in turn instead of
        thrashing; gradio's queue itself lets everyone through.
        "always_last": while one run is under way the newest change waits, those between are dropped. Fetching has a
        queue of its own, so that it keeps nobody from computing.
        """
        ui = self.layout
        computing = {
            "fn": self.run,
            "inputs": [
                *(ui.photo, ui.noisy_already, ui.noise, ui.seed, ui.selection, ui.sigma_mode, ui.sigma_manual),
                *(ui.strength, ui.area, ui.difference_kind, *ui.parameter_sliders),
            ],
            "outputs": [ui.compare, ui.figures, ui.difference, ui.noisy, ui.denoised, ui.clean, ui.download],
            "trigger_mode": "always_last",
            "show_progress": "minimal",
            "show_progress_on": ui.figures,
            "concurrency_id": "compute",
            "concurrency_limit": None,
            "api_visibility": "private",
        }
        released = [slider.release for slider in (*ui.parameter_sliders, ui.sigma_manual, ui.strength)]
        gr.on([page.load, *released, ui.seed.submit, ui.seed.blur], **computing)
        gr.on([ui.difference_kind.input, ui.area.input], **computing)
        ui.selection.change(**computing)
        self._connect_picker(page)
        self._connect_controls(computing)

    def _connect_picker(self, page: gr.Blocks) -> None:
        ui, picker = self.layout, self.picker
        fetching = {
            "outputs": [ui.selection, *picker.outputs],
            "concurrency_id": "pull",
            "concurrency_limit": None,  # they wait in no thread and never stand in the queue before those who compute
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        select = picker.on_checkpoint_selected
        ui.checkpoint.input(select, [ui.checkpoint, ui.selection], trigger_mode="multiple", **fetching)
        typed = [ui.pull_button.click, ui.hub_name.submit]
        gr.on(typed, select, [ui.hub_name, ui.selection], trigger_mode="multiple", **fetching)
        page.load(picker.on_load, None, [*picker.outputs, ui.listing, ui.timer], **IMMEDIATE)
        page.load(picker.on_address_opened, None, **fetching)
        ui.timer.tick(picker.refresh_listing, ui.selection, [ui.checkpoint, ui.listing, ui.timer], **IMMEDIATE)

    def _connect_controls(self, computing: dict) -> None:
        ui = self.layout
        # Outside the queue a changed state is not noticed.
        queued = IMMEDIATE | {"queue": True, "concurrency_limit": 24}
        ui.examples.click(self.on_example_selected, ui.examples, ui.photo, **IMMEDIATE)
        ui.photo.change(self.on_photo_changed, [ui.photo, ui.selection], [ui.notice, ui.area], **IMMEDIATE).success(
            **computing
        )
        ui.noise.input(self.on_noise_selected, ui.noise, [ui.noise, *ui.noise_groups], **IMMEDIATE).success(**computing)
        ui.noisy_already.input(
            self.on_noisy_toggled,
            [ui.noisy_already, ui.selection],
            [
                *(ui.noise_controls, ui.sigma_mode, ui.manual_controls, ui.difference_kind, ui.selection),
                *self.picker.outputs,
            ],
            trigger_mode="always_last",
            **queued,
        )
        ui.sigma_mode.input(self.on_sigma_mode_selected, ui.sigma_mode, ui.manual_controls, **IMMEDIATE).success(
            **computing
        )
        ui.new_noise.click(self.draw_seed, None, ui.seed, **IMMEDIATE).success(**computing)

    def on_example_selected(self, index: int) -> str:
        """The path of an example."""
        return str(self.state.settings.examples[index])

    def draw_seed(self) -> int:
        """Another seed for the noise."""
        return random.randrange(2**31)

    def on_noise_selected(self, noise: str) -> list:
        """The noise's summary, and its sliders instead of the others'."""
        return [
            gr.update(info=NOISES[noise].summary),
            *(gr.update(visible=noise == owner) for owner in NOISES),
        ]

    def on_sigma_mode_selected(self, sigma_mode: str) -> dict:
        """The slider for the level, if it is chosen manually."""
        return gr.update(visible=sigma_mode == "manual")

    def on_photo_changed(self, photo: str | None, selection: Selection | None) -> tuple[dict, dict]:
        """What will happen to a photo just dropped, before it happens -> notice, choice of area."""
        hidden = gr.update(visible=False), gr.update(visible=False, value="shrunk")
        if photo is None:
            return hidden
        try:
            with Image.open(photo) as opened:  # reads the header only
                width, height = opened.size
        except Exception:
            return hidden  # computing it will say what is wrong; an error here would keep it from running
        pixels, settings = width * height, self.state.settings
        if not settings.interactive_pixels < pixels <= settings.max_pixels:
            return hidden
        loaded = self.state.model_pool.peek(self.picker.selected(selection))
        seconds = (loaded.seconds(height, width) if loaded else pixels / 1e6) + pixels / 1e6 * 1.5
        text = (
            f"**Your photo has {pixels / 1e6:.1f} megapixels ({width} \u00d7 {height}).** The sliders act on the "
            f"part chosen here, so that they answer at once. *All of it* takes about {max(1, round(seconds))} s at "
            "every change. Shrinking hides noise: to judge a noisy photo, take its middle or all of it."
        )
        return gr.update(value=text, visible=True), gr.update(visible=True, value="shrunk")

    def on_noisy_toggled(self, noisy_already: bool, selection: Selection | None, request: gr.Request) -> dict:
        """What changes when a photo needs no noise added, or does again.

        From the default the page goes to the checkpoint for such photos, and back; whoever chose another one keeps it.
        """
        ui = self.layout
        shown = {
            ui.noise_controls: gr.update(visible=not noisy_already),
            ui.sigma_mode: gr.update(
                choices=[pair for pair in SIGMA_MODES.items() if not (noisy_already and pair[1] == "known")],
                value="estimate" if noisy_already else "known",
            ),
            ui.manual_controls: gr.update(visible=False),
            ui.difference_kind: gr.update(visible=not noisy_already),
        }
        selection = selection or Selection(self.state.checkpoint)
        session = request.session_hash or ""
        target = ""
        if noisy_already and selection.checkpoint == self.state.checkpoint == DEFAULT_CHECKPOINT:
            target = PHOTO_CHECKPOINT if PHOTO_CHECKPOINT in bundled_checkpoints() else ""
        elif not noisy_already and selection.automatic:
            target = DEFAULT_CHECKPOINT
        if target:
            note = PHOTO_NOTE if noisy_already else ""
            selection, about = self.picker.switch_automatically(target, selection, noisy_already, note, session)
            shown |= about
        return shown | {ui.selection: dataclasses.replace(selection, noisy=noisy_already)}

    def run(self, photo: str | None, *controls: Any) -> dict:
        """Everything the page shows, for the state of its controls; what goes wrong stands where the figures were.

        Nothing is raised: after an error gradio's "always_last" listeners do not fire again until the page is reloaded.
        """
        ui = self.layout
        pictures = (ui.compare, ui.difference, ui.noisy, ui.denoised, ui.clean)
        blank = dict.fromkeys(pictures) | {ui.download: gr.update(value=None, interactive=False)}
        if photo is None:
            return blank | {ui.figures: render_message("Drop a photo, or pick an example.")}
        try:
            return self._results(photo, *controls)
        except gr.Error as error:
            return blank | {ui.figures: render_message(error.message, failed=True)}
        except Exception:
            logging.exception("a run of the page failed")
            return blank | {ui.figures: render_message(FAILED, failed=True)}

    def _results(
        self,
        photo: str,
        noisy_already: bool,
        noise: str,
        seed: float | None,
        selection: Selection | None,
        sigma_mode: str,
        sigma_manual: float,
        strength: float,
        area: str,
        difference_kind: str,
        *levels: float,
    ) -> dict:
        """What the page shows when all goes well."""
        try:  # choosing the checkpoint has fetched it, so nobody waits for the Hub here
            loaded = self.state.model_pool.get(self.picker.selected(selection), fetch=False)
        except DenoiserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return self.state.experiment_runner.run(
            photo,
            area,
            loaded,
            noise=None if noisy_already else noise,
            parameters={parameter.name: level for (name, parameter), level in zip(PARAMETERS, levels) if name == noise},
            seed=abs(seed or 0),
            sigma=sigma_manual if sigma_mode == "manual" else sigma_mode,
            strength=strength,
            answer=lambda result, pause: (
                {self.layout.figures: render_figures(result, loaded.facts.name, sigma_mode == "estimate")}
                | self._show_result(result, Path(photo).stem[:60] or "photo", difference_kind, pause)
            ),
        )

    def _show_result(
        self, result: experiment.Experiment, stem: str, difference_kind: str, pause: Callable[[], None]
    ) -> dict:
        """The pictures of an experiment, each written once, under names that begin with the photo's ``stem``."""
        ui = self.layout

        def save(picture: Picture | np.ndarray, name: str) -> str:
            pause()
            return self.state.results.save(picture, name)

        noisy = save(result.noisy, f"{stem}-noisy.png")
        denoised = save(result.denoised, f"{stem}-denoised.png")
        clean = save(result.clean, f"{stem}-clean.png") if result.clean else None
        first = (result.clean if difference_kind == "missing" else None) or result.noisy
        difference, gain = experiment.difference(first, result.denoised)
        height, width = result.denoised.pixels.shape[:2]
        return {
            ui.compare: (noisy, denoised),
            ui.difference: gr.update(
                value=save(difference, f"{stem}-difference.png"),
                label=f"{'Clean' if first is result.clean else 'Noisy'} \u2212 denoised, \u00d7{gain}",
            ),
            ui.noisy: noisy,
            ui.denoised: denoised,
            ui.clean: gr.update(value=clean, visible=clean is not None),
            ui.download: gr.update(
                value=denoised,
                label=f"Download the denoised picture (PNG, {width} \u00d7 {height})",
                interactive=True,
            ),
        }
