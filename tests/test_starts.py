"""A Batcher behind a circuit breaker and a throttle: asked before a batch is cut, and nobody blocks on them."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

from batcher import (
    Batcher,
    BatcherClosedError,
    BatchRecord,
    CircuitBreaker,
    CircuitOpenError,
    ItemTimeoutError,
    Retry,
    Throttle,
)
from batcher._starts import Starts
from batcher.testing import FakeClock, RecordingHandler, inline
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, elsewhere, endings

clock, make = stage.clock, stage.make


def failing(times: int) -> RecordingHandler:
    """Return a handler that fails so many times, and then answers."""
    left = [times]

    def handle(items: list[int]) -> list[int]:
        if left[0]:
            left[0] -= 1
            raise OSError(left[0])
        return [-item for item in items]

    return RecordingHandler(handle)


# The breaker


def test_open_breaker_spares_the_handler(make: Maker, clock: FakeClock) -> None:
    """After enough failed calls items fail at once, and no call is made; both kinds of listener hear of it."""
    told: list[tuple[type[BaseException], list[int]]] = []
    records: list[BatchRecord] = []
    breaker = CircuitBreaker(failure_threshold=2, reset_timeout=30.0)
    handler = failing(9)
    batcher = make(
        handler,
        max_batch_size=1,
        circuit_breaker=breaker,
        on_error=lambda error, items: told.append((type(error), items)),
        on_batch=records.append,
    )

    for item in (1, 2):
        with pytest.raises(OSError):
            batcher.add(item).result(PATIENCE)
    with pytest.raises(CircuitOpenError) as caught:
        batcher.add(3).result(PATIENCE)
    batcher.close()

    assert caught.value.retry_after == 30.0
    assert handler.batches == [[1], [2]]
    assert told == [(OSError, [1]), (OSError, [2]), (CircuitOpenError, [3])]
    assert len(records) == 2
    status = batcher.status()
    assert (status.batches, status.failed, status.average_batch_size) == (2, 3, 1.0)


def test_row_38_one_batch_probes(make: Maker, clock: FakeClock) -> None:
    """Half open, one batch goes through and the others fail; when it succeeds, all go through again."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=30.0)
    handler = failing(1)
    gate = HeldHandler(handler)
    batcher = make(gate, max_batch_size=1, max_concurrent=2, circuit_breaker=breaker)

    first = batcher.add(1)
    gate.wait_for_batches(1)
    gate.let_go()
    assert isinstance(first.exception(PATIENCE), OSError)
    clock.advance(30.0)
    assert batcher.add(2).result(PATIENCE) == -2
    assert breaker.status().state == "closed"
    assert batcher.add(3).result(PATIENCE) == -3


