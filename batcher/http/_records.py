"""One request and one response, as every client and every format can read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, repr=False)
class HTTPRequest:
    """One request.

    Attributes:
        method: As the caller wrote it.
        origin: Scheme, host and, unless it is the scheme's own, port: "https://api.example.com".
        target: Path and query, percent-encoded: "/v1/users?page=2".
        headers: Pairs of name and value, in order, names as the caller wrote them.
        body: Empty where there is none.
    """

    method: str
    origin: str
    target: str
    headers: Headers = ()
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def url(self) -> str:
        """Origin and target."""
        return self.origin + self.target

    def header(self, name: str) -> str | None:
        """Return a header's value, or None; several of one name are joined by commas."""
        return find_header(self.headers, name)

    def __repr__(self) -> str:
        """Show sizes: what users send is nobody's business in a log."""
        return f"<HTTPRequest {self.method!r}, {len(self.headers)} headers, {len(self.body)} bytes>"


@dataclass(frozen=True, slots=True, repr=False)
class HTTPResponse:
    """One response.

    Attributes:
        status: The status code.
        headers: Pairs of name and value, in order.
        body: Decoded, unless the headers have a Content-Encoding.
        reason: The words after the status code, which HTTP/2 doesn't have.
    """

    status: int
    headers: Headers = ()
    body: bytes = b""
    reason: str = ""

    def header(self, name: str) -> str | None:
        """Return a header's value, or None; several of one name are joined by commas."""
        return find_header(self.headers, name)

    def without(self, names: Iterable[str]) -> HTTPResponse:
        """Return a copy that lacks the headers of those lower-case names."""
        dropped = frozenset(names)
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() not in dropped))

    def __repr__(self) -> str:
        """Show sizes: what users receive is nobody's business in a log."""
        return f"<HTTPResponse {self.status}, {len(self.headers)} headers, {len(self.body)} bytes>"


def find_header(headers: Headers, name: str) -> str | None:
    """Return the value of the header `name`, in whatever case; several are joined by commas."""
    wanted = name.lower()
    found = [value for key, value in headers if key.lower() == wanted]
    return ", ".join(found) if found else None


def media_type(headers: Headers) -> str:
    """Return the Content-Type without its parameters, in lower case; empty where there is none."""
    return (find_header(headers, "content-type") or "").partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    """Say whether a media type is JSON."""
    return kind == "application/json" or kind.endswith("+json")
