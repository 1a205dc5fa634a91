"""The thread that keeps the books of one bulk run.

The caller's thread reads the input and may be stuck in it for as long as the input likes; the workers are
in the user's function. All that must go on meanwhile is done here, and only here: jobs are handed out and
collected, failed items are tried again when they are due, items that take too long are given up, finished
ones are recorded, folded and told. So nothing of a run's state needs a lock but the counts that `status`
shows; everybody else talks to the conductor by appending to a deque and ringing its bell.

A run is over when the input has ended and every item of it too; or when it was stopped and what was
running has come back; or when the caller has left, and after a moment's grace nobody waits any more.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

from batcher import _reentry
from batcher._job import Again, Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batcher._clock import Bell, Clock
    from batcher._control import Control
    from batcher._crew import Staff
    from batcher._delivery import Delivery, Group
    from batcher._job import Batch
    from batcher._progress import Books, Progress, Teller
    from batcher._reentry import Token
    from batcher._verdict import FailureLimit, Judge


class Conductor:
    """The conductor of one run.

    Thread safety: `offer`, `end_input`, `confirm` and `leave` are for the caller's thread.

    Attributes:
        bell: Rung by whoever has something for the conductor.
        is_over: Whether it has ended.
    """

    def __init__(
        self,
        *,
        name: str,
        bell: Bell,
        control: Control,
        clock: Clock,
        books: Books,
        judge: Judge,
        limit: FailureLimit,
        delivery: Delivery,
        tellers: Sequence[Teller],
    ) -> None:
        """Start no thread yet."""
        self.bell = bell
        self.is_over = False
        self._name = name
        self._control = control
        self._clock = clock
        self._books = books
        self._judge = judge
        self._limit = limit
        self._delivery = delivery
        self._tellers = tellers
        self._staff: Staff
        self._incoming: deque[Batch] = deque()
        self._confirmed: deque[Group] = deque()
        self._live: set[Job] = set()
        self._waiting: list[tuple[float, int, Again]] = []
        self._numbers = count()
        self._is_input_over = False
        self._is_deserted = self._is_left = False
        self._thread: threading.Thread | None = None

    # The caller's side

    def start(self, staff: Staff, token: Token) -> None:
        """Start the thread.

        Raises:
            RuntimeError: No thread can be started, at exit for one.
        """
        self._staff = staff
        # Daemon: a hook that hangs must not hold up the exit. The caller waits for it, `leave` ends it. After
        # a fork it isn't there; neither is the caller's call, which was the parent's.
        thread = threading.Thread(
            target=contextvars.Context().run,
            args=(self._conduct, token),
            name=f"batcher-{self._name}-conductor",
            daemon=True,
        )
        self._thread = thread
        thread.start()

    def offer(self, batch: Batch) -> None:
        """Hand in a batch."""
        self._incoming.append(batch)
        self.bell.ring()

    def end_input(self) -> None:
        """Say that no batch will follow."""
        self._is_input_over = True
        self.bell.ring()

    def confirm(self, group: Group) -> None:
        """Say that the caller has dealt with streamed items."""
        self._confirmed.append(group)
        self.bell.ring()

    def leave(self, grace: float, patience: float) -> None:
        """End the run in any case: what runs has `grace` seconds to finish; wait `patience` more for the books."""
        thread = self._thread
        if thread is None:
            return
        if not self.is_over:
            self._control.stop()
        self._is_deserted = True
        self.end_input()
        if thread.ident is not None:
            thread.join(grace)
        self._is_left = True
        self.bell.ring()
        if thread.ident is not None:
            thread.join(patience)

    def state(self) -> str:
        """Return how the run is, in a word."""
        if self.is_over:
            return "done"
        if self._control.is_stopping:
            return "stopping"
        return "paused" if self._control.is_paused else "running"

    def progress(self) -> Progress:
        """Return how far the run is; from any thread."""
        return self._books.snapshot(self.state())

    # The thread

    def _conduct(self, token: Token) -> None:
        """Be the conductor: turn after turn, until the run is over."""
        # Whatever a hook calls on this thread must not wait for the run.
        _reentry.here.running = (token,)
        try:
            try:
                while not self._turn():
                    self._clock.wait(self.bell, self._next_moment())
            finally:
                self._end()
        except BaseException as error:  # noqa: BLE001 - the caller's to raise; nobody must wait for ever
            self._delivery.fail(error)
        self._books.end()
        self.is_over = True
        for teller in self._tellers:
            teller.tell_now(self.progress())
        self._delivery.bell.ring()

    def _turn(self) -> bool:
        """Do what is due; say whether the run is over."""
        if self._control.settle():
            self._staff.wake()
        is_input_over = self._is_input_over  # before the look: what came in before it is there
        while self._incoming:
            self._admit(self._incoming.popleft())
        now = self._clock.monotonic()
        for job in self._staff.collect(now):
            self._harvest(job)
        while self._confirmed:
            self._delivery.conclude(*self._confirmed.popleft())
        self._try_again(now)
        self._tell(now)
        if self._control.is_stopping:
            self._delivery.bell.ring()  # it may wait for room
        return self._is_left or (is_input_over and not self._live and not self._waiting and self._is_delivered())

    def _tell(self, now: float) -> None:
        """Look whether too many have failed, and tell how far the run is."""
        if self._limit.is_share and self._limit.is_passed(*self._books.processed):
            self._control.stop()
        for teller in self._tellers:
            if now >= teller.next_moment:
                teller.tell(self.progress())

    def _is_delivered(self) -> bool:
        """Say whether the caller has, or doesn't want, all that there is."""
        self._delivery.stream_rest()
        return self._is_deserted or not self._delivery.is_awaited

    def _next_moment(self) -> float | None:
        """Return when the next turn is due, if nobody rings."""
        moments = [self._waiting[0][0]] if self._waiting and not self._control.is_held else []
        due = self._staff.next_moment(self._clock.monotonic())
        if due is not None:
            moments.append(due)
        if self._live:
            moments += [teller.next_moment for teller in self._tellers]
        return min(moments, default=None)

    def _end(self) -> None:
        """Take what was done of all that wasn't finished, and send the workers home."""
        try:
            for job in self._staff.abandon():
                self._harvest(job)
            while self._waiting:
                self._give_up(heappop(self._waiting)[2])
            self._delivery.close_all()
        finally:
            self._staff.leave()

    def _admit(self, batch: Batch) -> None:
        """Begin a batch."""
        self._delivery.open(batch)
        if batch.failed:
            self._books.add_failed(len(batch.failed))
            for failed in batch.failed.values():
                self._judge.end(failed)
            self._delivery.deliver(batch, sorted(batch.failed))
        if batch.unsettled:
            self._hand_out(batch.first_job())

    def _hand_out(self, job: Job) -> None:
        self._live.add(job)
        self._books.open(job)
        self._staff.put(job)

    def _harvest(self, job: Job) -> None:
        """Take what a job has achieved."""
        self._live.discard(job)
        self._books.close(job)
        batch = job.batch
        ended = batch.take(job)
        for _, verdict in job.failures:
            if isinstance(verdict, Again):
                heappush(self._waiting, (verdict.due, next(self._numbers), verdict))
        if job.rest is not None:
            self._hand_out(job.rest)
        self._delivery.deliver(batch, ended)

    def _try_again(self, now: float) -> None:
        """Hand out what is due, one job for all the items of a batch."""
        due: dict[tuple[Batch, bool], list[Again]] = {}
        while self._waiting and (self._waiting[0][0] <= now or self._control.is_stopping):
            again = heappop(self._waiting)[2]
            if self._control.is_stopping:
                self._give_up(again)
            elif self._control.is_held:
                heappush(self._waiting, (again.due, next(self._numbers), again))
                break
            else:
                due.setdefault((again.batch, again.is_prepared), []).append(again)
        for (batch, is_prepared), group in due.items():
            group.sort(key=lambda again: again.position)
            positions = [again.position for again in group]
            self._hand_out(Job(batch, [again.value for again in group], positions, is_prepared=is_prepared))

    def _give_up(self, again: Again) -> None:
        """End an item that waits for another attempt, because there will be none."""
        batch = again.batch
        batch.refuse(again.position, self._judge.end(again.failure))
        self._books.add_failed(1)
        self._delivery.deliver(batch, [again.position])
