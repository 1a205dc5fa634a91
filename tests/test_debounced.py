"""`debounced` on functions and methods."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from batcher import DebouncedFunction, DebounceStatus, _debounced, debounced
from tests import debouncing, stage
from tests.debouncing import PATIENCE, settle
from tests.stage import elsewhere

if TYPE_CHECKING:
    from batcher import Debounce
    from batcher.testing import FakeClock

clock, collected = stage.clock, debouncing.collected


class Editor:
    """Saves what it is given, in a debounced method."""

    saved: list[tuple[Any, ...]]

    def __init__(self) -> None:
        """Have saved nothing."""
        self.saved = []

    @debounced(wait=4)
    def save(self, text: str, *, force: bool = False) -> tuple[Editor, str]:
        """Save."""
        self.saved.append((text, force))
        return self, text


# Functions


def test_function_is_debounced(clock: FakeClock) -> None:
    """A call returns the Future of the run; everything that a debounce can do the function can."""
    ran: list[int] = []

    @debounced(wait=4, leading=True, max_wait=6, on_debounce=ran.append)
    def square(number: int) -> int:
        return number * number

    leading, second, third = square(1), square(2), square(3)

    assert second is third
    assert square.pending
    assert square.flush() is third
    assert (leading.result(PATIENCE), third.result(PATIENCE)) == (1, 9)
    assert ran == [1]
    assert square.cancel() is False
    assert not square.pending
    assert square.function(5) == 25
    assert square.status() == square.debounce.status()
    assert isinstance(square.status(), DebounceStatus)
    assert square.status().runs == 2


def test_function_keeps_its_looks() -> None:
    """Name and documentation stay, on functions and methods."""

    @debounced(wait=4)
    def documented() -> None:
        """Say something."""

    looks: list[Any] = [documented, Editor.save, Editor().save]
    assert [look.__name__ for look in looks] == ["documented", "save", "save"]
    assert [look.__doc__ for look in looks] == ["Say something.", "Save.", "Save."]


def test_debounce_is_made_on_first_use(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """At import nothing is made but a check; threads that come first at once get the same one."""

    @debounced(wait=4)
    def run() -> None:
        """Do nothing."""

    make: Any = run._make
    assert "made" not in make.__dict__
    real = _debounced.Debounce  # type: ignore[attr-defined]
    others: list[Debounce[..., Any]] = []

    def overtaken(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        others.append(elsewhere(make).result(PATIENCE))
        return real(*arguments, **options)

    monkeypatch.setattr(_debounced, "Debounce", overtaken)
    assert run.debounce is others[0]
    assert run.debounce is others[0]


@pytest.mark.parametrize(
    ("decorate", "error", "match"),
    [
        (lambda: debounced(wait=-1)(print), ValueError, "wait must be"),
        (lambda: debounced(wait=1)(3), TypeError, "fn must be callable, got 3"),  # type: ignore[call-overload]
        (lambda: debounced(wait=1, leading=3)(print), TypeError, "leading must be"),  # type: ignore[arg-type]
        (lambda: debounced()(print), TypeError, "wait"),  # type: ignore[call-arg]
    ],
    ids=["value", "function", "type", "missing"],
)
def test_mistakes_are_told_where_the_function_is_defined(decorate: Any, error: type[Exception], match: str) -> None:
    """Bad options, and what is no function, are refused at once, not at the first call."""
    with pytest.raises(error, match=match):
        decorate()


# Methods


def test_each_instance_has_a_debounce_of_its_own(clock: FakeClock) -> None:
    """The calls of two instances end up in two runs, each with its own arguments and on its own instance."""
    one, two = Editor(), Editor()
    first, second = one.save("a"), one.save("b", force=True)
    third = two.save("c")

    assert first is second
    assert first is not third
    assert one.save.debounce is one.save.debounce
    assert one.save.debounce is not two.save.debounce
    settle(one.save.debounce, clock)
    one.save.flush()
    two.save.flush()
    assert (second.result(PATIENCE), third.result(PATIENCE)) == ((one, "b"), (two, "c"))
    assert (one.saved, two.saved) == ([("b", True)], [("c", False)])
    assert one.save.function("d") == (one, "d")


def test_class_methods_have_one_debounce_for_each_class(clock: FakeClock) -> None:
    """Whether it is called on the class or an instance; a subclass has another one."""

    class Counter:
        @debounced(wait=4)
        @classmethod
        def count(cls, text: str) -> tuple[str, int]:
            """Count."""
            return cls.__name__, len(text)

    class Other(Counter):
        pass

    first, second = Counter.count("a"), Counter().count("bb")
    Other.count("ccc")

    assert first is second
    assert Counter.count.flush().result(PATIENCE) == ("Counter", 2)
    assert Other().count.flush().result(PATIENCE) == ("Other", 3)


def test_static_methods_have_one_debounce(clock: FakeClock) -> None:
    """Whichever decorator stands above the other."""

    class Multiplier:
        @debounced(wait=4)
        @staticmethod
        def double(text: str) -> str:
            """Double."""
            return 2 * text

        @staticmethod
        @debounced(wait=4)
        def triple(text: str) -> str:
            """Triple."""
            return 3 * text

    assert Multiplier.double("a") is Multiplier().double("b")  # type: ignore[call-arg]
    assert Multiplier.double.flush().result(PATIENCE) == "bb"
    assert Multiplier.triple("a") is Multiplier().triple("b")  # type: ignore[call-arg]
    assert Multiplier.triple.flush().result(PATIENCE) == "bbb"
    looks: list[Any] = [Multiplier.double, Multiplier.triple]
    assert [look.__name__ for look in looks] == ["double", "triple"]


def test_method_without_an_instance_is_refused() -> None:
    """On the class a method's debounce isn't there, and a call says so."""
    assert isinstance(Editor.save, DebouncedFunction)
    with pytest.raises(TypeError, match=r"Editor\.save is debounced for each instance and was used without one"):
        Editor.save(Editor(), "a")


def test_instance_is_not_kept_alive(clock: FakeClock) -> None:
    """An instance that nobody uses is freed at once, although its last run returned it."""
    gc.disable()
    try:
        editor = Editor()
        editor.save("a")
        editor.save.flush().result(PATIENCE)
        editor.save.cancel()
        debounces = Editor.save._debounces
        key = id(editor)
        assert key in debounces
        gone = threading.Event()
        weakref.finalize(editor, gone.set)
        del editor
        assert gone.wait(PATIENCE)
        assert key not in debounces
    finally:
        gc.enable()


def test_waiting_call_keeps_the_instance(clock: FakeClock) -> None:
    """An instance with a run to come lives until it has run."""
    gone = threading.Event()
    editor = Editor()
    saved = editor.saved
    weakref.finalize(editor, gone.set)
    editor.save("a")
    clock.wait_for_sleepers(1)
    del editor
    gc.collect()
    assert not gone.is_set()

    clock.advance(4)

    assert gone.wait(PATIENCE)
    assert saved == [("a", False)]


def test_new_instance_with_an_old_id_keeps_its_debounce() -> None:
    """A reference that dies late takes nothing away from whoever has the id by then."""
    editor = Editor()
    mine = editor.save.debounce
    late = weakref.ref(Editor())

    _debounced._forget(Editor.save._debounces, id(editor), late)
    _debounced._forget(Editor.save._debounces, -1, late)

    assert editor.save.debounce is mine


def test_slots_need_a_place_for_weak_references() -> None:
    """An instance that can't be referred to weakly is refused, with what to do about it."""

    class Slotted:
        __slots__ = ()

        @debounced(wait=4)
        def save(self) -> None:
            """Do nothing."""

    with pytest.raises(TypeError, match=r'Slotted allows no weak references, .* add "__weakref__" to its __slots__'):
        Slotted().save()
