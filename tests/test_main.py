"""`python -m batcher`: the demo measures what really happens, and fails when the database isn't as it should be."""

import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from batcher import _demo
from batcher.__main__ import main
from batcher._demo import Answer, Outcome, Plan, ask_in_turn, at_once, find_faults, readings
from batcher._demo_api import Reading, TemperatureStore, post_readings, serving

ROOT = Path(__file__).parents[1]

SMALL = Plan(
    single_readings=3,
    threads=2,
    readings_per_thread=4,
    lone_readings=2,
    crowd=3,
    readings_per_caller=2,
    api_seconds=0.0,
    max_delay=0.01,
)

SWAP_FIRST_ROWS = """
    UPDATE temperatures SET rowid = -1 WHERE rowid = 1;
    UPDATE temperatures SET rowid = 1 WHERE rowid = 2;
    UPDATE temperatures SET rowid = 2 WHERE rowid = -1;
"""


def tampering(script: str) -> type[TemperatureStore]:
    """Return a store whose first rows are changed by a script before they are read back."""
    scripts = [script]

    class TamperingStore(TemperatureStore):
        def rows(self) -> dict[int, Reading]:
            if self.calls and scripts:
                with closing(sqlite3.connect(self._file)) as connection:
                    connection.executescript(scripts.pop())
            return super().rows()

    return TamperingStore


def outcome_of(rows: Mapping[int, Reading], answers: Mapping[int, Reading]) -> Outcome:
    """Return the outcome of a scene whose senders were told these ids, and that left these rows."""
    return Outcome(1, 1.0, [Answer(reading, row_id, 1.0) for row_id, reading in answers.items()], rows)


def table(output: str) -> dict[str, list[float]]:
    """Return the figures of the printed table by scene: readings, calls, seconds, rows, p50 in ms."""
    lines = re.findall(r"^(\S.*?)((?: +[\d.]+){5})$", output, re.MULTILINE)
    return {scene: [float(figure) for figure in figures.split()] for scene, figures in lines}


def test_demo_as_a_process() -> None:
    """The demo leaves with 0, and its table shows every row stored and far fewer calls through the batcher."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "batcher"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=45,
    )

    assert (process.returncode, process.stderr) == (0, "")
    figures = table(process.stdout)
    assert [line[0] for line in figures.values()] == [line[3] for line in figures.values()] == [100, 100, 10, 120]
    single, threads, lone, crowd = figures.values()
    assert single[1] == 100
    assert single[2] >= 5.0
    assert threads[1] <= 10
    assert threads[2] < single[2] / 5
    assert lone[1] == 10
    assert crowd[1] <= 30
    assert "status: open, 230 accepted, 230 succeeded, 0 failed, 0 pending" in process.stdout


def test_small_demo(capsys: pytest.CaptureFixture[str]) -> None:
    """The plan decides how much is sent; calls and rows are counted scene by scene."""
    assert main([], SMALL) == 0

    output = capsys.readouterr()
    figures = table(output.out)
    assert {scene: (line[0], line[3]) for scene, line in figures.items()} == {
        "one call each": (3, 3),
        "batched, 2 threads": (8, 8),
        "batched, a lone caller": (2, 2),
        "batched, 3 callers at once": (6, 6),
    }
    assert figures["one call each"][1] == 3
    assert "rows:   19 read back" in output.out
    assert output.err == ""


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is a file in a temporary directory, which is removed with it."""
    files: list[Path] = []

    class NotedStore(TemperatureStore):
        def __init__(self, file: Path) -> None:
            super().__init__(file)
            files.extend(tmp_path.rglob("*.db"))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(_demo, "TemperatureStore", NotedStore)

    assert main([], SMALL) == 0
    assert [file.name for file in files] == ["temperatures.db"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("DELETE FROM temperatures WHERE rowid = 1", "missing: Reading(sensor='single', number=0, "),
        (
            "INSERT INTO temperatures SELECT * FROM temperatures WHERE rowid = 2",
            "stored but not sent, or stored twice: Reading(sensor='single', number=1, ",
        ),
        (
            SWAP_FIRST_ROWS,
            "out of order: Reading(sensor='single', number=0, celsius=9.0) stands after Reading(sensor='single', ",
        ),
    ],
    ids=["missing", "twice", "swapped"],
)
def test_demo_fails_on_a_faulty_database(
    script: str, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row that is missing, there twice or in another's place makes the exit status 1 and is named."""
    monkeypatch.setattr(_demo, "TemperatureStore", tampering(script))

    assert main([], SMALL) == 1

    output = capsys.readouterr()
    assert fault in output.err
    assert "rows:" not in output.out


def test_answer_with_another_row_is_found() -> None:
    """A sender that was told the id of somebody else's row is named, even if all rows are in their places."""
    first, second = Reading("a", 0, 1.0), Reading("b", 0, 1.0)

    faults = list(find_faults(outcome_of({1: first, 2: second}, {2: first, 3: second})))

    assert faults == [
        f"answered with another row: {first} got {second}",
        f"answered with another row: {second} got None",
    ]


def test_senders_may_interleave() -> None:
    """Rows of different senders may stand in any order as long as each sender's own are as it sent them."""
    rows = dict(enumerate([Reading("b", 0, 1.0), Reading("a", 0, 1.0), Reading("b", 1, 1.0), Reading("a", 1, 1.0)]))

    assert list(find_faults(outcome_of(rows, rows))) == []


def test_every_row_out_of_order_is_found() -> None:
    """A row that comes late is measured against the one before it, not against the first."""
    rows = {number: Reading("a", number, 1.0) for number in (0, 2, 1, 3)}

    assert list(find_faults(outcome_of(rows, rows))) == [f"out of order: {rows[1]} stands after {rows[2]}"]


def test_api_serves_a_crowd(tmp_path: Path) -> None:
    """Forty callers that connect at the same moment are all answered, each with its own row."""
    with TemperatureStore(tmp_path / "rows.db") as store, serving(store, seconds=0.0) as address:

        def post(reading: Reading) -> int:
            return post_readings(address, [reading])[0]

        answers = at_once(partial(ask_in_turn, post), [readings(f"caller-{n}", 1) for n in range(40)])

        assert store.calls == 40
        assert store.rows() == {answer.row_id: answer.reading for answer in answers}


def test_api_knows_one_path(tmp_path: Path) -> None:
    """Another path is answered with 404, which the client raises."""
    with TemperatureStore(tmp_path / "rows.db") as store, serving(store, seconds=0.0) as address:
        with pytest.raises(ConnectionError, match="/api/pressures answered 404 Not Found"):
            post_readings(address, readings("a", 1), path="/api/pressures")

        assert (store.calls, store.rows()) == (0, {})


def test_call_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    """A row that can't be stored takes the rest of its call along."""
    complete: dict[str, object] = {"sensor": "a", "number": 0, "celsius": 1.0}
    with TemperatureStore(tmp_path / "rows.db") as store:
        with pytest.raises(sqlite3.ProgrammingError):
            store.insert([complete, {"sensor": "a"}])

        assert store.rows() == {}


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help says what happens without arguments."""
    with pytest.raises(SystemExit) as end:
        main(["--help"])

    assert end.value.code == 0
    assert "Without arguments it runs a demo" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("argument", ["--unknown", "unknown"])
def test_unknown_arguments_are_refused(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What means nothing ends with status 2 and is named, before anything is started."""
    with pytest.raises(SystemExit) as end:
        main([argument])

    assert end.value.code == 2
    output = capsys.readouterr()
    assert argument in output.err
    assert output.out == ""
