"""The endpoint as a tool, as MCP clients call it."""

import base64
import io
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mcp", reason="the MCP server needs the extra: pip install -e '.[mcp]'")

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from tests.conftest import PATIENT, run_async

ROUTE = "/gradio_api/mcp"


def ask(demo, call):
    """What a call of an MCP session answers."""

    async def talk():
        async with (
            streamablehttp_client(f"{demo.url}{ROUTE}/", **PATIENT) as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            return await call(session)

    return run_async(talk())


def denoise(demo, **arguments):
    return ask(demo, lambda session: session.call_tool("denoise", arguments))


def png(array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def picture(photo):
    return "data:image/png;base64," + base64.b64encode(png(photo[:128, :128])).decode()


def test_the_tool_describes_every_parameter(demo):
    (tool,) = ask(demo, lambda session: session.list_tools()).tools
    assert tool.name == "denoise" and "camera: sigma 0..50" in tool.description
    assert tool.inputSchema["required"] == ["image"]
    parameters = tool.inputSchema["properties"]
    assert len(parameters) == 8 and all(parameter["description"].strip() for parameter in parameters.values())


def test_the_picture_alone_is_enough_and_every_parameter_can_be_given(demo, photo, picture):
    contents = denoise(demo, image=picture).content
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(c.data)))) for c in contents if c.type == "image"]
    assert [one.shape for one in pictures] == [(128, 128, 3)] * 3
    clean = photo[:128, :128].astype(float)
    noisy, denoised = (np.abs(one - clean).mean() for one in pictures[:2])
    assert denoised < noisy / 1.5
    given = {"noise": "camera", "parameters": {"sigma": 20, "quality": 60}, "seed": 3, "checkpoint": "photo"}
    answer = denoise(demo, image=picture, **given)
    assert not answer.isError and json.loads(answer.content[-1].text)["checkpoint"] == "photo"


def test_an_upload_is_named_by_its_address_and_nothing_else_is_fetched(demo, photo):
    files = {"files": ("photo.png", png(photo))}
    path = httpx.post(f"{demo.url}/gradio_api/upload", files=files, **PATIENT).json()[0]
    assert not denoise(demo, image=f"{demo.url}/gradio_api/file={path}").isError
    percent = Path(path).with_name("20%25.png")
    Path(path).rename(percent)
    assert not denoise(demo, image=f"{demo.url}/gradio_api/file={percent}").isError  # as it is
    percent.rename(path)
    for address in (f"{demo.url}/gradio_api/file=/etc/passwd", "http://127.0.0.1:9/x.png", f"{demo.url}/config"):
        answer = denoise(demo, image=address)
        assert answer.isError and "upload it first" in answer.content[0].text
    for name in ("/etc/passwd", path):
        assert denoise(demo, image=name).isError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {"sigma": 1000}}, "sigma must be from 0 to 100"),
        ({"sigma": 900}, "900 is greater than the maximum of 255"),
        ({"noise": "snow"}, "'snow' is not one of"),
        ({"checkpoint": "/etc/passwd"}, "repository"),
    ],
)
def test_what_is_out_of_range_gets_a_sentence(demo, picture, change, message):
    written = len(demo.log.read_text())
    answer = denoise(demo, image=picture, **change)
    assert answer.isError and message in answer.content[0].text
    assert "Traceback" not in demo.log.read_text()[written:]


def test_large_pictures_are_answered_by_their_address(demo):
    large = np.tile(np.arange(256, dtype=np.uint8), (1100, 4))
    path = httpx.post(f"{demo.url}/gradio_api/upload", files={"files": ("large.png", png(large))}, **PATIENT).json()[0]
    contents = denoise(demo, image=f"{demo.url}/gradio_api/file={path}", checkpoint="color-small").content
    assert [content.type for content in contents] == ["text"] * 4
    assert Image.open(io.BytesIO(httpx.get(contents[1].text, **PATIENT).content)).size == (1024, 1100)


def test_what_is_sent_within_a_call_is_deleted_as_uploads_are(demo, photo):
    before = set(Path(demo.temporary).rglob("*"))
    other = "data:image/png;base64," + base64.b64encode(png(photo[100:200, 7:90])).decode()
    assert not denoise(demo, image=other).isError
    assert set(Path(demo.temporary).rglob("*")) - before  # the session's fixture looks whether any is left at the end


def test_the_route_refuses_what_is_too_large_too_much_or_of_the_old_transport(demo):
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    answer = httpx.post(f"{demo.url}{ROUTE}/", content=json.dumps({"x": "x" * 2_000_000}), headers=headers, **PATIENT)
    assert answer.status_code == 413 and answer.json()["detail"]
    for name in ("sse", "messages/?session_id=x"):
        answer = (
            httpx.post(f"{demo.url}{ROUTE}/{name}", json={}, **PATIENT)
            if "m" in name
            else httpx.get(f"{demo.url}{ROUTE}/{name}", **PATIENT)
        )
        assert answer.status_code == 404 and "streamable HTTP" in answer.json()["detail"]
