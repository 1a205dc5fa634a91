"""Each thread knows for which batchers it runs user code, and whether it waits in one."""

import os
import pickle
import threading

import pytest

from batcher import _reentry


def test_tokens_are_never_used_twice() -> None:
    """Every batcher gets a token of its own, which names the process too and can be pickled."""
    tokens = [_reentry.new_token() for _ in range(100)]

    assert len(set(tokens)) == 100
    assert {process for process, _ in tokens} == {os.getpid()}
    assert pickle.loads(pickle.dumps(tokens)) == tokens  # noqa: S301 - made on the same line


def test_thread_starts_with_a_clean_record() -> None:
    """A thread runs nobody's code and waits for nothing until it says so, whatever its maker does."""
    seen: list[tuple[tuple[_reentry.Token, ...], int]] = []
    before = _reentry.here.running, _reentry.here.waits
    _reentry.here.running, _reentry.here.waits = (_reentry.new_token(),), 1
    try:
        thread = threading.Thread(target=lambda: seen.append((_reentry.here.running, _reentry.here.waits)))
        thread.start()
        thread.join(5)
    finally:
        _reentry.here.running, _reentry.here.waits = before

    assert seen == [((), 0)]


def test_record_is_of_one_thread() -> None:
    """What one thread notes is nothing to another."""

    def note() -> None:
        _reentry.here.running = (_reentry.new_token(),)
        _reentry.here.waits += 1

    thread = threading.Thread(target=note)
    thread.start()
    thread.join(5)

    assert (_reentry.here.running, _reentry.here.waits) == ((), 0)


def test_record_follows_a_patched_threading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `threading.local` is replaced after the import, as gevent does, a batcher's start takes the new one."""

    class PatchedLocal:
        """What a patch puts in the place of `threading.local`."""

    old = _reentry.here
    monkeypatch.setattr(_reentry, "here", old)  # put back at the end
    monkeypatch.setattr(threading, "local", PatchedLocal)
    _reentry.follow_patches()

    assert isinstance(_reentry.here, PatchedLocal)
    assert (_reentry.here.running, _reentry.here.waits) == ((), 0)
    new = _reentry.here
    _reentry.follow_patches()
    assert _reentry.here is new
