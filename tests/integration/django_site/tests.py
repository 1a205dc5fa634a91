"""Run by Django's own test runner: connections and transactions beside a batcher."""

# ruff: noqa: PT009, PT027 - these are unittest's, not pytest's

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import skipUnless

from django.db import Error, connection, connections, transaction
from django.test import TestCase, TransactionTestCase

from batcher import Batcher, BatcherClosedError
from batcher.contrib.django import add_on_commit, fresh_connections, put_on_commit
from batcher.testing import inline

from .models import Person

if TYPE_CHECKING:
    from collections.abc import Iterator


def count_people(items: list[object]) -> list[int]:
    """Answer each item with the count of people that the handler sees."""
    return [Person.objects.count()] * len(items)


def refuse(items: list[object]) -> None:
    """Fail."""
    raise LookupError


@contextmanager
def connections_living(seconds: int | None) -> Iterator[None]:
    """Let connections live for so long (None: without end), as CONN_MAX_AGE would."""
    setting = connections.settings["default"]
    before = setting["CONN_MAX_AGE"]
    setting["CONN_MAX_AGE"] = seconds
    connection.close()  # what was opened before has its end already
    try:
        yield
    finally:
        setting["CONN_MAX_AGE"] = before
        connection.close()


class InlineInsideATransaction(TestCase):
    """A TestCase keeps each test in a transaction that no other thread sees into."""

    def test_handler_sees_the_rows_of_the_test(self) -> None:
        """Inline the handler runs in the test's own transaction, which goes on after it."""
        with inline(), Batcher(count_people, around_batch=fresh_connections) as batcher:
            for people in (1, 2, 3):
                Person.objects.create(name="somebody")
                self.assertEqual(batcher.add("count").result(timeout=5), people)
        self.assertTrue(connection.in_atomic_block)
        self.assertFalse(connection.needs_rollback)

    def test_item_added_on_commit(self) -> None:
        """Django's own helper runs what waits for a commit that a TestCase never makes."""
        with inline(), Batcher(count_people, around_batch=fresh_connections) as batcher:
            Person.objects.create(name="somebody")
            with self.captureOnCommitCallbacks(execute=True):
                future = add_on_commit(batcher, "count")
                self.assertFalse(future.done())
            self.assertEqual(future.result(timeout=5), 1)


class InlineOutsideOfTransactions(TransactionTestCase):
    """A batch on the caller's thread leaves the caller's connection alone."""

    def test_callers_connection_stays(self) -> None:
        """A connection that was open before the batch is the same after it."""
        Person.objects.create(name="somebody")
        before = connection.connection
        self.assertIsNotNone(before)
        with inline(), Batcher(count_people, around_batch=fresh_connections) as batcher:
            self.assertEqual(batcher.add("count").result(timeout=5), 1)
        self.assertIs(connection.connection, before)

    def test_connection_opened_by_the_batch_is_closed(self) -> None:
        """A connection that the handler opened ends with the batch."""
        connection.close()
        with inline(), Batcher(count_people, around_batch=fresh_connections) as batcher:
            self.assertEqual(batcher.add("count").result(timeout=5), 0)
        self.assertIsNone(connection.connection)

    def test_transaction_on_a_connection_that_a_batch_opened(self) -> None:
        """Where connections live long, the caller may get a batch's one, and be in a transaction on it."""
        with (
            connections_living(None),
            inline(),
            Batcher(count_people, around_batch=fresh_connections) as batcher,
        ):
            batcher.add("open a connection").result(timeout=5)
            with transaction.atomic():
                Person.objects.create(name="somebody")
                self.assertEqual(batcher.add("count").result(timeout=5), 1)
        self.assertEqual(Person.objects.count(), 1)


class OwnThreads(TransactionTestCase):
    """What the batcher's threads do with connections."""

    def setUp(self) -> None:
        """Watch the handler's connection during each batch and after it."""
        self.used: list[Any] = []
        self.left: list[Any] = []
        self.ageing = False
        self.addCleanup(self.close_used)

    def close_used(self) -> None:
        """Close what lived longer than the batcher's thread and is still referred to here."""
        for raw in self.used:
            raw.close()

    def handle(self, items: list[object]) -> list[int]:
        """Use the thread's connection."""
        answers = count_people(items)
        self.used.append(connection.connection)
        return answers

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the connection that `fresh_connections` leaves."""
        try:
            with fresh_connections():
                yield
        finally:
            self.left.append(connection.connection)
            if self.ageing:
                connection.close_at = 0.0

    def run_batches(self, count: int) -> None:
        """Run one batch after the other on the batcher's thread."""
        with Batcher(self.handle, max_delay=0, around_batch=self.watched) as batcher:
            for _ in range(count):
                self.assertEqual(batcher.add("count").result(timeout=5), 0)
        self.assertEqual(len(self.used), count)

    def test_no_connection_is_left(self) -> None:
        """With Django's default the thread has no connection between two batches."""
        self.run_batches(3)
        self.assertEqual(self.left, [None, None, None])

    def test_no_connection_is_left_by_a_failing_handler(self) -> None:
        """A handler that raises leaves none either."""

        def fail_late(items: list[object]) -> None:
            self.handle(items)
            raise LookupError

        with Batcher(fail_late, max_delay=0, around_batch=self.watched) as batcher:
            self.assertIsInstance(batcher.add("count").exception(timeout=5), LookupError)
        self.assertEqual(self.left, [None])

    def test_long_living_connection_is_kept(self) -> None:
        """With CONN_MAX_AGE = None all batches of a thread share a connection."""
        with connections_living(None):
            self.run_batches(3)
        self.assertEqual({id(raw) for raw in self.left}, {id(raw) for raw in self.used})
        self.assertEqual(len({id(raw) for raw in self.used}), 1)

    def test_connection_that_grew_too_old_is_replaced(self) -> None:
        """A connection whose time ran out between two batches isn't used by the second."""
        self.ageing = True
        with connections_living(600):
            self.run_batches(3)
        self.assertEqual(len({id(raw) for raw in self.used}), 3)

    @skipUnless(connection.vendor == "postgresql", "nothing can cut a connection to a file")
    def test_broken_connection_is_replaced(self) -> None:
        """A connection that the server cut fails one batch, and the next one has another."""
        processes: list[int] = []

        def handle(items: list[object]) -> list[int]:
            answers = self.handle(items)
            processes.append(connection.connection.info.backend_pid)
            return answers

        with (
            connections_living(None),
            Batcher(handle, max_delay=0, around_batch=self.watched) as batcher,
        ):
            batcher.add("count").result(timeout=5)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", processes)
            self.assertIsInstance(batcher.add("count").exception(timeout=5), Error)
            self.assertEqual(batcher.add("count").result(timeout=5), 0)
        self.assertEqual(len(set(processes)), 2)


