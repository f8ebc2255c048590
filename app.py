"""The demo: a Gradio page around :mod:`denoiser`. Layout and wiring only.

python app.py [--port N]

Environment variables for those who host it: DENOISER_CHECKPOINT (the default), DENOISER_CHECKPOINTS (a list to offer),
DENOISER_AUTHOR, DENOISER_COLLECTION, DENOISER_TAG (what else to list from the Hub), DENOISER_MAX_MB (largest weights
fetched). README says more.
"""

import argparse
import asyncio
import atexit
import html
import json
import logging
import math
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from anyio import to_thread
from PIL import Image
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from denoiser import (
    DEFAULT_CHECKPOINT,
    NOISES,
    DenoiserError,
    bundled_checkpoints,
    experiment,
    save_image,
)
from denoiser.demo.model_pool import Loaded, ModelPool, Pull, Visitor
from denoiser.demo.proxies import prepare_proxies
from denoiser.hub.catalogue import TAG, Catalogue, Facts
from denoiser.hub.safe_markdown import safe_markdown
from denoiser.images.picture import Picture, read

# gradio makes HTTP clients and looks for its folder when it is imported: what it finds has to be fit by then.
try:
    PROXY_NOTE = prepare_proxies()
except ValueError as error:
    raise SystemExit(f"error: {error}") from error
TEMPORARY = Path(tempfile.mkdtemp(prefix="denoiser-"))
atexit.register(shutil.rmtree, TEMPORARY, ignore_errors=True)
# gradio's own default is one folder for all users of the machine, which may be somebody else's.
os.environ.setdefault("GRADIO_TEMP_DIR", str(TEMPORARY / "gradio"))

import gradio as gr  # noqa: E402
from gradio.utils import get_upload_folder  # noqa: E402

EXAMPLES = sorted(Path(__file__).parent.glob("examples/*.jpg"), key=lambda path: path.stem != "temple")
LIVE_PIXELS = 1_000_000  # up to here a slider's answer comes at once on two cores
PATIENCE = 120  # seconds that one picture may keep everyone waiting
MAX_PIXELS = 25_000_000  # what a 16 GB machine computes and compares in full without trouble
AREAS = {
    "Shrunk to 1 megapixel": "shrunk",
    "Its middle megapixel, untouched": "middle",
    "All of it": "all",
}
SIGMAS = {"Known": "known", "Estimated": "estimate", "By hand": "hand"}
DIFFERENCES = {
    "noisy \u2212 denoised (what was taken out)": "removed",
    "clean \u2212 denoised (what is missing)": "missing",
}
SCRATCH = TEMPORARY / "results"
SCRATCH.mkdir()
FAILED = "Something went wrong on the server, and its log says what. Try other settings or another photo."
MAX_REQUEST = 1_000_000  # bytes of a request that is no upload; the page's are a few thousand
CALLS_OF_SESSION, CALLS_OF_ADDRESS = 8, 32  # of one kind, at a time; the queue holds 64
SCRATCH_SECONDS = 60  # gradio copies our files into its cache right after a call

# What the host decides. Those listed by name are the host's own choice: they are fetched with the host's token.
try:
    OFFERED = [ModelPool.key(name) for name in re.split(r"[\s,]+", os.environ.get("DENOISER_CHECKPOINTS", "")) if name]
    WANTED = ModelPool.key(os.environ.get("DENOISER_CHECKPOINT") or DEFAULT_CHECKPOINT)
    MAX_BYTES = int(float(os.environ.get("DENOISER_MAX_MB") or 500) * 1e6)
except (DenoiserError, ValueError) as error:
    raise SystemExit(f"error: in DENOISER_CHECKPOINT, DENOISER_CHECKPOINTS or DENOISER_MAX_MB: {error}") from error
CATALOGUE = Catalogue(
    names=tuple(dict.fromkeys(name for name in (WANTED, *OFFERED) if "/" in name)),
    author=os.environ.get("DENOISER_AUTHOR", ""),
    collection=os.environ.get("DENOISER_COLLECTION", ""),
    tag=os.environ.get("DENOISER_TAG", TAG),
)
_computing = threading.Lock()  # one picture at a time: two cores serve visitors in turn instead of thrashing
MODEL_POOL = ModelPool(CATALOGUE.names, max_bytes=MAX_BYTES, computing=_computing)
FOR_PHOTOS = "photo"  # the bundled checkpoint for pictures that came noisy
HUB_PAGE = "https://huggingface.co/"

