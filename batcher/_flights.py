"""Single-flight: items of the same dedup key that are under way at the same time share one place.

The entry in the queue is a `Ticket` that carries its members: the future, or the ticket of a `put`, of
everybody who added the item. The handler gets the item once, and what comes of it is everybody's. Each
member has its own timeout and its own cancel, which take no other one along; when the last of them has
ended in the queue, its ticket ends too.

In the books the ticket counts as one item, as any entry does; `extra` is what its members are beyond
that.

Thread safety: none of its own; the owner's lock guards all.
"""

from __future__ import annotations

from concurrent.futures._base import FINISHED, PENDING, RUNNING
from typing import TYPE_CHECKING, Any

from batcher._failure import Failure
from batcher._future import ItemFuture
from batcher._group import Batch, Ticket

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence


class Flights:
    """The places that are taken, by dedup key."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        """Start without any."""
        self._places: dict[Hashable, Ticket] = {}

    def find(self, key: Hashable) -> Ticket | None:
        """Return the ticket that an item of this key shares; raises what the key's hash or equality raises."""
        ticket = None if key is None else self._places.get(key)
        if ticket is None or ticket._state is PENDING:
            return ticket
        # Claimed by a batch; or dropped, and not yet settled.
        return ticket if ticket._state is RUNNING and isinstance(ticket._place, Batch) else None

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
        try:
            if ticket.shared_key is not None and self._places.get(ticket.shared_key) is ticket:
                del self._places[ticket.shared_key]
        except Exception:  # noqa: BLE001, S110 - the key's own equality; `find` looks at the ticket's state
            pass

    def expand(self, batch: Batch, outcomes: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Return the members of a batch that haven't ended, with their items and outcomes; free their places."""
        entries: list[Any] = []
        items: list[Any] = []
        expanded: list[Any] = []
        for ticket, item, outcome in zip(batch.entries, batch.items, outcomes, strict=True):
            self.free(ticket)
            members = live_members(ticket)
            entries += members
            items += [item] * len(members)
            expanded += [_for_each(outcome, members)] * len(members)
        return entries, items, expanded


def _for_each(outcome: object, members: list[Any]) -> object:
    """Return the outcome so that several can raise it, where it is an error."""
    if type(outcome) is Failure and len(members) > 1 and not outcome.shared:
        return Failure(outcome.error, shared=True)
    return outcome


def live_members(ticket: Ticket) -> list[Any]:
    """Return the members that haven't ended."""
    return [member for member in ticket.members or () if member._state in (PENDING, RUNNING)]


def claim_members(tickets: Iterable[Ticket]) -> int:
    """Make members uncancellable, as their batch goes to its handler; return how many there are beyond the tickets."""
    extra = 0
    for ticket in tickets:
        extra += ticket.live - 1
        for member in live_members(ticket):
            member._state = RUNNING
    return extra


def extra_of(tickets: Iterable[Ticket]) -> int:
    """Return how many members there are beyond the tickets."""
    return sum(ticket.live - 1 for ticket in tickets)


def ticket_of(entry: object) -> Ticket | None:
    """Return the ticket that a future shares with others, if it does."""
    place = entry._place if type(entry) is ItemFuture else None
    return place if type(place) is Ticket else None


def with_members(entries: Iterable[Any]) -> list[Any]:
    """Return entries of which tickets are replaced by their members, claimed for whoever settles them."""
    members: list[Any] = []
    for entry in entries:
        if type(entry) is not Ticket or entry.members is None:
            members.append(entry)
            continue
        for member in entry.members:
            if member._state is PENDING:
                member._state = RUNNING
            if member._state in (RUNNING, FINISHED):
                members.append(member)
    return members
