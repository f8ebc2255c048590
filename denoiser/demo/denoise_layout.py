"""The components of the denoise tab and where they stand; denoise_tab.py and checkpoint_picker.py make them work."""

from pathlib import Path

import gradio as gr

from ..noise import NOISES
from .components import bounded_slider, info_mark, photo_input
from .figures import formula_of
from .full_size import FILE_FORMATS
from .photo_advice import PHOTO_CHECKPOINT
from .photo_parts import AREAS, MIDDLE
from .settings import EXAMPLES_FOLDER
from .viewer import picture_viewer

SIGMA_MODES = {"Known": "known", "Estimated": "estimate", "Manual": "manual"}
DIFFERENCES = {"What was removed": "removed", "What is missing": "missing"}
SIGMA_LABEL = "Noise level (\u03c3) for the network"
SIGMA_INFO = (
    "Known: how the noise was made, by its standard deviation or how that depends on the brightness. Estimated: found "
    "from the noisy picture alone, as for a photo of yours. Manual: what you say; too low leaves noise, too high blurs."
)
STRENGTH_INFO = (
    "1 is the network's picture, 0 the noisy one; between them some grain is kept. SURE, an estimate of the error "
    "without the clean picture, chooses it and the noise level; it needs noise that neighbors do not share."
)
SEED_INFO = "The number that the random noise starts from: the same number gives the same noise again."
DIFFERENCE_INFO = (
    "What was removed is noisy \u2212 denoised: ideally noise without edges. What is missing is clean \u2212 denoised: "
    "what is still wrong. Mid-gray is no difference; \u00d7 is the amplification."
)


NO_FILE_LABEL = "Download the denoised picture (lossless)"
"""Of the button for the file while there is none."""


