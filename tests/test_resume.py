"""`needle run` stopped at any moment, by any means: the same command goes on, and every cell is measured once."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nursery import (
    BEGUN,
    CELLS,
    NO_RUN,
    Nursery,
    arguments,
    environment,
    opened,
    progress,
)

KILLS = 20

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the nursery forks")


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with opened(tmp_path_factory.mktemp("nursery")) as there:
        yield there


@pytest.fixture(scope="module")
def whole(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a run that nobody disturbed."""
    root = tmp_path_factory.mktemp("whole")
    code, _ = nursery.run(root)
    assert (code, progress(root)) == (0, CELLS), nursery.said()
    return root


def rows_of(root: Path) -> list[dict[str, Any]]:
    """Every row of the one run in `root`; fails if a line is torn."""
    (file,) = root.glob("*/results.jsonl")
    data = file.read_bytes()
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def answers_of(root: Path) -> dict[str, tuple[Any, ...]]:
    """What was asked and answered by key; fails unless each cell of the grid is there once, and sound."""
    rows = rows_of(root)
    assert [r["status"] for r in rows] == ["ok"] * CELLS
    assert len({r["key"] for r in rows}) == len({(r["length"], r["depth"], r["repeat"]) for r in rows}) == CELLS
    assert all(json.loads(head.read_text())["sessions"] for head in root.glob("*/run.json"))
    return {r["key"]: (r["length"], r["depth"], r["prompt_sha256"], r["answer"], r["score"]) for r in rows}


def announced(said: str) -> int:
    """Cells that a run called finished."""
    return len(re.findall(r"\[ *\d+/\d+\]", said))


def whole_lines(root: Path) -> bytes:
    data = b"".join(f.read_bytes() for f in root.glob("*/results.jsonl"))
    return data[: data.rfind(b"\n") + 1]


def snapshot(root: Path) -> dict[Path, tuple[int, bytes]]:
    return {p: (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in [root, *root.rglob("*")]}


def test_killed_at_any_moment_it_goes_on_to_the_same_answers(nursery: Nursery, whole: Path, tmp_path: Path) -> None:
    wanted = answers_of(whole)
    _, lifetime = nursery.run(tmp_path / "undisturbed")
    assert announced(nursery.said()) == CELLS
    draw, kills, kinds = random.Random(), 0, set()
    for turn in range(4 * KILLS):
        root, code, lives = tmp_path / str(turn), None, 9
        while code != 0:
            rows, lines = progress(root), whole_lines(root)
            # By the clock over the whole life of a run, or by its rows so that its first and last get their share.
            moment: dict[str, Any] = {"seconds": draw.uniform(0, lifetime)}
            if rows < CELLS and draw.random() < 0.5:
                moment = {"rows": max(rows + 1, draw.choice([BEGUN, draw.randint(1, CELLS - 1), CELLS]))}
            lives -= 1
            code, _ = nursery.run(root, **moment, signum=signal.SIGKILL if lives else None)
            assert code in (0, -signal.SIGKILL), nursery.said()
            assert whole_lines(root).startswith(lines)
            assert announced(nursery.said()) <= max(0, progress(root))
            if code:
                kills += 1
                kinds.add(kind(rows, progress(root)))
        assert answers_of(root) == wanted
        if kills >= KILLS and len(kinds) == 5:
            break
    assert kills >= KILLS
    assert kinds == {"before", "on the threshold", "idle", "while writing", "after"}


def kind(before: int, after: int) -> str:
    """At which stage a run was killed that found `before` rows and left `after`."""
    if after == NO_RUN:
        return "before"
    if after == before:
        return "idle"
    if after in (BEGUN, 0):
        return "on the threshold"
    return "after" if after == CELLS else "while writing"


def test_an_interrupt_ends_cleanly_and_a_second_run_meanwhile_is_refused(nursery: Nursery, tmp_path: Path) -> None:
    """A process of its own, started as the console script starts it."""
    more = ("--depths", ",".join(str(i / 40) for i in range(40)))
    command = [sys.executable, "-c", "from needle.cli import main; main()", *arguments(nursery.folder, tmp_path, *more)]
    process = subprocess.Popen(
        command, env=environment(), stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    try:
        wait_until(lambda: progress(tmp_path) >= 2 or process.poll() is not None)
        # It holds still, and its lock, until the other one has been turned away.
        process.send_signal(signal.SIGSTOP)
        code, _ = nursery.run(tmp_path, *more)
        assert code == 2, nursery.said()
        assert "being written by another needle run" in nursery.said()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    kept = rows_of(tmp_path)
    assert max(2, announced(said)) <= len(kept) < 120
    assert nursery.run(tmp_path, *more)[0] == 0
    rows = rows_of(tmp_path)
    assert rows[: len(kept)] == kept
    assert len({r["key"] for r in rows}) == len(rows) == 120


def heed_interrupts() -> None:
    """A shell starts what it puts in the background deaf to interrupts, and so all that this starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(there: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not there() and time.monotonic() < end:
        time.sleep(0.001)
    assert there()


def test_an_interrupt_before_the_first_row_ends_cleanly(nursery: Nursery, tmp_path: Path) -> None:
    code, _ = nursery.run(tmp_path, rows=BEGUN, signum=signal.SIGINT)
    assert code == 130, nursery.said()
    assert nursery.run(tmp_path)[0] == 0
    answers_of(tmp_path)


def test_the_same_command_on_a_finished_run_says_so_and_writes_nothing(nursery: Nursery, whole: Path) -> None:
    before = snapshot(whole)
    code, _ = nursery.run(whole)
    assert code == 0
    assert f"already measured: all {CELLS} cells" in nursery.said()
    assert snapshot(whole) == before


@pytest.mark.parametrize(
    "more", [["--seed", "1"], ["--task", "word"], ["--dtype", "bfloat16"], ["--max-new-tokens", "5"]], ids=str
)
def test_another_configuration_is_another_run(nursery: Nursery, whole: Path, more: list[str]) -> None:
    before, folders = snapshot(whole), set(whole.iterdir())
    code, _ = nursery.run(whole, *more)
    assert code == 0, nursery.said()
    (new,) = set(whole.iterdir()) - folders
    after = snapshot(whole)
    assert all(after[p] == kept for p, kept in before.items() if p != whole)
    keys = [{r["key"] for r in map(json.loads, (f / "results.jsonl").open())} for f in [new, *folders]]
    assert len(set().union(*keys)) == sum(map(len, keys))


def test_another_text_under_the_same_name_is_another_run(nursery: Nursery, tmp_path: Path) -> None:
    haystack = tmp_path / "text.txt"
    text = (nursery.folder / "haystack.txt").read_text()
    for change in ("", "One more sentence. "):
        haystack.write_text(change + text)
        assert nursery.run(tmp_path / "runs", "--haystack", str(haystack))[0] == 0
    assert [progress(tmp_path / "runs"), len(list((tmp_path / "runs").iterdir()))] == [2 * CELLS, 2]
