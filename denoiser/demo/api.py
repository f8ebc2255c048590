"""The public endpoint, /denoise, for programs and MCP clients; it has inputs of its own, as the page's are many."""

import functools
import math
from collections.abc import Callable
from typing import Any

import gradio as gr
from anyio import CapacityLimiter, to_thread
from gradio.components import Component
from gradio.utils import get_function_description

from .. import experiment
from ..errors import DenoiserError
from ..hub.checkpoints import DEFAULT_CHECKPOINT
from ..noise import NOISES
from .components import photo_input
from .guard import visitor_of
from .model_pool import Loaded
from .pulls import wait_for
from .state import DemoState

NUMBERS_BY_NAME = {"type": "object", "additionalProperties": {"type": "number"}}


def describe_noises() -> str:
    """Every noise with its parameters, their ranges and defaults, in a paragraph."""
    noises = []
    for noise in NOISES.values():
        ranges = [f"{p.name} {p.low:g}..{p.high:g} ({p.default:g}; {p.label}, {p.unit})" for p in noise.parameters]
        noises.append(f"{noise.name}: {', '.join(ranges)}")
    return "Noises and their parameters, with range and default: " + ". ".join(noises) + "."


class DenoiseApi:
    """The endpoint and what it computes."""

    def __init__(self, state: DemoState):
        self.state = state
        self._threads = CapacityLimiter(state.settings.max_queued_calls)  # of their own: they wait for their turn

    def connect(self) -> None:
        """Add the endpoint to the gr.Blocks that is open."""
        text, sentences, _ = get_function_description(self.denoise)
        with gr.Column(visible=False):
            # What is out of range reaches the library, whose sentences name the parameter; gradio's do not.
            inputs = [
                photo_input(label="image"),
                gr.Dropdown(["none", *NOISES], value="gaussian", label="noise"),
                _with_schema(gr.JSON({}, label="parameters"), NUMBERS_BY_NAME),
                _with_schema(gr.Number(0, label="seed", precision=0), {"minimum": 0, "maximum": 2**64 - 1}),
                gr.Textbox(DEFAULT_CHECKPOINT, label="checkpoint", max_length=300),
                _with_schema(gr.Number(None, label="sigma"), {"minimum": 0, "maximum": 255}),
                gr.Dropdown(["known", "estimate"], value="known", label="sigma_mode"),
                _with_schema(gr.Number(1.0, label="strength"), {"minimum": 0, "maximum": 1}),
            ]
            for component in inputs:
                _with_schema(component, {"additional_description": sentences[component.label]})
            gr.Button().click(
                self.denoise,
                inputs,
                [
                    gr.Image(format="png", label="noisy"),
                    gr.Image(format="png", label="denoised"),
                    gr.Image(format="png", label="difference"),
                    gr.JSON(label="figures"),
                ],
                api_name="denoise",
                api_description=f"{text} {describe_noises()}",
                concurrency_id="api",
                concurrency_limit=None,  # computing is one at a time all the same; those that fetch wait beside it
            )

    async def denoise(
        self,
        image: str,
        request: gr.Request,
        noise: str = "gaussian",
        parameters: dict[str, float] | None = None,
        seed: int = 0,
        checkpoint: str = DEFAULT_CHECKPOINT,
        sigma: float | None = None,
        sigma_mode: str = "known",
        strength: float = 1.0,
    ):
        """Add noise to a picture, denoise it, and compare: the picture alone is enough, all else has a default.

        The answer is the noisy picture, the denoised picture, their amplified difference (all PNG), and the figures.

        Args:
            image: Picture file, at most 25 megapixels on a server with default settings; of several frames the first.
                For MCP clients: a data: address (data:image/png;base64,...), or the address of an upload here.
            noise: Kind of noise to add, or "none" if the picture is noisy already; "gaussian" if left out.
            parameters: Of the noise, by name, as {"sigma": 25}; those left out take the defaults of the description.
            seed: Of the noise, a whole number from 0 to 2**64 - 1; the same seed gives the same noise. Default 0.
            checkpoint: A bundled name, or user/name or user/name@revision on the Hub; the page's default if left out.
            sigma: Noise level for the network, 0 to 255 (8-bit units); if left out, sigma_mode says how it is found.
            sigma_mode: "known" (default), the level that was added, or "estimate", as always for noise "none".
            strength: 0 (the noisy picture) to 1 (the network's estimate, the default); between them a blend.
        """
        checkpoint = (checkpoint or "").strip() or self.state.checkpoint
        if noise == "none" and parameters:
            raise gr.Error('parameters: noise "none" has none. Leave them out, or name a noise.', print_exception=False)
        try:
            loaded = await to_thread.run_sync(self.state.model_pool.get_local, checkpoint)
            if not loaded:  # whoever waits for the Hub waits in no thread, while others compute
                pull = self.state.model_pool.start_pull(checkpoint, visitor_of(request))
                await wait_for(pull)
                loaded = pull.future.result()
        except DenoiserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        compute = functools.partial(
            self.state.experiment_runner.run,
            image,
            "all",
            loaded,
            noise=None if noise == "none" else noise,
            parameters=parameters or {},
            seed=seed or 0,
            sigma=sigma_mode if sigma is None else sigma,
            strength=1.0 if strength is None else strength,
            answer=lambda result, pause: self._answer(result, loaded, int(seed or 0), pause),
        )
        return await to_thread.run_sync(compute, limiter=self._threads)

    def _answer(self, result: experiment.Experiment, loaded: Loaded, seed: int, pause: Callable[[], None]) -> tuple:
        save = self.state.results.save
        pictures = [save(result.noisy, "noisy.png")]
        pause()
        pictures.append(save(result.denoised, "denoised.png"))
        pause()
        difference, gain = experiment.difference(result.noisy, result.denoised)
        pictures.append(save(difference, "difference.png"))
        return *pictures, _figures(result, loaded) | {"difference_gain": gain, "seed": seed}


def _with_schema(component: Component, schema: dict[str, Any]) -> Component:
    """A component with more said of its values in the description of the endpoint."""
    known = component.api_info_as_input() | schema
    component.api_info_as_input = lambda: known
    return component


def _figures(result: experiment.Experiment, loaded: Loaded) -> dict:
    """The figures as JSON, which has no infinity and no not-a-number: those are None."""
    pairs = {
        measure: {key: value if math.isfinite(value) else None for key, value in zip(("noisy", "denoised"), values)}
        for measure, values in result.figures.items()
    }
    return pairs | {
        "sigma_added": result.sigma_added,
        "sigma_used": result.sigma_used,
        "seconds": result.seconds,
        "checkpoint": loaded.facts.name,
        "revision": loaded.denoiser.revision,
    }
