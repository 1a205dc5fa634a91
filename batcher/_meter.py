"""The progress bar of the command line: one line on a terminal, nothing but the last state elsewhere."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from batcher._progress import Progress

_WIDTH = 24


class Meter:
    """A progress hook that draws a bar; a context manager, so that its line is ended in any case.

    Used by one thread at a time.

    Attributes:
        total: How many rows there are, None if unknown.
    """

    def __init__(self, stream: IO[str], *, is_quiet: bool) -> None:
        """Draw on `stream` if that is a terminal."""
        self._stream = stream
        self.total: int | None = None
        self._draws = stream.isatty() and not is_quiet
        self._sums_up = not is_quiet
        self._is_drawn = False

    def __call__(self, progress: Progress) -> None:
        """Draw how far it is; at the end, say what came of it."""
        if self._draws:
            self._stream.write(f"\r{self._bar(progress)}\x1b[K")
            self._stream.flush()
            self._is_drawn = True
        if progress.state == "done" and self._sums_up:
            self.close()
            skipped = f", {progress.skipped:,} skipped" if progress.skipped else ""
            self._stream.write(
                f"{progress.successful:,} succeeded, {progress.failed:,} failed{skipped}, in {progress.elapsed:.1f} s\n"
            )
            self._stream.flush()

    def close(self) -> None:
        """End the line of the bar."""
        if self._is_drawn:
            self._stream.write("\n")
            self._is_drawn = False

    def __enter__(self) -> Self:
        """Draw from now on."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the line of the bar."""
        self.close()

    def _bar(self, progress: Progress) -> str:
        done = progress.processed + progress.skipped
        figures = f"{done:,}" if self.total is None else f"{done:,}/{self.total:,}"
        parts = [figures, f"{progress.failed:,} failed", f"{progress.rate:,.0f}/s"]
        if self.total is not None and progress.rate:
            parts.append(f"{max(self.total - done, 0) / progress.rate:.0f} s left")
        filled = _WIDTH * min(done, self.total) // self.total if self.total else 0
        bar = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] " if self.total else ""
        return bar + ", ".join(parts)
