"""The disk says no, somebody has edited a run, a name fits nothing: one line that says what to do, and no harm done."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from needle import store
from needle.errors import StoreError
from needle.types import Cell, Grid, Result, RunSpec

GRID = Grid((256, 1024), (0.0, 0.5, 1.0))
SPEC = RunSpec("models/tiny", "number", "essays", GRID)


def row(cell: Cell, answer: str = "It is 4.") -> Result:
    run_key = store.key(store.identity(SPEC, {}), cell)
    return Result(run_key, cell.length, cell.depth, cell.repeat, "ok", 1.0, "found", answer=answer)


def measure(root: Path, most: int | None = None, answer: str = "It is 4.", started: str = "now") -> Path:
    """A sitting that measures up to `most` of the cells left; returns the folder."""
    with store.writing(root, SPEC, {}, {"started": started}) as writer:
        done = {r.key for r in writer.run.results}
        for result in [r for r in (row(c, answer) for c in GRID.cells()) if r.key not in done][:most]:
            writer.append(result)
    return writer.run.folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def refusal(call: Callable[[], object]) -> str:
    """The message of the StoreError that `call` must end in: one line."""
    with pytest.raises(StoreError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


# The disk says no.


@contextmanager
def tmpfs(where: Path, options: str) -> Iterator[Path]:
    """A file system of its own; the test is skipped where this user may not mount one."""
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)]
    with suppress(FileNotFoundError):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            try:
                yield where
            finally:
                subprocess.run(["umount", "-l", str(where)], check=True)
            return
    pytest.skip("mounting a file system needs root")


def test_a_disk_that_fills_up_keeps_the_rows_and_takes_more_when_there_is_room(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=64k") as disk:
        folder = measure(disk, most=2)
        rows = (folder / "results.jsonl").read_bytes()
        # Room for less than the next row's pages, so that a part of it gets written.
        free = os.statvfs(disk).f_bfree * os.statvfs(disk).f_frsize
        (disk / "filler").write_bytes(b"x" * (free - 8192))
        with store.writing(disk, SPEC, {}, {"started": "now"}) as writer:
            message = refusal(lambda: writer.append(row(GRID.cells()[2], "long " * 5000)))
            assert str(folder) in message
            assert "free some space" in message
            assert (folder / "results.jsonl").read_bytes() == rows
            writer.append(row(GRID.cells()[2], "short"))
        (disk / "filler").unlink()
        assert store.read(measure(disk, answer="long " * 100)).status == "complete"
        assert (folder / "results.jsonl").read_bytes().startswith(rows)


def test_a_full_disk_leaves_no_half_of_a_new_run(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=64k") as disk:
        (disk / "filler").write_bytes(b"x" * 65536)
        assert "free some space" in refusal(lambda: measure(disk))
        assert store.folders(disk) == []
        assert [p.name for p in disk.rglob("*") if p.is_file() and p.stat().st_size] == ["filler"]
        (disk / "filler").unlink()
        assert store.read(measure(disk)).status == "complete"


def test_a_read_only_disk_is_said_and_can_still_be_read(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        folder = measure(disk, most=3)
        before = contents(folder)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert "give another --output-dir" in refusal(lambda: measure(disk))
        assert contents(folder) == before
        assert len(store.read(store.find(disk, folder.name)).results) == 3


@pytest.mark.parametrize("failing", ["write", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_an_append_that_fails_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, code: int
) -> None:
    folder = measure(tmp_path, most=2)
    before, written, real = contents(folder), [], os.write

    def half_then_fail(descriptor: int, data: bytes) -> int:
        if written:
            raise OSError(code, os.strerror(code))
        written.append(real(descriptor, data[: len(data) // 2]))
        return written[0]

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    with store.writing(tmp_path, SPEC, {}, {"started": "now"}) as writer, monkeypatch.context() as patch:
        patch.setattr(os, failing, half_then_fail if failing == "write" else fail)
        message = refusal(lambda: writer.append(row(GRID.cells()[2])))
    assert os.strerror(code) in message
    assert ("free some space" in message) is (code != errno.EIO)
    assert contents(folder) == before
    assert store.read(measure(tmp_path)).status == "complete"


@pytest.mark.parametrize("where", ["file/runs", "/proc/runs"])
def test_a_root_that_cannot_be_made_is_said(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    message = refusal(lambda: measure(tmp_path / where))
    assert where in message
    assert "give another --output-dir" in message
    assert store.folders(tmp_path / where) == store.folders(tmp_path / "file") == []


def test_a_new_sitting_that_cannot_be_recorded_leaves_the_run_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = measure(tmp_path, most=2)
    before = contents(folder)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        assert "free some space" in refusal(lambda: measure(tmp_path, started="later"))
    assert contents(folder) == before


# Damage.


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        head = json.loads(data)
        change(head)
        return json.dumps(head).encode()

    return edit


HEADS = {
    "empty": (lambda data: b"", "damaged"),
    "torn": (lambda data: data[: len(data) // 2], "damaged"),
    "not text": (lambda data: b"\xff" + data, "damaged"),
    "a list": (lambda data: b"[]", "damaged"),
    "without a spec": (edited(lambda h: h.pop("spec")), "damaged (no 'spec')"),
    "without a grid": (edited(lambda h: h["spec"].pop("grid")), "damaged (no 'grid')"),
    "sources": (edited(lambda h: h.update(sources=None)), "damaged"),
    "sessions": (edited(lambda h: h.update(sessions=["now"])), "damaged"),
    "depths": (edited(lambda h: h["spec"]["grid"].update(depths=["deep"])), "damaged"),
    "unknown field": (edited(lambda h: h["spec"].update(temperature=1)), "damaged"),
    "other seed": (edited(lambda h: h["spec"].update(seed=1)), "changed by hand"),
    "other grid": (edited(lambda h: h["spec"]["grid"].update(repeats=3)), "changed by hand"),
    "other model": (edited(lambda h: h["sources"].update(model="x")), "changed by hand"),
    "other identity": (edited(lambda h: h.update(identity="0" * 64)), "changed by hand"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_damaged_head_is_named_and_nothing_is_written(tmp_path: Path, kind: str) -> None:
    folder, (damage, said) = measure(tmp_path, most=2), HEADS[kind]
    head = folder / "run.json"
    head.write_bytes(damage(head.read_bytes()))
    before = contents(folder)
    for call in (lambda: store.read(folder), lambda: measure(tmp_path), lambda: store.finished(tmp_path, SPEC, {})):
        message = refusal(call)
        assert f"'{head}'" in message
        assert said in message
        assert "move the folder away" in message
    assert contents(folder) == before


def test_a_later_format_asks_for_a_later_needle(tmp_path: Path) -> None:
    head = measure(tmp_path) / "run.json"
    head.write_bytes(edited(lambda h: h.update(format=2, news="all"))(head.read_bytes()))
    message = refusal(lambda: store.read(head.parent))
    assert f"'{head}' has format 2" in message
    assert "update needle" in message


LINES = {
    "torn": lambda line: line[: len(line) // 2],
    "blank": lambda line: b"",
    "merged": lambda line: line[:50] + line,
    "not text": lambda line: line.replace(b"It", b"\xff\xfe"),
    "a list": lambda line: b"[1, 2]",
    "no key": lambda line: line.replace(b'"key"', b'"kex"'),
    "status": lambda line: line.replace(b'"ok"', b'"OK"'),
    "outcome": lambda line: line.replace(b'"found"', b'"lost"'),
    "score": lambda line: line.replace(b"1.0", b"1.5"),
    "no score": lambda line: line.replace(b'"score": 1.0', b'"score": null'),
    "score in words": lambda line: line.replace(b'"score": 1.0', b'"score": "1.0"'),
    "expected": lambda line: line.replace(b'"expected": []', b'"expected": 4'),
}


@pytest.mark.parametrize("kind", LINES)
def test_a_damaged_line_is_named_and_nothing_is_written(tmp_path: Path, kind: str) -> None:
    folder = measure(tmp_path, most=4)
    rows = folder / "results.jsonl"
    lines = rows.read_bytes().split(b"\n")
    lines[1] = LINES[kind](lines[1])
    rows.write_bytes(b"\n".join(lines))
    before = contents(folder)
    for call in (lambda: store.read(folder), lambda: measure(tmp_path)):
        message = refusal(call)
        assert f"'{rows}' line 2 is damaged" in message
        assert "delete that line and run again" in message
    assert contents(folder) == before
    del lines[1]
    rows.write_bytes(b"\n".join(lines))
    assert store.read(measure(tmp_path)).status == "complete"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["run.json", "results.jsonl"]), st.floats(0, 1), st.binary(max_size=4), st.integers(0, 4))
def test_no_rot_ends_in_anything_but_a_store_error(
    tmp_path: Path, name: str, where: float, bytes_: bytes, removed: int
) -> None:
    folder = measure(tmp_path)
    sound = (folder / name).read_bytes()
    at = int(where * len(sound))
    (folder / name).write_bytes(sound[:at] + bytes_ + sound[at + removed :])
    try:
        with suppress(StoreError):
            assert store.read(folder).spec == SPEC
    finally:
        (folder / name).write_bytes(sound)


# Finding a run.


def named(root: Path, *names: str) -> None:
    folder = measure(root / "made")
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "run.json").write_bytes((folder / "run.json").read_bytes())


OUTSIDE = ["", ".", "..", "../outside", "./../outside", "a_1/../../outside", "/", "~", "a_1/../a_1", "\0", "x" * 5000]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_climbs_out_of_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    root = tmp_path / "runs"
    named(root, "a_1", "../outside")
    (tmp_path / "else" / "where").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "else" / "where")
    assert "`needle list`" in refusal(lambda: store.find(root, name))
    monkeypatch.chdir(root / "a_1")
    assert "`needle list`" in refusal(lambda: store.find(root, ""))


def test_a_run_is_found_by_path_name_beginning_or_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path, "a_1", "a_12", "b_3")
    monkeypatch.chdir(tmp_path)
    assert store.find(tmp_path / "nowhere", "./a_1") == Path("a_1")
    assert store.find(tmp_path / "nowhere", str(tmp_path / "b_3")) == tmp_path / "b_3"
    monkeypatch.chdir("/")
    for name, found in {"a_1": "a_1", "a_12": "a_12", "b": "b_3", "_12": "a_12", "3": "b_3"}.items():
        assert store.find(tmp_path, name) == tmp_path / found
    message = refusal(lambda: store.find(tmp_path, "a"))
    assert "2 runs fit 'a'" in message
    assert {"a_1", "a_12"} <= set(message.replace(",", "").replace(";", "").split())
    assert "no run 'c'" in refusal(lambda: store.find(tmp_path, "c"))


def test_runs_are_listed_newest_first_and_other_things_not_at_all(tmp_path: Path) -> None:
    named(tmp_path, "old", "new", "newest")
    for age, name in enumerate(("newest", "new", "old", "made/" + measure(tmp_path / "made").name)):
        os.utime(tmp_path / name / "run.json", (1e9 - age, 1e9 - age))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert [p.name for p in store.folders(tmp_path)] == ["newest", "new", "old"]
    assert store.folders(tmp_path / "nowhere") == []