def test_second_batch_finds_the_probe_under_way(make: Maker, clock: FakeClock) -> None:
    """While the probe is in the handler no other batch is."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=30.0)
    breaker.record_failure(breaker.admit())  # type: ignore[arg-type]
    handler = HeldHandler(lambda items: items)
    batcher = make(handler, max_batch_size=1, max_concurrent=2, circuit_breaker=breaker)

    clock.advance(30.0)
    probe = batcher.add(1)
    handler.wait_for_batches(1)
    with pytest.raises(CircuitOpenError):
        batcher.add(2).result(PATIENCE)
    handler.let_go()

    assert probe.result(PATIENCE) == 1
    assert handler.batches == [[1]]


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (lambda items: [OSError(item) for item in items], "open"),
        (lambda items: [OSError(items[0]), *items[1:]], "closed"),
        (lambda items: [], "open"),
        (lambda items: items, "closed"),
    ],
    ids=["every result an error", "one of two an error", "wrong shape", "success"],
)
def test_what_counts_as_a_failed_call(make: Maker, answer: Any, state: str) -> None:
    """A call fails when it raises, or when nothing of it succeeds."""
    breaker = CircuitBreaker(failure_threshold=1)
    batcher = make(answer, max_batch_size=2, circuit_breaker=breaker)

    batcher.add_many([1, 2])
    batcher.close()

    assert breaker.status().state == state


def test_timeout_is_a_failed_call(make: Maker, clock: FakeClock) -> None:
    """A call that outlasts `handler_timeout` counts as failed at that moment, and its late result for nothing."""
    breaker = CircuitBreaker(failure_threshold=1)
    handler = HeldHandler(lambda items: items)
    batcher = make(handler, max_batch_size=1, handler_timeout=5.0, circuit_breaker=breaker)

    future = batcher.add(1)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    clock.advance(5.0)
    assert isinstance(future.exception(PATIENCE), TimeoutError)
    handler.let_go()
    batcher.close()

    assert breaker.status().state == "open"


def test_endless_retries_wait_for_the_circuit(make: Maker, clock: FakeClock) -> None:
    """With `Retry(attempts=None)` an open breaker holds the items, and they go when it lets one through."""
    breaker = CircuitBreaker(failure_threshold=2, reset_timeout=30.0)
    handler = failing(2)
    policy = Retry(attempts=None, delay=1.0, multiplier=1, jitter="none")
    batcher = make(handler, max_batch_size=2, circuit_breaker=breaker, retry=policy)

    future = batcher.add_many([1, 2])[0]
    for _ in range(2):
        clock.wait_for_sleepers(1)
        clock.advance(1.0)
    clock.wait_for_sleepers(1)
    assert handler.batches == [[1, 2]] * 2
    assert batcher.status().pending == 2
    clock.advance(29.0)

    assert future.result(PATIENCE) == -1
    assert batcher.close().complete


def test_what_waits_for_a_probe_goes_on_with_its_result(make: Maker, clock: FakeClock) -> None:
    """A batch that found a probe's place taken asks again when the probe has succeeded, not when its time is over."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=30.0)
    breaker.record_failure(breaker.admit())  # type: ignore[arg-type]
    handler = HeldHandler(lambda items: [-item for item in items])
    batcher = make(
        handler, max_batch_size=1, max_concurrent=2, circuit_breaker=breaker, retry=Retry(attempts=None, delay=1.0)
    )

    clock.advance(30.0)
    probe, other = batcher.add_many([1, 2])
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    handler.let_go()

    assert (probe.result(PATIENCE), other.result(PATIENCE)) == (-1, -2)
    assert handler.batches == [[1], [2]]


def test_batchers_wait_for_a_shared_probe(make: Maker, clock: FakeClock) -> None:
    """What waits for a circuit goes on as soon as the probe of another batcher has succeeded."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=30.0)
    breaker.record_failure(breaker.admit())  # type: ignore[arg-type]
    first, second = HeldHandler(lambda items: items), RecordingHandler(lambda items: items)
    policy = Retry(attempts=None, delay=1.0)
    one = make(first, max_batch_size=1, circuit_breaker=breaker, retry=policy)
    other = make(second, max_batch_size=1, circuit_breaker=breaker, retry=policy)

    clock.advance(30.0)
    probe = one.add(1)
    first.wait_for_batches(1)
    waiting = other.add(2)
    clock.wait_for_sleepers(1)
    assert second.batches == []
    first.let_go()

    assert (probe.result(PATIENCE), waiting.result(PATIENCE)) == (1, 2)


def test_open_breaker_fails_what_waits_for_a_retry(make: Maker, clock: FakeClock) -> None:
    """With a limited number of attempts the items don't wait for the circuit."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=30.0)
    batcher = make(failing(9), max_batch_size=1, circuit_breaker=breaker, retry=Retry(delay=1.0, jitter="none"))

    future = batcher.add(1)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)

    assert isinstance(future.exception(PATIENCE), CircuitOpenError)


def test_inline_asks_the_breaker() -> None:
    """In the inline mode too an open breaker refuses."""
    breaker = CircuitBreaker(failure_threshold=1)
    handler = failing(1)
    with inline(), Batcher(handler, circuit_breaker=breaker) as batcher:
        assert isinstance(batcher.add(1).exception(0), OSError)
        assert isinstance(batcher.add(2).exception(0), CircuitOpenError)


# The throttle


