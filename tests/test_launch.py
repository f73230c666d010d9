"""Runs in the background, with real processes: pocket runs, and small programs that stand in for Python."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from needle import launch, store
from needle.errors import StoreError, UsageError
from needle.launch import Ask, Launch

SMALL = Ask("pocket-4k", "number", "noise", (256, 512), (0.0, 0.5, 1.0))
LARGE = Ask("pocket-4k", "number", "noise", (512, 1024, 2048, 4096), tuple(d / 20 for d in range(21)), repeats=8)
pytestmark = pytest.mark.skipif(os.name != "posix", reason="runs are started in the background on POSIX systems only")


def until(true: Callable[[], object], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Have a small program take Python's place; whatever is left of it is ended afterwards."""
    children: dict[str, subprocess.Popen[bytes]] = {}
    monkeypatch.setattr(launch, "_children", children)

    def make(body: str) -> None:
        program = tmp_path / "python"
        program.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{body}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(program))

    yield make
    for child in children.values():
        child.kill()
        child.wait()


def ended(started: Launch) -> bool:
    return not launch.running(started)


def test_a_run_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    starter = f"from pathlib import Path\nfrom needle.launch import *\nstart({SMALL!r}, Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", starter], check=True, timeout=60)
    ((found,), damaged) = launch.launches(tmp_path)
    assert (found.ask, damaged) == (SMALL, [])
    assert launch.running(found)
    until(lambda: ended(found))
    folder = launch.folder(found)
    assert folder is not None
    run = store.read(folder)
    assert (run.status, len(run.results)) == ("complete", 6)
    assert (run.spec.grid.lengths, run.spec.grid.depths) == (SMALL.lengths, SMALL.depths)
    assert launch.tail(found, 1)[0].startswith("kept in")
    assert launch.exit_code(found) is None  # another process's child


def test_a_stopped_run_keeps_its_cells(tmp_path: Path) -> None:
    started = launch.start(LARGE, tmp_path)
    assert launch.folder(started) is None
    # A run's first cells are there before its last line.
    until(lambda: any(line.startswith("[") for line in launch.tail(started)))
    folder = launch.folder(started)
    assert folder is not None
    asked = launch.stop(started)
    assert asked.stopped is not None
    until(lambda: ended(started), seconds=launch.GRACE + 10)
    run = store.read(folder)
    assert run.status == "partial"
    assert run.results
    assert launch.exit_code(started) in (130, -signal.SIGTERM)
    assert launch.launches(tmp_path)[0] == [asked]


def test_a_refused_request_says_why(tmp_path: Path) -> None:
    started = launch.start(replace(SMALL, model="no/such-model"), tmp_path)
    until(lambda: ended(started))
    assert launch.exit_code(started) == 2
    assert launch.tail(started, 1)[0].startswith("needle: ")
    assert launch.folder(started) is None


@pytest.mark.parametrize("text", ["$(id)", "; id", "a b", "a\nb", "é.txt", "a=--seed=9", "'\"", "x --seed 9", "~/x"])
def test_what_was_typed_is_one_value_of_one_option(text: str, tmp_path: Path, stand_in: Callable[[str], None]) -> None:
    stand_in("import json; print(json.dumps(sys.argv[1:]))")
    started = launch.start(replace(SMALL, haystack=text), tmp_path)
    until(lambda: ended(started))
    (line,) = launch.tail(started)
    arguments = json.loads(line)
    assert arguments[:3] == ["-m", "needle", "run"]
    assert f"--haystack={text}" in arguments
    assert [a for a in arguments[3:] if not a.startswith("--")] == []


@pytest.mark.parametrize("text", ["-x", "--help", "-", "", "  ", "a\0b"])
@pytest.mark.parametrize("where", ["model", "haystack", "task"])
def test_a_text_that_could_be_an_option_is_refused(text: str, where: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=where):
        launch.start(replace(SMALL, **{where: text}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ignores_the_interrupt_is_ended(tmp_path: Path, stand_in: Callable[[str], None]) -> None:
    stand_in("signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)")
    started = launch.start(SMALL, tmp_path)
    until(lambda: launch.tail(started) == ["up"])
    launch.stop(started, grace=0.3)
    assert launch.running(started)
    until(lambda: ended(started), seconds=20)
    assert launch.exit_code(started) == -signal.SIGTERM


def test_asked_twice_it_is_ended_now(tmp_path: Path, stand_in: Callable[[str], None]) -> None:
    stand_in("signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)")
    started = launch.start(SMALL, tmp_path)
    until(lambda: launch.tail(started) == ["up"])
    launch.stop(launch.stop(started, grace=60), grace=60)
    until(lambda: ended(started), seconds=20)


def test_helpers_of_a_run_stop_with_it(tmp_path: Path, stand_in: Callable[[str], None]) -> None:
    stand_in("helper = not os.fork()\nif helper: print(os.getpid(), flush=True)\ntime.sleep(60)")
    started = launch.start(SMALL, tmp_path)
    until(lambda: launch.tail(started))
    helper = int(launch.tail(started)[0])
    launch.stop(started)
    until(lambda: ended(started) and launch._mark(helper) is None, seconds=20)


def test_a_process_that_took_the_number_is_left_alone(tmp_path: Path, stand_in: Callable[[str], None]) -> None:
    stand_in("pass")
    started = launch.start(SMALL, tmp_path)
    until(lambda: ended(started))
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        taken = replace(started, id="other", pid=other.pid)
        assert not launch.running(taken)
        assert launch.stop(taken) == taken
        assert other.poll() is None
        itself = replace(taken, mark=launch._mark(other.pid) or "")
        assert launch.running(itself)
        other.kill()
    assert not launch.running(itself)


def test_an_ended_process_that_nobody_looked_at_does_not_run() -> None:
    with subprocess.Popen(["true"]) as child:
        until(lambda: launch._mark(child.pid) is None, seconds=5)


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="there is no ps")
def test_ps_tells_processes_apart_as_well() -> None:
    mine = launch._mark_by_ps(os.getpid())
    assert mine
    assert mine == launch._mark_by_ps(os.getpid())
    with subprocess.Popen(["true"]) as child:
        until(lambda: launch._mark_by_ps(child.pid) is None, seconds=5)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"ask": 3}', '{"ask": {"lengths": [1]}}', '"\\ud800"', "\x00"])
