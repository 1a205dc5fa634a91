"""Foreign programs for a test: started, waited for with a deadline, stopped, and never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PROJECT = Path(__file__).parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 20.0


def until(predicate: Callable[[], object], what: str, *, seconds: float = 10.0) -> None:
    """Wait for what another process does, which can't tell us; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.01)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Program:
    """A running program with a process group of its own; its output goes to a file."""

    def __init__(
        self, command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        """Start `command` with additions to the environment; `options` are those of `Popen`."""
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,  # so that what it forked can be ended with it
                **{"cwd": PROJECT, **options},
            )

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self.process.pid

    def output(self) -> str:
        """Return what the program has printed so far."""
        return self._log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        self.process.send_signal(number)

    def wait_ready(self, is_ready: Callable[[], object]) -> None:
        """Wait until the program is ready; fail at once when it has ended."""

        def is_ready_or_ended() -> bool:
            return self.process.poll() is not None or bool(is_ready())

        try:
            until(is_ready_or_ended, "ready", seconds=START_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()}") from None
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output()}"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the program to end, and wait until it has."""
        self.send(number)
        self.wait(STOP_SECONDS)

    def wait(self, seconds: float) -> int:
        """Return the program's exit status; one that runs for longer is killed, and fails the test."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"did not end within {seconds:g} s:\n{self.output()}") from None


@contextmanager
def running(program: Program, *, stop: signal.Signals = signal.SIGTERM) -> Iterator[Program]:
    """Stop `program` at the end of the block, however that ends."""
    try:
        yield program
    finally:
        program.stop(stop)


def accepts_connections(port: int) -> bool:
    """Say whether somebody listens on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def listening(command: Sequence[str], port: int, log: Path, *, env: Mapping[str, str]) -> Iterator[Program]:
    """Run a server program until the end of the block, which begins when the port answers."""
    with running(Program(command, log, env=env)) as program:
        program.wait_ready(lambda: accepts_connections(port))
        yield program


@contextmanager
def gunicorn(
    application: str, log: Path, *options: str, workers: int, threads: int = 1, env: Mapping[str, str]
) -> Iterator[tuple[Program, int]]:
    """Run a WSGI application under gunicorn; yield the program and its port."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", application, "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", str(workers), "--threads", str(threads)]
    command += ["--graceful-timeout", "10", "--no-control-socket", *options]
    with listening(command, port, log, env=env) as program:
        yield program, port