def test_batches_grow_until_they_may_start(make: Maker, clock: FakeClock) -> None:
    """Throttled, a due batch isn't cut before it may start: what comes meanwhile joins it."""
    handler = RecordingHandler(lambda items: items)
    batcher = make(handler, max_delay=0.0, throttle=Throttle(max_per_second=1))

    batcher.add(1).result(PATIENCE)
    batcher.add(2)
    clock.wait_for_sleepers(1)
    later = batcher.add(3)
    clock.advance(1.0)

    assert later.result(PATIENCE) == 3
    assert handler.batches == [[1], [2, 3]]


def test_throttle_may_run_on_another_clock(make: Maker, clock: FakeClock) -> None:
    """A throttle that was made before the batcher's clock counts by its own; nobody asks it again and again."""
    with FakeClock(1000.0) as earlier:
        throttle = Throttle(max_per_second=1)
    handler = RecordingHandler(lambda items: items)
    batcher = make(handler, max_delay=0.0, throttle=throttle)

    batcher.add(1).result(PATIENCE)
    later = batcher.add(2)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    clock.wait_for_sleepers(1)
    assert handler.batches == [[1]]
    earlier.advance(1.0)
    clock.advance(1.0)

    assert later.result(PATIENCE) == 2


def test_throttle_limits_the_calls_of_several_batchers(make: Maker, clock: FakeClock) -> None:
    """A throttle that batchers share lets so many calls run at once; the next starts when one has ended."""
    throttle = Throttle(max_concurrent=1)
    first, second = HeldHandler(lambda items: items), RecordingHandler(lambda items: items)
    one, other = make(first, max_delay=0.0, throttle=throttle), make(second, max_delay=0.0, throttle=throttle)

    blocking = one.add(1)
    first.wait_for_batches(1)
    waiting = other.add(2)
    clock.wait_for_sleepers(1)
    assert second.batches == []
    assert throttle.status().waiting == 1
    first.let_go()

    assert (blocking.result(PATIENCE), waiting.result(PATIENCE)) == (1, 2)
    one.close()
    other.close()
    assert throttle.status().active == 0


def test_items_that_end_give_their_turn_away(make: Maker, clock: FakeClock) -> None:
    """A batcher that has nothing to send any more leaves the throttle's line."""
    throttle = Throttle(max_concurrent=1)
    assert throttle.acquire()
    batcher = make(RecordingHandler(), max_delay=0.0, throttle=throttle)

    future = batcher.add(1, timeout=1.0)
    clock.wait_for_sleepers(1)
    assert throttle.status().waiting == 1
    clock.advance(1.0)
    assert isinstance(future.exception(PATIENCE), ItemTimeoutError)
    clock.wait_for_sleepers(1)

    assert throttle.status().waiting == 0
    throttle.release()


def test_start_that_no_batch_needs_is_given_back(make: Maker, clock: FakeClock) -> None:
    """A later half of a split, whose items have ended by its turn, doesn't keep its start from others."""
    waits: queue.SimpleQueue[int] = queue.SimpleQueue()
    throttle = Throttle(max_concurrent=1, on_throttle=waits.put)
    go = threading.Event()

    def handle(items: list[int]) -> object:
        if len(items) == 2:
            raise OSError
        assert go.wait(PATIENCE)
        return items

    handler = RecordingHandler(handle)
    batcher = make(handler, max_batch_size=2, max_delay=None, adaptive=False, split_failed=True, throttle=throttle)
    first, ending = batcher.add(1, timeout=1.0), batcher.add(2, timeout=0.5)
    handler.wait_for_batches(2)
    clock.advance(0.5)
    assert isinstance(ending.exception(PATIENCE), ItemTimeoutError)
    between = elsewhere(throttle.acquire)
    waits.get(timeout=PATIENCE)
    go.set()
    assert first.result(PATIENCE) == 1
    assert between.result(PATIENCE)
    waits.get(timeout=PATIENCE)  # the batcher is next
    throttle.release()

    assert elsewhere(throttle.acquire).result(PATIENCE)
    throttle.release()
    assert handler.batches == [[1, 2], [1]]


