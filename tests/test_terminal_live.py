"""What people see while a run goes on: a line a cell in a log, the heatmap filling in in a terminal."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from synthetic import row
from terminals import DEPTHS, ESCAPES, LENGTHS, SPEC, shown

from needle import analysis, terminal
from needle.terminal_live import Live
from needle.types import Grid, Result, RunSpec


def plain_run(rows: list[Result], spec: RunSpec = SPEC, quiet: bool = False, fresh_from: int = 0) -> str:
    console = Console(file=io.StringIO(), width=100)
    with Live(spec, 9 * 2048, quiet, console) as live:
        live.say("Loading [b]pocket[/b]")
        for at, result in enumerate(rows):
            live.cell(result, fresh=at >= fresh_from)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_log_gets_a_line_a_cell_and_the_picture_at_the_end() -> None:
    rows = [row(1024, 0.0, 1.0, seconds=1.23), row(2048, 0.5, None, error="CUDA\x1b[0m out\nof memory")]
    log = plain_run(rows)
    assert log.splitlines()[:3] == [
        "Loading [b]pocket[/b]",
        "[1/9] 1K depth 0 %: 1.00 found  1.2 s",
        "[2/9] 2K depth 50 %: error: CUDA\\x1b[0m out of memory",
    ]
    picture = shown(
        terminal.heatmap(analysis.grid(analysis.frame(rows), lengths=LENGTHS, depths=DEPTHS), {(2048, 0.5)})
    )
    assert log.endswith("pocket · niah_single_1\n" + picture)
    assert "\x1b" not in log


def test_counts_line_up_and_repeats_are_named() -> None:
    spec = RunSpec("pocket", "niah", "essays", Grid(LENGTHS, DEPTHS, repeats=12))
    log = plain_run([row(1024, 0.0, 1.0, repeat=1)], spec)
    assert "[  1/108] 1K depth 0 % repeat 1: 1.00 found" in log


def test_resumed_cells_are_counted_and_not_told_again() -> None:
    rows = [row(1024, 0.0, 1.0), row(1024, 0.5, 1.0), row(1024, 1.0, 0.0)]
    log = plain_run(rows, fresh_from=2)
    assert "2 of 9 cells were measured before\n[3/9] 1K depth 100 %: 0.00 wrong" in log
    assert "[1/9]" not in log
    assert log.count("100") >= 3


def test_quiet_prints_nothing() -> None:
    assert plain_run([row(1024, 0.0, 1.0)], quiet=True) == ""


def in_terminal(width: int = 80, height: int = 30) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system="truecolor", _environ={}
    )


def test_a_terminal_is_drawn_in_place_and_left_with_the_picture() -> None:
    console = in_terminal()
    with Live(SPEC, sum(c.length for c in SPEC.grid.cells()), False, console) as live:
        live.cell(row(1024, 0.0, 1.0, prompt_tokens=960))
        live.cell(row(1024, 0.5, None, error="out of memory"))
        live.cell(row(1024, 1.0, None, error="out of memory"))
        during = ESCAPES.sub("", shown(live._picture()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "3/9 cells" in during
    assert "tokens/s" in during
    assert re.search(r"\d:\d\d:\d\d left", during)
    assert text.startswith("\x1b[?25l")
    assert "\x1b[?25h" in text
    final = text.rsplit("\x1b[2K", 1)[1]
    assert "0/9 cells" in text
    assert "cells" not in final
    assert "48;2;12;215;159m" in final
    assert text.count("error: out of memory") == 1


def test_speed_counts_neither_loading_nor_what_was_measured_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    live = Live(SPEC, 10_000, False, Console(file=io.StringIO()))
    live.cell(row(1024, 0.0, 1.0, prompt_tokens=4000), fresh=False)
    now[0] += 60
    live.say("model loaded")
    now[0] += 2
    live.cell(row(1024, 0.5, 1.0, prompt_tokens=1000))
    assert "2/9 cells   500 tokens/s   0:00:10 left" in shown(live._picture())


def test_the_display_fits_a_low_terminal() -> None:
    spec = RunSpec("pocket", "niah", "essays", Grid(LENGTHS, tuple(d / 40 for d in range(41))))
    console = in_terminal(height=16)
    with Live(spec, 1, False, console) as live:
        live.cell(row(1024, 0.0, 1.0))
        assert len(console.render_lines(live._picture(), console.options.update(height=None))) <= 16


def test_an_interrupted_run_gives_the_terminal_back() -> None:
    console = in_terminal()
    live = Live(SPEC, 1, False, console)

    def interrupted() -> None:
        with live:
            live.cell(row(1024, 0.0, 1.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[?25h" in text
    assert "48;2;12;215;159m" in text.rsplit("\x1b[2K", 1)[1]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(LENGTHS), st.sampled_from(DEPTHS), st.none() | st.sampled_from([0.0, 0.5, 1.0])),
        max_size=30,
    )
)
def test_the_live_grid_is_the_one_that_analysis_makes(cells: list[tuple[int, float, float | None]]) -> None:
    rows = [row(length, depth, score, repeat) for repeat, (length, depth, score) in enumerate(cells)]
    live = Live(SPEC, 1, quiet=True)
    for result in rows:
        live.cell(result)
    df = analysis.frame(rows)
    pd.testing.assert_frame_equal(live.grid, analysis.grid(df, lengths=LENGTHS, depths=DEPTHS))
    assert live.failed == analysis.failed(df)
