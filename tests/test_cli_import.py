"""`needle import` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from foreign import only, save, three_rows, v1

from needle import store
from needle.cli import imports
from needle.errors import UsageError

Command = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return three_rows(tmp_path / "results")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    app = typer.Typer()
    app.command("import")(imports.import_runs)

    def call(*arguments: object) -> tuple[str, list[str]]:
        app([str(a) for a in arguments], standalone_mode=False)
        written = capsys.readouterr()
        return written.out, written.err.splitlines()

    return call


def test_the_command_tells_what_it_made_and_what_it_left_out(source: Path, tmp_path: Path, command: Command) -> None:
    (source / "torn\x1b[2J.json").write_text("{")
    root = tmp_path / "runs"
    out, err = command(source, "-o", root)
    (folder,) = store.folders(root)
    assert out == f"{folder}: 3 rows; 2 lengths × 2 depths; graded by kamradt 1-10\n"
    assert err[0] == "needle: 1 could not be read:"
    assert err[1].startswith(f"  {source}/torn\\x1b[2J.json: no JSON")
    assert "was imported before" in command(source, "-o", root)[0]


def test_of_many_unreadable_rows_the_first_are_named_and_json_names_all(tmp_path: Path, command: Command) -> None:
    file = save(tmp_path / "m.json", [v1(), *[v1(score=0)] * 30])
    _, err = command(file, "-o", tmp_path / "runs")
    assert (len(err), err[0], err[-1]) == (22, "needle: 30 could not be read:", "  and 10 more; --json names them all")
    out, err = command(file, "-o", tmp_path / "runs", "--json")
    report = json.loads(out)
    assert (report["unread"], len(report["unreadable"]), err) == (30, 30, [])
    assert report["unreadable"][0] == {"file": str(file), "place": "row 2", "reason": "score 0 is not within 1–10"}
    (run,) = report["runs"]
    assert (run["model"], run["format"], run["rows"], run["new"]) == ("gpt-4-1106-preview", "kamradt-list", 1, 0)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"null", b'[{"token_limit": 1, "depth_percent": 2}]'])
def test_nothing_readable_is_an_error_and_nothing_is_written(tmp_path: Path, command: Command, content: bytes) -> None:
    file = tmp_path / "m.json"
    file.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        command(file, "-o", tmp_path / "runs")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_list_and_show_take_an_imported_run(source: Path, tmp_path: Path, needle: Callable[..., Any]) -> None:
    only(source, tmp_path / "runs")
    (listed,) = json.loads(needle("list", "--json", "-o", tmp_path / "runs").out)
    assert (listed["model"], listed["measured"], listed["failed"]) == ("gpt-4-1106-preview", 3, 0)
    shown = needle("show", "-o", tmp_path / "runs")
    assert (shown.code, "imported from kamradt" in shown.out) == (0, True)
