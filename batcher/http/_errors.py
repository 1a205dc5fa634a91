"""What can go wrong between a request and its place in a batch."""

from __future__ import annotations

from batcher.errors import BatcherError


class BatchReplyError(BatcherError):
    """The reply to a batch has no usable answer for this request.

    A client sees it as the cause of its own exception: httpx's RemoteProtocolError, requests'
    ConnectionError.
    """


class UnsafeRequestError(BatcherError, ValueError):
    """A method, header or path would break out of its place in a batch; nothing was sent.

    A client sees it as the cause of its own exception: httpx's LocalProtocolError, requests'
    InvalidHeader.
    """
