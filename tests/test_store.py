"""What is measured stays measured: what is written is read back, whatever kills the writer, and once only."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle import store
from needle.errors import StoreError
from needle.types import Cell, Grid, Result, RunSpec

GRID = Grid((256, 1024), (0.0, 0.5, 1.0))
SPEC = RunSpec("models/tiny", "number", "essays", GRID, options={"dtype": "float32"})
SOURCES = {"model": "aa", "tokenizer": "bb", "haystack": "cc"}
SESSION = {"started": "2025-01-01T00:00:00Z"}


def row(cell: Cell, spec: RunSpec = SPEC, **more: Any) -> Result:
    values: dict[str, Any] = {
        "status": "ok",
        "score": 1.0,
        "outcome": "found",
        "answer": "Lisbon’s is 4 🦉",
        "expected": ("4",),
    }
    run_key = store.key(store.identity(spec, SOURCES), cell)
    return Result(run_key, cell.length, cell.depth, cell.repeat, **{**values, **more})


def measure(
    root: Path, spec: RunSpec = SPEC, session: Mapping[str, Any] = SESSION, most: int | None = None, **more: Any
) -> Path:
    """A sitting: measures up to `most` of what has no sound result, as the orchestrator does; returns the folder."""
    with store.writing(root, spec, SOURCES, session) as writer:
        sound = {r.key for r in writer.run.results if r.status == "ok"}
        left = [r for r in (row(c, spec, **more) for c in spec.grid.cells()) if r.key not in sound]
        for result in left[:most]:
            writer.append(result)
    return writer.run.folder


def lines_of(folder: Path) -> list[bytes]:
    return (folder / "results.jsonl").read_bytes().splitlines(keepends=True)


def refusal(call: Callable[[], object]) -> str:
    """The message of the StoreError that `call` must end in: one line."""
    with pytest.raises(StoreError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


# What is written is what is read.

any_text = st.text(st.characters(), max_size=30)
nasty = st.sampled_from(
    ["", "\n", "\r\n", "\u2028\u2029\x85", "🦉\u200d", "\x1b[31m", "\ud83d", "\udc00x\n", "\0", '"\\']
)


@settings(max_examples=60, deadline=None)
@given(st.lists(any_text | nasty, min_size=4, max_size=4), st.floats(0, 1), st.floats(allow_nan=False))
def test_what_is_written_is_read_back(texts: list[str], score: float, seconds: float) -> None:
    answer, extracted, explanation, expected = (joined(t) for t in texts)
    cell, more = GRID.cells()[0], {"extracted": extracted, "explanation": explanation, "expected": (expected, "")}
    result = row(cell, answer=answer, score=score, seconds=seconds, **more)
    failed = row(GRID.cells()[1], status="error", outcome="error", score=None, answer="", error=answer)
    with tempfile.TemporaryDirectory() as folder:
        with store.writing(Path(folder), SPEC, SOURCES, SESSION) as writer:
            writer.append(result)
            writer.append(failed)
        run = store.read(writer.run.folder)
        assert run.results == [result, failed]
        assert (run.spec, run.sources, run.sessions) == (SPEC, SOURCES, [SESSION])
        # One line a row in any tool's eyes, and UTF-8.
        data = (run.folder / "results.jsonl").read_bytes()
        assert [json.loads(line)["answer"] for line in data.decode("utf-8").split("\n")[:-1]] == [answer, ""]


def joined(text: str) -> str:
    """Two halves of a surrogate pair side by side are one character, here as in any JSON."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def test_the_spec_comes_back_from_whole_numbers_as_well(tmp_path: Path) -> None:
    spec = replace(SPEC, grid=Grid((256,), (0, 1)), options={"rope_scaling": {"factor": 4.0}}, system="\udcff")
    run = store.read(measure(tmp_path, spec))
    assert (run.spec, run.status) == (spec, "complete")


@pytest.mark.parametrize("score", [math.nan, 1.5, -0.1, None])
def test_a_score_that_could_not_be_read_back_is_not_written(tmp_path: Path, score: float | None) -> None:
    with store.writing(tmp_path, SPEC, SOURCES, SESSION) as writer:
        assert "mend the scorer" in refusal(lambda: writer.append(row(GRID.cells()[0], score=score)))
        writer.append(row(GRID.cells()[0]))
    assert len(store.read(writer.run.folder).results) == 1