def test_a_damaged_record_is_named_and_the_others_stand(
    text: str, tmp_path: Path, stand_in: Callable[[str], None]
) -> None:
    stand_in("pass")
    started = launch.start(SMALL, tmp_path)
    (tmp_path / launch.PLACE / "20990101.json").write_text(text)
    found, (line,) = launch.launches(tmp_path)
    assert found == [started]
    assert "20990101.json" in line
    assert "\n" not in line


def test_newest_first_and_forgotten_ones_are_gone(tmp_path: Path, stand_in: Callable[[str], None]) -> None:
    stand_in("time.sleep(60 if '--seed=1' in sys.argv else 0)")
    first = launch.start(SMALL, tmp_path)
    until(lambda: ended(first))
    time.sleep(1.1)  # names are told apart by the second
    second = launch.start(replace(SMALL, seed=1), tmp_path)
    assert launch.launches(tmp_path)[0] == [second, first]
    launch.forget(first)
    with pytest.raises(UsageError, match="stop it first"):
        launch.forget(second)
    assert launch.launches(tmp_path)[0] == [second]
    assert sorted(p.stem for p in (tmp_path / launch.PLACE).iterdir()) == [second.id] * 2


def test_launches_are_no_runs(tmp_path: Path, stand_in: Callable[[str], None]) -> None:
    stand_in("pass")
    launch.start(SMALL, tmp_path)
    assert store.folders(tmp_path) == []
    assert launch.launches(tmp_path / "nowhere") == ([], [])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        launch.start(SMALL, tmp_path / "file")


def test_the_tail_is_the_last_lines_as_a_terminal_would_leave_them(
    tmp_path: Path, stand_in: Callable[[str], None]
) -> None:
    stand_in(r"print('x' * 99_999); print('10 %\r20 %\r30 %\n\n' + chr(27) + '[31m'); sys.stdout.buffer.write(b'\xff')")
    started = launch.start(SMALL, tmp_path)
    until(lambda: ended(started))
    assert launch.tail(started, 3) == ["30 %", "\x1b[31m", "\ufffd"]
    started.log.unlink()
    assert "cannot be read" in launch.tail(started)[0]


def test_of_the_runs_there_are_the_link_goes_to_the_one_asked_for(
    tmp_path: Path, stand_in: Callable[[str], None]
) -> None:
    import synthetic

    from needle.types import Grid

    stand_in("time.sleep(60)")
    asked = Ask("x/model", "number", "essays", (1024, 2048), (0.0, 0.3), repeats=2, seed=3)
    started = launch.start(asked, tmp_path)
    grid = Grid((1024, 2048), (0.0, 0.3), 2)
    for changed in ({"seed": 4}, {"haystack": "noise"}, {"task": "word"}, {"grid": Grid((1024,), (0.0, 0.3), 2)}):
        synthetic.write(tmp_path, "x/model", lambda _: 1.0, **{"grid": grid, "seed": 3, **changed})
    synthetic.write(tmp_path, "x/other", lambda _: 1.0, grid=grid, seed=3)
    assert launch.folder(started) is None
    run = synthetic.write(tmp_path, "x/model", lambda _: 1.0, grid=grid, seed=3, most=3)
    assert launch.folder(started) == run.folder
    os.utime(run.folder / "run.json", (started.started - 100,) * 2)
    assert launch.folder(started) is None


def test_the_plan_is_needle_plans(needle: Callable[..., object]) -> None:
    found = launch.plan(SMALL)
    assert found["cells"] == 6
    assert found["planned_tokens"] <= found["plain_tokens"] <= 6 * 512


def test_a_plan_that_cannot_be_made_says_why_in_one_line() -> None:
    with pytest.raises(UsageError, match="no haystack") as caught:
        launch.plan(replace(SMALL, haystack="./nowhere.txt"))
    assert "\n" not in str(caught.value)
    assert not str(caught.value).startswith("needle:")
