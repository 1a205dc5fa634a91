"""The pending queue against a naive reference: a list of all that ever came in, searched anew at every step."""

import math
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batcher._clock import Bell
from batcher._group import Batch, Group, is_tracked
from batcher._offers import SEALED
from batcher._pending import PendingQueue
from batcher._status import Tally
from tests.queue_play import drop_all, drop_oldest, end, enter, finish, future, ticket

PRIORITIES = st.sampled_from([0, 0, 0, 7, 2, 1, -3])
KINDS = st.lists(st.sampled_from(["future", "ticket", "bare"]), min_size=1, max_size=5)


@dataclass(eq=False)
class Record:
    """What the reference knows of one entry."""

    entry: Any
    item: object
    key: object
    came: float
    weight: float
    is_first: bool  # nothing of its key waited as it came
    priority: int = 0
    tally: Tally | None = None  # of the flush that sealed it
    fate: str = "waits"


class QueueModel(RuleBasedStateMachine):
    """Steps of a pending queue and of the reference, and what must be equal after each."""

    @initialize(
        size=st.integers(1, 4),
        delay=st.sampled_from([None, 0.0, 1.0, 5.0]),
        limit=st.sampled_from([None, 6.0]),
        is_weighed=st.booleans(),
        is_keyed=st.booleans(),
        is_ranked=st.booleans(),
    )
    def make(
        self,
        *,
        size: int,
        delay: float | None,
        limit: float | None,
        is_weighed: bool,
        is_keyed: bool,
        is_ranked: bool,
    ) -> None:
        """Make the queue, and an empty reference."""
        self.size, self.delay, self.is_weighed, self.is_keyed = size, delay, is_weighed, is_keyed
        self.is_ranked = is_ranked
        self.patience = math.inf if delay is None else max(10 * delay, 0.1)
        self.limit = limit if is_weighed and limit is not None else math.inf
        self.queue = PendingQueue(
            max_batch_size=size,
            max_delay=delay,
            max_batch_weight=limit if is_weighed else None,
            is_tracked=is_weighed or is_keyed,
            keeps_order=True,
        )
        self.now = 0.0
        self.records: list[Record] = []
        self.running: list[Batch] = []
        self.bells: list[tuple[Tally, Bell]] = []
        self.dropped = 0

    # What the reference says

    def waiting(self) -> list[Record]:
        """All that wait, in the order of arrival."""
        return [record for record in self.records if record.fate == "waits"]

    def waiting_of(self, key: object) -> list[Record]:
        """All of one key that wait."""
        return [record for record in self.waiting() if record.key == key]

    def free_keys(self) -> set[object]:
        """The keys that wait and have no batch in a handler."""
        busy = {batch.group.key for batch in self.running} if self.is_keyed else set()
        return {record.key for record in self.waiting()} - busy

    def is_full(self, key: object) -> bool:
        """Whether a key has a batch together."""
        records = self.waiting_of(key)
        return len(records) >= self.size or sum(record.weight for record in records) >= self.limit

    def is_sealed(self, key: object) -> bool:
        """Whether a flush waits for a key."""
        return self.waiting_of(key)[0].tally is not None

    def due_keys(self, *, is_paused: bool) -> set[object]:
        """The keys that have to leave now."""
        keys = self.free_keys()
        sealed = {key for key in keys if self.is_sealed(key)}
        if is_paused:
            return sealed
        late = {key for key in keys if self.delay is not None and self.waiting_of(key)[0].came + self.delay <= self.now}
        return sealed | late | {key for key in keys if self.is_full(key)}

    def earliest(self, record: Record) -> float:
        """When an entry may have come at the earliest, by the dates that the queue keeps: one for a batch.

        Where nothing of its key waited before it, the dates begin anew.
        """
        earlier = [other for other in self.records if other.key == record.key]
        earlier = earlier[: earlier.index(record) + 1]
        begin = max(index for index, other in enumerate(earlier) if other.is_first)
        return earlier[max(len(earlier) - self.size, begin)].came

    def next_batch(self, key: object) -> list[Record]:
        """What the next batch of a key holds: of one flush, as many and as much as a batch may."""
        records = self.waiting_of(key)
        records = [record for record in records if record.tally is records[0].tally]
        taken: list[Record] = []
        while records and len(taken) < self.size:
            record = self.next_of(records)
            if taken and sum(other.weight for other in taken) + record.weight > self.limit:
                break
            taken.append(record)
            records.remove(record)
        return taken

    def next_of(self, records: list[Record]) -> Record:
        """What leaves first: what starves, by age, or the highest priority, in order of arrival."""
        starving = [record for record in records if self.date(record) <= self.now - self.patience]
        if starving:
            return min(starving, key=lambda record: (self.date(record), -record.priority))
        return max(records, key=lambda record: record.priority)

    def date(self, record: Record) -> float:
        """When an entry came, as the queue knows it: a plain queue that becomes a tracked one knows it roughly."""
        entry = record.entry
        return entry._since if is_tracked(entry) and self.queue._is_tracked else record.came

    def check_choice(self, group: Group, *, is_paused: bool) -> None:
        """Of the groups that may leave, none ranks above the one that does."""
        free = [group for group in self.queue._groups.values() if group.live and not group.is_busy]
        when = {group: self.queue._leaves_at(group) for group in free}
        due = [group for group in free if (at := when[group]) is not None and at <= self.now]
        if is_paused:
            due = [group for group in due if when[group] == SEALED]

        def rank(group: Group) -> tuple[bool, float, int]:
            records = self.waiting_of(group.key)
            priority = max((record.priority for record in records if record.tally is records[0].tally), default=0)
            is_starving = due and group.since <= self.now - self.patience
            return when[group] == SEALED, -group.since if is_starving else -math.inf, 0 if is_starving else priority

        assert rank(group) == max(map(rank, due or free))

    def record_of(self, entry: Any) -> Record:
        """Find an entry; bare items are all different."""
        return next(record for record in self.records if record.entry is entry)

    # What can happen

    @rule(kinds=KINDS, key=st.integers(0, 2), weight=st.integers(0, 6), priority=PRIORITIES)
    def enter(self, kinds: list[str], key: int, weight: int, priority: int) -> None:
        """Items come in together, the slow way."""
        own_priority = priority if self.is_ranked else 0
        own_key = key if self.is_keyed else None
        own_weight = float(weight) if self.is_weighed else 0.0
        for kind in kinds:
            is_first = not self.waiting_of(own_key)
            item = f"item {len(self.records)}"
            needs_state = self.is_keyed or self.is_weighed or own_priority
            make = future if kind == "future" else ticket if kind == "ticket" or needs_state else None
            entry = item if make is None else make(item, key=own_key, weight=own_weight, priority=own_priority)
            self.records.append(Record(entry, item, own_key, self.now, own_weight, is_first, own_priority))
        enter(self.queue, *(record.entry for record in self.records[-len(kinds) :]), now=self.now)

    @rule(kind=st.sampled_from(["future", "bare"]))
    def slip_in(self, kind: str) -> None:
        """An item comes in the fast way, if that is open or was just now: an append and nothing else."""
        was_open = self.queue.ranked_since == self.now and not (self.is_keyed or self.is_weighed)
        if len(self.queue.inbox) >= self.queue.undated_room and not was_open:
            return
        item = f"item {len(self.records)}"
        entry = future(item) if kind == "future" else item
        self.records.append(Record(entry, item, None, self.now, 0.0, not self.waiting()))
        self.queue.inbox.append(entry)

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0]))
    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def arrange(self) -> None:
        """The flusher looks at what has come in; every group is then as old as its oldest item, or a little older."""
        self.queue.arrange(self.now)
        for group in self.queue._groups.values():
            if group.live:
                oldest = self.waiting_of(group.key)[0]
                assert self.earliest(oldest) <= group.since <= oldest.came

    @rule(data=st.data(), ending=st.sampled_from(["cancelled", "expired"]), is_nested=st.booleans())
    def end(self, data: st.DataObject, ending: str, *, is_nested: bool) -> None:
        """An item ends where it waits."""
        tracked = [record for record in self.waiting() if is_tracked(record.entry)]
        if tracked:
            record = data.draw(st.sampled_from(tracked))
            record.fate = ending
            end(self.queue, record.entry, ending, is_nested=is_nested)

    @precondition(lambda self: self.waiting())
    @rule()
    def drop_oldest(self) -> None:
        """The overflow policy drops the oldest of all."""
        self.queue.account_for_ended()
        oldest = self.waiting()[0]
        assert drop_oldest(self.queue) is oldest.entry
        oldest.fate = "dropped"

    @rule()
    def seal(self) -> None:
        """A flush is about all that waits and isn't another's already."""
        tally = self.queue.seal()
        bell = Bell()
        tally.bells.append(bell)
        self.bells.append((tally, bell))
        for record in self.waiting():
            if record.tally is None:
                record.tally = tally
        tally.ring_if_complete()

    @rule(is_paused=st.booleans(), is_forced=st.booleans())
    def cut(self, *, is_paused: bool, is_forced: bool) -> None:
        """The flusher takes a batch if there is one."""
        self.arrange()
        due = self.due_keys(is_paused=is_paused)
        batch: Batch | None = None
        while batch is None:
            group = self.queue.next_due(self.now, is_paused=is_paused, is_forced=is_forced)
            if group is not None and self.queue.is_ranked:
                self.check_choice(group, is_paused=is_paused)
            if group is None:
                assert not due, "something is due and doesn't leave"
                assert not is_forced or not self.free_keys(), "something may leave and doesn't"
                return
            batch = self.queue.cut(group, self.now)
        self.check_batch(batch, batch.group, may_leave=is_forced or batch.group.key in due)

    def check_batch(self, batch: Batch, group: Group, *, may_leave: bool) -> None:
        """Compare a batch with what the reference would have sent."""
        expected = self.next_batch(group.key)
        oldest = min(expected, key=lambda record: record.came)
        assert group.key in self.free_keys()
        assert batch.items == [record.item for record in expected]
        assert batch.entries == [record.entry for record in expected]
        assert batch.weight == sum(record.weight for record in expected)
        assert batch.tally is (oldest.tally or self.queue.open_tally)
        assert self.earliest(oldest) <= batch.since <= oldest.came
        if not may_leave:
            assert self.delay is not None
            oldest = self.waiting_of(group.key)[0]
            assert self.earliest(oldest) + self.delay <= self.now, "a batch left too early"
        for record in expected:
            record.fate = "running"
        self.running.append(batch)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A handler returns."""
        batch = data.draw(st.sampled_from(self.running))
        self.running.remove(batch)
        for entry in batch.entries:
            self.record_of(entry).fate = "succeeded"
        finish(self.queue, batch)

    @rule()
    def drop_all(self) -> None:
        """The batcher is closed and its time is over."""
        dropped = drop_all(self.queue)
        waiting = self.waiting()
        assert len(dropped) == len(waiting)
        assert {id(entry) for entry in dropped} == {id(record.entry) for record in waiting}
        for record in waiting:
            record.fate = "dropped"
        self.queue.arrange(self.now)

    # What always holds

    @invariant()
    def counts_agree(self) -> None:
        """Count, weight and all that ever came in are those of the reference, once endings are accounted for."""
        if not hasattr(self, "queue"):
            return
        self.queue.account_for_ended()
        self.queue.collect()
        waiting = self.waiting()
        if self.queue._is_tracked:
            # Bare items became tickets, dated as well as the queue knew.
            tickets = {entry._result: entry for entry in self.queue.waiting()}
            for record in waiting:
                if not is_tracked(record.entry):
                    record.entry = tickets[record.item]
                assert self.earliest(record) <= record.entry._since <= record.came
        assert self.queue.count == len(waiting)
        assert self.queue.accepted == len(self.records)
        assert math.isclose(self.queue.weight, sum(record.weight for record in waiting), abs_tol=1e-9)

    @invariant()
    def tallies_agree(self) -> None:
        """Every flush knows what is left of it and what became of the rest, and rang when nothing was left."""
        for tally, bell in getattr(self, "bells", ()):
            own = [record for record in self.records if record.tally is tally]
            assert tally.pending == sum(record.fate == "waits" for record in own)
            for ending in ("cancelled", "expired", "dropped"):
                assert tally.ended[ending] == sum(record.fate == ending for record in own)
            assert bell.is_rung == (tally.left == 0)

    @invariant()
    def memory_is_bounded(self) -> None:
        """Nothing is kept but what waits, few that have ended, and the keys of either."""
        if not hasattr(self, "queue"):
            return
        waiting = len(self.waiting())
        groups = self.queue._groups.values()
        assert sum(group.size for group in groups) + len(self.queue.inbox) <= waiting + max(waiting, 64) + 1
        busy = {batch.group.key for batch in self.running}
        assert not self.is_keyed or len(self.queue._by_key) <= len({r.key for r in self.waiting()} | busy) + len(
            self.queue._touched
        )


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)
