"""A progress bar on the terminal, drawn by tqdm (extra `progress`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batcher._progress import Progress


class Bar:
    """A tqdm bar that shows the progress of a run; a progress hook.

    Used by one thread at a time.
    """

    def __init__(self, total: int | None) -> None:
        """Draw an empty bar.

        Raises:
            ModuleNotFoundError: tqdm isn't installed.
        """
        self._bar = _new_bar(total)

    def __call__(self, progress: Progress) -> None:
        """Draw what is done."""
        bar = self._bar
        bar.update(progress.processed + progress.skipped - bar.n)
        if progress.failed:
            bar.set_postfix(failed=progress.failed, refresh=False)
        if progress.state == "done":
            bar.close()


def _new_bar(total: int | None) -> Any:  # noqa: ANN401 - tqdm has no types of its own
    """Return a bar of tqdm's that starts no thread."""
    try:
        tqdm = import_module("tqdm.auto").tqdm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "progress=True needs tqdm: pip install 'thread-batcher[progress]'", name=error.name
        ) from error
    # Its monitor is a thread that outlives every bar.
    kind = type("Bar", (tqdm,), {"monitor_interval": 0})
    return kind(total=total, unit="item")
