"""The tab "Inside the autoencoder": a picture's way through the network, its latent, and what a pixel looks at."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from .. import experiment
from ..analysis.metrics import psnr
from ..hub.checkpoints import bundled_checkpoints, find_bundled
from ..inside import (
    EquivalentFilter,
    equivalent_filters,
    picture_path,
    principal_colors,
    through_latent,
    typical_points,
)
from ..models import BottleneckConfig, check_config_file
from .checkpoint_picker import SessionChoices
from .components import bounded_slider
from .crop_choice import COMPUTING, CropChoice, explain, publish_picture
from .denoise_tab import DenoiseTab
from .experiment_runner import Crop
from .figures import format_number, render, render_message
from .model_pool import Loaded
from .noise_sweep import NoiseSweep

LATENT_CHECKPOINT = "bottleneck-color"
REACH = 20
"""Of what is shown of a filter to each side, pixels."""
CHOSEN = "Your pixel"


LATEST: dict[str, Any] = COMPUTING | {"trigger_mode": "always_last"}


@dataclass(frozen=True)
class Looked:
    """The filters that a page shows, so that another pixel adds its own alone.

    Attributes:
        key: What they are of.
        picture: Path of the crop.
        size: Its width and height.
        cards: For the template, by name.
    """

    key: str
    picture: str
    size: tuple[int, int]
    cards: dict[str, dict[str, Any]]


class InsideTab:
    """The tab, made within the gr.Blocks that is open.

    Args:
        first: The first tab.
        tab: What it is in.
    """

    def __init__(self, first: DenoiseTab, tab: gr.Tab):
        self.state, self._runs = first.state, SessionChoices()
        with gr.Row(elem_classes="laboratory"):
            with gr.Column(scale=0, min_width=300, elem_classes="laboratory-controls"):
                self._crop = CropChoice(first, "inside")
                gr.HTML(render("inside_about.html"), elem_id="inside-about", padding=False)
            with gr.Column(scale=1, min_width=300, elem_id="inside"):
                self._message = gr.HTML(elem_id="inside-message", padding=False)
                self._path = gr.HTML(elem_id="path", elem_classes="card", padding=False)
                self._filters = gr.HTML(
                    js_on_load=Path(__file__).with_name("inside.js").read_text(encoding="utf-8"),
                    elem_id="filters",
                    elem_classes="card",
                    apply_default_css=False,
                    padding=False,
                )
                with gr.Column(elem_id="latent-card", elem_classes="card", visible=_latent_planes() > 0):
                    self._latent = gr.HTML(elem_id="latent", padding=False)
                    planes = max(_latent_planes(), 1)
                    self._kept = bounded_slider(0, planes, planes, step=1, label="Planes kept", elem_id="planes")
                self._sweep = NoiseSweep(self._crop)
        self._looked = gr.State(None)
        self._connect(tab)

    def _connect(self, tab: gr.Tab) -> None:
        crop = self._crop.inputs
        self._crop.connect(
            tab,
            COMPUTING
            | {
                "fn": self.run,
                "inputs": [self._kept, self._looked, *crop],
                "outputs": [
                    *(self._path, self._filters, self._latent, self._looked, self._message),
                    self._sweep.plot,
                ],
                "trigger_mode": "multiple",  # a newer run ends an older one
            },
        )
        self._filters.input(
            self.on_pixel_chosen,
            [self._looked, *crop],
            [self._filters, self._looked, self._message],
            **LATEST,
        )
        gr.on(
            [self._kept.input, self._kept.release],
            self.on_planes_moved,
            [self._kept, *crop],
            [self._latent, self._message],
            **LATEST,
        )

    def run(self, request: gr.Request, kept: float, looked: Looked | None, *values: Any) -> Iterator[dict]:
        """Everything that is shown of the crop, part by part."""
        session = request.session_hash or ""
        number = self._runs.begin(session)
        try:
            wanted = self._crop.wanted(*values)
            loaded = self._crop.loaded(wanted)
            key = f"{wanted.key} {loaded.facts.name}"
            if looked and looked.key == key and Path(looked.picture).exists():
                yield {self._message: ""}
                return
            self._sweep.end(session)
            yield self._nothing | {self._message: render_message("Computing \u2026")}
            crop = self._crop.take(wanted)
            parts = (
                self._show_path,
                lambda loaded, crop: self._show_latent(crop, int(kept)),
                # The last, as it says that all is shown: a tab that is opened again before gets the rest.
                lambda loaded, crop: self._show_filters(key, loaded, crop),
            )
            for part in parts:
                shown = part(loaded, crop)
                if self._runs.latest(session) != number:
                    return
                yield {self._message: "", **shown}
        except Exception as error:
            if self._runs.latest(session) == number:
                yield self._nothing | {self._message: explain(error)}

    @property
    def _nothing(self) -> dict:
        """No picture is shown: none of one photo stays beside another."""
        empty: dict = dict.fromkeys((self._path, self._filters, self._latent), "")
        return empty | {self._looked: None, self._sweep.plot: self._sweep.empty}

    def on_planes_moved(self, kept: float, *values: Any) -> dict:
        """The picture through the planes of the latent that are kept."""
        try:
            return {self._message: "", **self._show_latent(self._crop.take(self._crop.wanted(*values)), int(kept))}
        except Exception as error:
            return {self._message: explain(error)}

    def on_pixel_chosen(self, event: gr.EventData, looked: Looked | None, *values: Any) -> dict:
        """What the estimate of a chosen pixel looks at."""
        place = event._data if isinstance(event._data, dict) else {}
        x, y = (place.get(axis) for axis in "xy")
        inside = [isinstance(share, int | float) and 0 <= share <= 1 for share in (x, y)]
        if looked is None or not all(inside):
            return {self._message: ""}
        try:
            wanted = self._crop.wanted(*values)
            crop, loaded = self._crop.take(wanted), self._crop.loaded(wanted)
            height, width = crop.noisy.pixels.shape[:2]
            point = min(int(y * height), height - 1), min(int(x * width), width - 1)
            with self.state.experiment_runner.turn():
                (found,) = equivalent_filters(loaded.denoiser, crop.noisy.pixels, crop.sigma, [point])
            changed = Looked(
                looked.key, looked.picture, looked.size, {CHOSEN: self._card(CHOSEN, crop, found)} | _but_chosen(looked)
            )
            return {self._message: "", self._filters: _render_filters(changed, loaded), self._looked: changed}
        except Exception as error:
            return {self._message: explain(error)}

    def _show_path(self, loaded: Loaded, crop: Crop) -> dict:
        noisy = crop.noisy.pixels
        with self.state.experiment_runner.turn():
            stages, estimate = picture_path(loaded.denoiser, noisy, crop.sigma)
            colors = [principal_colors(stage.features) for stage in stages]
        shown = [self._stage("Noisy picture", noisy, noisy.size)]
        for stage, (picture, share) in zip(stages, colors):
            shown.append(self._stage(stage.label, picture, noisy.size, len(stage.features)) | {"share": f"{share:.0%}"})
        shown.append(self._stage("Estimate", estimate, noisy.size))
        widest = max(one["width"] for one in shown)
        skips = loaded.facts.architecture == "unet"
        return {self._path: render("path.html", stages=shown, widest=widest, name=loaded.facts.name, skips=skips)}

    def _stage(self, label: str, pixels: np.ndarray, whole: int, planes: int | None = None) -> dict[str, Any]:
        """What the template shows of a place on the way; ``whole`` is the number of the picture's values."""
        height, width, channels = pixels.shape
        values = height * width * (planes or channels)
        return {
            "label": label,
            "path": publish_picture(self._path, self.state, pixels, "stage"),
            "width": width,
            "height": height,
            "planes": planes or channels,
            "values": f"{values:,}",
            "times": f"{values / whole:.2g}",
            "share": "",
        }

    def _show_filters(self, key: str, loaded: Loaded, crop: Crop) -> dict:
        noisy = crop.noisy.pixels
        height, width = noisy.shape[:2]
        with self.state.experiment_runner.turn():
            known = crop.clean.pixels if crop.clean else loaded.denoiser(noisy, crop.sigma)
            points = typical_points(known)
            found = equivalent_filters(loaded.denoiser, noisy, crop.sigma, list(points.values()))
        cards = {name: self._card(name.capitalize(), crop, one) for name, one in zip(points, found)}
        looked = Looked(key, publish_picture(self._filters, self.state, noisy, "noisy"), (width, height), cards)
        return {self._filters: _render_filters(looked, loaded), self._looked: looked}

    def _card(self, label: str, crop: Crop, found: EquivalentFilter) -> dict[str, Any]:
        """What the template shows of a filter."""
        height, width = found.weights.shape
        edged = np.pad(crop.noisy.pixels, ((REACH, REACH), (REACH, REACH), (0, 0)), mode="edge")
        patch = edged[found.row : found.row + 2 * REACH + 1, found.column : found.column + 2 * REACH + 1]
        return {
            "label": label,
            "patch": publish_picture(self._filters, self.state, patch, "patch"),
            "weights": publish_picture(self._filters, self.state, _signed_colors(found.window(REACH)), "filter"),
            "averaged": f"{found.averaged:,.3g}",
            "total": format_number(found.total, 2),
            "radius": format_number(found.radius, 1),
            "left": 100 * (found.column + 0.5) / width,
            "top": 100 * (found.row + 0.5) / height,
        }

    def _show_latent(self, crop: Crop, kept: int) -> dict:
        if not _latent_planes():
            return {}
        picture = crop.clean or crop.noisy
        denoiser = self.state.model_pool.get(LATENT_CHECKPOINT).denoiser
        with self.state.experiment_runner.turn():
            found = through_latent(denoiser, picture.pixels, kept)
            channels = picture.pixels.shape[2]
            restored = found.restored if channels == 3 else found.restored.mean(2, keepdims=True)
            lost, gain = experiment.difference(picture, picture.with_pixels(restored))
            quality = psnr(picture.pixels, np.rint(restored.clip(0, 1) * 255) / 255)
        planes, height, width = found.size
        pictures = {"picture": picture.pixels, "through": restored, "lost": lost}
        return {
            self._latent: render(
                "latent.html",
                paths={name: publish_picture(self._latent, self.state, one, name) for name, one in pictures.items()},
                label="Clean picture" if crop.clean else "Picture",
                name=LATENT_CHECKPOINT,
                kept=found.kept,
                planes=planes,
                height=height,
                width=width,
                values=f"{planes * height * width:,}",
                whole=f"{picture.pixels.size:,}",
                share=f"{found.share:.0%}",
                gain=gain,
                psnr=format_number(quality, 2),
            )
        }


