"""Checks of what strangers send, before gradio or a function of ours touches it: anyone may send any JSON anywhere."""

import asyncio
import itertools
import json
import logging
import re
import sys
import urllib.parse
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.server_messages import EstimationMessage, EventMessage, ProcessStartsMessage
from gradio.utils import get_upload_folder
from starlette.responses import JSONResponse

from .admission import Admission
from .pulls import Visitor
from .result_files import DISK_FULL, is_disk_full

FAILED = "Something went wrong on the server, and its log says what. Try other settings or another photo."

FILE_ROUTE = "/gradio_api/file="
WRONG_NAME = re.compile(r"Parameter `[^`]+` is not a valid key-word argument|No value provided for [a-z ]+: \w+")
"""What gradio raises of a parameter that an endpoint does not have, and of one that it needs."""
MAX_NAMES, MAX_NAME_CHARACTERS = 16, 40
"""Of a dictionary of numbers, which is sent for a gr.JSON."""


def is_upload(payload: object) -> bool:
    """Whether a file object names a file in gradio's upload folder, where uploads and the page's own pictures are.

    gradio checks that itself only for objects with its ``meta``. Links are followed before the comparison.
    """
    try:
        path = Path(_local_path(payload)).resolve(strict=True)
    except (TypeError, KeyError, ValueError, OSError, RuntimeError, AttributeError):
        return False
    return path.is_file() and path.is_relative_to(Path(get_upload_folder()).resolve())


def _local_path(payload: Any) -> str:
    """The path of a file object; MCP clients send the address of an upload here instead."""
    path = payload["path"]
    is_address = path.startswith(("http://", "https://")) and FILE_ROUTE in path
    if not is_address:
        return path
    written = path.partition(FILE_ROUTE)[2]
    return written if Path(written).is_file() else urllib.parse.unquote(written)  # as a program, or a browser, has it


def _is_finite(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _is_numbers_by_name(value: object) -> bool:
    """Whether a value is a small dictionary of numbers, as the parameters of a noise are."""
    if not isinstance(value, dict) or len(value) > MAX_NAMES:
        return False
    return all(len(name) <= MAX_NAME_CHARACTERS and _is_finite(number) for name, number in value.items())


def check_input(component: Component, value: object) -> object:
    """What a client sent for a component, if it can be used.

    Raises:
        gr.Error: It cannot. What it says of a file is the same whether there is such a file or not.
    """
    if isinstance(component, gr.State):
        return value  # ignored: gradio takes its own
    if isinstance(component, gr.Image):
        if value is None or is_upload(value):
            return value and {"path": _local_path(value), "meta": {"_type": "gradio.FileData"}}
        text = "This picture is not one of the uploads here, which are deleted after a while: upload it again."
        raise gr.Error(text, print_exception=False)
    if isinstance(component, gr.Number | gr.Slider):
        fits = value is None or _is_finite(value)
        whole = not isinstance(value, float) or value.is_integer()
        if fits and not whole and isinstance(component, gr.Number) and component.precision == 0:
            raise gr.Error(f"{component.label}: {value} is not a whole number.", print_exception=False)
    elif isinstance(component, gr.Checkbox):
        fits = isinstance(value, bool)
    elif isinstance(component, gr.JSON):
        fits = value is None or _is_numbers_by_name(value)
    elif isinstance(component, gr.Dataset):
        fits = type(value) is int and 0 <= value < len(component.samples)
    else:
        fits = isinstance(value, str) or (value is None and isinstance(component, gr.Textbox))
    if not fits:
        name = getattr(component, "label", None) or type(component).__name__
        raise gr.Error(f"{name}: {json.dumps(value)[:80]} cannot be used here.", print_exception=False)
    return value


def client_address(request: Any) -> str:
    """The network address that a request comes from; "" if that is not known."""
    return request.client.host if request.client else ""


def visitor_of(request: gr.Request) -> Visitor:
    """Who sends a request."""
    return Visitor(request.session_hash or "", client_address(request))


class Call:
    """A call under way: whether anybody waits for its answer, and how to tell them their place in the queue.

    Args:
        queue: gradio's queue; None for a call that did not come through it.
        event: gradio's event of the call.
        number: Counts the calls: a later one has a higher number.
    """

    def __init__(self, queue: Any = None, event: Any = None, number: int = 0):
        self._queue, self._event, self.number = queue, event, number
        self._loop = asyncio.get_running_loop() if event else None
        self.cancelled = False

    def is_cancelled(self) -> bool:
        """Whether the visitor has closed the page, lost the connection or cancelled."""
        return self.cancelled or (self._event is not None and not self._event.alive)

    def report_position(self, place: int, length: int) -> None:
        """Tell a place in the queue, from 1, as gradio tells its own; 0 when the call's turn has come."""
        if self._loop is not None:
            message = EstimationMessage(rank=place - 1, queue_size=length) if place else ProcessStartsMessage()
            self._loop.call_soon_threadsafe(self._send, message)

    def _send(self, message: EventMessage) -> None:
        if self._event.session_hash in self._queue.pending_messages_per_session:
            self._queue.send_message(self._event, message)


_current_call: ContextVar[Call] = ContextVar("current_call")


def current_call() -> Call:
    """The call that a handler answers."""
    return _current_call.get(None) or Call()


class RequestLimits:
    """ASGI middleware: bounds what a request may send, and answers what breaks gradio's routes with a sentence.

    Args:
        app: The application behind it.
        max_bytes: Size of a request; uploads have a limit of their own.
    """

    def __init__(self, app: Any, max_bytes: int):
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        upload = scope["path"].rstrip("/").endswith("/upload")
        received, started = 0, False

        async def bounded():
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes and not upload:
                raise ValueError("the request is too large")
            return message

        async def sending(message: Any):
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, bounded, sending)
        except Exception as error:
            logging.warning("%s %s failed: %s", scope["method"], scope["path"][:80], type(error).__name__)
            if not started:
                full, of_name = is_disk_full(error), WRONG_NAME.match(str(error))
                sentence = f"{of_name[0][:200]}." if of_name else "This request cannot be answered."
                text, status = (DISK_FULL, 507) if full else (sentence, 400)
                answer = JSONResponse({"detail": text}, status)
                await answer(scope, receive, send)


