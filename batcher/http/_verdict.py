"""Which failures may be tried again.

An exception in an item's place is what a Batcher retries, so what must not be retried comes wrapped in
`Final`, which a Batcher's policy here gives up on. A caller sees neither: it gets the client's exception,
or the response, that is in there.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

from batcher.http._errors import BatchReplyError

if TYPE_CHECKING:
    from batcher import RetryPolicy
    from batcher.http._call import Call
    from batcher.http._records import HTTPRequest, HTTPResponse

# RFC 9110, section 9.2.2.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
# The server says that it has done nothing yet.
_NOT_NOW = frozenset({429, 503})
_FIRST_SERVER_ERROR = 500


class Answer(NamedTuple):
    """A response, and the call that it answers: one that is shared is known by another's name on it."""

    call: Call
    response: HTTPResponse


class FailedAnswer(Exception):  # noqa: N818 - it never reaches a user
    """An answer that is a failure to a retry policy and a circuit breaker, and a response to the caller.

    Attributes:
        answer: The answer.
        retry_after: The seconds that the server asks to wait; None: it doesn't say.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer
        self.retry_after = read_retry_after(answer.response)


class Final(Exception):  # noqa: N818 - it never reaches a user
    """A failure that must not be tried again: the server may have done its work."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class SafeRetry:
    """A policy that follows another one, but never tries again what is final.

    Thread safety: that of the other one.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy

    def wait_after(self, error: BaseException, *, attempts: int, elapsed: float) -> float | None:
        """Return the seconds to wait before the next attempt; None: give up."""
        if isinstance(error, Final):
            return None
        return self._policy.wait_after(error, attempts=attempts, elapsed=elapsed)


def is_idempotent(request: HTTPRequest) -> bool:
    """Say whether doing it twice is as good as once."""
    return request.method in _IDEMPOTENT


def judge_error(call: Call, error: Exception) -> Exception:
    """Return what a failure of the shared call means to one of its callers."""
    if is_idempotent(call.request) or call.route.never_sent(error):
        return error
    return Final(error)


def judge_whole(call: Call, response: HTTPResponse) -> Answer | Exception:
    """Return what a whole reply that carries no answers means to one of its callers."""
    answer = Answer(call, response)
    if response.status in _NOT_NOW:
        return FailedAnswer(answer)
    if response.status >= _FIRST_SERVER_ERROR:
        failure = FailedAnswer(answer)
        return failure if is_idempotent(call.request) else Final(failure)
    return answer


def judge_part(call: Call, part: HTTPResponse | Exception) -> Answer | Exception:
    """Return what one answer out of a reply means to its caller."""
    if isinstance(part, BatchReplyError):
        return judge_error(call, part)
    if isinstance(part, Exception):
        return Final(part)
    answer = Answer(call, part)
    if part.status in _NOT_NOW and read_retry_after(part) is not None:
        return FailedAnswer(answer)
    return answer


def read_retry_after(response: HTTPResponse) -> float | None:
    """Return the seconds of a Retry-After, which may be a date; None where there is no usable one."""
    value = response.header("retry-after")
    if value is None:
        return None
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