CSS = """
.gradio-container { max-width: 1480px !important; margin: 0 auto !important; }
#title { padding: 10px 2px 4px; }
#title h1 { font-size: 1.75rem; margin: 0 0 2px; letter-spacing: -0.02em; }
#title p { color: var(--body-text-color-subdued); margin: 0; font-size: 0.98rem; }
#figures { padding: 0; }
#figures .tiles { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 12px; }
#figures .tile { background: var(--block-background-fill); border: 1px solid var(--border-color-primary);
  border-radius: var(--block-radius); padding: 11px 14px; min-width: 0; }
#figures .tile span { display: flex; justify-content: space-between; font-size: 0.8rem;
  color: var(--body-text-color-subdued); white-space: nowrap; }
#figures .tile b { display: block; font-size: 1.2rem; font-variant-numeric: tabular-nums; white-space: nowrap;
  color: var(--body-text-color); }
#figures .tile em { font-style: normal; font-weight: 600; color: #0f766e; font-variant-numeric: tabular-nums; }
.dark #figures .tile em { color: #5eead4; }
#figures .tile em.worse { color: #b91c1c; }
.dark #figures .tile em.worse { color: #f87171; }
#figures p { font-size: 0.82rem; color: var(--body-text-color-subdued); margin: 8px 2px 0; }
.levels { gap: 0 !important; }
#notice { border-left: 3px solid var(--color-accent); padding: 2px 0 2px 12px; }
@media (max-width: 1100px) { #figures .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 720px) { #results { order: -1; } }
#figures .message { padding: 14px 16px; border: 1px solid var(--border-color-primary); color: var(--body-text-color);
  border-radius: var(--block-radius); background: var(--block-background-fill); }
#figures .message.failed, #pull .message.failed { border-left: 4px solid #dc2626; }
#about, #pull, #listing { background: var(--block-background-fill); border: 0; min-height: 0 !important; }
#pull:not(:has(.message)) { display: none; }
#about a { margin: 0; padding: 0; }
#about dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 14px; margin: 2px 0; font-size: 0.85rem; }
#about dt { color: var(--body-text-color-subdued); }
#about dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
#about { padding: 10px 14px; }
#pull .message { padding: 10px 14px; font-size: 0.88rem; border-left: 4px solid var(--color-accent);
  color: var(--body-text-color); background: var(--block-background-fill); }
#listing table { border-collapse: collapse; font-size: 0.82rem; width: 100%; }
#listing th { text-align: left; font-weight: 500; color: var(--body-text-color-subdued); }
#listing th, #listing td { padding: 4px 12px 4px 0; border: 0; border-bottom: 1px solid var(--border-color-primary);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
#listing table, #listing tr { border: 0; }
#listing td:first-child { font-weight: 500; overflow-wrap: anywhere; }
#listing td:first-child, #listing td:nth-child(5) { white-space: normal; }
@media (max-width: 900px) {
  #listing th { display: none; }
  #listing tr { display: block; padding: 5px 0; border-bottom: 1px solid var(--border-color-primary); }
  #listing td { display: inline; padding: 0; border: 0; white-space: normal; }
  #listing td:not(:empty) ~ td:not(:empty)::before { content: " \\b7  "; color: var(--body-text-color-subdued); }
}
#listing p { font-size: 0.82rem; color: var(--body-text-color-subdued); margin: 8px 0 2px; }
#card { max-height: 480px; overflow: auto; overflow-wrap: anywhere; contain: inline-size; }
#card pre { overflow-x: auto; }
@media (max-width: 480px) { #figures .tile b { font-size: 0.95rem; } #figures .tile { padding: 9px 10px; } }
"""
THEME = gr.themes.Default(
    primary_hue="teal",
    secondary_hue="teal",
    neutral_hue="slate",
    radius_size="lg",
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],  # no font server is asked
    font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
).set(
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_text_color="white",
    slider_color="*primary_600",
)

# gradio's slider reports a release of the mouse only; this makes one of a key that moved it.
HEAD = """<script>
document.addEventListener("keyup", (event) => {
  if (event.target.matches?.("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key))
    event.target.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
});
</script>"""

_start: dict[str, str] = {"checkpoint": DEFAULT_CHECKPOINT, "note": ""}


def name_in(chosen: str | None) -> str:
    """The checkpoint's name in a page's state, "name|commit|..."; the default's if there is none yet."""
    return (chosen or "").partition("|")[0].strip() or _start["checkpoint"]


def load_default() -> None:
    """Load what the page starts with; when the host's default cannot be had, the bundled one, and say so."""
    try:
        MODEL_POOL.pull(WANTED)
        _start.update(checkpoint=WANTED)
        if WANTED == DEFAULT_CHECKPOINT and FOR_PHOTOS in bundled_checkpoints():
            MODEL_POOL.pull(FOR_PHOTOS)  # so that nobody waits for it
    except DenoiserError as error:
        print(f"{WANTED}: {error} The page starts with {DEFAULT_CHECKPOINT}.")
        MODEL_POOL.pull(DEFAULT_CHECKPOINT)
        _start.update(note=f"{WANTED} is not available at the moment; this is {DEFAULT_CHECKPOINT}.")


def photo_input(**options) -> gr.Image:
    """An image input that hands over any upload untouched, for our own reader to open or to explain.

    gr.Image opens uploads itself, even for a path, and what it cannot read ends in a general error.
    """
    component = gr.Image(type="filepath", image_mode=None, **options)
    component.preprocess = lambda payload: payload and payload.path  # check_input has seen that it is an upload
    # The generated API page shows this as an example; gradio's own is an address, which is not fetched here.
    component.example_payload = component.example_value = lambda: {
        "path": "photo.png",
        "meta": {"_type": "gradio.FileData"},
    }
    return component


def is_upload(payload: object) -> bool:
    """Whether a file object names a file in gradio's upload folder, where uploads and the page's own pictures are.

    gradio checks that itself only for objects with its ``meta``. Links are followed before the comparison.
    """
    try:
        path = Path(payload["path"]).resolve(strict=True)
    except (TypeError, KeyError, ValueError, OSError, RuntimeError):
        return False
    return path.is_file() and path.is_relative_to(Path(get_upload_folder()).resolve())


def check_input(component: gr.components.Component, value: object) -> object:
    """What a client sent for a component, if it can be used: anyone may send any JSON to any endpoint.

    Raises:
        gr.Error: It cannot. What it says of a file is the same whether there is such a file or not.
    """
    if isinstance(component, gr.State):
        return value  # ignored: gradio takes its own
    if isinstance(component, gr.Image):
        if value is None or is_upload(value):
            return value and {"path": value["path"], "meta": {"_type": "gradio.FileData"}}
        raise gr.Error("This picture is not one of the uploads here: upload it first.", print_exception=False)
    if isinstance(component, gr.Number | gr.Slider):
        fits = value is None or (type(value) in (int, float) and abs(value) <= sys.float_info.max)  # no NaN
    elif isinstance(component, gr.Checkbox):
        fits = isinstance(value, bool)
    elif isinstance(component, gr.Dataset):
        fits = type(value) is int and 0 <= value < len(component.samples)
    else:
        fits = isinstance(value, str) or (value is None and isinstance(component, gr.Textbox))
    if not fits:
        name = getattr(component, "label", None) or type(component).__name__
        raise gr.Error(f"{name}: {json.dumps(value)[:80]} cannot be used here.", print_exception=False)
    return value


