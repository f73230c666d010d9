"""`needle series` on the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic
import typer
from synthetic import SMALL, training, up_to

from needle import figures, series, store
from needle.cli import series as command
from needle.errors import UsageError
from needle.types import Grid


def needle(*arguments: object) -> int:
    """`series` as the command line calls it; its exit code."""
    app = typer.Typer()
    app.command()(command.series)
    return int(app([str(a) for a in arguments], standalone_mode=False) or 0)


Out = Callable[[], Any]


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Out:
    return capsys.readouterr


def test_command_shows_the_only_series(tmp_path: Path, out: Out) -> None:
    training(tmp_path)
    assert needle("-o", tmp_path) == 0
    lines = out().out.splitlines()
    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert rows == [
        ["100", "100", "0", "0", "0.333", "1K"],
        ["200", "100", "100", "0", "0.667", "2K"],
        ["1,000", "100", "100", "100", "1.000", "4K"],
    ]
    assert ["step", "1K", "2K", "4K", "mean", "effective"] in [line.split() for line in lines]


def test_command_colours_in_a_terminal_and_heeds_no_color(
    tmp_path: Path, out: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    training(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    needle("-o", tmp_path)
    assert "\x1b[38;2;22;24;29;48;2;12;215;159m" in out().out
    monkeypatch.setenv("NO_COLOR", "1")
    needle("-o", tmp_path)
    assert "48;2" not in out().out


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_command_fits_the_terminal_and_says_what_it_leaves_out(
    tmp_path: Path, out: Out, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    lengths = tuple(1024 * n for n in range(1, 21))
    training(tmp_path, (1, 2), grid=Grid(lengths, (0.5,)))
    monkeypatch.setenv("COLUMNS", str(columns))
    needle("-o", tmp_path)
    text = out().out
    assert max(map(len, text.splitlines())) <= columns
    assert "20K" in text
    assert ("left out" in text) == (columns < 200)
    assert "…" not in text


def test_command_lists_several_and_shows_the_one_named(tmp_path: Path, out: Out) -> None:
    training(tmp_path)
    synthetic.write(tmp_path, "other/step_7", up_to(0), grid=SMALL)
    synthetic.write(tmp_path, "pocket-32k", up_to(0), grid=SMALL)
    assert needle("-o", tmp_path) == 0
    listed = out().out
    assert "other_number_essays_" in listed
    assert "100–1,000" in listed
    assert "pocket" not in listed
    assert needle("other", "-o", tmp_path) == 0
    assert ["7", "0", "0", "0", "0.000", "–"] in [line.split() for line in out().out.splitlines()]
    with pytest.raises(UsageError, match="name the one"):
        needle("-o", tmp_path, "--html", tmp_path / "x.html")
    with pytest.raises(UsageError, match="no series"):
        needle("nothing", "-o", tmp_path)


def test_command_says_it_in_json(tmp_path: Path, out: Out) -> None:
    training(tmp_path, most=3)
    needle("-o", tmp_path, "--json")
    told = json.loads(out().out)
    assert [row["step"] for row in told["steps"]] == [100, 200, 1000]
    assert [row["effective"] for row in told["steps"]] == [1024] * 3
    assert told["lengths"][1]["mean"] is None
    assert told["models"][0] == "out/checkpoint-100"


def test_command_writes_the_page(tmp_path: Path, out: Out) -> None:
    training(tmp_path / "runs")
    page = tmp_path / "page.html"
    needle("-o", tmp_path / "runs", "--html", page)
    assert out().out.splitlines()[-1] == str(page)
    assert "training step" in page.read_text(encoding="utf-8")


def test_no_series_and_damaged_runs_are_said(tmp_path: Path, out: Out) -> None:
    needle("-o", tmp_path)
    assert "no checkpoint series" in out().out
    found = training(tmp_path)
    (found.runs[0].folder / "run.json").write_text("{")
    needle("-o", tmp_path, "--json")
    told = out()
    assert [row["step"] for row in json.loads(told.out)["steps"]] == [200, 1000]
    assert told.err.startswith("needle: left out: ")


def test_what_a_run_is_called_cannot_act_on_the_terminal(tmp_path: Path, out: Out) -> None:
    synthetic.write(tmp_path, "ou\x1b[2Jt/checkpoint-1", up_to(0), grid=SMALL, task="[red]\x1b[2J")
    needle("-o", tmp_path)
    text = out().out
    assert "\x1b" not in text
    assert "[red]\\x1b[2J" in text


def test_nothing_measured_yet_still_shows(tmp_path: Path, out: Out) -> None:
    synthetic.write(tmp_path, "out/checkpoint-1", up_to(0), grid=SMALL, most=0)
    needle("-o", tmp_path)
    assert "·" in out().out
    (found,) = series.of(map(store.read, store.folders(tmp_path)))
    assert math.isnan(series.totals(found)["mean"][0])
    for draw in (figures.over_steps, figures.steps_by_length, figures.progress, figures.played):
        assert json.loads(draw(found).to_json())
