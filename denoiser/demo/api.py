"""The public endpoint, /denoise, for programs; it has inputs of its own, as the page's controls are many."""

import functools
import inspect
import math
from collections.abc import Callable

import gradio as gr
from anyio import CapacityLimiter, to_thread

from .. import experiment
from ..errors import DenoiserError
from ..hub.checkpoints import DEFAULT_CHECKPOINT
from ..noise import NOISES
from .components import photo_input
from .guard import visitor_of
from .model_pool import Loaded
from .pulls import wait_for
from .state import DemoState


class DenoiseApi:
    """The endpoint and what it computes."""

    def __init__(self, state: DemoState):
        self.state = state
        self._threads = CapacityLimiter(state.settings.max_queued_calls)  # of their own: they wait for their turn

    def connect(self) -> None:
        """Add the endpoint to the gr.Blocks that is open."""
        with gr.Column(visible=False):
            gr.Button().click(
                self.denoise,
                [
                    photo_input(label="image"),
                    gr.Dropdown(["none", *NOISES], value="gaussian", label="noise"),
                    gr.Number(None, label="level"),
                    gr.Number(None, label="level2"),
                    gr.Number(0, label="seed", precision=0, minimum=0),
                    gr.Textbox(DEFAULT_CHECKPOINT, label="checkpoint", max_length=300),
                    gr.Number(None, label="sigma", minimum=-1, maximum=255),
                    gr.Number(1.0, label="strength", minimum=0, maximum=1),
                ],
                [
                    gr.Image(format="png", label="noisy"),
                    gr.Image(format="png", label="denoised"),
                    gr.Image(format="png", label="difference"),
                    gr.JSON(label="figures"),
                ],
                api_name="denoise",
                api_description=inspect.getdoc(self.denoise),
                concurrency_id="api",
                concurrency_limit=None,  # computing is one at a time all the same; those that fetch wait beside it
            )

    async def denoise(
        self,
        image: str,
        noise: str,
        level: float | None,
        level2: float | None,
        seed: int,
        checkpoint: str,
        sigma: float | None,
        strength: float,
        request: gr.Request,
    ):
        """Add noise to a picture, denoise it, and compare.

        Args:
            image: Picture file.
            noise: Kind of noise, or "none" if the picture is noisy already.
            level: The noise's first parameter (sigma, photons, gain, amount, width, quality); its default if left out.
            level2: Its second, where it has one (read noise, grain size).
            seed: Of the noise.
            checkpoint: Which network: bundled, or user/name or user/name@revision on the Hub. The page's default if
                empty.
            sigma: Noise level for the network, 0..255. Left out: the level added, or for "none" an estimate.
                -1: estimate.
            strength: 0..1, blends between the noisy picture and the estimate.

        Returns:
            The noisy picture, the denoised picture, the amplified difference (all PNG), and the figures.
        """
        checkpoint = (checkpoint or "").strip() or self.state.checkpoint
        try:
            loaded = await to_thread.run_sync(self.state.model_pool.get_local, checkpoint)
            if not loaded:  # whoever waits for the Hub waits in no thread, while others compute
                pull = self.state.model_pool.start_pull(checkpoint, visitor_of(request))
                await wait_for(pull)
                loaded = pull.future.result()
        except DenoiserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        compute = functools.partial(self._compute, image, noise, (level, level2), seed or 0, loaded, sigma, strength)
        return await to_thread.run_sync(compute, limiter=self._threads)

    def _compute(
        self,
        image: str,
        noise: str,
        levels: tuple[float | None, float | None],
        seed: int,
        loaded: Loaded,
        sigma: float | None,
        strength: float | None,
    ):
        """What the endpoint returns."""
        parameters = {}
        if noise != "none":
            pairs = zip(NOISES[noise].parameters, levels)
            parameters = {parameter.name: level for parameter, level in pairs if level is not None}
        return self.state.experiment_runner.run(
            image,
            "all",
            loaded,
            noise=None if noise == "none" else noise,
            parameters=parameters,
            seed=seed,
            sigma="known" if sigma is None else "estimate" if sigma == -1 else sigma,
            strength=1.0 if strength is None else strength,
            answer=lambda result, pause: self._answer(result, loaded, int(seed), pause),
        )

    def _answer(self, result: experiment.Experiment, loaded: Loaded, seed: int, pause: Callable[[], None]) -> tuple:
        save = self.state.results.save
        pictures = [save(result.noisy, "noisy.png")]
        pause()
        pictures.append(save(result.denoised, "denoised.png"))
        pause()
        difference, gain = experiment.difference(result.noisy, result.denoised)
        pictures.append(save(difference, "difference.png"))
        return *pictures, _figures(result, loaded) | {"difference_gain": gain, "seed": seed}


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
