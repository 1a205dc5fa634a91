"""The publisher of `google-cloud-pubsub`, whose network call is replaced by the handler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1

if TYPE_CHECKING:
    from benchmarks.contender import Contender, Handler, Pending, Settings

_TOPIC = "projects/p/topics/t"


class _Publisher:
    def __init__(self, handler: Handler, settings: Settings) -> None:
        # It has batches of at most one message less than it was told.
        batches = pubsub_v1.types.BatchSettings(
            max_messages=settings.max_batch_size + 1, max_latency=settings.max_delay
        )
        self._client: Any = pubsub_v1.PublisherClient(batches, credentials=AnonymousCredentials())

        def publish(*_: object, messages: Any, **__: object) -> object:  # noqa: ANN401
            return SimpleNamespace(message_ids=handler([message.data for message in messages]))

        self._client._gapic_publish = publish  # noqa: SLF001
        self._publish = self._client.publish

    def add(self, item: object) -> Pending:
        pending: Pending = self._publish(_TOPIC, item)
        return pending

    def put(self, item: object) -> None:
        self._publish(_TOPIC, item)

    def close(self) -> None:
        self._client.stop()


def make(handler: Handler, settings: Settings) -> Contender:
    """Make one without flow control."""
    return _Publisher(handler, settings)