# A run's identity, its cells' keys, its folder's name.

OTHER = {
    "model": "models/other",
    "task": "word",
    "haystack": "noise",
    "grid": Grid((256, 1024), (0.0, 0.5, 1.0), 2),
    "seed": 1,
    "engine": "openai",
    "scorer": "exact",
    "max_new_tokens": 65,
    "prompt": "base",
    "system": "",
    "depth_tolerance": 0.0,
    "temperature": 0.7,
    "options": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("name", [f.name for f in fields(RunSpec)])
def test_every_field_of_the_spec_is_part_of_the_identity(name: str) -> None:
    assert store.identity(replace(SPEC, **{name: OTHER[name]}), SOURCES) != store.identity(SPEC, SOURCES)


# Taken before temperature, max_repeats and control were settings.
BEFORE = "8c65262930f9"


def test_settings_that_came_later_change_no_identity_from_before_and_come_back(tmp_path: Path) -> None:
    assert store.identity(SPEC, SOURCES).startswith(BEFORE)
    for grid in (replace(GRID, max_repeats=4), replace(GRID, control=True)):
        later = replace(SPEC, grid=grid, temperature=0.5)
        assert store.identity(later, SOURCES) != store.identity(replace(SPEC, temperature=0.5), SOURCES)
        assert store.read(measure(tmp_path, later)).spec == later


def test_how_a_service_is_reached_is_neither_identity_nor_kept(tmp_path: Path) -> None:
    served = replace(SPEC, options={**SPEC.options, "service": {"base_url": "http://user:canary@host", "workers": 4}})
    assert store.identity(served, SOURCES) == store.identity(SPEC, SOURCES)
    folder = measure(tmp_path, served)
    assert all(b"canary" not in path.read_bytes() for path in folder.rglob("*") if path.is_file())


small_grids = st.builds(Grid, st.sampled_from([(1,), (1, 2), (12,)]), st.sampled_from([(0.0,), (0.0, 1.0)]), st.just(1))
small_specs = st.builds(
    RunSpec,
    model=st.sampled_from(["a", "b"]),
    task=st.sampled_from(["a", "b"]),
    haystack=st.just("h"),
    grid=small_grids,
    options=st.sampled_from([{}, {"a": None}, {"a": "b"}]),
)
small_sources = st.sampled_from([{}, {"model": "a"}, {"model": "b"}, {"haystack": "a"}])


@given(small_specs, small_sources, small_specs, small_sources)
def test_identities_are_the_same_only_for_the_same(
    spec: RunSpec, sources: dict[str, str], other: RunSpec, other_sources: dict[str, str]
) -> None:
    same = (spec, sources) == (other, other_sources)
    assert (store.identity(spec, sources) == store.identity(other, other_sources)) is same


def test_keys_differ_across_a_grid_and_across_runs() -> None:
    cells = Grid(tuple(range(100, 4100, 100)), tuple(i / 40 for i in range(41)), 3).cells()
    assert len({store.key(run, c) for run in ("one", "two") for c in cells}) == 2 * len(cells)


def test_folder_names_are_plain_and_fit_any_file_system(tmp_path: Path) -> None:
    spec = replace(SPEC, model="hub/" + "m" * 240, haystack="/x/" + "ü/ n" * 80 + ".txt", task="..")
    name = measure(tmp_path, spec).name
    assert len(name) < 200
    assert set(name) <= set("mn-x_.0123456789abcdef")
    assert name != store.folder_name(spec, store.identity(replace(spec, seed=9), SOURCES))


# Crashes.

SMALL = replace(SPEC, grid=Grid((256,), (0.0, 0.5, 1.0)))


@pytest.fixture
def _unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written outlives a process without a sync, which is for power cuts and takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.usefixtures("_unsynced")
def test_a_tail_torn_at_any_byte_costs_the_torn_rows_only(tmp_path: Path) -> None:
    folder = measure(tmp_path, SMALL)
    whole = lines_of(folder)
    data = b"".join(whole)
    for size in range(len(whole[0]), len(data) + 1):
        (folder / "results.jsonl").write_bytes(data[:size])
        sound = data[:size].count(b"\n")
        assert len(store.read(folder).results) == sound
        measure(tmp_path, SMALL)
        assert lines_of(folder) == whole, f"torn at byte {size}"


WRITERS = {"writing", "_locked", "_write_head", "_open_rows", "append"}


def die_at(step: int, half: bool) -> None:
    """Kill this process before the `step`th line of the writers; the disk takes `half` of what it is given, or all."""
    left, write = [step], os.write

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != store.__file__ or frame.f_code.co_name not in WRITERS:
            return None
        left[0] -= event == "line"
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    if half:
        os.write = lambda descriptor, data: write(descriptor, data[: len(data) // 2 + 1])
    sys.settrace(trace)


@pytest.mark.usefixtures("_unsynced")
def test_a_run_killed_at_every_step_goes_on(tmp_path: Path) -> None:
    """Each sitting is killed one step later than the one before, in a new folder and in a begun one."""
    for step in range(1, 300):
        new, begun = tmp_path / f"new-{step}", tmp_path / f"begun-{step}"
        kept = lines_of(measure(begun, SMALL, most=1))
        statuses = [sitting_killed_at(root, step, half=root == begun) for root in (new, begun)]
        for root, rows in ((new, []), (begun, kept)):
            folder = measure(root, SMALL)
            assert store.read(folder).status == "complete"
            assert lines_of(folder)[: len(rows)] == rows
            assert len(lines_of(folder)) == 3
        if not any(statuses):
            break
    assert 40 < step < 299


def sitting_killed_at(root: Path, step: int, half: bool) -> int:
    child = os.fork()
    if not child:
        try:
            die_at(step, half)
            measure(root, SMALL, session={"step": step}, most=1)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status


def test_failed_cells_are_measured_again_and_the_sound_row_counts(tmp_path: Path) -> None:
    failure = {"status": "error", "score": None, "outcome": "error", "error": "out of memory"}
    folder = measure(tmp_path, **failure)
    assert store.read(folder).status == "failed cells"
    measure(tmp_path, most=2, **failure)
    measure(tmp_path, session={"started": "later"})
    run = store.read(folder)
    assert [r.status for r in run.results] == ["ok"] * 6
    assert (run.status, len(lines_of(folder))) == ("complete", 14)
    with store.writing(tmp_path, SPEC, SOURCES, SESSION) as writer:
        writer.append(row(GRID.cells()[0], **failure))
    assert store.read(folder).results == run.results
    assert run.sessions == [SESSION, {"started": "later"}]


def test_rows_of_another_run_do_not_count(tmp_path: Path) -> None:
    folder, other = measure(tmp_path, most=2), measure(tmp_path, replace(SPEC, seed=7))
    assert other != folder
    (folder / "results.jsonl").write_bytes(b"".join(lines_of(folder) + lines_of(other)))
    run = store.read(folder)
    assert (len(run.results), run.status) == (2, "partial")


# Two writers.


HOLD = """
import sys, time
from pathlib import Path
from needle import store
from needle.types import Grid, RunSpec
with store.writing(Path(sys.argv[1]), eval(sys.argv[2]), eval(sys.argv[3]), {}):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_waits_for_the_death_of_the_first(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path), repr(SPEC), repr(SOURCES)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        assert "another needle run" in refusal(lambda: measure(tmp_path))
        assert store.finished(tmp_path, SPEC, SOURCES).results == []  # reading is free
        measure(tmp_path, replace(SPEC, seed=1))  # as is another run in the same root
    finally:
        first.kill()
        first.communicate()
    assert store.read(measure(tmp_path)).status == "complete"


def test_a_second_writer_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with store.writing(tmp_path, SPEC, SOURCES, SESSION) as writer:
        assert "another needle run" in refusal(lambda: measure(tmp_path))
        writer.append(row(GRID.cells()[0]))
    measure(tmp_path)


def test_two_runs_whose_names_collide_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "folder_name", lambda *_: "same")
    folder, other = measure(tmp_path), replace(SPEC, seed=1)
    rows = lines_of(folder)
    for call in (lambda: measure(tmp_path, other), lambda: store.finished(tmp_path, other, SOURCES)):
        assert "holds another run; move it away" in refusal(call)
    assert lines_of(folder) == rows
    assert store.finished(tmp_path, SPEC, SOURCES).status == "complete"
