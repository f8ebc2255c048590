"""The viewer of the pictures: a component of our own, drawn by viewer.js, and the files that it shows."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from .. import experiment
from ..images.picture import Picture
from ..memory import SMALL_PIXELS
from .figures import render

COLOR_SPACE = {"icc_profile", "gamma", "chromaticity", "cicp"}
"""Metadata by which a browser converts the colors of a picture."""

Save = Callable[[Picture | np.ndarray, str], str]


@dataclass(frozen=True)
class PictureRequest:
    """Which pictures of an experiment are asked for.

    Attributes:
        photo: Path of the upload, in a folder that is named by the hash of its content.
        area: The part of it that is worked on.
        difference_kind: "removed" for noisy - denoised, "missing" for clean - denoised.
        shown: Names of the pictures that are to be seen, and ``clean=...``, see ``Pictures.original``, of each clean
            one that the browser holds.
        live: Whether a slider is moving.
    """

    photo: str
    area: str
    difference_kind: str
    shown: str
    live: bool


@dataclass(frozen=True)
class Pictures:
    """The pictures of one result, as files.

    Attributes:
        paths: PNG files by name: noisy, denoised, difference, clean. What is not shown has none.
        width: In pixels; a live picture may be smaller than the final one.
        height: The same.
        live: Whether a slider is moving.
        original: Names the clean picture, which need not be sent to who holds it; "" if there is none.
        minuend: From which picture the denoised one is subtracted, "noisy" or "clean".
        gain: The difference's amplification.
        exact: Whether the browser can compute the difference from the other two: their 8 bits are all there is.
    """

    paths: dict[str, str]
    width: int
    height: int
    live: bool
    original: str
    minuend: str
    gain: int
    exact: bool


def save_pictures(
    result: experiment.Experiment, request: PictureRequest, save: Save, pause: Callable[[], None]
) -> Pictures:
    """Write the pictures that are asked for, each once.

    Args:
        result: What was computed.
        request: What is asked for.
        save: Writes a picture under a name -> the file's path.
        pause: Called between the pictures.
    """
    photo, shown = Path(request.photo), set(request.shown.split())
    stem = photo.stem[:60] or "photo"
    height, width = result.denoised.pixels.shape[:2]
    minuend = "clean" if request.difference_kind == "missing" and result.clean else "noisy"
    exact = result.noisy.maximum == 255 and result.noisy.alpha is None and not COLOR_SPACE & result.noisy.info.keys()
    # The denoised one is always there, for the download; the minuend, where the browser subtracts.
    wanted = {"denoised"} | (shown & {"noisy", "clean"})
    gain, original = 0, ""
    sources: dict[str, Picture | np.ndarray] = {"noisy": result.noisy, "denoised": result.denoised}
    if result.clean:
        sources["clean"] = result.clean
        original = f"{photo.parent.name[:16]}-{request.area}-{width}x{height}"
    if "difference" in shown:
        first = result.clean if minuend == "clean" and result.clean else result.noisy
        sources["difference"], gain = experiment.difference(first, result.denoised)
        wanted.add(minuend if exact else "difference")
    if f"clean={original}" in shown:
        wanted.discard("clean")

    def write(name: str) -> str:
        pause()
        return save(sources[name], f"{stem}-{name}.png")

    names = [name for name in sources if name in wanted]
    # Side by side where it takes little memory: the encoder works without the interpreter's lock.
    with ThreadPoolExecutor(2 if height * width <= SMALL_PIXELS else 1) as writers:
        paths = dict(zip(names, writers.map(write, names), strict=True))
    return Pictures(paths, width, height, request.live, original, minuend, gain, exact)


def picture_viewer(**options: Any) -> gr.HTML:
    """A component that shows noisy, denoised, difference and clean picture with one zoom and position for all."""
    return gr.HTML(
        html_template=render("viewer.html"),
        js_on_load=Path(__file__).with_name("viewer.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        **options,
    )


def viewer_value(viewer: gr.HTML, pictures: Pictures) -> str:
    """The viewer's value as viewer.js reads it, its files moved to where the browser may ask for them.

    It is text: of a dictionary within it, gr.HTML notices the first change only.
    """
    moved = {name: viewer.move_resource_to_block_cache(path) for name, path in pictures.paths.items()}
    label = f"{pictures.minuend.capitalize()} \u2212 denoised, \u00d7{pictures.gain}"
    difference = {"minuend": pictures.minuend, "gain": pictures.gain, "exact": pictures.exact, "label": label}
    return json.dumps(
        {
            "paths": moved,
            "width": pictures.width,
            "height": pictures.height,
            "live": pictures.live,
            "original": pictures.original,
            "difference": difference if pictures.gain else None,
        }
    )