def client_address(request) -> str:
    return request.client.host if request.client else ""


class Guard:
    """ASGI middleware: bounds what a request may send, and answers what breaks gradio's routes with a sentence."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        upload = scope["path"].rstrip("/").endswith("/upload")  # those have max_file_size
        received, started = 0, False

        async def bounded():
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_REQUEST and not upload:
                raise ValueError("the request is too large")
            return message

        async def sending(message):
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, bounded, sending)
        except Exception as error:
            logging.warning("%s %s failed: %s", scope["method"], scope["path"][:80], type(error).__name__)
            if not started:
                answer = JSONResponse({"detail": "This request cannot be answered."}, 400)
                await answer(scope, receive, send)


class Page(gr.Blocks):
    """gr.Blocks that takes nothing on trust and answers every mistake with a sentence."""

    def queue(self, *args, **kwargs):
        """As gradio's, with a bound on what one visitor may have waiting or under way."""
        super().queue(*args, **kwargs)
        push = self._queue.push

        async def bounded_push(body, request, username):
            fn = self.fns.get(body.fn_index)
            if fn is None:
                return False, "There is no such function.", "error"
            waiting = self._queue.event_queue_per_concurrency_id.get(fn.concurrency_id)
            events = list(waiting.queue) if waiting else []
            events += [event for job in self._queue.active_jobs for event in job or ()]
            events = [event for event in events if event.concurrency_id == fn.concurrency_id]
            session = sum(event.session_hash == body.session_hash for event in events)
            address = sum(client_address(event.request) == client_address(request) for event in events)
            if session >= CALLS_OF_SESSION or address >= CALLS_OF_ADDRESS:
                return False, "Too many of your calls are waiting already. Try again in a minute.", "queue_full"
            return await push(body, request, username)

        self._queue.push = bounded_push
        return self

    async def process_api(self, block_fn, inputs, *args, **kwargs):
        """Check what was sent before gradio or a function of ours touches it: every route leads through here."""
        try:
            if len(inputs) < len(block_fn.inputs):
                raise gr.Error(f"{len(block_fn.inputs)} values are needed, {len(inputs)} were sent.")
            inputs = [check_input(component, value) for component, value in zip(block_fn.inputs, inputs)]
            return await super().process_api(block_fn, inputs, *args, **kwargs)
        except gr.Error as error:
            error.print_exception = False  # it is the visitor's to read
            raise
        except Exception as error:
            logging.exception("a call failed")
            raise gr.Error(FAILED, print_exception=False) from error


def bounded_slider(low: float, high: float, value: float, **options) -> gr.Slider:
    """A slider whose number box brings what is typed into range; gr.Slider raises (see :func:`run` why that is bad).

    To show or hide it, do so to the column around it: an update of the slider itself would undo this.
    """
    slider = gr.Slider(low, high, value, **options)
    slider.preprocess = lambda typed: value if typed is None else min(max(typed, low), high)
    return slider


def describe(photo: str | None, chosen: str | None):
    """What will happen to a photo just dropped, before it happens. -> notice, choice of area."""
    hidden = gr.update(visible=False), gr.update(visible=False, value="shrunk")
    if photo is None:
        return hidden
    try:
        with Image.open(photo) as opened:  # reads the header only
            width, height = opened.size
    except Exception:
        return hidden  # computing it will say what is wrong; an error here would keep it from running
    pixels = width * height
    if not LIVE_PIXELS < pixels <= MAX_PIXELS:
        return hidden
    loaded = MODEL_POOL.peek(name_in(chosen))
    seconds = (loaded.seconds(height, width) if loaded else pixels / 1e6) + pixels / 1e6 * 1.5
    text = (
        f"**Your photo has {pixels / 1e6:.1f} megapixels ({width} \u00d7 {height}).** The sliders act on the "
        f"part chosen here, so that they answer at once. *All of it* takes about {max(1, round(seconds))} s at every "
        "change. Shrinking hides noise: to judge a noisy photo, take its middle or all of it."
    )
    return gr.update(value=text, visible=True), gr.update(visible=True, value="shrunk")


@lru_cache(maxsize=8)
def _open_small(photo: str, area: str) -> Picture:
    # Uploads live under a folder named by their content's hash: the same path is the same picture.
    picture = read(photo, MAX_PIXELS)
    return picture.center_crop(LIVE_PIXELS) if area == "middle" else picture.downscale(LIVE_PIXELS)


def open_photo(photo: str | None, area: str) -> Picture:
    """Read an upload and take the part to work on."""
    if photo is None:
        raise gr.Error("Drop a photo first, or pick an example.", print_exception=False)
    picture = read(photo, MAX_PIXELS) if area == "all" else _open_small(photo, area)
    if picture.maximum == 1:
        raise gr.Error("This is a floating-point TIFF; the page works on 8 and 16 bits.", print_exception=False)
    return picture


def save(image: Image.Image, name: str) -> str:
    """Write a picture losslessly, in its own depth, for gradio to pass on; noise hardly compresses, so fast."""
    path = Path(tempfile.mkdtemp(dir=SCRATCH)) / name
    save_image(image, path, fast=True)
    return str(path)


def sweep() -> None:
    """Delete our files that gradio has copied by now."""
    for old in SCRATCH.iterdir():
        if time.time() - old.stat().st_mtime > SCRATCH_SECONDS:
            shutil.rmtree(old, ignore_errors=True)


def forget() -> None:
    """Delete every picture of a visitor.

    gradio does so itself when it stops, unless visitors are still connected: it waits 5 s for them and gives up.
    """
    for files in demo.temp_file_sets:
        for path in list(files):
            Path(path).unlink(missing_ok=True)


