"""What a circuit breaker knows, and what becomes of it: pure, without locks and without a clock.

A `Circuit` is immutable; `Rules` says which one follows from it by the time, or by how a call ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class CircuitState(Enum):
    """Where a circuit is.

    Legal transitions: CLOSED to OPEN (failures in a row), OPEN to HALF_OPEN (time), HALF_OPEN to CLOSED
    (every probe succeeded) or back to OPEN (one failed, or didn't report in time). Never CLOSED to
    HALF_OPEN: there is nothing to find out. Never OPEN to CLOSED: only a probe can tell.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Permit:
    """The leave to make one call; to be reported once. What is reported again counts for nothing.

    Thread safety: may be reported by another thread than the one that it was given to.
    """

    __slots__ = ("deadline", "era", "is_reported")

    def __init__(self, era: object, deadline: float = math.inf) -> None:
        """Be of `era`; a probe that isn't reported by `deadline` has failed."""
        self.era: object = era
        self.deadline: float = deadline
        self.is_reported: bool = False


class Circuit(NamedTuple):
    """All that a breaker knows.

    `era` is a new object with each change of state: only permits of the present era count.
    """

    era: object
    state: CircuitState = CircuitState.CLOSED
    failures: int = 0  # in a row
    since: float = 0.0  # when it opened last
    probes: tuple[Permit, ...] = ()  # on their way, the oldest first; none unless half-open
    passed: int = 0  # probes of this era that succeeded
    untold: tuple[tuple[CircuitState, CircuitState], ...] = ()  # changes that nobody has been told of


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerStatus:
    """A consistent snapshot of a circuit breaker.

    Attributes:
        state: "closed", "open" or "half-open".
        failures: Failures in a row, failed probes included; 0 again when a call succeeds or the circuit
            closes.
        probes: Probes on their way.
        open_seconds: Seconds since the circuit opened last, None while it is closed.
        retry_after: Seconds after which it makes sense to ask again; 0.0 where a call may pass now.
    """

    state: str
    failures: int
    probes: int
    open_seconds: float | None
    retry_after: float


class Rules(NamedTuple):
    """When a circuit opens, lets probes through, and closes."""

    failure_threshold: int
    reset_timeout: float
    half_open_calls: int

    def at(self, circuit: Circuit, now: float) -> Circuit:
        """Return what the time has made of it."""
        if circuit.probes and circuit.probes[0].deadline <= now:
            circuit = _changed(circuit, CircuitState.OPEN, circuit.failures + 1, circuit.probes[0].deadline)
        if circuit.state is CircuitState.OPEN and circuit.since + self.reset_timeout <= now:
            circuit = _changed(circuit, CircuitState.HALF_OPEN, circuit.failures, circuit.since)
        return circuit

    def wait(self, circuit: Circuit, now: float) -> float:
        """Return the seconds after which it makes sense to ask again; 0.0 if a call may pass."""
        if circuit.state is CircuitState.OPEN:
            return circuit.since + self.reset_timeout - now
        if circuit.state is CircuitState.CLOSED or circuit.passed + len(circuit.probes) < self.half_open_calls:
            return 0.0
        return circuit.probes[0].deadline - now  # by then its result is known, however it ends

    def admit(self, circuit: Circuit, now: float) -> tuple[Circuit, Permit]:
        """Return a permit where `wait` says 0.0, and the circuit with it."""
        if circuit.state is CircuitState.CLOSED:
            return circuit, Permit(circuit.era)
        probe = Permit(circuit.era, now + self.reset_timeout)
        return circuit._replace(probes=(*circuit.probes, probe)), probe

    def succeeded(self, circuit: Circuit, permit: Permit, _: float) -> Circuit:
        """Return what the success of a call of this era makes of it."""
        if circuit.state is CircuitState.CLOSED:
            return circuit._replace(failures=0)
        if circuit.passed + 1 == self.half_open_calls:
            return _changed(circuit, CircuitState.CLOSED, 0, circuit.since)
        return self.released(circuit, permit)._replace(passed=circuit.passed + 1)

    def failed(self, circuit: Circuit, _: Permit, now: float) -> Circuit:
        """Return what the failure of a call of this era makes of it."""
        failures = circuit.failures + 1
        if circuit.state is CircuitState.CLOSED and failures < self.failure_threshold:
            return circuit._replace(failures=failures)
        return _changed(circuit, CircuitState.OPEN, failures, now)

    def released(self, circuit: Circuit, permit: Permit, _: float = 0.0) -> Circuit:
        """Return what a call of this era that came to no result makes of it: one probe less, if it was one."""
        return circuit._replace(probes=tuple(probe for probe in circuit.probes if probe is not permit))

    def status(self, circuit: Circuit, now: float) -> CircuitBreakerStatus:
        """Return what a user may see of it."""
        return CircuitBreakerStatus(
            state=circuit.state.value,
            failures=circuit.failures,
            probes=len(circuit.probes),
            open_seconds=None if circuit.state is CircuitState.CLOSED else now - circuit.since,
            retry_after=self.wait(circuit, now),
        )


def _changed(circuit: Circuit, state: CircuitState, failures: int, since: float) -> Circuit:
    """Return a circuit that has just got into `state`."""
    return Circuit(object(), state, failures, since, untold=(*circuit.untold, (circuit.state, state)))