def test_close_leaves_the_line(make: Maker, clock: FakeClock) -> None:
    """What can't start before close ends is dropped, and the throttle is free for others."""
    throttle = Throttle(max_concurrent=1)
    assert throttle.acquire()
    batcher = make(RecordingHandler(), max_delay=0.0, throttle=throttle)

    future = batcher.add(1)
    clock.wait_for_sleepers(1)
    report = batcher.close(0)

    assert report.dropped == 1
    assert isinstance(future.exception(0), BatcherClosedError)
    assert throttle.status().waiting == 0
    throttle.release()


def test_timed_out_call_gives_its_turn_back(make: Maker, clock: FakeClock) -> None:
    """A handler that was given up doesn't keep others from starting."""
    throttle = Throttle(max_concurrent=1)
    handler = HeldHandler(lambda items: items)
    batcher = make(handler, max_batch_size=1, handler_timeout=5.0, throttle=throttle)

    future = batcher.add(1)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    clock.advance(5.0)
    assert isinstance(future.exception(PATIENCE), TimeoutError)
    handler.let_go()

    assert batcher.add(2).result(PATIENCE) == 2
    batcher.close()
    assert throttle.status().active == 0


def test_breaker_spends_no_start(make: Maker, clock: FakeClock) -> None:
    """Where the circuit is open, the throttle isn't asked; where the throttle says wait, no probe's place is held."""
    throttle = Throttle(max_concurrent=1)
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=30.0)
    breaker.record_failure(breaker.admit())  # type: ignore[arg-type]
    batcher = make(RecordingHandler(), max_delay=0.0, throttle=throttle, circuit_breaker=breaker)

    assert isinstance(batcher.add(1).exception(PATIENCE), CircuitOpenError)
    assert throttle.status().active == 0
    clock.advance(30.0)
    assert throttle.acquire()
    waiting = batcher.add(2)
    clock.wait_for_sleepers(1)
    assert breaker.status().probes == 0
    throttle.release()

    assert waiting.result(PATIENCE) is None
    assert breaker.status().state == "closed"


class Away(Throttle):
    """A throttle on a server that is away for a while."""

    def __init__(self, times: int) -> None:
        super().__init__(max_concurrent=1)
        self.left = times

    def turn(self, ring: Any) -> Any:
        """Fail for as long as the server is away."""
        if self.left:
            self.left -= 1
            raise ConnectionError(self.left)
        return super().turn(ring)


def test_throttle_that_raises_fails_the_batch(make: Maker) -> None:
    """Nothing is called when it isn't known whether it may be; the batcher goes on."""
    handler = RecordingHandler()
    batcher = make(handler, max_delay=0.0, throttle=Away(1))

    assert isinstance(batcher.add(1).exception(PATIENCE), ConnectionError)
    batcher.add(2).result(PATIENCE)

    assert handler.batches == [[2]]


def test_throttle_that_raises_is_asked_again(make: Maker, clock: FakeClock) -> None:
    """With endless retries the items wait until the throttle answers."""
    batcher = make(RecordingHandler(), max_delay=0.0, throttle=Away(1), retry=Retry(attempts=None))

    future = batcher.add(1)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)

    assert future.result(PATIENCE) is None
    assert endings(batcher.status()) == {"succeeded": 1}


def test_inline_waits_for_its_turn() -> None:
    """In the inline mode the calling thread waits until the throttle lets it."""
    throttle = Throttle(max_concurrent=1)
    assert throttle.acquire()
    with inline(), Batcher(RecordingHandler(), throttle=throttle) as batcher:
        adding = elsewhere(lambda: batcher.add(1).result(0))
        while not throttle.status().waiting:
            threading.Event().wait(0.001)
        throttle.release()
        assert adding.result(PATIENCE) is None
    assert throttle.status().active == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"circuit_breaker": 5}, "circuit_breaker must be a CircuitBreaker or None, got 5"),
        ({"circuit_breaker": CircuitBreaker}, "circuit_breaker must be a CircuitBreaker or None, got <class"),
        ({"throttle": 10}, "throttle must be a Throttle or None, got 10"),
    ],
)
def test_what_is_none_is_refused(options: dict[str, Any], message: str) -> None:
    """The error names the option and shows what was received."""
    with pytest.raises(TypeError, match=message):
        Batcher(print, **options)