def sweep_forever() -> None:
    while True:
        time.sleep(SCRATCH_SECONDS)
        sweep()


def get_loaded(checkpoint: str | None) -> Loaded:
    """The checkpoint to compute with; choosing it has fetched it, so nobody waits for the Hub here."""
    try:
        return MODEL_POOL.get(name_in(checkpoint), fetch=False)
    except DenoiserError as error:
        raise gr.Error(str(error), print_exception=False) from error


def stop_after(seconds: float) -> Callable[[float], None]:
    """A progress callback that ends what takes longer than was estimated."""
    until = time.monotonic() + seconds

    def check(share: float) -> None:
        if share < 1 and time.monotonic() > until:
            raise gr.Error(
                f"Stopped after {seconds:.0f} s, as others wait. Take a part of the photo, or a faster checkpoint.",
                print_exception=False,
            )

    return check


def compute(photo, area, loaded: Loaded, noise, parameters, seed, sigma, strength) -> experiment.Experiment:
    """Run an experiment; everything that can be wrong with the input comes back as a sentence."""
    if not 0 <= seed < 2**64:  # JSON holds no more
        raise gr.Error("The seed must be a whole number from 0 to 18446744073709551615.", print_exception=False)
    try:
        with _computing:
            picture = open_photo(photo, area)
            seconds = loaded.seconds(*picture.pixels.shape[:2])
            if seconds > PATIENCE:
                raise gr.Error(
                    f"This would take {seconds:.0f} s with {loaded.facts.name}, and others wait. Take a part of the "
                    "photo, or a faster checkpoint.",
                    print_exception=False,
                )
            return experiment.run(
                loaded.denoiser, picture, noise, parameters, int(seed), sigma, strength, stop_after(PATIENCE)
            )
    except (DenoiserError, ValueError) as error:
        raise gr.Error(str(error), print_exception=False) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise gr.Error("This photo is too large for this machine's memory.", print_exception=False) from error


def tile(label: str, value: str, change: str = "") -> str:
    return f'<div class="tile"><span>{label}{change}</span><b>{value}</b></div>'


def number(value: float, digits: int) -> str:
    """A figure for reading: equal pictures have an infinite PSNR, flat or tiny ones have no SSIM or edges."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "\u221e" if value > 0 else "\u2013"


def as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def figures_html(result: experiment.Experiment, checkpoint: str, estimated: bool) -> str:
    """The row of figures under the pictures."""
    tiles = []
    for key, label, digits in (("psnr", "PSNR, dB", 2), ("ssim", "SSIM", 3)):
        if key in result.figures:
            before, after = result.figures[key]
            change = ""
            if np.isfinite(after - before):
                change = f'<em class="{"" if after >= before else "worse"}">{after - before:+.{digits}f}</em>'
            tiles.append(tile(label, f"{number(before, digits)} \u2192 {number(after, digits)}", change))
    told = f"{result.sigma_used:.1f}" if result.sigma_used is not None else f"{result.removed:.1f}"
    source = "taken out" if result.sigma_used is None else "estimated" if estimated else "told"
    if result.sigma_added is None:
        tiles.append(tile(f"Noise level \u03c3, {source}", told))
    else:
        tiles.append(tile(f"\u03c3 added \u00b7 {source}", f"{result.sigma_added:.1f} \u00b7 {told}"))
    height, width = result.noisy.pixels.shape[:2]
    megapixels = width * height / 1e6
    tiles.append(tile(f"Time for {megapixels:.2f} MP", f"{result.seconds:.2f} s"))
    if result.figures:
        edges = result.figures["edge_fidelity"]
        note = (
            "Noisy \u2192 denoised, each against the clean photo. Figures are of what files hold: the noisy picture "
            f"is clipped and rounded first. Edge fidelity {number(edges[0], 2)} \u2192 {number(edges[1], 2)}. "
        )
    else:
        note = "No noise was added: without a clean photo to compare with there is no PSNR. "
    size, checkpoint = f"{width} \u00d7 {height}", html.escape(checkpoint)
    return f'<div class="tiles">{"".join(tiles)}</div><p>{note}{size}, checkpoint {checkpoint}.</p>'


def message_html(text: str, failed: bool) -> str:
    kind, role = ("message failed", "alert") if failed else ("message", "status")
    text = re.sub(  # where to ask for access, or to look a name up
        r"https://huggingface\.co/[\w.-]+(?:/[\w.-]*\w)*",
        r'<a href="\g<0>" target="_blank" rel="noopener">\g<0></a>',
        html.escape(text),
    )
    return f'<div class="{kind}" role="{role}">{text}</div>'


def label_of(facts: Facts) -> str:
    """One line in the menu of checkpoints."""
    parts = [facts.name]
    if (value := dict(facts.psnr).get("cbsd68, sigma=25")) is not None:
        parts.append(f"{value:.1f} dB at \u03c3 25")
    elif facts.blind:
        parts.append("finds the level itself")
    elif facts.channels == 1:
        parts.append("grey")
    if facts.parameters:
        parts.append(f"{facts.parameters / 1e6:.1f} M")
    return " \u00b7 ".join(parts)


def menu(chosen: str) -> list[tuple[str, str]]:
    """The choices of the menu: everything known now, and what is in use."""
    entries = {facts.name: label_of(facts) for facts in CATALOGUE.entries()}
    entries.setdefault(chosen, chosen)
    return [(label, name) for name, label in entries.items()]


def psnr_text(facts: Facts) -> str:
    """The card's measurements on one line: the first data set's, with the level told."""
    groups: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for where, value in facts.psnr:
        dataset, _, condition = where.partition(", ")
        if not re.search("estimated|ensemble" + ("" if facts.channels == 1 else "|grey"), condition):
            groups[dataset].append((condition.removeprefix("sigma=").removesuffix(", grey"), value))
    for dataset, rows in sorted(groups.items(), key=lambda group: not re.match("cbsd68|bsd68|nam25", group[0])):
        values, levels = " / ".join(f"{value:.2f}" for _, value in rows), " / ".join(level for level, _ in rows)
        at = f"at \u03c3 {levels}" if re.fullmatch(r"[\d. /]+", levels) else f"({levels})"
        return f"{values} dB on {dataset} {at}"
    return "its card gives none"


def about_html(facts: Facts) -> str:
    """The facts of a checkpoint; they come from anyone's card, so they are escaped."""
    rows = [("Network", facts.architecture + (", grey" if facts.channels == 1 else ""))]
    if facts.parameters and facts.megabytes:
        rows.append(("Size", f"{facts.parameters / 1e6:.2f} M parameters, {facts.megabytes:.1f} MB"))
    if facts.sigma_range:
        low, high = facts.sigma_range
        blind = ", finds the level itself" if facts.blind else ""
        rows.append(("Trained for", f"\u03c3 {low:g} to {high:g}{blind}"))
    rows += [("PSNR", psnr_text(facts)), ("Licence", facts.license or "not stated")]
    if facts.changed:
        rows.append(("Last change", facts.changed))
    listed = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in rows)
    source = "bundled with this page"
    if facts.revision:
        repo_id, commit = facts.name.partition("@")[0], facts.revision
        address = html.escape(f"{HUB_PAGE}{repo_id}/tree/{commit}", quote=True)
        source = f'<a href="{address}" target="_blank" rel="noopener">{html.escape(repo_id)} at {commit[:8]}</a>'
    return f"<dl>{listed}<dt>From</dt><dd>{source}</dd></dl>"


