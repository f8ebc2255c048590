"""What the denoise tab does: its handlers, and which event calls which."""

import dataclasses
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from .. import experiment
from ..analysis.metrics import MEASURES
from ..noise import NOISES
from .checkpoint_picker import CheckpointPicker, Selection
from .control_values import ControlValues
from .denoise_layout import NO_FILE_LABEL, DenoiseLayout
from .figures import formula_of, render_figures, render_info, render_message
from .guard import FAILED, current_call
from .model_pool import Loaded
from .photo_advice import PHOTO_CHECKPOINT, PhotoFacts, has_color
from .photo_controls import IMMEDIATE, QUEUED, PhotoControls, sigma_mode_update
from .photo_parts import locate
from .state import DemoState
from .viewer import PictureRequest, Pictures, save_pictures, viewer_value

PHOTO_NOTE = (
    f"{PHOTO_CHECKPOINT} is made for noisy photographs: it finds the noise by itself. Any other can be chosen above."
)

DRAWING_SECONDS = 0.06
"""Until the rest of the figures is computed: a browser on the same cores draws the pictures sooner."""
MAX_SESSIONS = 1000
"""Of so many the newest run is remembered."""


class DenoiseTab:
    """The handlers of the tab. Those that compute return a dictionary of components and their new values."""

    def __init__(self, state: DemoState, layout: DenoiseLayout):
        self.state, self.layout = state, layout
        self.picker = CheckpointPicker(state, layout)
        self.controls = PhotoControls(state, layout, self.picker)
        self._places = {  # of the sliders among the controls, by their elem_id
            control.elem_id: place for place, control in enumerate(layout.controls) if isinstance(control, gr.Slider)
        }
        self._running: set[str] = set()  # sessions whose newest run has not ended
        # session -> number and inputs of its newest run, ended or not; of the last sessions
        self._newest: dict[str, tuple[int, tuple]] = {}
        self._lock = threading.Lock()

    def connect(self, page: gr.Blocks) -> None:
        """Connect events and handlers.

        What computes waits for its turn at the ``ComputeGate``, so that two cores serve visitors in turn instead of
        thrashing; gradio's queue itself lets everyone through.
        "always_last": while one run is under way the newest change waits, those between are dropped. Fetching has a
        queue of its own, so that it keeps nobody from computing.
        """
        ui = self.layout
        options: dict[str, Any] = {
            "concurrency_id": "compute",
            "concurrency_limit": None,
            "api_visibility": "private",
            "preprocess": False,  # see _read
        }
        computing = options | {
            "fn": self.run,
            "inputs": [*ui.controls, ui.difference_kind, ui.shown],
            "outputs": [
                *(ui.viewer, ui.figures, ui.download, ui.query),
                *(ui.advice, ui.advice_box, ui.advice_text, ui.advice_button, ui.level_button),
            ],
            "js": "(...values) => [...values.slice(0, -1), window.shownPictures()]",
            "trigger_mode": "always_last",
            "show_progress": "hidden",  # page.js shows it
        }
        sliders = (*ui.parameter_sliders, ui.sigma, ui.strength)
        # One listener for all of them: the newest change is the last to be answered, whatever changed.
        others = (ui.seed.input, ui.difference_kind.input, ui.area.input, ui.viewer.input, ui.selection.change)
        gr.on([*(slider.release for slider in sliders), *others], **computing)
        # What is drawn while a slider moves has another, with as few inputs and outputs as possible: the browser looks
        # for each at every message of a call. What it does not send is as in the newest run. page.js calls it again for
        # a move that came meanwhile: "always_last" would do so also after the release, beside the final picture.
        gr.on(
            [slider.input for slider in sliders],
            self.run_live,
            [ui.shown, ui.moving],
            [ui.viewer, ui.figures],
            js="() => [window.shownPictures(), window.beginLive()]",
            trigger_mode="once",
            show_progress="hidden",
            **options,
        )
        self._connect_picker()
        self._connect_controls(page, computing)

    @property
    def _fetching(self) -> dict:
        """Options of events that fetch a checkpoint."""
        return {
            "outputs": [self.layout.selection, *self.picker.outputs],
            "concurrency_id": "pull",
            "concurrency_limit": None,  # they wait in no thread and never stand in the queue before those who compute
            "show_progress": "hidden",
            "api_visibility": "private",
        }

    def _connect_picker(self) -> None:
        ui, picker, fetching = self.layout, self.picker, self._fetching
        ui.checkpoint.input(picker.on_menu_left, [ui.checkpoint, ui.selection], trigger_mode="multiple", **fetching)
        typed, named = [ui.pull_button.click, ui.hub_name.submit], [ui.hub_name, ui.selection]
        gr.on(typed, picker.on_checkpoint_selected, named, trigger_mode="multiple", **fetching)
        ui.timer.tick(picker.refresh_listing, ui.selection, [ui.checkpoint, ui.listing, ui.timer], **IMMEDIATE)

    def _connect_controls(self, page: gr.Blocks, computing: dict) -> None:
        ui = self.layout
        ui.examples.click(self.on_example_selected, ui.examples, ui.photo, **IMMEDIATE)
        ui.noise.input(self.on_noise_selected, ui.noise, [ui.formula, *ui.noise_groups], **IMMEDIATE).success(
            **computing
        )
        on_noisy = {
            "fn": self.on_noisy_toggled,
            "inputs": [ui.noisy_already, ui.selection, ui.photo_facts],
            "outputs": [
                *(ui.noise_controls, ui.sigma_mode, ui.manual_controls, ui.difference_controls, ui.selection),
                *(ui.area, ui.offer, *self.picker.outputs),
            ],
            "trigger_mode": "always_last",
        } | QUEUED
        ui.noisy_already.input(**on_noisy)
        ui.sigma_mode.input(self.on_sigma_mode_selected, ui.sigma_mode, ui.manual_controls, **IMMEDIATE).success(
            **computing
        )
        ui.new_noise.click(self.draw_seed, None, ui.seed, **IMMEDIATE).success(**computing)
        self.controls.connect(page, computing, self._fetching, on_noisy)

    def on_example_selected(self, index: int) -> str:
        """The path of an example."""
        return str(self.state.settings.examples[index])

    def draw_seed(self) -> int:
        """Another seed for the noise."""
        return random.randrange(2**31)

    def on_noise_selected(self, noise: str) -> list:
        """The noise's formula, and its sliders instead of the others'."""
        return [
            render_info("Noise", *formula_of(noise)),
            *(gr.update(visible=noise == owner) for owner in NOISES),
        ]

    def on_sigma_mode_selected(self, sigma_mode: str) -> dict:
        """The slider for the level, if it is chosen manually."""
        return gr.update(visible=sigma_mode == "manual")

    def on_noisy_toggled(
        self, noisy_already: bool, selection: Selection | None, facts: PhotoFacts | None, request: gr.Request
    ) -> dict:
        """What changes when a photo needs no noise added, or does again.

        From the default the page goes to the checkpoint for such photos, and back; whoever chose another one keeps it.
        """
        ui = self.layout
        shown = self.controls.noisy_controls(noisy_already, facts) | {
            ui.sigma_mode: sigma_mode_update(noisy_already, "estimate" if noisy_already else "known"),
            ui.manual_controls: gr.update(visible=False),
        }
        selection = selection or Selection(self.state.checkpoint)
        session = request.session_hash or ""
        target = self.state.usual_checkpoint(noisy_already)
        unchosen = selection.checkpoint == self.state.checkpoint if noisy_already else selection.automatic
        if unchosen and target != selection.checkpoint:
            note = PHOTO_NOTE if noisy_already else ""
            selection, about = self.picker.switch_automatically(target, selection, noisy_already, note, session)
            shown |= about
        return shown | {ui.selection: dataclasses.replace(selection, noisy=noisy_already)}

    def run(self, request: gr.Request, *inputs: Any) -> Iterator[dict]:
        """What the page shows for the state of its controls: the pictures, then the figures.

        What is under way already is not computed twice: gradio's dropdown reports a choice by mouse two times.
        Of runs at the same time, as several events begin them, the latest alone is shown, in whatever order they end.
        Nothing is raised: after an error gradio's "always_last" listeners do not fire again until the page is reloaded.
        What goes wrong stands where the figures were.
        """
        ui, session, photo = self.layout, request.session_hash or "", inputs[0]
        mine = current_call().number, inputs
        with self._lock:
            number, latest = self._newest.get(session, (0, None))
            wanted = number <= mine[0] and not (session in self._running and latest == inputs)
            if wanted:
                self._running.add(session)
                self._newest.pop(session, None)
                self._newest[session] = mine
                if len(self._newest) > MAX_SESSIONS:
                    del self._newest[next(iter(self._newest))]
        if not wanted:
            yield gr.skip()
            return

        def unless_late(update: dict) -> Any:
            return update if self._newest.get(session) is mine else gr.skip()

        try:
            controls, others = self._read(inputs)
            update, result = self._compute(controls, others)
            yield unless_late(update)
            if result:
                time.sleep(DRAWING_SECONDS)
                result = self.state.experiment_runner.measure(result)
                figures = render_figures(result, self.picker.selected(controls.selection), controls.sigma_mode)
                yield unless_late({ui.figures: figures})
        except Exception as error:
            if not isinstance(error, gr.Error):
                logging.exception("a run of the page failed")
            message = render_message(error.message if isinstance(error, gr.Error) else FAILED, failed=photo is not None)
            download = gr.update(value=None, label=NO_FILE_LABEL, interactive=False)
            yield unless_late({ui.viewer: "", ui.figures: message, ui.download: download})
        finally:
            with self._lock:
                if self._newest.get(session) is mine:
                    self._running.discard(session)

    def run_live(self, request: gr.Request, shown: str, moving: str) -> Any:
        """The pictures while a slider moves; given up for what :meth:`run` is asked, which also says what is wrong.

        Args:
            request: Of the visitor.
            shown: Which pictures are to be seen.
            moving: The slider's ``elem_id`` and its value; "" if none moves any more.
        """
        session, number = request.session_hash or "", current_call().number

        def is_late() -> bool:  # also if that run has ended: these figures, of which most are dots, would stay
            return self._newest.get(session, (0,))[0] > number

        if not moving or session not in self._newest or is_late():
            return gr.skip()
        try:
            _, inputs = self._newest[session]
            name, value = moving.split()
            place = self._places[name]
            controls, (difference_kind, _) = self._read([*inputs[:place], float(value), *inputs[place + 1 :]])
            answer, _ = self._compute(controls, (difference_kind, shown), is_late)
            return gr.skip() if is_late() else answer
        except Exception:
            return gr.skip()

    def _read(self, values: Sequence[Any]) -> tuple[ControlValues, tuple]:
        """The state of the controls, and what follows it. gradio would call a thread for each value."""
        ours = self.layout.controls
        return ControlValues.read([*(one.preprocess(value) for one, value in zip(ours, values)), *values[len(ours) :]])

    def _compute(
        self, controls: ControlValues, others: tuple[str, str], is_late: Callable[[], bool] | None = None
    ) -> tuple[dict, experiment.Experiment | None]:
        """What the page shows, and the experiment if figures of it are missing.

        Args:
            controls: The state of the controls.
            others: Which difference is shown, and which pictures are to be seen.
            is_late: Given while a slider moves: whether the answer is no longer wanted.

        Raises:
            gr.Error: What a visitor can mend.
        """
        runner, photo, (difference_kind, shown) = self.state.experiment_runner, controls.photo, others
        if photo is None:
            raise gr.Error("Drop a photo first, or pick an example.")
        loaded, area = self.picker.loaded(controls.selection), locate(controls.area, controls.part)
        at_once = runner.is_long(photo, area)  # its arrays are too large to wait for another turn
        live = is_late is not None
        names = shown or ""
        if self.state.settings.on_device and not live and controls.degradation["noise"] not in (None, "gaussian"):
            names += " noisy"  # for on_device.js: the page that computes in the browser makes Gaussian noise alone
        request = PictureRequest(photo, area, difference_kind, names, live)

        def answer(result: experiment.Experiment, pause: Callable[[], None]) -> tuple:
            pictures = save_pictures(result, request, self.state.results.save, pause)
            missing = result.clean and not at_once and not live
            return self._show(result, pictures, loaded, controls), result if missing else None

        return runner.run(
            photo,
            area,
            loaded,
            **controls.options,
            answer=answer,
            is_late=is_late,
            measures=tuple(MEASURES) if at_once else ("psnr",),
        )

    def _show(self, result: experiment.Experiment, pictures: Pictures, loaded: Loaded, controls: ControlValues) -> dict:
        """The pictures and those figures that are known by now."""
        ui = self.layout
        shown = {
            ui.viewer: viewer_value(ui.viewer, pictures),
            ui.figures: render_figures(result, loaded.facts.name, controls.sigma_mode, pictures.live),
        }
        if pictures.live:
            return shown
        added = controls.noise if result.clean else None
        advice = self.controls.advice(loaded, has_color(result.noisy), added, result.sigma_used)
        return (
            shown
            | advice
            | {
                ui.query: self.controls.query(controls),
                ui.download: gr.update(
                    value=pictures.paths["denoised"],
                    label=f"Download the denoised picture (PNG, {pictures.width} \u00d7 {pictures.height})",
                    interactive=True,
                ),
            }
        )
