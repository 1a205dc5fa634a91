"""The Batcher's handler: many requests out as one, one reply back as many."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import TYPE_CHECKING

from batcher._failure import twin_of
from batcher.http._errors import BatchReplyError
from batcher.http._safety import check_request
from batcher.http._timeouts import longest
from batcher.http._verdict import Answer, Final, judge_error, judge_part, judge_whole

if TYPE_CHECKING:
    from batcher.http._call import Call
    from batcher.http._format import Format
    from batcher.http._lanes import Lanes
    from batcher.http._records import HTTPRequest, HTTPResponse

_COMPRESSED_FROM = 1_024
_FIRST_REDIRECT, _FIRST_ERROR = 300, 400


class Sender:
    """Sends a batch and returns an answer, or what failed, for each of its calls.

    Refers to no batcher, so that one which is forgotten can be collected.

    Thread safety: called by several threads at once, which share nothing that changes.
    """

    def __init__(self, wire_format: Format, lanes: Lanes, *, compress: bool, retries: bool) -> None:
        self._format = wire_format
        self._lanes = lanes
        self._compress = compress
        self._retries = retries

    def __call__(self, calls: list[Call]) -> list[Answer | Exception]:
        """Send the calls of one batch, which share origin, credentials and route."""
        first = calls[0]
        for call in calls:
            call.is_sent = True
        with self._lanes.running(first.sharing_key, first.lane):
            answers = self._exchange(calls)
            for call, answer in zip(calls, answers, strict=True):
                if self._retries and isinstance(answer, Exception) and not isinstance(answer, Final):
                    self._lanes.hold(call)
            return answers

    def _exchange(self, calls: list[Call]) -> list[Answer | Exception]:
        requests = [call.request for call in calls]
        try:
            whole = self._format.combine(requests)
            check_request(whole)
        except Exception as error:  # noqa: BLE001 - a format may be the user's own
            return [Final(_own(error)) for _ in calls]
        try:
            reply = calls[0].route.send(self._compressed(whole), longest(call.timeouts for call in calls))
        except Exception as error:  # noqa: BLE001 - whatever the client's transport raises
            return [judge_error(call, _own(error)) for call in calls]
        if reply.status >= _FIRST_ERROR:
            if len(calls) > 1:
                reply = reply.without(["set-cookie"])
            return [judge_whole(call, reply) for call in calls]
        try:
            parts = self._split(reply, requests)
        except Exception as error:  # noqa: BLE001 - the same, and what servers reply
            return [judge_error(call, _own(_no_split(len(calls), error))) for call in calls]
        return [judge_part(call, part) for call, part in zip(calls, parts, strict=True)]

    def _split(self, reply: HTTPResponse, requests: list[HTTPRequest]) -> list[HTTPResponse | Exception]:
        if reply.status >= _FIRST_REDIRECT:
            # Followed by a caller it would take that caller's own request to the batch endpoint.
            raise BatchReplyError(f"the batch endpoint answers with a redirect, status {reply.status}")
        parts = list(self._format.split(reply, requests))
        if len(parts) != len(requests):
            raise BatchReplyError(f"the format returned {len(parts)} answers for {len(requests)} requests")
        return parts

    def _compressed(self, request: HTTPRequest) -> HTTPRequest:
        """Return the request with its body in gzip, if it is long enough to gain by it."""
        if not self._compress or len(request.body) <= _COMPRESSED_FROM:
            return request
        body = gzip.compress(request.body, mtime=0)
        return replace(request, body=body, headers=(*request.headers, ("Content-Encoding", "gzip")))


def _no_split(count: int, error: Exception) -> BatchReplyError:
    """Return what each caller of a reply that can't be split gets."""
    failure = BatchReplyError(f"the reply to a batch of {count} requests can't be split: {error}")
    failure.__cause__ = error
    return failure


def _own(error: Exception) -> Exception:
    """Return an exception object for one caller, who puts its own request on it.

    It has no traceback, nor have its causes: their frames hold the requests of all callers, and what
    reports errors with the variables of each frame would tell one of the others.
    """
    _strip(error)
    try:
        own = twin_of(error)
    except Exception:  # noqa: BLE001 - an exception's own __init__ or __reduce__
        return error
    if type(own) is not type(error):
        return error
    own.__cause__ = error.__cause__ or error.__context__
    return own


def _strip(error: BaseException) -> None:
    """Take the tracebacks off an exception and all that led to it."""
    seen: list[BaseException] = []
    chain: list[BaseException | None] = [error]
    while chain:
        found = chain.pop()
        if found is not None and not any(found is known for known in seen):
            seen.append(found)
            found.__traceback__ = None
            chain += [found.__cause__, found.__context__]
