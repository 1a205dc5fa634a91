"""Single-flight: items of the same dedup key that are under way at the same time share one place.

The entry in the queue is a `Ticket` that carries its members: the future, or the ticket of a `put`, of
everybody who added the item. The handler gets the first member's item, and what comes of it is everybody's.
Each member has its own timeout and its own cancel, which take no other one along; when the last of them
has ended in the queue, its ticket ends too.

In the books the ticket counts as one item, as any entry does; `extra` is what its members are beyond
that. A ticket that is claimed has claimed its members.

Thread safety: none of its own; the owner's lock guards all.
"""

from __future__ import annotations

from concurrent.futures._base import FINISHED, PENDING, RUNNING
from typing import TYPE_CHECKING, Any

from batcher._failure import Failure
from batcher._future import is_ctrl_c
from batcher._group import Batch, Ticket, is_tracked

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence


class Flights:
    """The places that are taken, by dedup key, whatever the batch keys: a place belongs to the first item's."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        """Start without any."""
        self._places: dict[Hashable, Ticket] = {}

    def plan(self, newcomers: Iterable[Ticket]) -> tuple[list[Ticket], list[tuple[Ticket, Ticket]]]:
        """Return which of new tickets enter, and which share another one, each with that one.

        Raises what a key's hash or equality raises.
        """
        entering: list[Ticket] = []
        sharing: list[tuple[Ticket, Ticket]] = []
        fresh: dict[Hashable, Ticket] = {}
        for ticket in newcomers:
            shared, key = ticket, ticket.shared_key
            if key is not None:
                taken = self._places.get(key)
                shared = taken if taken is not None and is_joinable(taken) else fresh.setdefault(key, ticket)
            if shared is ticket:
                entering.append(ticket)
            else:
                sharing.append((ticket, shared))
        return entering, sharing

    def take(self, ticket: Ticket) -> None:
        """Have items of the ticket's key share it, from when it has entered the queue."""
        if ticket.shared_key is None:
            return
        try:
            self._places[ticket.shared_key] = ticket
        except Exception:  # noqa: BLE001, S110 - its equality; it has entered, and is shared with nobody
            pass

    def free(self, ticket: Ticket) -> None:
        """Let the next item of the ticket's key have a place of its own."""
        key = ticket.shared_key
        try:
            if key is not None and self._places.get(key) is ticket:
                del self._places[key]
        except BaseException as error:
            # The key's own equality; then the place stays, and the ticket's state keeps others off it.
            if is_ctrl_c(error):
                raise

    def expand(self, batch: Batch, outcomes: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Return the members of a batch that haven't ended, with their items and outcomes; free their places."""
        entries: list[Any] = []
        items: list[Any] = []
        expanded: list[Any] = []
        for ticket, outcome in zip(batch.entries, outcomes, strict=True):
            self.free(ticket)
            members = claimed_members(ticket)
            end_ticket(ticket)
            entries += members
            items += [member._result for member in members]
            expanded += [_for_each(outcome, members)] * len(members)
        return entries, items, expanded


def is_joinable(ticket: Ticket) -> bool:
    """Say whether another item may share the ticket: it waits, or a batch has it."""
    # What was dropped is in no batch, and what has been settled is finished.
    return ticket._state is PENDING or (ticket._state is RUNNING and isinstance(ticket._place, Batch))


def claimed_members(ticket: Ticket) -> list[Any]:
    """Return the members of a claimed ticket that haven't ended, claimed for whoever settles them. May be repeated."""
    members = [member for member in ticket.members or () if member._state in (PENDING, RUNNING)]
    for member in members:
        member._state = RUNNING
    return members


def end_ticket(ticket: Ticket) -> None:
    """Have nobody share the ticket any more; let go of its members, which refer to it, and of its key."""
    ticket._state = FINISHED
    ticket.members = ticket.shared_key = None


def disbanded(entries: Iterable[Any]) -> list[Any]:
    """Return entries that nothing will be done with, `with_members`, and end their tickets."""
    entries = list(entries)
    members = with_members(entries)
    for entry in entries:
        if type(entry) is Ticket:
            end_ticket(entry)
    return members


def _for_each(outcome: object, members: list[Any]) -> object:
    """Return the outcome so that several can raise it, where it is an error."""
    if type(outcome) is Failure and len(members) > 1 and not outcome.shared:
        return Failure(outcome.error, shared=True)
    return outcome


def extra_of(tickets: Iterable[Ticket]) -> int:
    """Return how many members there are beyond the tickets."""
    return sum(ticket.live - 1 for ticket in tickets)


def ticket_of(entry: object) -> Ticket | None:
    """Return the ticket that a member shares with others, if it does."""
    place = entry._place if is_tracked(entry) else None
    return place if type(place) is Ticket else None


def with_members(entries: Iterable[Any]) -> list[Any]:
    """Return entries of which tickets are replaced by their members, claimed for whoever settles them."""
    members: list[Any] = []
    for entry in entries:
        is_shared = type(entry) is Ticket and entry.members is not None
        members += claimed_members(entry) if is_shared else [entry]
    return members