class OnCommit(TransactionTestCase):
    """Items that wait for the transaction that wrote their rows."""

    def setUp(self) -> None:
        """Make a batcher with a thread of its own."""
        self.batcher = Batcher(count_people, max_delay=0, around_batch=fresh_connections)
        self.addCleanup(self.batcher.close)

    def test_handler_sees_what_was_committed(self) -> None:
        """Nothing is added before the commit; then the handler, on its own thread, sees the rows."""
        with transaction.atomic():
            Person.objects.create(name="somebody")
            future = add_on_commit(self.batcher, "count")
            put_on_commit(self.batcher, "count")
            self.assertEqual(self.batcher.status().accepted, 0)
        self.assertEqual(future.result(timeout=5), 1)
        self.assertTrue(self.batcher.flush(timeout=5).complete)
        self.assertEqual(self.batcher.status().succeeded, 2)

    def test_outside_of_a_transaction(self) -> None:
        """Where nothing has to be waited for, the item is added at once."""
        future = add_on_commit(self.batcher, "count", using="default")
        put_on_commit(self.batcher, "count", using="default")
        self.assertEqual(self.batcher.status().accepted, 2)
        self.assertEqual(future.result(timeout=5), 0)

    def test_rollback(self) -> None:
        """After a rollback nothing is added, and the future is cancelled: nobody waits for ever."""
        with self.assertRaises(LookupError), transaction.atomic():
            future = add_on_commit(self.batcher, "count")
            put_on_commit(self.batcher, "count")
            raise LookupError
        with self.assertRaises(CancelledError):
            future.result(timeout=5)
        self.assertEqual(self.batcher.status().accepted, 0)

    def test_rollback_to_a_savepoint(self) -> None:
        """What was added in a part of a transaction goes with that part."""
        with transaction.atomic():
            kept = add_on_commit(self.batcher, "count")
            with self.assertRaises(LookupError), transaction.atomic():
                lost = add_on_commit(self.batcher, "count")
                raise LookupError
        self.assertEqual(kept.result(timeout=5), 0)
        self.assertTrue(lost.cancelled())
        self.assertEqual(self.batcher.status().accepted, 1)

    def test_cancelled_before_the_commit(self) -> None:
        """An item that nobody wants any more isn't added."""
        with transaction.atomic():
            future = add_on_commit(self.batcher, "count")
            self.assertTrue(future.cancel())
        self.assertEqual(self.batcher.status().accepted, 0)

    def test_cancelled_in_the_queue(self) -> None:
        """After the commit, cancelling takes the item out of the queue."""
        self.batcher.pause()
        with transaction.atomic():
            future = add_on_commit(self.batcher, "count")
        self.assertTrue(future.cancel())
        self.assertEqual(self.batcher.status().cancelled, 1)

    def test_cancelled_by_the_batcher(self) -> None:
        """An item that the batcher cancels at its close takes the caller's future along."""
        self.batcher.pause()
        future = add_on_commit(self.batcher, "count")
        self.batcher.close(drain=False)
        self.assertTrue(future.cancelled())

    def test_cancelled_in_the_handler(self) -> None:
        """Cancelling too late for the handler still gives the caller a cancelled future."""
        entered, leave = threading.Event(), threading.Event()

        def handle(items: list[str]) -> None:
            entered.set()
            leave.wait(5)

        with Batcher(handle, max_delay=0) as batcher:
            future = add_on_commit(batcher, "item")
            self.assertTrue(entered.wait(5))
            self.assertTrue(future.cancel())
            leave.set()
            self.assertEqual(batcher.flush(timeout=5).pending, 0)
            self.assertEqual(batcher.status().succeeded, 1)
        self.assertTrue(future.cancelled())

    def test_handlers_error(self) -> None:
        """What the handler raised is what the future raises."""
        with Batcher(refuse, max_delay=0) as batcher, transaction.atomic():
            future = add_on_commit(batcher, "item")
        with self.assertRaises(LookupError):
            future.result(timeout=5)

    def test_refused_item(self) -> None:
        """A batcher that refuses fails the future, not the commit; without a future it must be heard."""
        self.batcher.close()
        with transaction.atomic():
            Person.objects.create(name="somebody")
            future = add_on_commit(self.batcher, "count")
        self.assertIsInstance(future.exception(timeout=5), BatcherClosedError)
        with self.assertRaises(BatcherClosedError), transaction.atomic():
            Person.objects.create(name="somebody else")
            put_on_commit(self.batcher, "count")
        self.assertEqual(Person.objects.count(), 2)
