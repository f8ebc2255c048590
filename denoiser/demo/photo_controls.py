"""What the page does beside denoising: advice about a photo, the part to work on, the file, the address."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import hash_file

from ..hub.checkpoints import bundled_checkpoints
from ..noise import NOISES
from .address import OWN_PHOTO, Address, parse_address
from .checkpoint_picker import CheckpointPicker, Selection
from .control_values import PARAMETERS, ControlValues
from .denoise_layout import DenoiseLayout
from .figures import formula_of, render_info, render_message
from .full_size import EARLIER, FullSize
from .model_pool import Loaded
from .photo_advice import PHOTO_CHECKPOINT, Advice, PhotoFacts, advise
from .photo_parts import AREAS, MIDDLE
from .state import DemoState

IMMEDIATE = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
"""Options of events that are answered without waiting for others."""
QUEUED = IMMEDIATE | {"queue": True, "concurrency_limit": 24}
"""The same for those that change a gr.State, which is not noticed outside the queue."""


class PhotoControls:
    """The handlers, for :class:`denoiser.demo.denoise_tab.DenoiseTab`."""

    def __init__(self, state: DemoState, layout: DenoiseLayout, picker: CheckpointPicker):
        self.state, self.layout, self.picker = state, layout, picker
        paths = state.settings.examples  # the page starts with the first
        self._examples = {path.stem if index else "": path for index, path in enumerate(paths)}
        # gradio keeps a file in a folder that is named by its content.
        self._example_names = {hash_file(path): name for name, path in self._examples.items()}
        self.full_size = FullSize(state.experiment_runner, state.results, state.settings.max_queued_calls)

    def connect(self, page: gr.Blocks, computing: dict, fetching: dict, on_noisy: dict) -> None:
        """Connect events and handlers.

        Args:
            page: What they are in.
            computing: The event that denoises.
            fetching: Options of events that fetch a checkpoint.
            on_noisy: The event after the photo is said to be noisy already.
        """
        ui = self.layout
        inspected = (ui.photo_facts, ui.notice, ui.area, ui.overview, ui.part, ui.offer, ui.file, ui.job)
        ui.photo.change(
            self.on_photo_changed,
            [ui.photo, ui.noisy_already],
            list(inspected),
            concurrency_id="compute",
            **IMMEDIATE | {"queue": True, "concurrency_limit": None},
        ).success(**computing)
        ui.offer_button.click(lambda: True, None, ui.noisy_already, **IMMEDIATE).success(**on_noisy)
        gr.on([ui.area.input, ui.area.change], self.on_area, [ui.area, ui.photo_facts], ui.overview, **IMMEDIATE)
        ui.overview.input(self.on_part_chosen, None, ui.part, **IMMEDIATE).success(**computing)
        ui.advice_button.click(self.on_advice_taken, [ui.advice, ui.selection], **fetching)
        sigmas = [slider for (_, one), slider in zip(PARAMETERS, ui.parameter_sliders) if one.name == "sigma"]
        levels = [ui.sigma, *sigmas]
        ui.level_button.click(self.on_level_lowered, [ui.advice, *levels], levels, **IMMEDIATE).success(**computing)
        ui.tune_button.click(
            self.on_tune,
            ui.controls,
            [ui.sigma_mode, ui.manual_controls, ui.sigma, ui.strength],
            concurrency_id="compute",
            **IMMEDIATE | {"queue": True, "concurrency_limit": None},
        ).success(**computing)
        self._connect_file()
        self._connect_address(page, computing, fetching)

    # -- a photo ----------------------------------------------------------------------------------------------------

    def on_photo_changed(self, photo: str | None, noisy_already: bool, request: gr.Request) -> dict:
        """What there is to know of a photo just dropped, before it is denoised. The file of the one before ends."""
        ui = self.layout
        self.full_size.cancel(request.session_hash or "")
        nothing: dict = {
            ui.photo_facts: None,
            ui.notice: gr.update(visible=False),
            ui.area: gr.update(visible=False, value="part" if noisy_already else "shrunk"),
            ui.overview: gr.update(value="") | self.on_area("", None),
            ui.part: MIDDLE,
            ui.offer: gr.update(visible=False),
            ui.file: gr.update(visible=False, value=None),
            ui.job: gr.update(visible=False),
        }
        if photo is None:
            return nothing
        try:
            bundled = PHOTO_CHECKPOINT in bundled_checkpoints()
            judge = self.state.model_pool.get_local(PHOTO_CHECKPOINT) if bundled else None
            facts, overview = self.state.experiment_runner.inspect(photo, judge and judge.denoiser)
        except gr.Error:
            return nothing  # computing it will say what is wrong; an error here would keep it from running
        large = self._is_large(facts)
        offered = bool(facts.noisy) and not noisy_already
        shown = {ui.photo_facts: facts, ui.offer: gr.update(visible=offered)}
        texts = []
        if facts.frames > 1:
            texts.append(f"**{facts.frames} frames or pages.** This is the first of them; the others are not used.")
        if large:
            texts.append(
                f"**{facts.width * facts.height / 1e6:.1f} megapixels ({facts.width} \u00d7 {facts.height}).** You see "
                "what is chosen here, so that the sliders answer at once. The file has the full size."
            )
        if noisy_already and facts.noisy is False:
            texts.append('**This photo looks clean.** To add noise to it, untick "My photo is already noisy".')
        if texts:
            shown[ui.notice] = gr.update(value="\n\n".join(texts), visible=True)
        shown[ui.area] = self.area(noisy_already, facts)
        shown[ui.overview] = gr.update(value=overview) | self.on_area(shown[ui.area]["value"], facts)
        return nothing | shown

    def area(self, noisy_already: bool, facts: PhotoFacts | None) -> dict:
        """The choice of what is worked on: noise in full resolution, as making a photo smaller removes it."""
        areas = [pair for pair in AREAS.items() if not (noisy_already and pair[1] == "shrunk")]
        noisy = noisy_already or bool(facts and facts.noisy)
        return gr.update(choices=areas, value="part" if noisy else "shrunk", visible=self._is_large(facts))

    def noisy_controls(self, noisy_already: bool, facts: PhotoFacts | None) -> dict:
        """What there is to choose for a photo that is noisy already, or is not."""
        ui = self.layout
        return {
            ui.noise_controls: gr.update(visible=not noisy_already),
            ui.difference_controls: gr.update(visible=not noisy_already),
            ui.area: self.area(noisy_already, facts),
            ui.offer: gr.update(visible=bool(facts and facts.noisy) and not noisy_already),
        }

    def on_area(self, area: str, facts: PhotoFacts | None) -> dict:
        """The overview, where there is a part to choose; otherwise it is there for broken previews only."""
        choosing = area == "part" and self._is_large(facts)
        return gr.update(elem_classes=[] if choosing else ["only-mends"])

    def on_part_chosen(self, event: gr.EventData) -> str:
        """Where the part is, as :func:`locate` reads it."""
        place = event._data if isinstance(event._data, dict) else {}
        x, y = (place.get(axis) for axis in "xy")
        numbers = [value for value in (x, y) if isinstance(value, int | float) and 0 <= value <= 1]
        return " ".join(f"{value:.4f}" for value in numbers) if len(numbers) == 2 else MIDDLE

    def _is_large(self, facts: PhotoFacts | None) -> bool:
        return bool(facts) and facts.width * facts.height > self.state.settings.interactive_pixels

    # -- advice -----------------------------------------------------------------------------------------------------

    def advice(self, loaded: Loaded, color: bool, noise: str | None, sigma: float | None) -> dict:
        """What the page says of a checkpoint that does not fit what it is used for."""
        ui, advice = self.layout, advise(loaded.facts, color, noise, sigma)
        switches, label = bool(advice and advice.checkpoint), advice.label if advice else ""
        return {
            ui.advice: advice,
            ui.advice_box: gr.update(visible=advice is not None),
            ui.advice_text: render_message(advice.text) if advice else "",
            ui.advice_button: gr.update(value=label, visible=switches),
            ui.level_button: gr.update(value=label, visible=not switches),
        }

    async def on_advice_taken(self, advice: Advice | None, selection: Selection | None, request: gr.Request):
        """Go to the checkpoint that fits."""
        yield gr.skip()
        if advice and advice.checkpoint:
            async for update in self.picker.on_checkpoint_selected(advice.checkpoint, selection, request):
                yield update

    def on_tune(self, *values: Any) -> list:
        """The level and the strength that are best by Stein's estimate, and a note that says what they gain."""
        controls, _ = ControlValues.read(values)
        runner = self.state.experiment_runner
        loaded = self.picker.loaded(controls.selection)
        tuned = runner.tune(controls.photo, controls.short_area(runner), loaded, **controls.degradation)
        said = f"{tuned}."
        gr.Info(said[0].upper() + said[1:])
        if tuned.note:
            return [gr.skip()] * 4
        strength = round(tuned.strength, 2)
        if tuned.before == tuned.after or not isinstance(tuned.sigma, float):
            return [gr.skip(), gr.skip(), gr.skip(), strength]
        return ["manual", gr.update(visible=True), round(tuned.sigma, 1), strength]

    def on_level_lowered(self, advice: Advice | None, *levels: float) -> list[float]:
        """Lower every noise level beyond what the checkpoint is trained for."""
        high = advice.sigma if advice and not advice.checkpoint else float("inf")
        return [min(level, high) for level in levels]

    # -- the file ---------------------------------------------------------------------------------------------------

    def _connect_file(self) -> None:
        ui = self.layout
        gr.on(
            [ui.file_format.input, ui.area.change, ui.photo_facts.change],
            self.on_file_wanted,
            [ui.file_format, ui.area, ui.photo_facts],
            [ui.download, ui.full_size, ui.job],
            **QUEUED,
        )
        job = ui.full_size.click(
            self.on_full_size,
            [*ui.controls, ui.file_format],
            [ui.job, ui.job_message, ui.cancel, ui.full_size, ui.file],
            concurrency_id="file",
            concurrency_limit=None,  # they wait for their turn at the ComputeGate
            show_progress="hidden",
            api_visibility="private",
        )
        job.success(None, js="() => { setTimeout(() => document.querySelector('#file')?.click(), 300); }")
        ui.cancel.click(self.on_file_cancelled, None, None, **IMMEDIATE)

    def on_file_wanted(self, request: gr.Request, file_format: str, area: str, facts: PhotoFacts | None) -> list:
        """The button for the file: what is shown is one already, or it is to be made. No error of another stays."""
        at_hand = file_format == "PNG" and (area == "all" or not self._is_large(facts))
        fits = file_format != "JPEG" or not facts or facts.fits_jpeg
        size = f" ({facts.width} \u00d7 {facts.height})" if facts else ""
        wanted = f"Denoise the full size{size}, {file_format}"
        wanted = wanted if fits else "JPEG holds neither transparency nor more than 8 bits: choose PNG or TIFF"
        return [
            gr.update(visible=at_hand),
            gr.update(visible=not at_hand, interactive=fits, value=wanted),
            gr.skip() if self.full_size.is_under_way(request.session_hash or "") else gr.update(visible=False),
        ]

    def on_file_cancelled(self, request: gr.Request) -> None:
        """End the file under way. That it has ended says its own call, after all that it has said before."""
        self.full_size.cancel(request.session_hash or "")

    async def on_full_size(self, request: gr.Request, *values: Any) -> AsyncIterator[dict]:
        """Denoise the whole photo; yields how far it is, and the file in the end unless it was cancelled."""
        ui, session, (controls, (file_format,)) = self.layout, request.session_hash or "", ControlValues.read(values)
        working = {
            ui.job: gr.update(visible=True),
            ui.cancel: gr.update(visible=True),
            ui.full_size: gr.update(interactive=False),
        }
        try:
            if controls.photo is None:
                raise gr.Error("Drop a photo first, or pick an example.", print_exception=False)
            loaded = self.picker.loaded(controls.selection)
            settings = self.query(controls)
            job = self.full_size.denoise(controls.photo, loaded, file_format, controls.options, session, settings)
            ended: dict = {ui.job: gr.update(visible=False), ui.full_size: gr.update(interactive=True)}
            async for told in job:
                if isinstance(told, str):
                    yield working | {ui.job_message: render_message(told), ui.file: gr.update(visible=False)}
                else:
                    before = EARLIER * self.full_size.is_outdated(session)
                    label = f"Download {told.name} ({told.stat().st_size / 1e6:.1f} MB{before})"
                    ended[ui.file] = gr.update(value=str(told), label=label, visible=True)
            yield ended
        except gr.Error as error:
            yield working | {
                ui.job_message: render_message(error.message, failed=True),
                ui.cancel: gr.update(visible=False),
                ui.full_size: gr.update(interactive=True),
                ui.file: gr.update(visible=False),
            }

    # -- the address ------------------------------------------------------------------------------------------------

    def _connect_address(self, page: gr.Blocks, computing: dict, fetching: dict) -> None:
        ui, read = self.layout, "(...values) => [location.search.slice(0, 2000), ...values.slice(1)]"
        # Only a step back or forth finds another photo than the one that the page starts with.
        settings = [ui.address, ui.photo_shown, ui.noisy_already, ui.photo_facts]
        place = "location.search.slice(0, 2000), document.querySelector('#photo img')?.src ?? 'none'"
        shown = f"(...values) => [{place}, ...values.slice(2)]"
        outputs = [
            *(ui.photo_wanted, ui.noisy_already, ui.noise, ui.formula, ui.seed, ui.sigma_mode),
            *(ui.manual_controls, ui.sigma, ui.strength),
            *(ui.noise_controls, ui.difference_controls, ui.area, ui.offer),
            *(*ui.noise_groups, *ui.parameter_sliders),
        ]
        # Of steps back and forth in quick succession the last one counts, with the address as it is then.
        last: dict[str, Any] = {"js": read, "trigger_mode": "always_last"}
        for opened, js in ((page.load, read), (ui.address_opened.click, shown)):
            options: dict[str, Any] = {"js": js, "trigger_mode": "always_last", **IMMEDIATE}
            opened(self.on_address_opened, settings, outputs, **options).success(**computing)
        loaded = page.load(self.picker.on_load, None, [*self.picker.outputs, ui.listing, ui.timer], **IMMEDIATE)
        for opened in (loaded.then, ui.address_opened.click):  # never to be drawn over by the default checkpoint
            opened(self.picker.on_address_opened, [ui.address, ui.selection], **last, **fetching)
        ui.photo_wanted.change(self.on_photo_wanted, ui.photo_wanted, ui.photo, **QUEUED)
        written = "(query) => { window.writeAddress(query); return [query]; }"
        ui.query.change(self.on_settings_changed, ui.query, ui.file, js=written, **IMMEDIATE)

    def on_settings_changed(self, request: gr.Request, query: str) -> dict:
        """A file that was made with other settings is not beside these pictures; one that is under way says so."""
        session = request.session_hash or ""
        self.full_size.compare(session, query)
        return gr.update(visible=False, value=None) if self.full_size.is_outdated(session) else gr.skip()

    def query(self, controls: ControlValues) -> str:
        """See :meth:`ControlValues.query`. What the file of the whole photo depends on is all in it."""
        return controls.query(self.state.usual_checkpoint(controls.noisy_already), self.photo_name(controls.photo))

    def photo_name(self, photo: str | None) -> str:
        """See :attr:`Address.photo`."""
        return self._example_names.get(Path(photo).parent.name, OWN_PHOTO) if photo else OWN_PHOTO

    def _photo_of(self, address: Address, shown: str) -> Any:
        """The name of the photo that an address asks for, if it is not the one that is shown.

        ``shown``: where that one is; "" for the first example.
        """
        known = address.photo == OWN_PHOTO or address.photo in self._examples
        wanted = address.photo if known else ""
        if wanted == (shown and self.photo_name(shown)):
            return gr.skip()
        return f"{time.time_ns()} {wanted}"  # twice the same would be no change

    def on_photo_wanted(self, wanted: str) -> str | None:
        """The path of the example of that name; None for a photo that is gone.

        An event of its own: an update of the photo's component, even if it is none, would undo :func:`photo_input`.
        """
        path = self._examples.get(wanted.partition(" ")[2])
        return path and str(path)

    def on_address_opened(
        self, query: str | None, shown: str | None, noisy_before: bool, facts: PhotoFacts | None
    ) -> list:
        """The controls as the page's address has them. Their values alone: see ``bounded_slider``."""
        address = parse_address(query or "")
        controls = list(self.noisy_controls(address.noisy_already, facts).values())
        if address.noisy_already == noisy_before:
            controls = [gr.skip()] * len(controls)  # what is worked on stays as it was chosen
        levels = [
            address.parameters[parameter.name] if name == address.noise else parameter.default
            for name, parameter in PARAMETERS
        ]
        return [
            self._photo_of(address, shown or ""),
            address.noisy_already,
            address.noise,
            render_info("Noise", *formula_of(address.noise)),
            address.seed,
            sigma_mode_update(address.noisy_already, address.sigma_mode),
            gr.update(visible=address.sigma_mode == "manual"),
            address.sigma_given,
            address.strength,
            *controls,
            *(gr.update(visible=name == address.noise) for name in NOISES),
            *levels,
        ]


def sigma_mode_update(noisy_already: bool, sigma_mode: str) -> dict:
    """The choice of where the noise level comes from: of noise that was not added none is known.

    That choice is hidden and not taken away: a run that the browser has begun before would be refused.
    """
    return gr.update(value=sigma_mode, elem_classes=["none-known"] if noisy_already else [])
