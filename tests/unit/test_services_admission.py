"""How many requests are admitted: those that the process can answer in about the time that they take alone.

A simulated process works on one request at a time and waits for servers beside that, on a clock of its own.
"""

import heapq
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median

import pytest

from services.admission import Admission, Limit
from services.envelope import ApiError, client_error, server_error

TOLERANCE = 2.0
WORK, WAIT = 0.002, 0.003
"""Seconds of a request: on the CPU of the process, and before that for a server. The process takes 500 requests/s."""
CAPACITY = 1 / WORK
ALONE = WORK + WAIT


@dataclass
class Outcome:
    """Of one operation; seconds of the simulated clock."""

    latencies: list[float] = field(default_factory=list)
    refusals: int = 0


class Process:
    """A process with a clock that stands still between events."""

    def __init__(self, max_concurrent_requests: int = 256) -> None:
        self.now = 0.0
        self.admission = Admission(max_concurrent_requests, TOLERANCE, lambda: self.now)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._is_free_at = 0.0
        self._number = 0

    def at(self, time: float, event: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, event))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until

    def arrive(self, outcome: Outcome, operation: str = "read", work: float = WORK, wait: float = WAIT) -> None:
        """A request arrives now."""
        slot = self.admission.limit(operation).slot()
        try:
            slot.__enter__()
        except ApiError as refusal:
            assert (refusal.http_status, refusal.headers) == (503, {"Retry-After": "1"})
            outcome.refusals += 1
            return
        self.at(self.now + wait, lambda: self._work(outcome, slot, self.now - wait, work))

    def _work(self, outcome: Outcome, slot: AbstractContextManager[None], arrived: float, work: float) -> None:
        self._is_free_at = max(self._is_free_at, self.now) + work

        def end() -> None:
            slot.__exit__(None, None, None)
            outcome.latencies.append(self.now - arrived)

        self.at(self._is_free_at, end)

    def load(self, per_second: float, seconds: float, operation: str, **costs: float) -> Outcome:
        """Requests at an even rate from now on. They arrive when the simulation runs."""
        outcome = Outcome()
        for number in range(int(per_second * seconds)):
            self.at(self.now + number / per_second, lambda: self.arrive(outcome, operation, **costs))
        return outcome


def loaded(process: Process, per_second: float, seconds: float, **costs: float) -> Outcome:
    outcome = process.load(per_second, seconds, "read", **costs)
    process.run(process.now + seconds)
    return outcome


@pytest.mark.parametrize("is_warm", [True, False], ids=["after quiet hours", "from the start"])
@pytest.mark.parametrize(
    ("work", "wait"), [(WORK, WAIT), (0.0005, 0.001), (0.015, 0.01)], ids=["usual", "small requests", "large requests"]
)
def test_four_times_the_load_makes_requests_no_slower_than_tolerated(work: float, wait: float, is_warm: bool) -> None:
    process = Process()
    seconds = 2_000 * work
    if is_warm:
        loaded(process, 0.3 / work, 1, work=work, wait=wait)
    loaded(process, 4 / work, max(seconds / 4, 1), work=work, wait=wait)

    outcome = loaded(process, 4 / work, seconds, work=work, wait=wait)

    # The quiet process has two requests at a time, so those may already take a little longer than one alone.
    assert median(outcome.latencies) < 1.5 * TOLERANCE * (work + wait)
    assert len(outcome.latencies) > 0.9 * seconds / work
    assert outcome.refusals > 2.9 * seconds / work


def test_what_the_process_can_take_is_not_refused() -> None:
    process = Process()

    assert loaded(process, 0.9 * CAPACITY, 10).refusals == 0


def test_a_burst_is_not_refused_while_the_process_is_idle_in_between() -> None:
    process = Process()
    outcome = Outcome()
    for second in range(60):
        for _ in range(16):
            process.at(second, lambda: process.arrive(outcome))

    process.run(60)

    assert (outcome.refusals, len(outcome.latencies)) == (0, 960)


def test_many_requests_that_only_wait_are_taken() -> None:
    process = Process()

    loaded(process, 200, 30, work=0.0001, wait=0.5)

    # None but those of a probe.
    assert loaded(process, 200, 30, work=0.0001, wait=0.5).refusals == 0
    assert process.admission.limit("read").value > 100


def test_the_limit_follows_a_server_that_becomes_slow() -> None:
    """A slow server that works on one request at a time is a queue, as the process itself is."""
    process = Process()
    loaded(process, 100, 10)

    outcome = loaded(process, 400, 20, work=0.01)

    assert median(outcome.latencies[-1000:]) < 1.5 * TOLERANCE * (0.01 + WAIT)


def test_the_limit_grows_again_after_the_overload() -> None:
    process = Process()
    loaded(process, 4 * CAPACITY, 5)
    assert process.admission.limit("read").value < 10
    process.run(process.now + 1)

    assert loaded(process, 0.9 * CAPACITY, 10).refusals == 0


def test_an_operation_whose_server_hangs_does_not_cost_the_others_anything() -> None:
    process = Process()
    loaded(process, 100, 10)
    hanging = process.load(50, 20, "submit", wait=10.0)

    outcome = loaded(process, 0.6 * CAPACITY, 20)

    assert hanging.refusals > 0
    # At most those of one probe, before it was clear that the requests hang.
    assert outcome.refusals < 0.3 * 0.6 * CAPACITY
    assert median(outcome.latencies) < TOLERANCE * ALONE


def test_a_probe_refuses_little_of_what_the_process_could_take() -> None:
    process = Process()
    loaded(process, 1.1 * CAPACITY, 5)

    assert len(loaded(process, 1.1 * CAPACITY, 20).latencies) > 0.97 * 20 * CAPACITY


@pytest.fixture
def admission() -> Admission:
    return Admission(2, TOLERANCE)


@pytest.fixture
def limit(admission: Admission) -> Iterator[Limit]:
    yield admission.limit("read")
    assert admission.in_flight == 0


def test_what_is_beyond_the_limit_is_refused_at_once_and_a_slot_is_given_back(limit: Limit) -> None:
    with limit.slot():
        with pytest.raises(ZeroDivisionError), limit.slot():
            raise ZeroDivisionError
        with limit.slot():
            with pytest.raises(ApiError) as raised, limit.slot():
                raise AssertionError("a third request was admitted")
            assert (raised.value.http_status, raised.value.headers) == (503, {"Retry-After": "1"})
        limit.check()


def test_all_requests_together_are_bounded_even_while_their_bodies_arrive(admission: Admission) -> None:
    with admission.open(), admission.open():
        with pytest.raises(ApiError) as raised, admission.open():
            raise AssertionError("a third request was admitted")
        assert raised.value.http_status == 503
    with admission.open():
        pass


def test_errors_of_the_client_say_nothing_about_the_latency_and_those_of_a_server_do() -> None:
    """Otherwise wrong requests, which are answered without any server, would make all others look slow."""
    for error, is_measured in ((client_error("CODE", "wrong"), False), (server_error("CODE", "down"), True)):
        process = Process()
        loaded(process, 100, 10)
        limit = process.admission.limit("read")
        for _ in range(100):
            with pytest.raises(ApiError), limit.slot():
                raise error
            process.now += 0.01

        loaded(process, 4 * CAPACITY, 4)

        assert (limit.value == 3) == is_measured
