"""`needle list`, `show` and `export`: legible, machine-readable, and safe whatever a model said."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic
from conftest import Done, rows_of
from watchers import Quiet

from needle import store
from needle.cli import _out
from needle.types import Grid

Needle = Callable[..., Done]
Checkpoint = Callable[..., Path]

STYLE = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]4821937[/] \u202egnp.exe\r\x9b31m"


@pytest.fixture(scope="module")
def measured(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one complete run of 2 × 3 cells."""
    from needle import running
    from needle.types import RunSpec

    root = tmp_path_factory.mktemp("measured")
    grid = Grid((256, 512), (0.0, 0.5, 1.0))
    spec = RunSpec(str(checkpoint()), "number", "noise", grid, max_new_tokens=8, options={"plan": "cells"})
    running.execute(running.prepare(spec, lambda _: None), root, Quiet())
    return root


@pytest.fixture
def root(measured: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(measured, tmp_path / "runs"))


def rewrite(root: Path, **changed: Any) -> None:
    """Give every row of the run other values, as a model or a hand might have."""
    rows = [json.loads(line) for line in rows_of(root).read_text().splitlines()]
    rows_of(root).write_text("".join(json.dumps({**row, **changed}) + "\n" for row in rows))


@pytest.mark.parametrize(
    "arguments",
    [
        ("runn",),
        ("show", "zzz"),
        ("show", "--cell", "zzz"),
        ("show", "--cell", "256:0.25"),
        ("show", "--cell", "256:0:7"),
        ("show", "--cell", "256:0:x"),
        ("show", "../elsewhere"),
        ("export",),
        ("export", "zzz", "--csv", "cells.csv"),
        ("export", "--csv", "/no/where/cells.csv"),
        ("list", "--all"),
    ],
    ids=" ".join,
)
def test_looking_at_what_is_not_there_is_one_line(arguments: tuple[str, ...], needle: Needle, root: Path) -> None:
    where = ("-o", root) if arguments[0] in ("show", "export") else ()
    assert needle(*arguments, *where).line


def test_no_runs_yet(needle: Needle, tmp_path: Path) -> None:
    listed = needle("list", "-o", tmp_path / "none")
    assert (listed.code, listed.err) == (0, "")
    assert "no runs" in listed.out
    assert needle("list", "--json", "-o", tmp_path).out == "[]\n"
    assert "no runs" in needle("show", "-o", tmp_path).line
    assert not (tmp_path / "none").exists()


