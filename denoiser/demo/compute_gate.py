"""Turns at computing: one picture at a time, and short ones pass between the tiles of a long one."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from torch.nn.modules.module import register_module_forward_pre_hook

from .thread_teams import release_team

POLL_SECONDS = 0.3
"""How often who waits looks whether anybody still wants the answer."""


class CallCancelled(Exception):
    """The visitor has cancelled the call, closed the page or lost the connection: nobody waits for the answer."""


class Turn:
    """One call's turn.

    Args:
        gate: Where it waits.
        long: Whether it pauses for short ones.
        is_cancelled: Whether its visitor has cancelled it or gone.
        report_position: Called with its position in the queue, from 1, and the queue's length when they change; (0, 0)
            when it begins after waiting.
        next: Whether it comes before all others that wait: the short end of what has been computed already.
    """

    def __init__(
        self,
        gate: "ComputeGate",
        long: bool,
        is_cancelled: Callable[[], bool],
        report_position: Callable[[int, int], object],
        next: bool,
    ):
        self.gate, self.long, self.next = gate, long, next
        self.is_cancelled, self.report_position = is_cancelled, report_position
        self.ready = threading.Event()
        self.begun = time.monotonic()
        self.paused = 0.0

    @property
    def seconds(self) -> float:
        """How long it has computed, pauses aside."""
        return time.monotonic() - self.begun - self.paused

    def pause(self) -> None:
        """Let short ones that wait go first, if this is a long one.

        Raises:
            CallCancelled: Nobody waits for the answer any more.
        """
        if self.is_cancelled():
            raise CallCancelled
        started = time.monotonic()
        self.gate.pause(self)
        self.paused += time.monotonic() - started


class ComputeGate:
    """Gives turns in the order of coming; the end of what has been computed comes first, so that it leaves the memory.

    A long computation that has begun goes on after the short ones that wait at its pauses; the next long one begins
    when it has ended, as the arrays of one fill the memory.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._waiting: list[Turn] = []
        self._running: Turn | None = None
        self._long: Turn | None = None  # begun and not ended

    @contextlib.contextmanager
    def turn(
        self,
        long: bool = False,
        is_cancelled: Callable[[], bool] = lambda: False,
        report_position: Callable[[int, int], object] = lambda place, length: None,
        next: bool = False,
    ) -> Iterator[Turn]:
        """Wait for a turn and hold it; the arguments are those of :class:`Turn`.

        Raises:
            CallCancelled: Nobody waits for the answer any more.
        """
        turn = Turn(self, long, is_cancelled, report_position, next)
        try:
            self._wait(turn)
            turn.begun = time.monotonic()
            yield turn
        finally:
            release_team()
            with self._lock:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                if self._running is turn:
                    self._running = None
                if self._long is turn:
                    self._long = None
                self._start_next()

    def pause(self, turn: Turn) -> None:
        """See :meth:`Turn.pause`."""
        with self._lock:
            if not turn.long or all(other.long for other in self._waiting):
                return
            release_team()
            self._running = None
        self._wait(turn)

    def _wait(self, turn: Turn) -> None:
        turn.ready.clear()
        with self._lock:
            self._waiting.insert(0 if turn.next else len(self._waiting), turn)
            self._start_next()
        told = None
        while not turn.ready.wait(POLL_SECONDS):
            with self._lock:
                place = self._waiting.index(turn) + 1 if turn in self._waiting else 0
                if place and turn.is_cancelled():
                    raise CallCancelled
                length = len(self._waiting)
            if place and (place, length) != told and turn is not self._long:
                told = place, length
                turn.report_position(place, length)
        if told:
            turn.report_position(0, 0)

    def _start_next(self) -> None:
        """Give the turn to the first who can have it; the lock is held."""
        if self._running is not None:
            return
        for turn in self._waiting:
            if not turn.long or self._long in (None, turn):
                self._waiting.remove(turn)
                self._running = turn
                self._long = turn if turn.long else self._long
                turn.ready.set()
                return


@contextlib.contextmanager
def before_layers(check: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` before each layer of a network that this thread computes; an exception it raises ends that.

    So the live picture that is under way when a slider is released does not keep the final one waiting.
    """
    thread = threading.get_ident()

    def hook(*_: object) -> None:
        if threading.get_ident() == thread:
            check()

    handle = register_module_forward_pre_hook(hook)  # not of one network: it is shared, and may travel (zero_gpu.py)
    try:
        yield
    finally:
        handle.remove()
