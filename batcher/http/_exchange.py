"""What `BatchTransport` and `BatchAdapter` have in common: from a record to its response."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from batcher import Batcher
from batcher._clock import monotonic
from batcher._options import check_count, check_flag, check_seconds
from batcher._retry import as_retry
from batcher.errors import BatchError, ItemTimeoutError
from batcher.http._call import Call, batch_key, flight_key
from batcher.http._format import Format
from batcher.http._lanes import Lanes
from batcher.http._safety import check_request
from batcher.http._sender import Sender
from batcher.http._sharing import must_go_alone, sharing_key, single_flight_key
from batcher.http._verdict import Answer, FailedAnswer, Final, SafeRetry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batcher import BatcherStatus
    from batcher.http._records import HTTPRequest, HTTPResponse
    from batcher.http._route import Route
    from batcher.http._timeouts import Timeouts

DEFAULT_DELAY = 0.01
_DEFAULT_CONCURRENCY = 8
# By then the batcher has ended an item whose deadline has passed, and nothing of it is left in the queue.
_GRACE = 0.05


class Exchange:
    """Takes requests one by one from many threads, and gives each caller its own response.

    Thread safety: may be used from any thread.
    """

    def __init__(
        self,
        wire_format: Format,
        *,
        deduplicate: bool,
        compress: bool,
        max_batch_size: int | None,
        max_delay: float | None,
        options: Mapping[str, Any],
    ) -> None:
        if not isinstance(wire_format, Format):
            raise TypeError(f"format must be a batcher.http.Format, got {wire_format!r}")
        check_flag("deduplicate", deduplicate)
        check_flag("compress", compress)
        size = check_count("max_batch_size", wire_format.max_batch_size if max_batch_size is None else max_batch_size)
        concurrency = check_count("max_concurrent", options.get("max_concurrent", _DEFAULT_CONCURRENCY))
        self._format = wire_format
        self._max_delay = check_seconds("max_delay", max_delay)
        # Half of the slots: a slow host leaves the others room.
        self._lanes = Lanes(max(concurrency // 2, 1), size)
        policy = as_retry("retry", options.get("retry"))
        self._batcher: Batcher[Call, Answer] = Batcher(
            Sender(wire_format, self._lanes, compress=compress, retries=policy is not None),
            batch_key=batch_key,
            dedup_key=flight_key if deduplicate else None,
            max_batch_size=size,
            max_delay=max_delay,
            # The whole delay by default: next to a call over the network it is short, and calls are what counts.
            **{
                "adaptive": False,
                **options,
                "max_concurrent": concurrency,
                "retry": None if policy is None else SafeRetry(policy),
            },
        )

    def takes(self, request: HTTPRequest) -> bool:
        """Say whether the request can travel in a batch.

        Raises:
            UnsafeRequestError: It could, but for what would break out of its place there.
        """
        if must_go_alone(request) or len(request.body) > self._format.max_part_bytes:
            return False
        if not self._format.accepts(request):
            return False
        check_request(request)
        return True

    def answer(self, request: HTTPRequest, route: Route, timeouts: Timeouts) -> HTTPResponse:
        """Return the response to a request, once the batch that it travels in is back.

        Raises:
            ItemTimeoutError: The caller's own timeouts, and the longest delay, have passed.
            BatcherError: What the batcher itself has decided.
            Exception: What the shared call failed with: an object of this caller's own.
        """
        patience = timeouts.patience(self._max_delay)
        until = None if patience is None else monotonic() + patience
        flight = single_flight_key(request)
        shared = None if flight is None else (route.key, flight)
        while True:
            call, outcome = self._travel(request, route, timeouts, shared, until)
            if isinstance(outcome, Answer):
                if outcome.call is call or outcome.response.header("set-cookie") is None:
                    break
                shared = None  # a cookie is for whom it was made: this caller asks for its own
            elif call.is_sent or not route.timed_out(outcome) or (until is not None and monotonic() >= until):
                break
            # Else another caller's time was over, and this one has some left.
        if isinstance(outcome, Answer):
            return replace(outcome.response, body=b"") if request.method == "HEAD" else outcome.response
        try:
            raise outcome
        finally:
            del outcome  # its traceback has this frame: without the garbage collector it would live for ever

    def _travel(
        self, request: HTTPRequest, route: Route, timeouts: Timeouts, flight: object, until: float | None
    ) -> tuple[Call, Answer | BaseException]:
        """Go with a batch, and wait: return the answer, or what is to be raised."""
        key = (route.key, sharing_key(request, self._format.part_headers))
        call = Call(request, route, timeouts, sharing_key=key, lane=self._lanes.enter(key), flight_key=flight)
        left = None if until is None else max(until - monotonic(), 0.0)
        # The item's own deadline ends its retries as well; the wait holds even where a batcher's clock stands still.
        future = self._batcher.add(call, timeout=left)
        try:
            error = future.exception(None if until is None else max(until - monotonic(), 0.0) + _GRACE)
        except TimeoutError:
            future.cancel()
            return call, ItemTimeoutError("no answer within the caller's own timeouts")
        except BaseException:  # Ctrl-C: nobody waits any more
            future.cancel()
            raise
        finally:
            self._lanes.leave(call)
        return call, future.result() if error is None else _unwrapped(error)

    def status(self) -> BatcherStatus:
        """Return what waits, what is under way and what has become of all."""
        return self._batcher.status()

    def close(self) -> None:
        """Refuse new requests, and send what waits."""
        self._batcher.close()


def _unwrapped(error: BaseException) -> Answer | BaseException:
    """Return the answer that a failure carries, or what the client shall see."""
    if isinstance(error, BatchError) and isinstance(error.__cause__, (Final, FailedAnswer)):
        error = error.__cause__  # for one of many followers
    if isinstance(error, Final):
        error = error.error
    return error.answer if isinstance(error, FailedAnswer) else error