class GuardedBlocks(gr.Blocks):
    """gr.Blocks that takes nothing on trust and answers every mistake with a sentence.

    Args:
        max_calls: Calls of one kind that may be waiting or under way.
        max_session_calls: The same for a session.
        max_address_calls: The same for a network address.
        options: As for gr.Blocks.
    """

    def __init__(self, max_calls: int, max_session_calls: int, max_address_calls: int, **options: Any):
        super().__init__(**options)
        self.max_calls, self.max_session_calls, self.max_address_calls = max_calls, max_session_calls, max_address_calls
        self._numbers = itertools.count(1)

    def queue(self, *args: Any, **kwargs: Any):
        """As gradio's, with bounds on what one visitor and all together may have waiting or under way.

        Who is refused gets status 503 and a sentence; the page shows it and asks again (page.js).
        """
        super().queue(*args, **kwargs)
        # After every call gradio takes statistics of up to 10,000 former ones, for its monitoring, which is off here.
        self._queue.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize
        push = self._queue.push
        admissions: dict[str, Admission] = {}

        async def bounded_push(body: Any, request: Any, username: Any):
            fn = self.fns.get(body.fn_index)
            if fn is None:
                return False, "There is no such function.", "error"
            waiting = self._queue.event_queue_per_concurrency_id.get(fn.concurrency_id)
            events = list(waiting.queue) if waiting else []
            events += [event for job in self._queue.active_jobs for event in job or ()]
            events = [event for event in events if event.concurrency_id == fn.concurrency_id]
            of_session = sum(event.session_hash == body.session_hash for event in events)
            of_address = sum(client_address(event.request) == client_address(request) for event in events)
            if of_session >= self.max_session_calls or of_address >= self.max_address_calls:
                return False, "Too many of your calls are waiting already. Try again in a minute.", "queue_full"
            admission = admissions.setdefault(fn.concurrency_id, Admission(self.max_calls, self.max_address_calls))
            if place := admission.ask(body.session_hash or "", client_address(request), len(events)):
                return False, f"You are number {place} in the queue: the page tries again by itself.", "queue_full"
            return await push(body, request, username)

        self._queue.push = bounded_push
        return self

    async def process_api(self, block_fn: Any, inputs: Any, *args: Any, **kwargs: Any):
        """Check what was sent: every route leads through here."""
        event = self._queue.event_ids_to_events.get(kwargs.get("event_id") or "")
        call = Call(self._queue, event, next(self._numbers))
        _current_call.set(call)
        try:
            if len(inputs) < len(block_fn.inputs):
                raise gr.Error(f"{len(block_fn.inputs)} values are needed, {len(inputs)} were sent.")
            inputs = [check_input(component, value) for component, value in zip(block_fn.inputs, inputs)]
            if block_fn.fn is None:
                raise gr.Error("This runs in the browser alone.")
            return await super().process_api(block_fn, inputs, *args, **kwargs)
        except asyncio.CancelledError:
            call.cancelled = True  # its thread goes on until it looks
            raise
        except gr.Error as error:
            error.print_exception = False  # it is the visitor's to read
            raise
        except Exception as error:
            if is_disk_full(error):
                raise gr.Error(DISK_FULL, print_exception=False) from error
            logging.exception("a call failed")
            raise gr.Error(FAILED, print_exception=False) from error

    def delete_session_files(self) -> None:
        """Delete every picture of a visitor.

        gradio does so itself when it stops, unless visitors are still connected: it waits 5 s for them and gives up.
        """
        for path in {path for files in self.temp_file_sets for path in list(files)}:
            Path(path).unlink(missing_ok=True)

    def session_files(self) -> set[str]:
        """Paths of visitors' uploads and results in gradio's cache, without the page's own pictures."""
        own = {path for block in self.blocks.values() for path in getattr(block, "keep_in_cache", ())}
        return {path for files in list(self.temp_file_sets) for path in list(files)} - own
