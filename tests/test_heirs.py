"""Who starts anew in a forked child: all that live, and nobody else."""

import weakref
from collections.abc import Callable

import pytest

from batcher import _heirs
from batcher._heirs import restart_in_child
from batcher._process import check_process
from tests.forks import FORKS, in_child


class Counter:
    """Counts its restarts."""

    def __init__(self) -> None:
        self.restarts = 0
        restart_in_child(self)

    def restart(self) -> None:
        """Count one."""
        self.restarts += 1


@pytest.mark.parametrize("fork", FORKS)
def test_fork_restarts_in_the_child_alone(fork: Callable[[], int]) -> None:
    """The child restarts each heir once; the parent none."""
    heirs = Counter(), Counter()

    def look() -> list[int]:
        check_process()
        return [heir.restarts for heir in heirs]

    assert in_child(look, fork) == [1, 1]
    assert [heir.restarts for heir in heirs] == [0, 0]


def test_heir_is_not_kept_alive() -> None:
    """An heir that nobody has any more leaves nothing behind."""
    before = len(_heirs._heirs)
    heir = Counter()
    assert len(_heirs._heirs) == before + 1

    del heir

    assert len(_heirs._heirs) == before


def test_dead_heir_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """An heir that is just being collected as the child recovers doesn't keep the others from it."""
    living = Counter()
    dead = weakref.ref(Counter())
    monkeypatch.setattr(_heirs, "_heirs", [dead, weakref.ref(living)])

    _heirs._recover_in_child()

    assert dead() is None
    assert living.restarts == 1
