"""`python -m batcher run`: rows in, results out in order, failed rows beside them."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batcher import BatchProcessor, Progress
from batcher.__main__ import main
from batcher._meter import Meter
from tests.bulk_tools import SECONDS, becomes

ROOT = Path(__file__).parents[1]

JOBS = """
import os, sys, threading

class Shop:
    @staticmethod
    def price(row):
        return float(row["price"]) * 2

async def later(value):
    return value

def reciprocal(n):
    return {"of": n, "is": 1 / n}

def identity(value):
    return value

def unwritable(value):
    return {value}

def interrupt(value):
    import signal
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    may_go.wait(30)

may_go = threading.Event()

def unspeakable(value):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError
    raise Mute

def slow(value):
    with open("log", "a") as log:
        log.write(f"{value}\\n")
    return value

number = 5
"""


@pytest.fixture(name="place", autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory with a module of jobs."""
    (tmp_path / "jobs.py").write_text(JOBS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("jobs", None)


def lines(path: Path) -> list[Any]:
    """Return the values in a file of JSON Lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_results_in_order(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is a value for the function; results are written in the order of the lines."""
    (place / "in.jsonl").write_text("\n".join(map(str, range(1, 500))) + "\n\n")

    assert main(["run", "jobs:reciprocal", "in.jsonl", "--output", "out", "--batch-size", "7"]) == 0
    assert lines(place / "out") == [{"of": n, "is": 1 / n} for n in range(1, 500)]
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("499 succeeded, 0 failed, in ")


def test_failed_rows(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that fail are left out of the output and told in a file of their own; the status says so."""
    (place / "in.jsonl").write_text('1\n0\n{"bad\n"ü"\n4\n')
    status = main(["run", "jobs:reciprocal", "in.jsonl", "--failed", "bad", "--retries", "1", "--quiet"])
    output = capsys.readouterr()

    assert status == 1
    assert [json.loads(line)["of"] for line in output.out.splitlines()] == [1, 4]
    assert output.err == ""
    assert [(bad["line"], bad["item"], bad["error"], bad["attempts"]) for bad in lines(place / "bad")] == [
        (2, 0, "ZeroDivisionError", 2),
        (3, '{"bad', "ValueError", 2),
        (4, "ü", "TypeError", 2),
    ]
    assert lines(place / "bad")[1]["message"].startswith("line 3 is not JSON: ")


def test_failed_rows_without_a_file(place: Path) -> None:
    """Without a file for them the status alone tells of failed rows."""
    (place / "in.jsonl").write_text("0\n")

    assert main(["run", "jobs:reciprocal", "in.jsonl", "--quiet"]) == 1


@pytest.mark.parametrize("function", ["unwritable", "unspeakable"])
def test_result_or_error_that_cannot_be_written(place: Path, function: str) -> None:
    """A result that is no JSON fails its row; an error that has no words is told by its name."""
    (place / "in.jsonl").write_text("1\n")

    assert main(["run", f"jobs:{function}", "in.jsonl", "--failed", "bad"]) == 1
    assert lines(place / "bad")[0]["error"] in ("TypeError", "Mute")


def test_csv(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of a CSV file come as dicts; a function may stand in a class."""
    (place / "in.csv").write_text('\ufeffname,price\nA,1.5\n"B,\nb",2\n', encoding="utf-8")

    assert main(["run", "jobs:Shop.price", "in.csv"]) == 0
    assert capsys.readouterr().out == "3.0\n4.0\n"


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A dash is standard input, in the format that is asked for."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("price\n3\n"))

    assert main(["run", "jobs:Shop.price", "-", "--format", "csv"]) == 0
    assert capsys.readouterr().out == "6.0\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs", "in.jsonl"], "expected MODULE:FUNCTION, got 'jobs'"),
        (["missing:function", "in.jsonl"], "no module 'missing' for 'missing:function'"),
        (["jobs:missing", "in.jsonl"], "'jobs' has no function 'missing'"),
        (["jobs:number", "in.jsonl"], "'jobs' has no function 'number'"),
        (["jobs:identity", "missing.jsonl"], "No such file"),
        (["jobs:identity", "in.jsonl", "--batch-size", "0"], "batch_size must be an int of at least 1, got 0"),
        (["jobs:identity", "in.jsonl", "--retries", "x"], "invalid int value: 'x'"),
        (["jobs:identity", "in.jsonl", "--output", "in.jsonl"], "'in.jsonl' is the input"),
        (["jobs:identity", "in.jsonl", "--failed", "./in.jsonl"], "'./in.jsonl' is the input"),
        (["jobs:identity", "in.jsonl", "--failed", "out"], "'out' is the output: it can't be the failed as well"),
        (["jobs:identity", "in.jsonl", "--checkpoint", "linked"], "'linked' is the output"),
        (["jobs:identity", "in.jsonl", "--failed", "missing/failed"], "No such file"),
        (["jobs:identity", "in.jsonl", "--key", "id"], "--key needs --checkpoint"),
        (["jobs:later", "in.jsonl"], "later must be a function that does its work when it is called"),
        (["broken:function", "in.jsonl"], "importing 'broken' raised SystemExit: 0"),
        (["jobs:identity"], "the following arguments are required: INPUT"),
    ],
)
def test_wrong_usage(place: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments that can't be done end with status 2 and say why; no file is touched."""
    (place / "in.jsonl").write_text("1\n")
    (place / "out").write_text("precious")
    (place / "linked").hardlink_to(place / "out")
    (place / "broken.py").write_text("raise SystemExit(0)")
    with pytest.raises(SystemExit) as end:
        main(["run", *arguments, *([] if "--output" in arguments else ["--output", "out"])])

    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert (place / "out").read_text() == "precious"
    assert (place / "in.jsonl").read_text() == "1\n"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help tells of formats, the checkpoint and the exit status."""
    with pytest.raises(SystemExit) as end:
        main(["run", "--help"])

    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("MODULE:FUNCTION", "--checkpoint", "exit status:", "example:", "CSV"))


def test_input_that_cannot_be_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What goes wrong while reading ends with status 2, after all that was read."""
    (place / "in.csv").write_text("a\n1\n2\n" + "x" * 200_000)

    assert main(["run", "jobs:identity", "in.csv"]) == 2
    output = capsys.readouterr()
    assert output.out == '{"a": "1"}\n{"a": "2"}\n'
    assert "field larger than field limit" in output.err


@pytest.mark.parametrize(("name", "row"), [("in.jsonl", b'"%b"'), ("in.csv", b"%b")])
def test_bytes_that_are_no_text(place: Path, name: str, row: bytes) -> None:
    """A row that is no UTF-8 fails alone; those before and after it are processed."""
    content = [row % b"\xc3\xa9", row % b"\xff", row % b"c"]
    (place / name).write_bytes(b"\n".join([row % b"a", *content]))

    assert main(["run", "jobs:identity", name, "--output", "out", "--failed", "failed"]) == 1
    assert [*map(str, lines(place / "out"))][-2:] in (["é", "c"], ["{'a': 'é'}", "{'a': 'c'}"])
    [failed] = lines(place / "failed")
    assert failed["message"].endswith("is not UTF-8")


def test_half_a_character(place: Path) -> None:
    """JSON may hold half a character, which no file can: it is written as it came, escaped, and nothing stops."""
    (place / "in.jsonl").write_text('1\n"\\ud800"\n"é"\n"\\ud800"]\n')

    assert main(["run", "jobs:identity", "in.jsonl", "--output", "out", "--failed", "failed"]) == 1
    assert (place / "out").read_text(encoding="utf-8") == '1\n"\\ud800"\n"é"\n'
    assert lines(place / "failed")[0]["item"] == '"\\ud800"]'


def test_standard_input_and_output_are_utf8(place: Path) -> None:
    """Standard input and output are UTF-8 whatever the locale says, a mark at the beginning is left out."""
    process = run(place, "jobs:identity", "-", stdin=subprocess.PIPE, encoding="utf-8", locale="ascii")

    assert process.communicate('\ufeff"é"\n', timeout=SECONDS)[0] == '"é"\n'
    assert process.returncode == 0


def test_pipe_with_a_name(place: Path) -> None:
    """A pipe is read once, and not counted before: its rows would be gone."""
    os.mkfifo(place / "pipe")
    process = run(place, "jobs:identity", "pipe")
    (place / "pipe").write_text("1\n2\n")

    assert process.communicate(timeout=SECONDS)[0] == "1\n2\n"
    assert process.returncode == 0


def test_outputs_that_are_no_files(place: Path) -> None:
    """Nothing speaks against one device for all outputs."""
    (place / "in.jsonl").write_text("1\n")

    assert main(["run", "jobs:identity", "in.jsonl", "--output", os.devnull, "--failed", os.devnull]) == 0


def test_torn_line(place: Path) -> None:
    """What a kill has left of a line is taken away before its row comes again."""
    (place / "in.jsonl").write_text("1\n")
    arguments = ["run", "jobs:identity", "in.jsonl", "--output", "out", "--failed", "failed", "--checkpoint", "done"]
    assert main(arguments) == 0
    (place / "in.jsonl").write_text("1\n2\nx\n")
    (place / "out").write_text('1\n{"long": "' + "x" * 200_000)
    (place / "failed").write_text("{")

    assert main(arguments) == 1
    assert lines(place / "out") == [1, 2]
    assert [failed["item"] for failed in lines(place / "failed")] == ["x"]


def test_output_of_another_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is refused, because another one has the checkpoint, leaves the outputs alone."""
    (place / "in.jsonl").write_text("1\n")
    arguments = ["run", "jobs:identity", "in.jsonl", "--output", "out", "--checkpoint", "done"]
    other = BatchProcessor(str, checkpoint="done", item_key=str).stream([1])
    next(other)
    (place / "out").write_text("half a li")

    assert main(arguments) == 2
    assert (place / "out").read_text() == "half a li"
    other.close()


@pytest.mark.parametrize(
    ("name", "first", "second", "new"),
    [
        ("in.jsonl", '{"id": 1}\n{"id": "1"}\n', '{"id": 2}\n{"id": "1"}\n\n{"id": 1, "more": 0}\n', [{"id": 2}]),
        ("in.csv", "id\na\nb\n", "id\nb\nc\na\n", [{"id": "c"}]),
    ],
)
def test_key(place: Path, name: str, first: str, second: str, new: list[object]) -> None:
    """With a key rows are skipped wherever they stand and whatever else they hold."""
    arguments = ["run", "jobs:identity", name, "--output", "out", "--checkpoint", "done", "--key", "id"]
    (place / name).write_text(first)
    assert main(arguments) == 0
    before = lines(place / "out")
    (place / name).write_text(second)

    assert main(arguments) == 0
    assert lines(place / "out") == [*before, *new]


def test_rows_without_the_key(place: Path) -> None:
    """A row that has no such field, or can't be parsed, fails alone."""
    (place / "in.jsonl").write_text('{"id": null}\n[1]\nx\n{"id": 4}\n')
    arguments = ["--output", "out", "--failed", "failed", "--checkpoint", "done", "--key", "id"]

    assert main(["run", "jobs:identity", "in.jsonl", *arguments]) == 1
    assert lines(place / "out") == [{"id": 4}]
    messages = [failed["message"] for failed in lines(place / "failed")]
    assert messages[:2] == ["line 1 has no field 'id'", "line 2 has no field 'id'"]
    assert messages[2].startswith("line 3 is not JSON")


def test_foreign_checkpoint(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint that can't be used ends with status 2."""
    (place / "in.jsonl").write_text("1\n")
    (place / "done").write_text("something else")

    assert main(["run", "jobs:identity", "in.jsonl", "--checkpoint", "done"]) == 2
    assert "no checkpoint of this library" in capsys.readouterr().err


def test_ctrl_c(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends with status 130."""
    (place / "in.jsonl").write_text("1\n")

    assert main(["run", "jobs:interrupt", "in.jsonl"]) == 130
    sys.modules["jobs"].may_go.set()
    assert "interrupted" in capsys.readouterr().err


def test_checkpoint(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run does what is new or has changed, and appends to the output."""
    (place / "in.jsonl").write_text("1\n2\n")
    arguments = ["run", "jobs:identity", "in.jsonl", "--output", "out", "--checkpoint", "done"]
    assert main(arguments) == 0
    (place / "in.jsonl").write_text("1\n5\n3\n")
    assert main(arguments) == 0

    assert lines(place / "out") == [1, 2, 5, 3]
    assert "2 succeeded, 0 failed, 1 skipped" in capsys.readouterr().err


def run(place: Path, *arguments: str, locale: str = "utf-8", **options: Any) -> subprocess.Popen[str]:
    """Start the command as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "batcher", "run", *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": locale},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_killed_command_loses_no_line(place: Path) -> None:
    """Killed in the middle and started again, each row is in the output at least once, in order within each run."""
    (place / "in.jsonl").write_text("\n".join(map(str, range(3000))))
    (place / "out").touch()
    arguments = ("jobs:slow", "in.jsonl", "--output", "out", "--checkpoint", "done", "--batch-size", "10")
    for goal in (300, 900):
        process = run(place, *arguments)
        becomes(lambda process=process, goal=goal: process.poll() is not None or len(lines_so_far(place)) >= goal)  # type: ignore[misc]
        process.kill()
        process.communicate(timeout=SECONDS)
        assert process.returncode < 0
    process = run(place, *arguments)
    errors = process.communicate(timeout=SECONDS)[1]

    assert process.returncode == 0
    assert "skipped" in errors
    written = list(map(int, lines_so_far(place)))
    assert sorted(set(written)) == list(range(3000))
    assert len(written) <= 3000 + 2 * 50


def lines_so_far(place: Path) -> list[str]:
    """Return the whole lines that the output has."""
    return (place / "out").read_text().split("\n")[:-1]


def test_output_that_nobody_reads(place: Path) -> None:
    """Where the reader of the output has gone the command ends quietly."""
    (place / "in.jsonl").write_text("\n".join(map(str, range(100_000))))
    process = run(place, "jobs:identity", "in.jsonl", "--quiet")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(SECONDS) == 1
    process.stderr.close()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_meter_on_a_terminal() -> None:
    """On a terminal a bar grows, with counts, the rate and the time left."""
    terminal = Terminal()
    with Meter(terminal, is_quiet=False) as meter:
        meter(Progress(processed=5, rate=2.0))
        meter.total = 20
        meter(Progress(processed=5, failed=1, skipped=5, rate=2.0))
        meter(Progress(processed=20, successful=19, failed=1, rate=2.0, state="done", elapsed=10.0))

    shown = terminal.getvalue().split("\r")
    assert shown[1] == "5, 0 failed, 2/s\x1b[K"
    assert shown[2] == "[############............] 10/20, 1 failed, 2/s, 5 s left\x1b[K"
    assert shown[3].endswith("0 s left\x1b[K\n19 succeeded, 1 failed, in 10.0 s\n")


def test_meter_is_ended_in_any_case() -> None:
    """A bar that is left in the middle ends its line."""
    terminal = Terminal()
    with Meter(terminal, is_quiet=False) as meter:
        meter(Progress())

    assert terminal.getvalue().endswith("\x1b[K\n")