def offers_html() -> str:
    """Everything on offer with its facts, before anything is fetched."""
    rows = []
    for facts in CATALOGUE.entries():
        size = f"{facts.parameters / 1e6:.2f} M" if facts.parameters else ""
        levels = "\u2013".join(f"{level:g}" for level in facts.sigma_range or ())
        quality = psnr_text(facts) if facts.psnr else ""
        cells = (facts.name, facts.architecture, size, levels, quality, facts.license, facts.changed)
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    heads = ("Checkpoint", "Network", "Parameters", "\u03c3", "PSNR", "Licence", "Last change")
    head = "".join(f"<th>{name}</th>" for name in heads)
    status = "Asking the Hub what there is \u2026" if CATALOGUE.listing else CATALOGUE.status
    return f"<div><table><tr>{head}</tr>{''.join(rows)}</table></div><p>{html.escape(status)}</p>"


def card_markdown(loaded: Loaded) -> str:
    """A checkpoint's card for the page; anyone may have written it."""
    base = ""
    if loaded.facts.revision:
        base = f"{HUB_PAGE}{loaded.facts.name.partition('@')[0]}/blob/{loaded.facts.revision}/"
    return safe_markdown(loaded.card, base) or "*This checkpoint has no card.*"


def pull_html(text: str, failed: bool = False) -> str:
    return message_html(text, failed) if text else ""


def show(loaded: Loaded, note: str = ""):
    """What the page shows of the checkpoint in use."""
    name = loaded.facts.name
    return {
        checkpoint: gr.update(choices=menu(name), value=name),
        about: about_html(loaded.facts),
        card: card_markdown(loaded),
        pull: pull_html(note or loaded.note),
        level: gr.update(visible=not loaded.facts.blind),
    }


async def finished(pulling: Pull, seconds: float = math.inf) -> bool:
    """Wait for a pull in no thread, of which slow pulls would take all; whether it is done."""
    until = time.monotonic() + seconds
    while not pulling.future.done() and time.monotonic() < until:
        await asyncio.sleep(0.03)
    return pulling.future.done()


_fetching: set[str] = set()  # visitors, by session, whose choice is under way
_wishes: dict[str, int] = {}  # the latest choice of each visitor, by session: an earlier one must not override it


def wish(session: str) -> int:
    """Note that a visitor chose something, and return which choice of theirs it is."""
    number = _wishes.pop(session, 0) + 1
    _wishes[session] = number
    while len(_wishes) > 10_000:
        _wishes.pop(next(iter(_wishes)))
    return number


def visitor_of(request: gr.Request) -> Visitor:
    return Visitor(request.session_hash or "", client_address(request))


async def choose(wanted: str | None, current: str | None, request: gr.Request):
    """Take another checkpoint, fetching it if need be; yields what the page shows meanwhile.

    What goes wrong stands in the page, and the checkpoint in use stays. Nothing is raised, see :func:`run`.
    """
    session = request.session_hash or ""
    mine, started = wish(session), time.monotonic()
    current, wanted = name_in(current), (wanted or "").strip()[:300]
    kept = {checkpoint: gr.update(choices=menu(current), value=current)}
    if not wanted:
        yield kept | {pull: pull_html("Write user/name, or user/name@revision.", failed=True)}
        return
    _fetching.add(session)
    try:
        loaded = MODEL_POOL.ready(wanted)
        pulling = None if loaded else MODEL_POOL.start(wanted, visitor_of(request))
        while not loaded:
            if await finished(pulling, 0.3):
                loaded = pulling.future.result()
                break
            if _wishes.get(session) != mine:  # they have chosen again; the pull goes on for whoever wants it
                yield gr.skip()  # a generator that yields nothing would blank its outputs
                return
            text = f"Asking the Hub for {wanted}, {time.monotonic() - started:.0f} s"
            if pulling.total:
                text = f"Pulling {wanted}: {pulling.done / 1e6:.1f} of {pulling.total / 1e6:.1f} MB"
            yield {pull: pull_html(text)}
        CATALOGUE.add(loaded.facts)
        # A change of the name, or of its commit, makes the page run.
        fresh = await to_thread.run_sync(show, loaded)  # a stranger's card may take long to render
        fresh |= {chosen: f"{loaded.facts.name}|{loaded.facts.revision or ''}"}
        yield fresh if _wishes.get(session) == mine else gr.skip()
        return
    except DenoiserError as error:
        text = f"{error} Still in use: {current}."
    except Exception:
        logging.exception("a pull failed")
        text = f"{wanted} could not be loaded, and the server's log says why. Still in use: {current}."
    finally:
        if _wishes.get(session) == mine:
            _fetching.discard(session)
    yield kept | {pull: pull_html(text, failed=True)} if _wishes.get(session) == mine else gr.skip()


