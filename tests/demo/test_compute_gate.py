"""Turns at computing and places behind a full queue: order, pauses, and who leaves."""

import os
import threading
import time

import pytest
import torch

from denoiser.demo import admission, thread_teams
from denoiser.demo.admission import Admission
from denoiser.demo.compute_gate import CallCancelled, ComputeGate, before_layers


def wait_until(condition) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Visitors:
    """Threads that take turns; what they do is noted in order."""

    def __init__(self):
        self.gate, self.log = ComputeGate(), []
        self.threads: list[threading.Thread] = []

    def start(self, name: str, work=lambda turn: None, **options) -> None:
        """Begin a visitor's call, and return when it waits or computes."""
        waiting = len(self.gate._waiting)

        def run():
            try:
                with self.gate.turn(**options) as turn:
                    self.log.append(name)
                    work(turn)
            except CallCancelled:
                self.log.append(f"{name} left")

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()
        wait_until(lambda: len(self.gate._waiting) > waiting or name in self.log)

    def join(self) -> list[str]:
        for thread in self.threads:
            thread.join(600)
            assert not thread.is_alive()
        return self.log


@pytest.fixture
def visitors():
    return Visitors()


def tiles(visitors: Visitors, name: str, go_on: threading.Event, count: int):
    """The work of a long call: its tiles, with a pause after each."""

    def work(turn):
        go_on.wait(600)
        for tile in range(count):
            visitors.log.append(f"{name}{tile}")
            turn.pause()

    return work


def test_short_calls_pass_between_the_tiles_of_a_long_one_in_order(visitors):
    go_on = threading.Event()
    visitors.start("long", tiles(visitors, "tile ", go_on, 3), long=True)
    visitors.start("first")
    visitors.start("second")
    go_on.set()
    assert visitors.join() == ["long", "tile 0", "first", "second", "tile 1", "tile 2"]


def test_one_long_call_at_a_time_and_the_next_when_it_has_ended(visitors):
    go_on = threading.Event()
    visitors.start("long", tiles(visitors, "a", go_on, 2), long=True)
    visitors.start("other", tiles(visitors, "b", go_on, 2), long=True)
    visitors.start("short")
    go_on.set()
    assert visitors.join() == ["long", "a0", "short", "a1", "other", "b0", "b1"]


def test_short_calls_do_not_pause(visitors):
    go_on = threading.Event()
    visitors.start("short", tiles(visitors, "a", go_on, 2))
    visitors.start("other")
    go_on.set()
    assert visitors.join() == ["short", "a0", "a1", "other"]


def test_the_end_of_what_is_computed_comes_before_those_who_wait(visitors):
    go_on = threading.Event()
    visitors.start("computing", lambda turn: go_on.wait(600))
    visitors.start("first")
    visitors.start("second", long=True)
    visitors.start("figures", next=True)
    go_on.set()
    assert visitors.join() == ["computing", "figures", "first", "second"]


def test_pauses_do_not_count_as_computing(visitors):
    go_on, seconds = threading.Event(), []

    def work(turn):
        go_on.wait(600)
        turn.pause()
        seconds.append((turn.paused, turn.seconds))

    started = time.monotonic()
    visitors.start("long", work, long=True)
    visitors.start("short", lambda turn: time.sleep(0.5))
    go_on.set()
    visitors.join()
    paused, computed = seconds[0]
    assert paused >= 0.4 and computed <= time.monotonic() - started - paused


def test_who_leaves_the_queue_is_not_computed_for(visitors):
    go_on, left = threading.Event(), threading.Event()
    visitors.start("computing", lambda turn: go_on.wait(600))
    visitors.start("waiting", is_cancelled=left.is_set)
    visitors.start("last")
    left.set()
    wait_until(lambda: "waiting left" in visitors.log)
    go_on.set()
    assert visitors.join() == ["computing", "waiting left", "last"]


@pytest.mark.parametrize("long", [False, True])
def test_who_leaves_is_computed_for_up_to_the_next_tile(visitors, long):
    go_on, left = threading.Event(), threading.Event()
    visitors.start("leaver", tiles(visitors, "tile ", go_on, 100), long=long, is_cancelled=left.is_set)
    visitors.start("next")
    left.set()
    go_on.set()
    assert sorted(visitors.join()) == sorted(["leaver", "tile 0", "leaver left", "next"])


