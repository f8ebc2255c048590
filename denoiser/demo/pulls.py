"""Pulls of checkpoints under way: shared by all who ask for the same one, bounded for each visitor and for all."""

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import HubUnreachable

WORKERS = 12
"""Pulls at a time."""
MAX_WAITING = 40
"""Pulls that may wait for a worker."""
MAX_OF_SESSION, MAX_OF_ADDRESS = 3, WORKERS // 2
"""Pulls that one visitor may have under way, by session and by network address, so that others find a worker free."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Visitor:
    """Who asks for a checkpoint; "" where that is not known."""

    session: str = ""
    address: str = ""


@dataclass
class Pull(Generic[Result]):
    """A checkpoint on its way; whoever asks for it meanwhile shares it.

    Attributes:
        future: Its result is the loaded checkpoint, or the error that kept it from loading.
        visitor: Who started it.
        done: Bytes of the weights so far.
        total: Bytes of the weights; 0 until that is known.
    """

    future: Future[Result]
    visitor: Visitor = Visitor()
    done: int = 0
    total: int = 0

    def progress(self, done: int, total: int) -> None:
        """Take note of how far it is."""
        self.done, self.total = done, total


async def wait_for(pull: Pull, seconds: float = math.inf) -> bool:
    """Wait for a pull in no thread, of which slow pulls would take all -> whether it is done."""
    until = time.monotonic() + seconds
    while not pull.future.done() and time.monotonic() < until:
        await asyncio.sleep(0.03)
    return pull.future.done()


class Pulls(Generic[Result]):
    """The pulls under way.

    Args:
        load: Called in a thread with a checkpoint's key and its pull; its result is the pull's.
    """

    def __init__(self, load: Callable[[str, Pull[Result]], Result]):
        self._load = load
        self._pulls: dict[str, Pull[Result]] = {}
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="pull")

    def start(self, key: str, visitor: Visitor = Visitor(), bundled: bool = False) -> Pull[Result]:
        """Start a pull, or join the one under way.

        Args:
            key: The checkpoint's.
            visitor: Who asks.
            bundled: Whether it needs no Hub; it then waits behind nobody who does.

        Raises:
            HubUnreachable: Too many others are being pulled, for this visitor or for all.
        """
        with self._lock:
            if key in self._pulls:
                return self._pulls[key]
            if not bundled and len(self._pulls) >= WORKERS + MAX_WAITING:
                raise HubUnreachable("Too many checkpoints are being pulled at the moment. Try again in a minute.")
            self._check_visitor(visitor)
            pull = self._pulls[key] = Pull(Future(), visitor)
        if bundled:
            threading.Thread(target=self._run, args=(key, pull), daemon=True).start()
        else:
            self._workers.submit(self._run, key, pull)
        return pull

    def _check_visitor(self, visitor: Visitor) -> None:
        others = [pull.visitor for pull in self._pulls.values()]
        for field, most in (("session", MAX_OF_SESSION), ("address", MAX_OF_ADDRESS)):
            value = getattr(visitor, field)
            if value and sum(getattr(other, field) == value for other in others) >= most:
                raise HubUnreachable(
                    "Too many checkpoints are being pulled for you already. Try again when one of them is here."
                )

    def _run(self, key: str, pull: Pull[Result]) -> None:
        try:
            result = self._load(key, pull)
        except BaseException as error:
            self._remove(key)
            pull.future.set_exception(error)
        else:
            self._remove(key)
            pull.future.set_result(result)

    def _remove(self, key: str) -> None:
        with self._lock:
            del self._pulls[key]