def arrive():
    """What every visitor finds: the default checkpoint."""
    CATALOGUE.refresh()
    waiting = {listing: offers_html(), timer: gr.Timer(active=True)}
    try:
        return show(MODEL_POOL.get(_start["checkpoint"]), _start["note"]) | waiting
    except DenoiserError as error:
        return {pull: pull_html(str(error), failed=True)} | waiting


async def choose_by_address(request: gr.Request):
    """The checkpoint that the page's address asks for, as ``?checkpoint=user/name``."""
    yield gr.skip()  # a generator that yields nothing would blank its outputs
    wanted = request.query_params.get("checkpoint")
    if wanted and wanted != _start["checkpoint"]:
        async for update in choose(wanted, None, request):
            yield update


def came_noisy(noisy: bool, current: str | None, request: gr.Request):
    """What changes when a photo needs no noise added, or does again.

    From the default the page goes to the checkpoint for such photos, and back; whoever chose another one keeps it.
    """
    shown = {
        noise_controls: gr.update(visible=not noisy),
        sigma_mode: gr.update(
            choices=[pair for pair in SIGMAS.items() if not (noisy and pair[1] == "known")],
            value="estimate" if noisy else "known",
        ),
        hand: gr.update(visible=False),
        which: gr.update(visible=not noisy),
    }
    name, commit, mark = f"{current or name_in(None)}||".split("|")[:3]
    session = request.session_hash or ""
    before, there = _wishes.get(session), ""
    if noisy and name == _start["checkpoint"] == DEFAULT_CHECKPOINT and FOR_PHOTOS in bundled_checkpoints():
        there = FOR_PHOTOS
    elif not noisy and mark == "auto":
        there = DEFAULT_CHECKPOINT
    if there and session not in _fetching:
        note = f"{there} is made for noisy photographs: it finds the noise by itself. Any other can be chosen above."
        loaded = MODEL_POOL.get(there)
        if _wishes.get(session) == before:  # they have chosen nothing meanwhile
            shown |= show(loaded, note if noisy else "")
            name, commit, mark = there, "", "auto" if noisy else ""
    return shown | {chosen: f"{name}|{commit}|{mark}|{noisy}"}  # another state each time, so that the page runs


def look_again(current: str | None):
    """Once the Hub has answered, what it lists joins the menu."""
    CATALOGUE.refresh()
    return {
        checkpoint: gr.update(choices=menu(name_in(current))),
        listing: offers_html(),
        timer: gr.Timer(active=CATALOGUE.listing),
    }


def run(photo, *controls):
    """Everything the page shows, for the state of its controls; what goes wrong stands where the figures were.

    Nothing is raised: after an error gradio's "always_last" listeners do not fire again until the page is reloaded.
    """
    blank = {component: None for component in (compare, difference, noisy_out, denoised_out, clean_out)}
    blank[download] = gr.update(value=None, interactive=False)
    if photo is None:
        return blank | {figures: message_html("Drop a photo, or pick an example.", failed=False)}
    try:
        return results(photo, *controls)
    except gr.Error as error:
        return blank | {figures: message_html(error.message, failed=True)}
    except Exception:
        logging.exception("a run of the page failed")
        return blank | {figures: message_html(FAILED, failed=True)}


def results(photo, noisy_already, noise, seed, checkpoint, sigma_mode, sigma_hand, strength, area, which, *levels):
    """What the page shows when all goes well."""
    parameters = {parameter.name: value for (kind, parameter), value in zip(PARAMETERS, levels) if kind == noise}
    sigma = sigma_hand if sigma_mode == "hand" else sigma_mode
    kind = None if noisy_already else noise
    loaded = get_loaded(checkpoint)
    result = compute(photo, area, loaded, kind, parameters, abs(seed or 0), sigma, strength)
    stem = Path(photo).stem[:60] or "photo"
    shown = {
        name: save(picture.to_pil(), f"{stem}-{name}.png")
        for name, picture in (("noisy", result.noisy), ("denoised", result.denoised), ("clean", result.clean))
        if picture is not None
    }
    first = result.clean if which == "missing" and result.clean else result.noisy
    delta, gain = experiment.difference(first, result.denoised)
    title = "clean" if first is result.clean else "noisy"
    height, width = result.denoised.pixels.shape[:2]
    return {
        compare: (shown["noisy"], shown["denoised"]),
        figures: figures_html(result, loaded.facts.name, sigma_mode == "estimate"),
        difference: gr.update(
            value=save(as_image(delta), f"{stem}-difference.png"),
            label=f"{title.capitalize()} \u2212 denoised, \u00d7{gain}",
        ),
        noisy_out: shown["noisy"],
        denoised_out: shown["denoised"],
        clean_out: gr.update(value=shown.get("clean"), visible=result.clean is not None),
        download: gr.update(
            value=shown["denoised"],
            label=f"Download the denoised picture (PNG, {width} \u00d7 {height})",
            interactive=True,
        ),
    }


