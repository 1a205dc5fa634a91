"""The log of last resort is bounded, and says nothing about what the items were."""

import logging
import subprocess
import sys

import pytest

from batcher import _report
from batcher._report import Reporter
from batcher.testing import FakeClock


@pytest.fixture(name="clock")
def _clock() -> FakeClock:
    """A clock to move."""
    return FakeClock()


@pytest.fixture(name="reporter")
def _reporter(clock: FakeClock) -> Reporter:
    """The log of one batcher, on that clock."""
    return Reporter("sensors", clock)


def test_line_names_batcher_trouble_size_and_type(reporter: Reporter, caplog: pytest.LogCaptureFixture) -> None:
    """A line says which batcher, what happened, to how many items, and the type of the error."""
    reporter.report("a batch failed and nobody listens", OSError("secret reading 17.5"), 3)

    (record,) = caplog.records
    assert record.name == "batcher"
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "batcher 'sensors': a batch failed and nobody listens (3 items): 'OSError'"


def test_no_item_and_no_error_text_is_logged(reporter: Reporter, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the error's text nor its traceback, which may show an item, gets into the log."""
    try:
        raise ValueError("secret reading 17.5")
    except ValueError as error:
        reporter.report("a batch failed and nobody listens", error)

    (record,) = caplog.records
    assert "secret" not in caplog.text
    assert record.exc_info is None
    assert not any(isinstance(argument, BaseException) for argument in record.args or ())


def test_control_characters_are_escaped(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a batcher's name nor a type's can forge a second line."""
    forged = type("Bad\nERROR batcher", (Exception,), {})
    Reporter("one\r\ntwo\x1b[31m", clock).report("a batch failed", forged())

    message = caplog.records[0].getMessage()
    assert message.isprintable()
    assert "Bad\\nERROR" in message


def test_same_kind_is_logged_once_a_minute(
    reporter: Reporter, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The same trouble with the same type of error is silent for a minute, and then heard again."""
    for _ in range(100):
        reporter.report("a batch failed", OSError())
    assert len(caplog.records) == 1

    clock.advance(59.9)
    reporter.report("a batch failed", OSError())
    assert len(caplog.records) == 1

    clock.advance(0.1)
    reporter.report("a batch failed", OSError())
    reporter.report("a batch failed", OSError())
    assert len(caplog.records) == 2


def test_other_kinds_are_logged_by_themselves(reporter: Reporter, caplog: pytest.LogCaptureFixture) -> None:
    """Another trouble, or another type of error, doesn't wait for the first one's minute."""
    reporter.report("a batch failed", OSError())
    reporter.report("a batch failed", ValueError())
    reporter.report("a done-callback raised", OSError())

    assert len(caplog.records) == 3


def test_memory_of_kinds_is_bounded(reporter: Reporter, caplog: pytest.LogCaptureFixture) -> None:
    """Types of error without end don't fill the memory."""
    for number in range(3 * _report._MOST_KINDS):
        reporter.report("a batch failed", type(f"Error{number}", (Exception,), {})())

        assert len(reporter._next) <= _report._MOST_KINDS


@pytest.mark.parametrize("error", [OSError, SystemExit, KeyboardInterrupt])
def test_log_handler_that_raises_ends_nothing(reporter: Reporter, error: type[BaseException]) -> None:
    """Whatever a log handler raises stays in the log."""
    calls: list[logging.LogRecord] = []

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            calls.append(record)
            raise error

    broken = Broken()
    _report.logger.addHandler(broken)
    try:
        reporter.report("a batch failed", ValueError())
    finally:
        _report.logger.removeHandler(broken)

    assert len(calls) == 1


def test_log_that_feeds_itself_is_bounded(reporter: Reporter) -> None:
    """A log handler whose own work fails, and is reported in turn, makes no flood and no deadlock."""
    lines: list[str] = []

    class Feeding(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            reporter.report("a batch failed", ValueError())

    feeding = Feeding()
    _report.logger.addHandler(feeding)
    try:
        reporter.report("a batch failed", ValueError())
    finally:
        _report.logger.removeHandler(feeding)

    assert len(lines) == 1


def test_application_without_logging_sees_nothing() -> None:
    """Where the application set up no logging, nothing is written to its standard error."""
    program = (
        "from batcher._clock import SystemClock\n"
        "from batcher._report import Reporter\n"
        "Reporter('quiet', SystemClock()).report('a batch failed', OSError())\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert run.stdout == run.stderr == ""
