"""`Optimizer`: batching, throttling, debouncing and monitoring of plain calls, from one configuration."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from batcher._clock import current_clock
from batcher._layers import OPERATIONS, OPTIMIZED, Batching, Debouncing, Throttling, Wishes, measured
from batcher._metrics import Monitor
from batcher._options import check_callable, check_count, check_flag, check_seconds, require_seconds
from batcher.errors import BatcherClosedError, ReentrantCallError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from batcher._clock import Clock
    from batcher._layers import DebouncingStatus
    from batcher._metrics import Performance
    from batcher._status import BatcherStatus
    from batcher._throttle import ThrottleStatus

R = TypeVar("R")

_BATCHING = ("max_size", "max_delay")
_THROTTLING = ("max_concurrent", "max_per_second", "max_burst", "cooldown", "on_throttle")
_DEBOUNCING = ("wait", "max_wait", "leading", "trailing", "on_debounce")
_MONITORING = ("thresholds", "on_threshold")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerStatus:
    """A snapshot of an optimizer, part by part; None for a part that is off.

    Attributes:
        batching: The status of its batcher.
        throttling: The status of its throttle.
        debouncing: What its debounces do.
        performance: How long runs took, by "optimized_operation" (whole runs), "debounced_operation",
            "batched_operation" and "throttled_operation" (the parts, with all waiting and what is inside
            them). Empty while nothing was measured.
    """

    batching: BatcherStatus | None
    throttling: ThrottleStatus | None
    debouncing: DebouncingStatus | None
    performance: Mapping[str, Performance]


class Optimizer:
    """Batches, throttles and debounces calls of functions, as configured in one place, and measures them.

    Each part is configured by a mapping; None, or `"enabled": False`, turns it off. A part that is off costs
    nothing: `run` then calls as if it hadn't been asked for that part. So a program says at each call what
    would suit it, and the configuration decides what happens.

    Thread safety: every method may be called from any thread. A debounced or batched function runs on
    another thread than its caller's, with an empty context; the others run on the caller's. A forked child
    starts with nothing under way and nothing measured.

    Example:
        >>> config = {"throttling": {"max_per_second": 50}, "monitoring": {"enabled": True}}
        >>> with Optimizer(**config) as optimizer:
        ...     optimizer.run(lambda: 6 * 7, throttle=True)
        ...     sorted(optimizer.status().performance)
        42
        ['optimized_operation', 'throttled_operation']
    """

    def __init__(
        self,
        *,
        batching: Mapping[str, object] | None = None,
        throttling: Mapping[str, object] | None = None,
        debouncing: Mapping[str, object] | None = None,
        monitoring: Mapping[str, object] | None = None,
    ) -> None:
        """Make an optimizer; no thread is started before the first run that needs one.

        In each mapping `enabled` is True unless it says otherwise. Of a part that is off, only the names of
        the options are checked.

        Args:
            batching: `max_size`, functions that a batch runs one after another on the batcher's thread (100);
                `max_delay`, seconds that the first of them waits for others (0.05), or None.
            throttling: The options of `Throttle`.
            debouncing: The options of `Debounce`; `wait` is required.
            monitoring: `thresholds`, seconds by the name of an operation (see `OptimizerStatus`), above
                which `on_threshold(name, seconds, threshold)` is called, on the thread that measured; without
                it, the log is told, at most once a minute for each name.

        Raises:
            TypeError: A mapping is none, or an option has the wrong type.
            ValueError: A mapping has an unknown key, an option is out of range or missing.
        """
        parts = {
            "batching": _options("batching", batching, _BATCHING),
            "throttling": _options("throttling", throttling, _THROTTLING),
            "debouncing": _options("debouncing", debouncing, _DEBOUNCING),
            "monitoring": _options("monitoring", monitoring, _MONITORING),
        }
        self._enabled = [name for name, options in parts.items() if options is not None]
        self._clock = current_clock()
        self._monitor = _make_monitor(parts["monitoring"], self._clock)
        self._throttling = Throttling(parts["throttling"], self._monitor)
        self._batching = Batching(_as_batcher(parts["batching"]), self._throttling, self._monitor)
        self._debouncing = Debouncing(_checked_edges(parts["debouncing"]), self._batching, self._monitor)
        self._is_closed = False
        self._is_bare = not self._enabled  # run has nothing to do but to call

    def run(self, fn: Callable[[], R], *, batch: bool = False, throttle: bool = False, debounce: bool = False) -> R:
        """Call `fn` by way of the parts that are asked for and enabled, and return its result.

        Blocks until the result is there. The parts are nested: a debounced run is batched, and in the batch
        each function is throttled. A function that runs in a batch and asks for batching itself isn't
        batched again.

        Args:
            fn: Takes no arguments.
            batch: Run it in a batch, on the batcher's thread, with others that came at the same time.
            throttle: Start it when the limits allow.
            debounce: Run it once for all calls with this very function in quick succession, by the flags of
                the last one; all of them get the result. Each function has a debounce of its own, for as
                long as the function lives: a lambda made at each call is another function each time. A
                method belongs to its object, which must allow weak references.

        Raises:
            BatcherClosedError: The optimizer is closed.
            TypeError: `debounce`, and `fn` belongs to an object that allows no weak references.
            BaseException: Whatever `fn` raises.
        """
        if self._is_bare:
            return fn()
        if self._is_closed:
            raise BatcherClosedError("the optimizer is closed")
        return measured(self._monitor, OPTIMIZED, self._debouncing.run, fn, Wishes(debounce, batch, throttle))

    def status(self) -> OptimizerStatus:
        """Return a snapshot of all parts, taken one after another."""
        batcher, throttle = self._batching.batcher, self._throttling.throttle
        return OptimizerStatus(
            batching=None if batcher is None else batcher.status(),
            throttling=None if throttle is None else throttle.status(),
            debouncing=self._debouncing.status(),
            performance={} if self._monitor is None else self._monitor.performance(),
        )

    def close(self, timeout: float | None = None) -> bool:
        """Refuse new runs, and have those that are debounced or batched run now, without further delay.

        May be called again, from many threads.

        Args:
            timeout: The longest wait in seconds; what waits for a batch then fails with BatcherClosedError.
                None: no limit.

        Returns:
            Whether every debounced and batched run has ended, and none had to fail for want of time.

        Raises:
            ReentrantCallError: Called by a function that runs in a batch or debounced.
        """
        seconds = check_seconds("timeout", timeout)
        if self._batching.is_inside or self._debouncing.is_inside:
            raise ReentrantCallError("close() called by a function that this optimizer runs: it would wait for itself")
        deadline = None if seconds is None else self._clock.monotonic() + seconds
        self._is_closed, self._is_bare = True, False
        # Debounced runs begin now. Those that reach the batcher in time leave with its last batches, the others
        # go past it: so there is nothing to wait for in between.
        debounced = self._debouncing.flush()
        has_ended = True
        if self._batching.batcher is not None:
            report = self._batching.batcher.close(_left(deadline, self._clock))
            has_ended = not report.pending and not report.dropped
        has_ended = not wait(debounced, _left(deadline, self._clock)).not_done and has_ended
        self._debouncing.let_go()
        return has_ended

    def __enter__(self) -> Self:
        """Return the optimizer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, however long it takes."""
        self.close()

    def __repr__(self) -> str:
        """Show which parts are on."""
        return f"<Optimizer {'closed' if self._is_closed else 'open'}: {', '.join(self._enabled) or 'nothing'}>"


def _left(deadline: float | None, clock: Clock) -> float | None:
    """Return the seconds until `deadline`."""
    return None if deadline is None else max(deadline - clock.monotonic(), 0.0)


# The configuration


def _options(part: str, config: object, known: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the options of a part, or None if it is off."""
    if config is None:
        return None
    if not isinstance(config, Mapping):
        raise TypeError(f"{part} must be a mapping or None, got {config!r}")
    options = dict(config)
    is_enabled = options.pop("enabled", True)
    check_flag(f"{part}['enabled']", is_enabled)
    for key in options:
        if key not in known:
            raise ValueError(f"{part} takes enabled, {', '.join(known)}, and not {key!r}; got {config!r}")
    return options if is_enabled else None


