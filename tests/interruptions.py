"""Interrupt code of the library wherever CPython would let a signal in, one place after another.

CPython looks for signals at the entry of a Python function, after a call into C, and at a backward jump; nowhere
else. Up to 3.11 garbage may also be collected wherever a container is built. A watcher counts these places
and acts at one of them, on the interrupted thread and on top of the interrupted code: just as a signal handler, a
destructor, or the KeyboardInterrupt of Ctrl-C.
"""

from __future__ import annotations

import dis
import gc
import inspect
import sys
import threading
import traceback
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import batcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

_PACKAGE = str(Path(batcher.__file__).parent)
_SIGNALS_AFTER = frozenset({"CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD"})
_COLLECTS_AFTER = (
    frozenset({"BUILD_LIST", "BUILD_TUPLE", "BUILD_MAP", "MAKE_FUNCTION"})
    if sys.version_info < (3, 12)
    else frozenset()
)


@cache
def _catchers(code: CodeType) -> list[tuple[int, int, int]]:
    parse = dis._parse_exception_table  # type: ignore[attr-defined]
    return [(entry.start, entry.end, entry.target) for entry in parse(code)]


def _catcher(code: CodeType, offset: int) -> int | None:
    """Return where an exception goes that comes up at this instruction."""
    return next((target for start, end, target in _catchers(code) if start <= offset < end), None)


def _is_interruptible(code: CodeType, offset: int, *, collects: bool) -> bool:
    name = dis.opname[code.co_code[offset]]
    return name in _SIGNALS_AFTER or (collects and name in _COLLECTS_AFTER)


class _Interruption:
    """What counts the places, and acts once, at the place of a given number."""

    def __init__(self, place: int, act: Callable[[], object], *, raises: bool) -> None:
        self.left = place
        self.where: str | None = None
        self._act = act
        self._raises = raises
        self._last: dict[FrameType, int] = {}
        self._entered: dict[FrameType, int] = {}  # where a frame last called a Python function

    def enter(self, frame: FrameType) -> bool:
        """Pass the entry of a Python function; say whether it is the library's."""
        code = frame.f_code
        if frame.f_back is not None and code.co_name not in ("__init__", "<genexpr>"):
            # The interpreter runs such a call in its own loop, and looks for no signals as it returns.
            self._entered[frame.f_back] = frame.f_back.f_lasti
        if not code.co_filename.startswith(_PACKAGE):
            return False
        if not code.co_flags & inspect.CO_GENERATOR:
            self._pass(frame)
        return True

    def step(self, frame: FrameType, now: int) -> None:
        """Pass from one instruction of the library's to the next one."""
        last = self._last.get(frame)
        self._last[frame] = now
        if last is not None and self._entered.get(frame) != last and self._may_act(frame.f_code, last, now):
            self._pass(frame)

    def _may_act(self, code: CodeType, last: int, now: int) -> bool:
        """Say whether a signal may come between the instruction that has just ended and the next one."""
        if dis.opname[code.co_code[now]] == "PUSH_EXC_INFO":
            return False  # it hasn't ended, it has raised
        if self._raises and _catcher(code, last) != _catcher(code, now):
            return False  # the real exception would come up inside the block whose end was reached here
        return _is_interruptible(code, last, collects=not self._raises)

    def _pass(self, frame: FrameType) -> None:
        self.left -= 1
        if self.left == -1:
            self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
            self._act()


if sys.version_info >= (3, 12):
    # There `sys.settrace` sees the instructions of some calls and not of others.
    _TOOL = 4  # none of the numbers that are set aside for debuggers, coverage and profilers

    @contextmanager
    def _watching(interruption: _Interruption) -> Iterator[None]:
        """Have the interruption see what this thread does; what it raises comes up there."""
        thread = threading.get_ident()
        events = sys.monitoring.events

        def start(code: CodeType, offset: int) -> None:
            if threading.get_ident() == thread:
                interruption.enter(sys._getframe(1))

        def instruction(code: CodeType, offset: int) -> None:
            if threading.get_ident() == thread and code.co_filename.startswith(_PACKAGE):
                interruption.step(sys._getframe(1), offset)

        callbacks: dict[int, Callable[[CodeType, int], None]] = {
            events.PY_START: start,
            events.INSTRUCTION: instruction,
        }
        sys.monitoring.use_tool_id(_TOOL, "interruptions")
        try:
            for event, callback in callbacks.items():
                sys.monitoring.register_callback(_TOOL, event, callback)
            sys.monitoring.set_events(_TOOL, events.PY_START | events.INSTRUCTION)
            yield
        finally:
            sys.monitoring.set_events(_TOOL, 0)
            for event in callbacks:
                sys.monitoring.register_callback(_TOOL, event, None)
            sys.monitoring.free_tool_id(_TOOL)

else:

    @contextmanager
    def _watching(interruption: _Interruption) -> Iterator[None]:
        """Have the interruption see what this thread does; what it raises comes up there."""

        def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
            if event == "call":
                frame.f_trace_opcodes = True
                return trace if interruption.enter(frame) else None
            if event == "opcode":
                interruption.step(frame, frame.f_lasti)
            return trace

        earlier = sys.gettrace()
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(earlier)


def interrupt(operation: Callable[[], object], act: Callable[[], object], place: int) -> str | None:
    """Run `operation` and call `act` on top of it, once, at the place of number `place`.

    Returns where that was, None if the operation has fewer places. What `act` raises comes up at that place, and
    what the operation raises is swallowed.
    """
    # While it acts, the interpreter traces nothing: no place of the act itself is counted.
    interruption = _Interruption(place, act, raises=act is press_ctrl_c)
    gc.disable()  # what earlier runs have left would come in between, and be counted
    try:
        with _watching(interruption):
            operation()
    except BaseException:  # noqa: S110 - what it leaves behind is what the tests look at
        pass
    finally:
        gc.enable()
    return interruption.where


def press_ctrl_c() -> None:
    """Do what Python's own handler of SIGINT does."""
    raise KeyboardInterrupt


def at_each_place(run: Callable[[int], str | None], seconds: float = 20.0) -> int:
    """Call `run(place)` for one place after another, until it returns None; return how many there were.

    It runs on a thread of its own, so that a deadlock becomes a failure that says which place it was.
    """
    visited: list[str] = []
    errors: list[BaseException] = []

    def visit() -> None:
        try:
            while (where := run(len(visited))) is not None:
                visited.append(where)
        except BaseException as error:
            errors.append(error)

    visitor = threading.Thread(target=visit, daemon=True)
    visitor.start()
    visitor.join(seconds)
    if visitor.is_alive():
        stack = "".join(traceback.format_stack(sys._current_frames()[visitor.ident or 0]))
        raise AssertionError(f"hangs at place {len(visited)}, the one after {visited[-1:]}:\n{stack}")
    for error in errors:
        error.add_note(f"at place {len(visited)}, the one after {visited[-1:]}")
        raise error
    return len(visited)
