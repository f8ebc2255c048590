"""The components of the denoise tab and where they stand; denoise_tab.py and checkpoint_picker.py make them work."""

from pathlib import Path

import gradio as gr

from ..noise import NOISES
from .components import bounded_slider, photo_input, picture_output
from .experiment_runner import AREAS

SIGMA_MODES = {"Known": "known", "Estimated": "estimate", "Manual": "manual"}
DIFFERENCES = {
    "noisy \u2212 denoised (what was removed)": "removed",
    "clean \u2212 denoised (what is missing)": "missing",
}


class DenoiseLayout:
    """Makes the components, within the gr.Blocks that is open; each is an attribute.

    Args:
        examples: Paths of the example photos; the page starts with the first.
        checkpoint: Name of the checkpoint that the page starts with.
        checkpoint_choices: Labels and names for the menu of checkpoints.
    """

    def __init__(self, examples: list[Path], checkpoint: str, checkpoint_choices: list[tuple[str, str]]):
        with gr.Row():
            with gr.Column(scale=4, min_width=320):
                self._add_photo(examples)
                with gr.Group() as self.noise_controls:
                    self._add_noise()
                with gr.Group():
                    self._add_checkpoint(checkpoint, checkpoint_choices)
                    self._add_sigma()
                    self.strength = bounded_slider(
                        0, 1, 1, step=0.05, label="Strength", info="Below 1 some grain is kept.", elem_id="strength"
                    )
            with gr.Column(scale=8, min_width=320, elem_id="results"):
                self._add_results()
        with gr.Row():
            self.noisy = picture_output("Noisy", "noisy-out")
            self.denoised = picture_output("Denoised", "denoised-out")
        with gr.Row():
            self.difference = picture_output("Difference", "difference")
            self.clean = picture_output("Clean", "clean-out")

    def _add_photo(self, examples: list[Path]) -> None:
        self.photo = photo_input(
            value=str(examples[0]) if examples else None,
            format="png",
            sources=["upload", "clipboard", "webcam"],
            label="Photo",
            height=280,
            elem_id="photo",
        )
        self.notice = gr.Markdown(visible=False, elem_id="notice")
        self.area = gr.Radio(list(AREAS.items()), value="shrunk", label="Work on", visible=False, elem_id="area")
        # gr.Examples would update the photo's component, and thereby make a new one without photo_input's change.
        self.examples = gr.Dataset(
            components=["image"],
            samples=[[str(path)] for path in examples],
            type="index",
            label="Examples (CC0 and CC BY-SA 4.0)",
            elem_id="examples",
            visible=bool(examples),
        )
        self.noisy_already = gr.Checkbox(False, label="My photo is already noisy", elem_id="noisy-already")

    def _add_noise(self) -> None:
        self.noise = gr.Dropdown(
            [(kind.label, kind.name) for kind in NOISES.values()],
            value="gaussian",
            label="Noise",
            info=NOISES["gaussian"].summary,
            filterable=False,
            elem_id="noise",
        )
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
                        label=f"{parameter.label} ({parameter.unit})",
                        elem_id=f"{kind.name}-{parameter.name}",
                    )
                    self.parameter_sliders.append(slider)
            self.noise_groups.append(group)
        # No bounds here: gradio would raise before our code can answer (see DenoiseTab.run).
        self.seed = gr.Number(0, label="Seed of the noise", precision=0, elem_id="seed")
        self.new_noise = gr.Button("\u21bb New noise", size="sm", elem_id="reroll")

    def _add_checkpoint(self, checkpoint: str, checkpoint_choices: list[tuple[str, str]]) -> None:
        self.selection = gr.State(None)
        self.checkpoint = gr.Dropdown(
            checkpoint_choices, value=checkpoint, label="Checkpoint", filterable=False, elem_id="checkpoint"
        )
        self.facts = gr.HTML(elem_id="about", padding=False)
        self.pull_message = gr.HTML(elem_id="pull", padding=False)
        with gr.Accordion("Another checkpoint from the Hub", open=False, elem_id="hub"):
            self.hub_name = gr.Textbox(
                label="Any repository that holds one",
                placeholder="user/name or user/name@revision",
                max_lines=1,
                max_length=300,
                elem_id="typed",
            )
            self.pull_button = gr.Button("Pull and use", size="sm", elem_id="fetch")
        self.timer = gr.Timer(1.5, active=False)

    def _add_sigma(self) -> None:
        with gr.Column(elem_classes="levels") as self.sigma_controls:  # hidden for a blind network
            self.sigma_mode = gr.Radio(
                list(SIGMA_MODES.items()),
                value="known",
                label="Noise level given to the network",
                info="Known: the true deviation of the noise added. Estimated: from the noisy picture alone.",
                elem_id="sigma-mode",
            )
            with gr.Column(visible=False, elem_classes="levels") as self.manual_controls:
                self.sigma_manual = bounded_slider(
                    0, 100, 25, step=1, label="Manual level (8-bit levels)", elem_id="sigma-manual"
                )

    def _add_results(self) -> None:
        self.compare = gr.ImageSlider(
            format="png",
            image_mode=None,
            type="filepath",
            label="Noisy | denoised: drag the line",
            interactive=False,
            max_height=620,
            buttons=["fullscreen"],
            elem_id="compare",
        )
        self.figures = gr.HTML(label="Figures", elem_id="figures", min_height=96, padding=False)
        self.difference_kind = gr.Radio(
            list(DIFFERENCES.items()),
            value="removed",
            label="Difference",
            info="Mid-gray is no difference; \u00d7 is the amplification.",
            elem_id="which",
        )
        self.download = gr.DownloadButton(
            "Download the denoised picture (lossless)", interactive=False, elem_id="download", variant="primary"
        )
        with gr.Accordion("All checkpoints on offer", open=False, elem_id="offers"):
            self.listing = gr.HTML(elem_id="listing", padding=False)
        with gr.Accordion("The checkpoint's model card", open=False, elem_id="card-box"):
            self.card = gr.Markdown(elem_id="card", latex_delimiters=[])
