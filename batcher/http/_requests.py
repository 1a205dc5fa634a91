"""Between the records and the requests, responses and exceptions of requests."""

from __future__ import annotations

import re
from http.client import HTTPMessage
from io import BytesIO
from typing import TYPE_CHECKING, Any

from batcher.errors import HandlerTimeoutError, ItemTimeoutError, QueueFullError
from batcher.http._errors import BatchReplyError, UnsafeRequestError
from batcher.http._records import HTTPRequest, HTTPResponse
from batcher.http._timeouts import Timeouts

try:
    import requests
except ImportError as _missing:
    raise ImportError("BatchAdapter needs requests: pip install 'thread-batcher[requests]'") from _missing

from requests.adapters import BaseAdapter, HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPHeaderDict, Timeout
from urllib3 import HTTPResponse as RawResponse
from urllib3.exceptions import MaxRetryError, NewConnectionError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

__all__ = [
    "BaseAdapter",
    "HTTPAdapter",
    "RequestsRoute",
    "client_error",
    "make_response",
    "read_request",
    "read_timeouts",
]

# Not urlsplit: it drops line breaks, and then nobody would refuse them.
_URL = re.compile(r"(?P<scheme>https?)://(?P<place>[^/?#\\]*)(?P<target>[^#]*)", re.IGNORECASE | re.DOTALL)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_EXCLUDED = ("content-encoding", "content-length", "transfer-encoding")


def read_request(request: requests.PreparedRequest) -> HTTPRequest | None:
    """Return a request's record, or None if its body streams or it isn't HTTP."""
    found = _URL.match(request.url or "")
    body = request.body
    if found is None or request.method is None or not (body is None or isinstance(body, (bytes, str))):
        return None
    scheme = found["scheme"].lower()
    # Credentials in front of the host have become a header.
    place = found["place"].rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS[scheme])
    target = found["target"] if found["target"].startswith("/") else f"/{found['target']}"
    headers = tuple((_text(name), _text(value)) for name, value in request.headers.items())
    return HTTPRequest(
        request.method,
        f"{scheme}://{place}",
        target,
        headers,
        body.encode() if isinstance(body, str) else body or b"",
    )


def read_timeouts(timeout: Any) -> Timeouts | None:  # noqa: ANN401 - a number, a pair, a urllib3 Timeout or nonsense
    """Return the limits that `timeout` means, or None if requests must say what is wrong with it."""
    try:
        if isinstance(timeout, tuple):
            connect, read = timeout
            given = Timeout(connect=connect, read=read)
        else:
            given = timeout if isinstance(timeout, Timeout) else Timeout(connect=timeout, read=timeout)
        connect = given.connect_timeout
        started = given.clone()
        started.start_connect()  # what is left of a total is told from there on
        read = started.read_timeout
    except (ValueError, TypeError):
        return None
    return Timeouts(_seconds(connect), _seconds(read))


def _seconds(value: object) -> float | None:
    """Return a limit; urllib3's mark for "the system's own" is none."""
    return float(value) if isinstance(value, (int, float)) else None


def make_response(adapter: BaseAdapter, request: requests.PreparedRequest, response: HTTPResponse) -> requests.Response:
    """Return a response for the request's session; unread, as an adapter's are."""
    raw = RawResponse(
        body=BytesIO(response.body),
        headers=HTTPHeaderDict(response.headers),
        status=response.status,
        reason=response.reason or None,
        version=11,
        preload_content=False,
        decode_content=False,
        original_response=_Origin(response),  # type: ignore[arg-type]
        request_method=request.method,
    )
    # What it needs of an adapter is only its identity.
    return HTTPAdapter.build_response(adapter, request, raw)  # type: ignore[arg-type]


class _Origin:
    """What requests reads cookies from."""

    def __init__(self, response: HTTPResponse) -> None:
        self.msg = HTTPMessage()
        for name, value in response.headers:
            if name.lower() in {"set-cookie", "set-cookie2"}:
                self.msg[name] = value

    def isclosed(self) -> bool:
        """Whether the connection is closed: there never was one."""
        return True

    def close(self) -> None:
        """Close nothing."""


def client_error(request: requests.PreparedRequest, error: Exception) -> Exception:
    """Return what the caller's session raises for such an error, with the caller's own request on it."""
    if isinstance(error, requests.RequestException):
        error.request = request
        return error
    kind: type[requests.RequestException]
    if isinstance(error, (ItemTimeoutError, HandlerTimeoutError)):
        kind = requests.ReadTimeout
    elif isinstance(error, QueueFullError):
        kind = requests.Timeout
    elif isinstance(error, BatchReplyError):
        kind = requests.ConnectionError
    elif isinstance(error, UnsafeRequestError):
        kind = requests.exceptions.InvalidHeader
    else:
        return error
    own = kind(str(error), request=request)
    own.__cause__ = error
    return own


class RequestsRoute:
    """Sends shared calls through one adapter, with one certificate and one set of proxies.

    Thread safety: that of the adapter.
    """

    def __init__(
        self,
        adapter: BaseAdapter,
        *,
        verify: bool | str,
        cert: Any,  # noqa: ANN401 - a path or a pair of them
        proxies: Mapping[str, str] | None,
    ) -> None:
        self._adapter = adapter
        self._verify = verify
        self._cert = cert
        self._proxies = dict(proxies or {})

    @property
    def key(self) -> Hashable:
        """Adapter, certificates and proxies."""
        cert = tuple(self._cert) if isinstance(self._cert, list) else self._cert
        return id(self._adapter), self._verify, cert, tuple(sorted(self._proxies.items()))

    def send(self, request: HTTPRequest, timeouts: Timeouts) -> HTTPResponse:
        """Send a request and read its whole response."""
        message = requests.PreparedRequest()
        message.method = request.method
        message.url = request.url
        message.headers = CaseInsensitiveDict((*request.headers, ("Content-Length", str(len(request.body)))))
        message.body = request.body
        response = self._adapter.send(
            message,
            stream=True,
            timeout=(timeouts.connect, timeouts.read),
            verify=self._verify,
            cert=self._cert,
            proxies=self._proxies,
        )
        try:
            body = response.content or b""
        finally:
            response.close()
        headers = tuple((_text(name), _text(value)) for name, value in response.raw.headers.items())
        return HTTPResponse(response.status_code, headers, body, response.reason or "").without(_EXCLUDED)

    def never_sent(self, error: BaseException) -> bool:
        """Say whether there was no connection to send anything on."""
        if isinstance(error, requests.ConnectTimeout):
            return True
        reason = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
        return isinstance(reason, MaxRetryError) and isinstance(reason.reason, NewConnectionError)

    def timed_out(self, error: BaseException) -> bool:
        """Say whether a time limit of the shared call has passed."""
        return isinstance(error, requests.Timeout)


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
