"""What a run returns is gathered in order, whatever is closed first, and whatever never is."""

from batcher._collection import Collection
from batcher._job import Batch
from batcher._result import FailedItem


def closed(number: int, items: list[str]) -> Batch:
    """Return a batch all of whose items have come out as they were."""
    batch = Batch(items, range(10 * number, 10 * number + len(items)))
    batch.number = number
    job = batch.first_job()
    job.results = list(items)
    batch.take(job)
    return batch


def test_batches_are_taken_in_order() -> None:
    """A batch that is closed early waits for those before it, and is freed then."""
    collection = Collection(is_shuffled=False, keeps_results=True)
    collection.add(closed(1, ["c"]))
    assert collection.successful == []
    collection.add(closed(0, ["a", "b"]))
    assert collection.successful == collection.results == ["a", "b", "c"]
    assert not collection._waiting


def test_missing_batches_hold_up_nothing_in_the_end() -> None:
    """Where a batch is never closed, as after Ctrl-C into a hook that hangs, the others are there all the same."""
    collection = Collection(is_shuffled=False, keeps_results=True)
    bad = Batch(["f"], [30])
    bad.number = 3
    bad.refuse(0, FailedItem("f", ValueError(), 0))
    for batch in (closed(4, ["g"]), closed(2, ["e"]), bad):
        collection.add(batch)
    collection.finish()
    collection.finish()

    assert collection.results == ["e", "g"]
    assert [failed.item for failed in collection.failed] == ["f"]


def test_shuffled_items_are_put_in_order() -> None:
    """Items that were taken out of their order come back into it; results that nobody wants aren't kept."""
    for keeps_results in (True, False):
        collection = Collection(is_shuffled=True, keeps_results=keeps_results)
        first, second = closed(0, ["b", "d"]), closed(1, ["a", "c"])
        first.indices, second.indices = [1, 3], [0, 2]
        collection.add(first)
        collection.add(second)
        for _ in range(2):
            collection.finish()
            assert collection.successful == ["a", "b", "c", "d"]
            assert collection.results == (["a", "b", "c", "d"] if keeps_results else [])
