"""The endpoint as a tool for MCP clients, by gradio's server of them, with bounds on what its calls may take.

The extra ``[mcp]`` brings what it needs; without it there is no such server.
"""

import importlib.util
import json
import logging
from typing import Any

import gradio as gr
from PIL import Image
from starlette.responses import JSONResponse

MCP_ROUTE = "/gradio_api/mcp"
MAX_CALLS = 16
"""Calls under way: each waits in one of the threads that also read the page's files."""
MAX_INLINE_PIXELS = 1_000_000
"""Larger pictures are answered by their address alone: to write them into the answer would keep everyone waiting."""


def has_mcp() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("mcp") is not None


class McpLimits:
    """ASGI middleware: bounds calls of the MCP server.

    gradio's server sends a call on to the page's own queue, whose limits hold, together with the headers of the client;
    among them only the address that this server sees is kept.

    Args:
        app: The application behind it.
        max_bytes: Size of a call.
    """

    def __init__(self, app: Any, max_bytes: int):
        self.app, self.max_bytes, self._calls = app, max_bytes, 0

    async def __call__(self, scope: Any, receive: Any, send: Any):
        if scope["type"] != "http" or MCP_ROUTE not in scope["path"]:
            return await self.app(scope, receive, send)
        if scope["path"].partition(MCP_ROUTE)[2].startswith(("/sse", "/messages")):
            answer = JSONResponse({"detail": f"Use the streamable HTTP transport at {MCP_ROUTE}/."}, 404)
            return await answer(scope, receive, send)
        if scope["method"] != "POST":
            return await self.app(scope, receive, send)
        lengths = [value for name, value in scope["headers"] if name.lower() == b"content-length"]
        if not all(value.isdigit() and int(value) <= self.max_bytes for value in lengths):
            text = f"A call has at most {self.max_bytes / 1e6:g} MB: upload the picture, and send its address."
            return await JSONResponse({"detail": text}, 413)(scope, receive, send)
        if self._calls >= MAX_CALLS:
            answer = JSONResponse({"detail": "Too many calls are waiting already. Try again in a minute."}, 503)
            return await answer(scope, receive, send)
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"x-forwarded-for"]
        if scope.get("client"):
            headers.append((b"x-forwarded-for", scope["client"][0].encode()))
        self._calls += 1
        try:
            await self.app(scope | {"headers": headers}, receive, send)
        finally:
            self._calls -= 1


def bound_server(page: gr.Blocks) -> None:
    """Bound what the MCP server of a page, if there is one, keeps on the disk and writes into answers; mend these."""
    server = page.mcp_server_obj
    if server is None:
        return
    convert, get_image, answer = (
        server.convert_strings_to_filedata,
        server.get_image,
        server.postprocess_output_data,
    )

    def convert_strings_to_filedata(value: Any, filedata_positions: list) -> Any:
        converted = convert(value, filedata_positions)
        for position in filedata_positions:
            sent = value.get(position[0]) if isinstance(value, dict) and position else None
            if isinstance(sent, str) and sent.startswith("data:"):  # it is a file now, deleted as uploads are
                page.upload_file_set.add(converted[position[0]]["path"])
        return converted

    def get_small_image(file_path: str) -> Image.Image | None:
        image = get_image(file_path)
        return image if image and image.width * image.height <= MAX_INLINE_PIXELS else None

    def postprocess_output_data(data: Any, root_url: str) -> list:
        # gradio 6.31 makes one text of several outputs, unless the client has asked for progress.
        nested = len(data) == 1 and isinstance(data[0], list | tuple)
        outputs = list(data[0]) if nested else data
        # Figures are for programs: as JSON, not as Python writes them.
        outputs = [json.dumps(one) if isinstance(one, dict) and "path" not in one else one for one in outputs]
        return answer(outputs, root_url)

    server.convert_strings_to_filedata, server.get_image = convert_strings_to_filedata, get_small_image
    server.postprocess_output_data = postprocess_output_data
    logging.getLogger("mcp").setLevel(logging.WARNING)  # it notes every request