def _latent_planes() -> int:
    """The planes of the latent that is shown; 0 if its checkpoint is not bundled."""
    if LATENT_CHECKPOINT not in bundled_checkpoints():
        return 0
    config = check_config_file(find_bundled(LATENT_CHECKPOINT).folder, LATENT_CHECKPOINT)
    return config.latent if isinstance(config, BottleneckConfig) else 0


def _but_chosen(looked: Looked) -> dict[str, dict[str, Any]]:
    return {name: card for name, card in looked.cards.items() if name != CHOSEN}


def _render_filters(looked: Looked, loaded: Loaded) -> str:
    config = loaded.denoiser.model.config
    return render(
        "filters.html",
        cards=looked.cards,
        picture=looked.picture,
        width=looked.size[0],
        height=looked.size[1],
        side=2 * REACH + 1,
        exact=not config.bias,
        name=loaded.facts.name,
    )


def _signed_colors(weights: np.ndarray) -> np.ndarray:
    """Weights as colors, uint8 (h, w, 3): white 0, blue above, red below, darker with the root of the weight."""
    strength = np.sqrt(np.abs(weights) / max(float(np.abs(weights).max()), 1e-12))[..., None]
    full = np.where(weights[..., None] >= 0, np.array([12, 60, 140]), np.array([190, 30, 30]))
    return np.rint(255 + strength * (full - 255)).astype(np.uint8)