def _as_batcher(options: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the batching options as `Batcher` calls them, checked under the names that they have here."""
    if options is None:
        return None
    renamed: dict[str, Any] = {}
    if "max_size" in options:
        renamed["max_batch_size"] = check_count("batching['max_size']", options["max_size"])
    if "max_delay" in options:
        renamed["max_delay"] = check_seconds("batching['max_delay']", options["max_delay"])
    return renamed


def _checked_edges(options: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the debouncing options, with which each call must come to a run."""
    if options is not None:
        if "wait" not in options:
            raise ValueError(f"debouncing needs 'wait', got {options!r}")
        if not options.get("leading", False) and not options.get("trailing", True):
            raise ValueError(f"debouncing needs 'leading' or 'trailing', or nothing would ever run; got {options!r}")
    return options


def _make_monitor(options: dict[str, Any] | None, clock: Clock) -> Monitor | None:
    """Return the monitor, None if monitoring is off."""
    if options is None:
        return None
    thresholds = options.get("thresholds")
    if thresholds is None:
        thresholds = {}
    if not isinstance(thresholds, Mapping):
        raise TypeError(f"monitoring['thresholds'] must be a mapping or None, got {thresholds!r}")
    for name, seconds in thresholds.items():
        if name not in OPERATIONS:
            raise ValueError(
                f"monitoring['thresholds'] takes {', '.join(OPERATIONS)}, and not {name!r}; got {thresholds!r}"
            )
        require_seconds(f"monitoring['thresholds'][{name!r}]", seconds)
    on_threshold = options.get("on_threshold")
    check_callable("monitoring['on_threshold']", on_threshold)
    return Monitor(clock, thresholds=thresholds, on_threshold=on_threshold)