def test_list_is_legible_at_100_columns(needle: Needle, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    out = needle("list", "-o", root).out
    (run,) = (store.read(f) for f in store.folders(root))
    (line,) = (line for line in out.splitlines() if run.name in line)
    assert max(map(len, out.splitlines())) <= 100
    assert "6/6" in line
    assert "complete" in line
    assert run.sessions[0]["started"][:10] in line


def test_a_pipe_is_not_folded(needle: Needle, root: Path) -> None:
    name = "long-" * 16
    rows_of(root).parent.rename(root / name)
    assert name in needle("list", "-o", root).out


def test_list_show_and_export_as_json_and_files(needle: Needle, root: Path, tmp_path: Path) -> None:
    (listed,) = json.loads(needle("list", "-o", root, "--json").out)
    assert (listed["asked"], listed["measured"], listed["status"]) == (6, 6, "complete")
    shown = json.loads(needle("show", listed["run"], "-o", root, "--json").out)
    assert (shown["asked"], shown["done"], shown["failed"]) == (6, 6, 0)
    assert shown["provenance"]["kernel"] == "sdpa"
    done = needle("export", "-o", root, "--csv", tmp_path / "cells.csv", "--html", tmp_path / "page.html")
    assert done.out.split() == [str(tmp_path / "cells.csv"), str(tmp_path / "page.html")]
    with (tmp_path / "cells.csv").open(newline="") as file:
        assert [(row["length"], row["depth"]) for row in csv.DictReader(file)] == [
            (length, depth) for length in ("256", "512") for depth in ("0.0", "0.5", "1.0")
        ]
    assert "plotly" in (tmp_path / "page.html").read_text()


def test_the_table_of_cells_has_those_without_a_needle_too(needle: Needle, tmp_path: Path) -> None:
    grid = Grid((1024, 2048), (0.0, 1.0), control=True)
    synthetic.write(tmp_path / "runs", "m", lambda cell: float(not cell.control), grid=grid)
    needle("export", "-o", tmp_path / "runs", "--csv", tmp_path / "cells.csv")
    with (tmp_path / "cells.csv").open(newline="") as file:
        rows = [(row["length"], row["control"], row["score"]) for row in csv.DictReader(file)]
    assert rows == [(n, "False", "1.0") for n in ("1024", "1024", "2048", "2048")] + [
        (n, "True", "0.0") for n in ("1024", "2048")
    ]


def test_show_draws_the_whole_grid(needle: Needle, root: Path) -> None:
    out = needle("show", "-o", root).out
    assert all(text in out for text in ("256", "512", "0 %", "50 %", "100 %", "6 of 6 measured"))
    assert all(text in out for text in ("device cpu", "dtype float32", "way cells", "kernel sdpa"))


def test_one_cell_shows_its_needle_and_its_answer(needle: Needle, root: Path) -> None:
    rewrite(root, answer="no idea")
    text = needle("show", "-o", root, "--cell", "512:0.5").out
    assert re.search(r">>>\s*The secret code for \w+ is (\d{7})\.\s*<<<", text)
    assert "no idea" in text
    cell = json.loads(needle("show", "-o", root, "--cell", "512:0.5:0", "--json").out)
    assert (cell["length"], cell["depth"], cell["repeat"], cell["answer"]) == (512, 0.5, 0, "no idea")
    assert cell["expected"][0] in cell["needle"]
    assert cell["question"] in cell["after"]
    assert cell["before"].startswith("<|im_start|>user")


def test_numbers_that_json_has_not_are_null(needle: Needle, root: Path) -> None:
    rewrite(root, answer_logprob=float("nan"), seconds=float("inf"))
    text = needle("show", "-o", root, "--cell", "512:0.5", "--json").out
    assert json.loads(text, parse_constant=pytest.fail)["answer_logprob"] is None


@pytest.mark.parametrize("colour", [False, True])
def test_what_a_model_says_does_nothing_to_the_terminal(
    colour: bool, needle: Needle, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(root, answer=HOSTILE, explanation=HOSTILE, extracted=HOSTILE)
    if colour:
        monkeypatch.setenv("FORCE_COLOR", "1")
    for arguments in (["show"], ["show", "--cell", "256:0"], ["list"]):
        out = needle(*arguments, "-o", root).out
        rest = STYLE.sub("", out) if colour else out
        assert not {c for c in rest if ord(c) < 32 or 127 <= ord(c) < 160} - {"\n"}
        assert "\u202e" not in rest
        assert ("\x1b[" in out) == colour
    cell = STYLE.sub("", needle("show", "-o", root, "--cell", "256:0").out)
    assert "[bold red]4821937[/]" in cell
    assert r"\x1b[2J" in cell


def test_a_hostile_folder_name_is_written_out(needle: Needle, root: Path) -> None:
    rows_of(root).parent.rename(root / "x\x1b[2Jy[bold]z")
    for arguments in (["show"], ["list"]):
        out = needle(*arguments, "-o", root).out
        assert "\x1b" not in out
        assert r"x\x1b[2Jy[bold]z" in out
    rows_of(root).write_text("broken\n")
    assert r"x\x1b[2Jy" in needle("show", "-o", root).line


def test_no_color_is_respected(needle: Needle, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    # Bold and dim are no colours.
    colour = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
    assert colour.search(needle("show", "-o", root).out)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(needle("show", "-o", root).out)


SHELL = pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")


def shell(line: str, root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = line.replace("needle", f"{sys.executable} -m needle", 1)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "ROOT": str(root), **environment},
    )


@SHELL
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["list --json -o $ROOT", "run --help"])
def test_a_reader_who_has_enough_is_no_error(line: str, unbuffered: str, root: Path) -> None:
    done = shell(f"needle {line} | head -0", root, PYTHONUNBUFFERED=unbuffered)
    assert (done.stdout, done.stderr) == ("", "")


@SHELL
def test_an_output_that_knows_ascii_only_is_no_traceback(root: Path) -> None:
    done = shell("needle show -o $ROOT", root, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 of 6 measured" in done.stdout


def test_json_text_is_json() -> None:
    assert json.loads(_out.json_text({"a": [1.5, float("-inf"), (float("nan"),)]})) == {"a": [1.5, None, [None]]}
