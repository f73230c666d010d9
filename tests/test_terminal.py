"""What people see in a terminal, at the widths and with the colours that they have."""

from __future__ import annotations

import dataclasses
import re
import typing

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.text import Text
from synthetic import row
from terminals import DEPTHS, ESCAPES, SPEC, shown

from needle import analysis, terminal
from needle.types import Outcome


def square(lengths: int, depths: int, score: float = 1.0) -> pd.DataFrame:
    index = pd.Index([d / max(depths - 1, 1) for d in range(depths)], name="depth")
    return pd.DataFrame(score, index=index, columns=[1024 * (n + 1) for n in range(lengths)])


def test_without_colour_the_numbers_tell_it_all() -> None:
    rows = [row(1024, 0.0, 1.0), row(2048, 0.0, 0.25), row(4096, 0.0, 0.0), row(1024, 0.5, None), row(4096, 1.0, 1.0)]
    df = analysis.frame(rows)
    picture = shown(terminal.heatmap(analysis.grid(df), analysis.failed(df), running=(2048, 1.0)))
    lines = [line.split() for line in picture.splitlines()]
    assert lines[:4] == [
        ["1K", "2K", "4K"],
        ["0", "%", "100", "25", "0"],
        ["50", "%", "×", "·", "·"],
        ["100", "%", "·", "»", "100"],
    ]
    assert "\x1b" not in picture


def test_colour_is_the_scores_and_the_number_is_dark_on_it() -> None:
    picture = shown(terminal.heatmap(square(1, 1, 0.5)), colour=True)
    assert "38;2;22;24;29;48;2;235;184;57m" in picture


def test_numbers_give_way_to_blocks_and_blocks_to_fewer_lengths() -> None:
    wide, blocks, few = (shown(terminal.heatmap(square(30, 3, 0.5)), width, colour=True) for width in (140, 60, 20))
    assert wide.count("50 ") >= 90
    assert "left out" not in wide
    body = [ESCAPES.sub("", line) for line in blocks.splitlines()[1:4]]
    assert [line.split() for line in body] == [["0", "%"], ["50", "%"], ["100", "%"]]
    assert blocks.count("48;2;235;184;57m") == 90
    assert "left out" not in blocks
    assert few.count("48;2;235;184;57m") == 3 * 14
    assert "16 of 30 lengths are left out" in " ".join(ESCAPES.sub("", few).split())


def test_without_colour_lengths_are_left_out_before_numbers_are() -> None:
    picture = shown(terminal.heatmap(square(30, 3, 0.5)), 60)
    assert picture.count(" 50 ") >= 3 * 13
    assert "17 of 30 lengths are left out" in picture
    first, *_, last = picture.splitlines()[0].split()
    assert (first, last) == ("1K", "30K")


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(12, 130), st.booleans())
def test_no_line_is_wider_than_the_terminal_and_labels_stay_apart(n: int, m: int, width: int, colour: bool) -> None:
    picture = ESCAPES.sub("", shown(terminal.heatmap(square(n, m)), width, colour)).splitlines()
    assert max(len(line) for line in picture) <= width
    assert set(picture[0].split()) <= {analysis.length_label(1024 * (at + 1)) for at in range(n)}
    assert picture[0].split()[-1] == analysis.length_label(1024 * n)
    assert len([line for line in picture if " %" in line and "score" not in line]) == m


def test_a_low_terminal_gets_fewer_depths_and_is_told() -> None:
    picture = shown(terminal.heatmap(square(3, 30), max_rows=5))
    assert re.findall(r"^ *([\d.]+) %", picture, re.MULTILINE) == ["0", "24.1", "48.3", "72.4", "100"]
    assert "25 of 30 depths are left out" in picture


def test_the_heatmap_of_nothing_is_no_crash() -> None:
    assert "score in %" in shown(terminal.heatmap(analysis.grid(analysis.frame([]))))