def test_a_call_that_fails_leaves_the_gate_open(visitors):
    with pytest.raises(ZeroDivisionError), visitors.gate.turn(long=True):
        raise ZeroDivisionError
    visitors.start("next", long=True)
    assert visitors.join() == ["next"]


def test_who_waits_is_told_the_place_and_the_length_of_the_queue(visitors):
    go_on, told = threading.Event(), []
    visitors.start("computing", lambda turn: go_on.wait(600))
    visitors.start("first")
    visitors.start("second", report_position=lambda place, length: told.append((place, length)))
    wait_until(lambda: told)
    go_on.set()
    visitors.join()
    assert told[0] == (2, 2) and told[-1] == (0, 0)


def test_places_behind_a_full_queue_are_kept_in_the_order_of_coming():
    queue = Admission(size=2, max_address=10)
    assert queue.ask("a", "1.1.1.1", waiting=1) == 0
    assert [queue.ask(name, "1.1.1.1", waiting=2) for name in "bcb"] == [3, 4, 3]
    assert queue.ask("c", "1.1.1.1", waiting=1) == 3  # the room is b's
    assert queue.ask("new", "1.1.1.1", waiting=1) == 4
    assert queue.ask("b", "1.1.1.1", waiting=1) == 0
    assert queue.ask("c", "1.1.1.1", waiting=1) == 0


def test_a_place_is_kept_only_for_who_asks_again(monkeypatch):
    queue = Admission(size=1, max_address=10)
    assert queue.ask("gone", "1.1.1.1", waiting=1) == 2
    monkeypatch.setattr(admission, "PATIENCE_SECONDS", -1.0)
    assert queue.ask("other", "1.1.1.1", waiting=0) == 0


def test_one_address_cannot_take_all_places_behind_a_full_queue():
    queue = Admission(size=1, max_address=3)
    for index in range(100):
        assert queue.ask(f"many-{index}", "1.1.1.1", waiting=1) >= 2
    assert queue.ask("other", "2.2.2.2", waiting=1) == 5


def test_a_network_is_given_up_between_its_layers_by_the_thread_that_asked_for_it():
    computed, network = [], torch.nn.Sequential(*[torch.nn.Identity() for _ in range(4)])
    for layer in network:
        layer.register_forward_hook(lambda *_: computed.append(threading.current_thread().name))

    def give_up():
        if len(computed) == 2:
            raise CallCancelled

    def compute_beside():
        other = threading.Thread(target=network, args=(torch.zeros(1),), name="other")
        other.start()
        other.join(600)

    with pytest.raises(CallCancelled), before_layers(give_up):
        network(torch.zeros(1))
    assert computed == ["MainThread"] * 2
    with before_layers(give_up):
        compute_beside()  # where a check of two layers would give up
    assert computed[2:] == ["other"] * 4
    del computed[2:]
    network(torch.zeros(1))  # nobody asks any more
    assert len(computed) == 6


@pytest.mark.skipif(thread_teams._openmp() is None, reason="torch does not compute with GNU's OpenMP here")
def test_the_threads_that_computed_in_a_turn_end_with_it():
    gate, seen = ComputeGate(), []

    def compute():
        torch.set_num_threads(2)
        with gate.turn():
            torch.ones(1000, 1000).exp()
            seen.append(set(os.listdir("/proc/self/task")))
        wait_until(lambda: seen[0] - set(os.listdir("/proc/self/task")))  # while the thread that computed goes on

    threads = torch.get_num_threads()
    computing = threading.Thread(target=compute)
    computing.start()
    computing.join(600)
    torch.set_num_threads(threads)
    assert seen and not computing.is_alive()


def test_what_fails_while_it_waits_keeps_the_gate_for_nobody():
    gate, entered, leave = ComputeGate(), threading.Event(), threading.Event()

    def hold():
        with gate.turn():
            entered.set()
            leave.wait(600)

    def fail(place, length):
        raise RuntimeError("the page is gone")

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(600)
    with pytest.raises(RuntimeError, match="gone"), gate.turn(report_position=fail):
        pass
    leave.set()
    holder.join(600)
    with gate.turn() as turn:
        assert gate._running is turn and not gate._waiting