def test_turn_that_raises_gives_the_permit_back(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A throttle that fails in the middle of asking holds no probe's place of the breaker."""
    throttle = Throttle(max_concurrent=1)
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=0.0001)
    breaker.record_failure(breaker.admit())  # type: ignore[arg-type]
    handler = RecordingHandler()
    batcher = make(handler, max_delay=0.0, throttle=throttle, circuit_breaker=breaker)

    class Broken:
        """A turn that can't be asked."""

        def try_start(self) -> float | None:
            """Fail."""
            raise ConnectionError

        def end(self) -> None:
            """Do nothing."""

    with monkeypatch.context() as patch:
        patch.setattr(throttle, "turn", lambda _: Broken())
        while not isinstance(error := batcher.add(1).exception(PATIENCE), ConnectionError):
            assert isinstance(error, CircuitOpenError)  # the probe's time hasn't come

    assert breaker.status().probes == 0
    assert handler.batches == []


def test_start_that_nothing_needs_is_given_back(clock: FakeClock) -> None:
    """A start that was granted for a batch which is gone is another's."""
    throttle = Throttle(max_concurrent=1)
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=1.0)
    starts = Starts(throttle, breaker, holds=False, clock=clock, wake=lambda: None)

    starts.ask()
    assert starts.is_decided
    assert throttle.status().active == 1
    starts.withdraw()

    assert not starts.is_decided
    assert throttle.status().active == 0


class ScriptedTurn:
    """A place in a throttle's line that may start when the script says so."""

    def __init__(self, clock: FakeClock, *answers: float | None) -> None:
        self.clock = clock
        self._answers = list(answers)
        self.is_over = False

    def turn(self, ring: object) -> ScriptedTurn:
        """Be the throttle as well, of which this is the only turn."""
        return self

    def try_start(self) -> float | None:
        """Return the moment from which on to ask again; None: it has started."""
        return self._answers.pop(0)

    def end(self) -> None:
        """Leave the line."""
        self.is_over = True


def starts_with(throttle: Any, breaker: CircuitBreaker | None, clock: FakeClock) -> Starts:
    """Make what a line asks."""
    return Starts(throttle, breaker, holds=False, clock=clock, wake=lambda: None)


def test_open_circuit_gives_the_place_in_line_away(clock: FakeClock) -> None:
    """Who waits for a turn as the circuit opens leaves the throttle's line to others."""
    breaker, turn = CircuitBreaker(failure_threshold=1), ScriptedTurn(clock, 5.0)
    starts = starts_with(turn, breaker, clock)
    starts.ask()
    assert (starts.is_decided, turn.is_over) == (False, False)
    permit = breaker.allow()
    assert permit is not None
    breaker.record_failure(permit)

    starts.ask()

    assert turn.is_over
    assert isinstance(starts.refusal, CircuitOpenError)


def test_turn_that_raises_holds_no_probe(clock: FakeClock) -> None:
    """The half-open breaker's only probe isn't spent on a start that the throttle has failed."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=1.0)
    permit = breaker.allow()
    assert permit is not None
    breaker.record_failure(permit)
    clock.advance(1.0)
    starts = starts_with(ScriptedTurn(clock), breaker, clock)  # it has no answer

    starts.ask()

    assert isinstance(starts.refusal, IndexError)
    assert breaker.status().probes == 0


def test_next_start_may_be_asked_for_at_once(clock: FakeClock) -> None:
    """The moment that one start had to wait for says nothing of the next one."""
    starts = starts_with(ScriptedTurn(clock, 5.0, None), None, clock)
    starts.ask()
    assert not starts.may_ask(0.0)
    starts.ring()
    starts.ask()
    start, _ = starts.take()

    assert start is not None
    assert starts.may_ask(0.0)
