"""What must not get into a batch: anything that would end its own place there.

httpx passes methods and header values with line breaks on to a transport, and leaves it to the wire
protocol to refuse them. Inside a batch there is no wire protocol, only text: a line break in a part's
header begins another header, two begin a body, and a JSON escape becomes a line break at the server.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batcher.http._errors import UnsafeRequestError

if TYPE_CHECKING:
    from batcher.http._records import HTTPRequest

# RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_TARGET = re.compile(r"/[\x21-\x7e]*\Z")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[\x21-\x2e\x30-\x7e]+\Z")
# Anything but control characters; a tab may stand inside a value. What is beyond latin-1 has no byte.
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")


def check_request(request: HTTPRequest) -> None:
    """Refuse a request that can't be written into a batch as one request.

    Raises:
        UnsafeRequestError: Says what is wrong, without showing the value.
    """
    if not _TOKEN.match(request.method):
        raise UnsafeRequestError("the method isn't a token of RFC 9110")
    if not _ORIGIN.match(request.origin):
        raise UnsafeRequestError("the origin isn't a scheme and a host")
    if not _TARGET.match(request.target):
        raise UnsafeRequestError("the path has a space, a control character, or no slash in front")
    for number, (name, value) in enumerate(request.headers, start=1):
        if not _TOKEN.match(name):
            raise UnsafeRequestError(f"the name of header {number} isn't a token of RFC 9110")
        if not _VALUE.match(value):
            raise UnsafeRequestError(f"the value of header {number} has a control character")
