"""What a type checker must know of `Debounce` and `debounced`. Read by mypy and pyright, never run."""

from concurrent.futures import Future
from typing import assert_type

from batcher import Debounce, Debounced, DebouncedFunction, DebounceStatus, debounced


def search(text: str, limit: int = 10) -> list[str]:
    """Be a plain function."""
    return [text] * limit


def objects() -> None:
    """A debounce takes the function's arguments, and its futures have the function's result."""
    searching = Debounce(search, 0.3, max_wait=1.0, leading=True, trailing=False, on_debounce=print)
    assert_type(searching("a"), Future[list[str]])
    assert_type(searching("a", limit=3).result(), list[str])
    assert_type(searching.flush(), Future[list[str] | None])
    assert_type(searching.cancel(), bool)
    assert_type(searching.pending, bool)
    assert_type(searching.status(), DebounceStatus)
    searching(1)  # type: ignore[arg-type]
    searching()  # type: ignore[call-arg]
    Debounce(search, wait=0.3)
    Debounce(search)  # type: ignore[call-arg]
    Debounce(search, "0.3")  # type: ignore[arg-type]
    Debounce(search, 0.3, 1.0)  # type: ignore[call-arg]
    searching.status().calls = 3  # type: ignore[misc]


@debounced(wait=0.3)
def save(text: str, *, force: bool = False) -> int:
    """Be a decorated function."""
    return len(text) * force


def functions() -> None:
    """A decorated function keeps its arguments and returns a Future of its result."""
    assert_type(save("a"), Future[int])
    assert_type(save("a", force=True).result(), int)
    assert_type(save.function("a"), int)
    assert_type(save.flush(), Future[int | None])
    assert_type(save.cancel(), bool)
    assert_type(save.pending, bool)
    assert_type(save.status(), DebounceStatus)
    assert_type(save.debounce, Debounce[..., int])
    save(1)  # type: ignore[arg-type]
    save("a", strict=True)  # type: ignore[call-arg]
    debounced()  # type: ignore[call-arg]
    debounced(wait=0.3, edge=True)  # type: ignore[call-arg]


class Editor:
    """A class with every kind of debounced method."""

    @debounced(wait=0.3)
    def save(self, text: str) -> int:
        """Be a plain method."""
        return len(text)

    @debounced(wait=0.3)
    @classmethod
    def of_class(cls, text: str) -> int:
        """Be a class method."""
        return len(text)

    @debounced(wait=0.3)
    @staticmethod
    def static(text: str) -> int:
        """Be a static method."""
        return len(text)

    @staticmethod
    @debounced(wait=0.3)
    def static_outside(text: str) -> int:
        """Be a static method in the other order of decorators."""
        return len(text)


class Special(Editor):
    """A class that inherits them."""


def methods(editor: Editor, special: Special) -> None:
    """On an instance, a debounced method lacks self."""
    assert_type(editor.save("a"), Future[int])
    assert_type(special.save("a"), Future[int])
    assert_type(editor.save.flush(), Future[int | None])
    assert_type(editor.save.pending, bool)
    assert_type(editor.save.debounce, Debounce[..., int])
    editor.save(1)  # type: ignore[arg-type]
    editor.save("a", "b")  # type: ignore[call-arg]


def methods_of_the_class(editor: Editor) -> None:
    """Class methods are debounced functions on the class and on its instances, static ones on the class.

    (On an instance mypy takes a static method's first argument for the instance; pyright doesn't.)
    """
    assert_type(Editor.of_class("a"), Future[int])
    assert_type(editor.of_class("a"), Future[int])
    assert_type(Special.of_class.flush(), Future[int | None])
    assert_type(Editor.static("a"), Future[int])
    assert_type(Editor.static_outside("a"), Future[int])
    Editor.of_class(1)  # type: ignore[arg-type]
    Editor.static(1)  # type: ignore[arg-type]


def names() -> None:
    """What the decorator makes has a name."""
    kept: DebouncedFunction[..., int] = save
    wider: Debounced[..., int] = kept
    wider.cancel()