@given(
    st.text()
    | st.sampled_from(["[red]x[/red]", "[/]", "\\[b]", "a\\", "[b]\\\\\\", "[link=x]", "\x1b[31mx\x07", "[[b]]"])
)
def test_clean_prints_as_it_reads_and_does_nothing(text: str) -> None:
    safe = terminal.clean(text)
    alone, within = (Text.from_markup(each, emoji=False) for each in (safe, f"[red]{safe}[/red][i]!"))
    assert alone.plain == analysis.printable(text)
    assert not [span for span in alone.spans if span.start < span.end]
    assert within.plain == analysis.printable(text) + "!"
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", safe)


def test_runs_table_shows_every_kind_of_value_and_no_markup_acts() -> None:
    rows: list[dict[str, object]] = [
        {"run": "[red]a[/red]\x1b[2J", "cells": 12345, "mean": 0.93333, "note": None},
        {"run": "b", "cells": None, "mean": float("nan"), "note": "x"},
    ]
    text = shown(terminal.runs_table(rows), 100)
    assert "[red]a[/red]\\x1b[2J" in text
    assert "12,345" in text
    assert "0.933" in text
    assert re.search(r"b +– +– +x", text)
    assert "no runs yet" in shown(terminal.runs_table([]))


def test_cell_view_cuts_the_text_marks_the_needle_and_lets_nothing_act() -> None:
    result = row(
        4096, 0.5, 0.0, depth_used=0.4951, question="Which code?", expected=("4821", "17"), answer="[b]no\x1b[2J"
    )
    text = shown(
        terminal.cell_view("early " + "b" * 5000, "[i]The code is 4821.\x07", "a" * 5000 + " late", result), 100
    )
    assert ">>>[i]The code is 4821.\\x07<<<" in text.replace("\n", "")
    assert "early" not in text
    assert "late" not in text
    for part in ("4K", "depth 50 %", "really 49.51 %", "Which code?", "4821 | 17", "[b]no\\x1b[2J", "0.00 wrong"):
        assert part in text
    assert "\x1b" not in text


def test_cell_view_of_a_failure_tells_the_error() -> None:
    text = shown(terminal.cell_view("a ", "b", " c", row(1024, 0.0, None, error="out of memory")))
    assert "a >>>b<<< c" in text
    assert "out of memory" in text
    assert "(empty)" in text


def test_summary_lines_tell_what_is_missing() -> None:
    rows = [row(1024, 0.0, 1.0), row(1024, 0.5, 0.5), row(2048, 0.0, None)]
    text = "\n".join(terminal.summary_lines(analysis.summary(rows, SPEC, {})))
    assert "2 of 9 measured, 1 failed, 6 not reached" in text
    assert "mean score         0.750" in text
    assert "effective length   none" in text
    assert "found 1, wrong 1, error 1" in text
    assert re.search(r"1K +0\.750 +2 cells, full 0\.09–0\.91", text)
    nothing = "\n".join(terminal.summary_lines(analysis.summary([], SPEC, {})))
    assert "nothing measured" in nothing


@pytest.mark.parametrize(
    ("sure", "told"),
    [
        (0.9731, "1K (97 % sure)"),
        (0.5, "1K (50 % sure)"),
        (0.99, "1K (99 % sure)"),
        (0.9951, "1K (over 99 % sure)"),
        (1.0, "1K (over 99 % sure)"),
        (0.004, "1K (under 1 % sure)"),
        (None, "1K"),
        (float("nan"), "1K"),
    ],
)
def test_the_effective_length_is_told_with_how_sure_it_is(sure: float | None, told: str) -> None:
    summary = analysis.summary([row(1024, depth, 1.0) for depth in DEPTHS], SPEC, {})
    assert summary.effective_length == 1024
    whole = dataclasses.replace(summary, effective_confidence=sure, asked=summary.done)
    assert f"effective length   {told}" in terminal.summary_lines(whole)
    assert "effective length   1K so far" in terminal.summary_lines(summary)


def test_outcomes_are_told_by_name_however_many_there_are() -> None:
    names = typing.get_args(Outcome)
    rows = [
        dataclasses.replace(row(1024, 0.0, None if name == "error" else 0.0, repeat), outcome=name)
        for repeat, name in enumerate(names)
    ]
    text = "\n".join(terminal.summary_lines(analysis.summary(rows, SPEC, {})))
    for name in names:
        assert f"{name} 1" in text
