"""The page that computes in the visitor's browser (web/ in the repository), served beside this one."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

PATH = "on-device"
# They isolate the page from others in the same process: without that, browsers give WebAssembly one thread.
HEADERS = [(b"cross-origin-opener-policy", b"same-origin"), (b"cross-origin-embedder-policy", b"require-corp")]


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
    return [Mount(f"/{PATH}", IsolatedFiles(directory=site, html=True))] if site else []
