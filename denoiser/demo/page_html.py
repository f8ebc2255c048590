"""The page's HTML on its way to the browser: compressed, and with a script before those of gradio."""

from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware

from .figures import render

SCRIPT = render("first.html").encode()
"""What gradio takes as ``head`` runs after its own scripts."""


class PageHtml:
    """ASGI middleware for the page itself; gradio compresses the files that belong to it, and not the page.

    Args:
        app: The application behind it, which answers with the page in one piece.
    """

    def __init__(self, app: Any):
        self.app, self._compressed = app, GZipMiddleware(self._with_script, compresslevel=5)

    async def __call__(self, scope: Any, receive: Any, send: Any):
        is_page = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
        await (self._compressed if is_page else self.app)(scope, receive, send)

    async def _with_script(self, scope: Any, receive: Any, send: Any):
        start: dict = {}

        async def send_with_script(message: Any):
            if message["type"] == "http.response.start":
                start.update(message)
                return
            if start:
                before, tag, after = message.get("body", b"").partition(b"<meta")  # the first in the head
                message = message | {"body": before + (SCRIPT if tag else b"") + tag + after}
                MutableHeaders(raw=start["headers"])["content-length"] = str(len(message["body"]))
                await send(start.copy())
                start.clear()
            await send(message)

        await self.app(scope, receive, send_with_script)