async def denoise_api(
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
        checkpoint: Which network: bundled, or user/name or user/name@revision on the Hub. The page's default if empty.
        sigma: Noise level to tell the network, 0..255. Left out: the level added, or for "none" an estimate.
            -1: estimate.
        strength: 0..1, blends between the noisy picture and the estimate.

    Returns:
        The noisy picture, the denoised picture, the amplified difference (all PNG), and the figures.
    """
    try:
        loaded = await to_thread.run_sync(MODEL_POOL.here, name_in(checkpoint))
        if not loaded:  # whoever waits for the Hub waits in no thread, while others compute
            pulling = MODEL_POOL.start(name_in(checkpoint), visitor_of(request))
            await finished(pulling)
            loaded = pulling.future.result()
    except DenoiserError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return await asyncio.to_thread(compute_api, image, noise, level, level2, seed, loaded, sigma, strength)


def compute_api(image, noise, level, level2, seed, loaded: Loaded, sigma, strength):
    """What the public endpoint returns."""
    parameters = {}
    if noise != "none":
        given = zip(NOISES[noise].parameters, (level, level2))
        parameters = {parameter.name: value for parameter, value in given if value is not None}
    told = "known" if sigma is None else "estimate" if sigma == -1 else sigma
    kind = None if noise == "none" else noise
    strength = 1.0 if strength is None else strength
    result = compute(image, "all", loaded, kind, parameters, seed or 0, told, strength)
    delta, gain = experiment.difference(result.noisy, result.denoised)
    # JSON has no infinity and no not-a-number.
    numbers = {
        name: {key: value if np.isfinite(value) else None for key, value in zip(("noisy", "denoised"), pair)}
        for name, pair in result.figures.items()
    } | {
        "sigma_added": result.sigma_added,
        "sigma_used": result.sigma_used,
        "difference_gain": gain,
        "seconds": result.seconds,
        "checkpoint": loaded.facts.name,
        "revision": loaded.denoiser.revision,
        "seed": int(seed or 0),
    }
    return (
        save(result.noisy.to_pil(), "noisy.png"),
        save(result.denoised.to_pil(), "denoised.png"),
        save(as_image(delta), "difference.png"),
        numbers,
    )


def shown_picture(label: str, elem_id: str) -> gr.Image:
    return gr.Image(
        format="png", label=label, interactive=False, buttons=["fullscreen", "download"], elem_id=elem_id, min_width=280
    )


PARAMETERS = [(noise.name, parameter) for noise in NOISES.values() for parameter in noise.parameters]

with Page(title="Denoising autoencoder", analytics_enabled=False, delete_cache=(600, 3600)) as demo:
    gr.Markdown(
        "# Denoising autoencoder\nAdd noise to a photo, or drop one that is noisy already, and see what a small neural "
        "network makes of it.",
        elem_id="title",
    )
    with gr.Row():
        with gr.Column(scale=4, min_width=320):
            photo = photo_input(
                value=str(EXAMPLES[0]),
                format="png",
                sources=["upload", "clipboard", "webcam"],
                label="Photo",
                height=280,
                elem_id="photo",
            )
            notice = gr.Markdown(visible=False, elem_id="notice")
            area = gr.Radio(list(AREAS.items()), value="shrunk", label="Work on", visible=False, elem_id="area")
            # gr.Examples would update the photo's component, and thereby make a new one without photo_input's change.
            examples = gr.Dataset(
                components=["image"],
                samples=[[str(path)] for path in EXAMPLES],
                type="index",
                label="Examples (CC0 and CC BY-SA 4.0)",
                elem_id="examples",
            )
            noisy_already = gr.Checkbox(False, label="My photo is already noisy", elem_id="noisy-already")
            with gr.Group() as noise_controls:
                noise = gr.Dropdown(
                    [(kind.label, kind.name) for kind in NOISES.values()],
                    value="gaussian",
                    label="Noise",
                    info=NOISES["gaussian"].summary,
                    filterable=False,
                    elem_id="noise",
                )
                sliders, noise_groups = [], []
                for kind in NOISES.values():
                    with gr.Column(visible=kind.name == "gaussian", elem_classes="levels") as group:
                        for parameter in kind.parameters:
                            sliders.append(
                                bounded_slider(
                                    parameter.low,
                                    parameter.high,
                                    parameter.default,
                                    step=parameter.step,
                                    label=f"{parameter.label} ({parameter.unit})",
                                    elem_id=f"{kind.name}-{parameter.name}",
                                )
                            )
                    noise_groups.append(group)
                # No bounds here: gradio would raise before our code can answer (see run).
                seed = gr.Number(0, label="Seed of the noise", precision=0, elem_id="seed")
                reroll = gr.Button("\u21bb New noise", size="sm", elem_id="reroll")
            with gr.Group():
                chosen = gr.State(None)
                checkpoint = gr.Dropdown(
                    menu(DEFAULT_CHECKPOINT),
                    value=DEFAULT_CHECKPOINT,
                    label="Checkpoint",
                    filterable=False,
                    elem_id="checkpoint",
                )
                about = gr.HTML(elem_id="about", padding=False)
                pull = gr.HTML(elem_id="pull", padding=False)
                with gr.Accordion("Another checkpoint from the Hub", open=False, elem_id="hub"):
                    typed = gr.Textbox(
                        label="Any repository that holds one",
                        placeholder="user/name or user/name@revision",
                        max_lines=1,
                        max_length=300,
                        elem_id="typed",
                    )
                    fetch = gr.Button("Pull and use", size="sm", elem_id="fetch")
                timer = gr.Timer(1.5, active=False)
                with gr.Column(elem_classes="levels") as level:  # hidden where a network is not told it
                    sigma_mode = gr.Radio(
                        list(SIGMAS.items()),
                        value="known",
                        label="Noise level told to the network",
                        info="Known: the true deviation of the noise added. Estimated: from the noisy picture alone.",
                        elem_id="sigma-mode",
                    )
                    with gr.Column(visible=False, elem_classes="levels") as hand:
                        sigma_hand = bounded_slider(
                            0, 100, 25, step=1, label="Level by hand (8-bit levels)", elem_id="sigma-hand"
                        )
                strength = bounded_slider(
                    0, 1, 1, step=0.05, label="Strength", info="Below 1 some grain is kept.", elem_id="strength"
                )
        with gr.Column(scale=8, min_width=320, elem_id="results"):
            compare = gr.ImageSlider(
                format="png",
                image_mode=None,
                type="filepath",
                label="Noisy | denoised: drag the line",
                interactive=False,
                max_height=620,
                buttons=["fullscreen"],
                elem_id="compare",
            )
            figures = gr.HTML(label="Figures", elem_id="figures", min_height=96, padding=False)
            which = gr.Radio(
                list(DIFFERENCES.items()),
                value="removed",
                label="Difference",
                info="Mid-grey is no difference; \u00d7 is the amplification.",
                elem_id="which",
            )
            download = gr.DownloadButton(
                "Download the denoised picture (lossless)", interactive=False, elem_id="download", variant="primary"
            )
            with gr.Accordion("All checkpoints on offer", open=False, elem_id="offers"):
                listing = gr.HTML(elem_id="listing", padding=False)
            with gr.Accordion("The checkpoint's model card", open=False, elem_id="card-box"):
                card = gr.Markdown(elem_id="card", latex_delimiters=[])
    with gr.Row():
        noisy_out = shown_picture("Noisy", "noisy-out")
        denoised_out = shown_picture("Denoised", "denoised-out")
    with gr.Row():
        difference = shown_picture("Difference", "difference")
        clean_out = shown_picture("Clean", "clean-out")

    controls = [photo, noisy_already, noise, seed, chosen, sigma_mode, sigma_hand, strength, area, which, *sliders]
    outputs = [compare, figures, difference, noisy_out, denoised_out, clean_out, download]
    # Everything that computes shares one queue of one, so that two cores serve visitors in turn instead of thrashing.
    # "always_last": while one run is under way the newest change waits, those between are dropped.
    live = {
        "fn": run,
        "inputs": controls,
        "outputs": outputs,
        "trigger_mode": "always_last",
        "show_progress": "minimal",
        "show_progress_on": figures,
        "concurrency_id": "compute",
        "concurrency_limit": 1,
        "api_visibility": "private",
    }
    private = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}

    gr.on([demo.load, *(slider.release for slider in (*sliders, sigma_hand, strength)), seed.submit, seed.blur], **live)
    gr.on([control.input for control in (which, area)], **live)
    chosen.change(**live)
    # Fetching has a queue of its own, so that it keeps nobody from computing.
    taking = {
        "outputs": [chosen, checkpoint, about, card, pull, level],
        "concurrency_id": "pull",
        "concurrency_limit": None,  # they wait in no thread and never stand in the queue before those who compute
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    checkpoint.input(choose, [checkpoint, chosen], trigger_mode="multiple", **taking)
    gr.on([fetch.click, typed.submit], choose, [typed, chosen], trigger_mode="multiple", **taking)
    demo.load(arrive, None, [checkpoint, about, card, pull, level, listing, timer], **private)
    demo.load(choose_by_address, None, **taking)
    timer.tick(look_again, chosen, [checkpoint, listing, timer], **private)
    examples.click(lambda index: str(EXAMPLES[index]), examples, photo, **private)
    photo.change(describe, [photo, chosen], [notice, area], **private).success(**live)
    noise.input(
        lambda kind: [
            gr.update(info=NOISES[kind].summary),
            *(gr.update(visible=kind == owner) for owner in NOISES),
        ],
        noise,
        [noise, *noise_groups],
        **private,
    ).success(**live)
    noisy_already.input(
        came_noisy,
        [noisy_already, chosen],
        [noise_controls, sigma_mode, hand, which, chosen, checkpoint, about, card, pull, level],
        trigger_mode="always_last",
        **private | {"queue": True, "concurrency_limit": 24},  # outside the queue a changed state is not noticed
    )
    sigma_mode.input(lambda mode: gr.update(visible=mode == "hand"), sigma_mode, hand, **private).success(**live)
    reroll.click(lambda: random.randrange(2**31), None, seed, **private).success(**live)

    with gr.Column(visible=False):  # the public endpoint has inputs of its own: the page's controls are many
        gr.Button().click(
            denoise_api,
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
            api_description=denoise_api.__doc__,
            concurrency_id="api",
            concurrency_limit=48,  # computing is one at a time all the same; those that fetch wait beside it
        )


def stop(*_) -> None:
    """Delete what visitors left and end at once: threads that compute would keep the interpreter from ending well."""
    forget()
    shutil.rmtree(TEMPORARY, ignore_errors=True)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description="The denoising demo.")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if PROXY_NOTE:
        print(PROXY_NOTE)
    load_default()  # before the first visitor, not in front of one
    CATALOGUE.refresh()
    threading.Thread(target=sweep_forever, daemon=True).start()
    try:
        # Without api_open=False a direct POST would skip the queue.
        demo.queue(max_size=64, api_open=False).launch(
            enable_monitoring=False,  # on by default, for everyone to read
            server_port=options.port,
            theme=THEME,
            css=CSS,
            head=HEAD,
            max_file_size="60mb",
            run_history=False,  # it would keep every slider move in the visitor's browser
            footer_links=["api", "settings"],
            ssr_mode=False,
            show_error=False,
            max_threads=128,  # also how many calls may be under way: most wait for the Hub, which takes no thread
            app_kwargs={"middleware": [Middleware(Guard)]},
        )
    except OSError as error:
        if "empty port" in str(error):  # all that gradio says of it
            error = f"port {options.port or 'from 7860 on'} is in use; name another with --port"
        raise SystemExit(f"error: the page cannot start: {error}") from None


if __name__ == "__main__":
    main()
