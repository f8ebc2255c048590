"""The tab that computes in the visitor's browser: in a frame, the page of web/ in the repository, served with this."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from .control_values import PARAMETERS
from .denoise_layout import DenoiseLayout
from .figures import render

PATH = "on-device"
# They isolate the page from others in the same process: without that, browsers give WebAssembly one thread. The last
# does so in a frame, too, where a browser knows it.
HEADERS = [
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"document-isolation-policy", b"isolate-and-require-corp"),
]


class OnDeviceTab:
    """The tab: the photo and the settings of the page, computed without the server.

    Args:
        layout: Of the denoise tab.
        tab: Open.
    """

    def __init__(self, layout: DenoiseLayout, tab: gr.Tab):
        frame = gr.HTML(
            html_template=render("on_device.html", path=PATH),
            js_on_load=Path(__file__).with_name("on_device.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id="on-device",
            padding=False,
        )
        sigma = next(slider for (name, _), slider in zip(PARAMETERS, layout.parameter_sliders) if name == "gaussian")
        levels = [layout.noisy_already, layout.noise, sigma, layout.sigma_mode, layout.sigma]
        tab.select(
            None,
            [layout.photo, *levels, layout.checkpoint, layout.viewer],
            frame,
            js="(...values) => JSON.stringify(values)",
            api_visibility="private",
        )


class IsolatedFiles(StaticFiles):
    """Files of a folder, with the headers that let a page use threads."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_isolated(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await super().__call__(scope, receive, send_isolated)


def on_device_routes(site: Path | None) -> list[BaseRoute]:
    """What serves the page in the folder ``site``; nothing without one."""
    return [Mount(f"/{PATH}", IsolatedFiles(directory=site, html=True, follow_symlink=True))] if site else []
