"""Who starts anew in a forked child."""

from __future__ import annotations

import weakref
from typing import Protocol

from batcher._process import on_fork


class Heir(Protocol):
    """Something with a lock, which at a fork may be held by a thread that the child doesn't have."""

    def restart(self) -> None:
        """Become fit for this process, a forked child."""
        ...


# Every heir that is alive. Changed by single set operations, which are atomic: a weak reference's callback may
# run on any thread, anywhere.
_heirs: set[weakref.ref[Heir]] = set()


def restart_in_child(heir: Heir) -> None:
    """Have `heir.restart()` called in each forked child, as long as it lives."""
    _heirs.add(weakref.ref(heir, _heirs.discard))


def _recover_in_child() -> None:
    for ref in list(_heirs):
        heir = ref()
        if heir is not None:
            heir.restart()


on_fork(_recover_in_child)