class DenoiseLayout:
    """Makes the components, within the gr.Blocks that is open; each is an attribute.

    Args:
        examples: Paths of the example photos; the page starts with the first.
        checkpoint: Name of the checkpoint that the page starts with.
        checkpoint_choices: Labels and names for the menu of checkpoints.
    """

    def __init__(self, examples: list[Path], checkpoint: str, checkpoint_choices: list[tuple[str, str]]):
        with gr.Row(elem_id="workbench"):
            with gr.Column(scale=0, min_width=340, elem_id="controls"):
                self._add_photo(examples)
                with gr.Group(elem_id="noise-controls") as self.noise_controls:
                    self._add_noise()
                with gr.Group(elem_id="checkpoint-controls"):
                    self._add_checkpoint(checkpoint, checkpoint_choices)
                    self._add_sigma()
                    with gr.Column(elem_classes="levels"):
                        self.strength = bounded_slider(0, 1, 1, step=0.05, label="Strength", elem_id="strength")
                        info_mark("Strength", STRENGTH_INFO)
                    self.tune_button = gr.Button("Choose level and strength (SURE)", size="sm", elem_id="tune")
            with gr.Column(scale=1, min_width=320, elem_id="results"):
                self._add_results()
        self.controls = [  # in the order of ControlValues
            *(self.photo, self.noisy_already, self.noise, self.seed, self.selection, self.sigma_mode, self.sigma),
            *(self.strength, self.area, self.part, *self.parameter_sliders),
        ]
        with gr.Column(elem_id="panel"):
            self._add_panel()

    def _add_photo(self, examples: list[Path]) -> None:
        ours = all(path.parent == EXAMPLES_FOLDER for path in examples)
        with gr.Group(elem_id="photo-controls"):
            self.photo = photo_input(
                value=str(examples[0]) if examples else None,
                format="png",
                sources=["upload", "clipboard", "webcam"],
                label="Photo",
                height=136,
                elem_id="photo",
            )
            # gr.Examples would update the photo's component, and thereby make a new one without photo_input's change.
            self.examples = gr.Dataset(
                components=["image"],
                samples=[[str(path)] for path in examples],
                type="index",
                label="Examples (CC0 and CC BY-SA 4.0)" if ours else "Examples",
                elem_id="examples",
                visible=bool(examples),
            )
            # Else the copies that gradio has made for the menu would be deleted as visitors' photos once one is picked.
            self.photo.keep_in_cache.update(sample["path"] for (sample,) in self.examples.samples)
            with gr.Column(visible=False, elem_classes="advice", elem_id="offer") as self.offer:
                gr.Markdown("This photo looks noisy already.")
                self.offer_button = gr.Button(
                    f"Denoise it as it is (network: {PHOTO_CHECKPOINT})", size="sm", elem_id="offer-button"
                )
            self.noisy_already = gr.Checkbox(False, label="My photo is already noisy", elem_id="noisy-already")
            self.notice = gr.Markdown(visible=False, elem_id="notice")
            self.area = gr.Radio(list(AREAS.items()), value="shrunk", label="Work on", visible=False, elem_id="area")
            self.overview = gr.HTML(
                js_on_load=Path(__file__).with_name("overview.js").read_text(encoding="utf-8"),
                elem_id="overview",
                elem_classes=["only-mends"],
                padding=False,
                apply_default_css=False,
            )
            self.part = gr.Textbox(MIDDLE, visible=False)
            self.photo_facts = gr.State(None)

    def _add_noise(self) -> None:
        with gr.Column(elem_classes="levels"):
            self.noise = gr.Dropdown(
                [(kind.label, kind.name) for kind in NOISES.values()],
                value="gaussian",
                label="Noise",
                filterable=False,
                elem_id="noise",
            )
            self.formula = info_mark("Noise", *formula_of("gaussian"))
        self.parameter_sliders: list[gr.Slider] = []  # of every noise, in the order of NOISES
        self.noise_groups: list[gr.Column] = []
        for kind in NOISES.values():
            with gr.Column(visible=kind.name == "gaussian", elem_classes="levels") as group:
                for parameter in kind.parameters:
                    slider = bounded_slider(
                        parameter.low,
                        parameter.high,
                        parameter.default,
                        step=parameter.step,
                        label=parameter.label,
                        elem_id=f"{kind.name}-{parameter.name}",
                    )
                    self.parameter_sliders.append(slider)
            self.noise_groups.append(group)
        with gr.Row(elem_id="seed-row"):
            with gr.Column(elem_classes="levels", min_width=140):
                # No bounds here: gradio would raise before our code can answer (see DenoiseTab.run).
                self.seed = gr.Number(0, label="Random seed", precision=0, elem_id="seed", min_width=120)
                info_mark("Random seed", SEED_INFO)
            self.new_noise = gr.Button("\u21bb New noise", size="sm", elem_id="reroll", scale=0, min_width=110)

    def _add_checkpoint(self, checkpoint: str, checkpoint_choices: list[tuple[str, str]]) -> None:
        self.selection = gr.State(None)
        with gr.Row(elem_id="checkpoint-row"):
            self.checkpoint = gr.Dropdown(
                checkpoint_choices,
                value=checkpoint,
                label="Network (checkpoint)",
                filterable=False,
                elem_id="checkpoint",
            )
            gr.Button("Details", size="sm", elem_id="panel-open", scale=0, min_width=76)
        self.pull_message = gr.HTML(elem_id="pull", padding=False)
        with gr.Column(visible=False, elem_classes="advice", elem_id="advice") as self.advice_box:
            self.advice_text = gr.HTML(padding=False)
            self.advice_button = gr.Button("", size="sm", elem_id="advice-button")
            self.level_button = gr.Button("", size="sm", elem_id="level-button")
        self.advice = gr.State(None)
        self.timer = gr.Timer(1.5, active=False)

    def _add_sigma(self) -> None:
        with gr.Column(elem_classes="levels") as self.sigma_controls:  # hidden for a blind network
            with gr.Column(elem_classes="levels"):
                self.sigma_mode = gr.Radio(
                    list(SIGMA_MODES.items()),
                    value="known",
                    label=SIGMA_LABEL,
                    elem_id="sigma-mode",
                )
                info_mark(SIGMA_LABEL, SIGMA_INFO)
            with gr.Column(visible=False, elem_classes="levels") as self.manual_controls:
                self.sigma = bounded_slider(
                    0, 100, 25, step=1, label="Noise level (\u03c3), 0 to 100 of 255", elem_id="sigma"
                )

    def _add_results(self) -> None:
        self.viewer = picture_viewer(elem_id="viewer")
        self.figures = gr.HTML(label="Figures", elem_id="figures", min_height=60, padding=False)
        with gr.Row(elem_id="result-row"):
            with gr.Column(elem_classes="levels", min_width=260, elem_id="difference-controls") as column:
                self.difference_controls = column
                self.difference_kind = gr.Radio(
                    list(DIFFERENCES.items()), value="removed", label="Difference shows", elem_id="which"
                )
                info_mark("Difference shows", DIFFERENCE_INFO)
            with gr.Column(min_width=260, elem_id="file-controls"):
                self._add_file()
        # What page.js says at a run: which slider is moving and where it is, which pictures are to be seen.
        self.moving = gr.Textbox("", visible=False)
        self.shown = gr.Textbox("noisy denoised", visible=False)
        self.address = gr.Textbox("", visible=False)
        self.photo_shown, self.photo_wanted = (gr.Textbox("", visible=False) for _ in range(2))
        self.query = gr.Textbox("?", visible="hidden")  # what page.js writes into the address: "?" until there is a run
        self.address_opened = gr.Button("", visible="hidden", elem_id="address-opened")  # page.js clicks it

    def _add_file(self) -> None:
        with gr.Row(elem_id="file-row"):
            self.file_format = gr.Dropdown(
                list(FILE_FORMATS),
                value="PNG",
                label="File format",
                filterable=False,
                container=False,
                elem_id="file-format",
                scale=0,
                min_width=100,
            )
            self.download = gr.DownloadButton(NO_FILE_LABEL, interactive=False, elem_id="download", variant="primary")
            self.full_size = gr.Button("Denoise the full size", visible=False, elem_id="full-size", variant="primary")
        with gr.Row(visible=False, elem_id="job") as self.job:
            self.job_message = gr.HTML(elem_id="job-message", padding=False)
            self.cancel = gr.Button("Cancel", size="sm", elem_id="cancel", scale=0, min_width=90)
        self.file = gr.DownloadButton("Download", visible=False, elem_id="file", variant="primary")

    def _add_panel(self) -> None:
        with gr.Row(elem_id="panel-head"):
            gr.Markdown("## Checkpoints")
            gr.Button("Close", size="sm", elem_id="panel-close", scale=0, min_width=80)
        self.facts = gr.HTML(elem_id="about", padding=False)
        with gr.Accordion("Another checkpoint from the Hub", open=True, elem_id="hub"):
            self.hub_name = gr.Textbox(
                label="Any repository that holds one",
                placeholder="user/name or user/name@revision",
                max_lines=1,
                max_length=300,
                elem_id="typed",
            )
            self.pull_button = gr.Button("Pull and use", size="sm", elem_id="fetch")
        with gr.Accordion("All checkpoints on offer", open=False, elem_id="offers"):
            self.listing = gr.HTML(elem_id="listing", padding=False)
        with gr.Accordion("The checkpoint's model card", open=False, elem_id="card-box"):
            self.card = gr.Markdown(elem_id="card", latex_delimiters=[])
