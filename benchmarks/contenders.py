"""Who is measured, by name. Libraries are imported on first use: one that isn't installed is named and left out."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.contender import MissingError
from benchmarks.floor import Floor
from benchmarks.handwritten import QueueBatcher, SimpleQueueBatcher
from benchmarks.ours import ours

if TYPE_CHECKING:
    from benchmarks.contender import Contender, Handler, Make, Settings

OURS = "batcher"
OURS_AT_ONCE = "batcher, 4 at once"
OURS_WINDOW = "batcher, window only"
QUEUE = "queue.Queue"
QUEUE_GREEDY = "queue.Queue, delay 0"
SIMPLE = "SimpleQueue"
FLOOR = "floor, no guarantees"
POOL = "ThreadPoolExecutor"
BATCHED = "batched"
STREAMER = "service-streamer"
UBATCH = "ubatch"
LOADER = "aiodataloader"
PUBSUB = "google-cloud-pubsub"
TELEMETRY = "OpenTelemetry"

LIBRARIES = (BATCHED, STREAMER, UBATCH, LOADER, PUBSUB, TELEMETRY, POOL)


def _greedy(handler: Handler, settings: Settings) -> Contender:
    """Leave at once: what a batcher with a plain window can do best in a closed loop."""
    return QueueBatcher(handler, replace(settings, max_delay=0.0))


def library(name: str) -> Make:
    """Return a factory that imports the adapter, and with it the library, when it is called."""

    def make(handler: Handler, settings: Settings) -> Contender:
        try:
            module: Any = importlib.import_module(f"benchmarks.libraries.{name}")
        except ImportError as error:
            raise MissingError(str(error)) from error
        contender: Contender = module.make(handler, settings)
        return contender

    return make


CONTENDERS: dict[str, Make] = {
    OURS: ours(),
    OURS_AT_ONCE: ours(max_concurrent=4),
    OURS_WINDOW: ours(adaptive=False),
    QUEUE: QueueBatcher,
    QUEUE_GREEDY: _greedy,
    SIMPLE: SimpleQueueBatcher,
    FLOOR: Floor,
    POOL: library("thread_pool"),
    BATCHED: library("batched_processor"),
    STREAMER: library("service_streamer_threads"),
    UBATCH: library("ubatch_threads"),
    LOADER: library("aiodataloader_thread"),
    PUBSUB: library("pubsub_stub"),
    TELEMETRY: library("opentelemetry_processor"),
}
