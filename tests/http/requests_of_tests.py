"""Requests for tests of the formats."""

from __future__ import annotations

import json

from batcher.http import BatchReplyError, HTTPRequest, HTTPResponse

ORIGIN = "http://h"


def get(target: str, *headers: tuple[str, str]) -> HTTPRequest:
    """Return a GET."""
    return HTTPRequest("GET", ORIGIN, target, headers)


def post(target: str, body: object, *headers: tuple[str, str]) -> HTTPRequest:
    """Return a POST of JSON: of bytes as they are, of anything else encoded."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HTTPRequest("POST", ORIGIN, target, (("Content-Type", "application/json"), *headers), data)


def reply(body: object, *headers: tuple[str, str], status: int = 200) -> HTTPResponse:
    """Return a response of JSON: of bytes as they are, of anything else encoded."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HTTPResponse(status, (("Content-Type", "application/json"), *headers), data)


def good(answer: object) -> HTTPResponse:
    """Return an answer that has to be a response."""
    assert isinstance(answer, HTTPResponse), repr(answer)
    return answer


def are_missing(answers: list[HTTPResponse | Exception]) -> list[bool]:
    """Say of each answer whether it is the error of its call alone."""
    return [isinstance(answer, BatchReplyError) for answer in answers]
