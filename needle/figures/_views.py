"""What a heatmap can show of a cell: its score, the answer's probability, its outcome, how wide its interval is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, cast, get_args

import pandas as pd

from needle import analysis, certainty
from needle.figures import _colour, _hover
from needle.figures._cells import Look, Paint, failure
from needle.figures._colour import Palette
from needle.types import Outcome

Value = Literal["score", "probability", "outcome", "interval"]
VALUES: tuple[Value, ...] = get_args(Value)

Rows = dict[tuple[int, float], list[Any]]
"""(context length, asked depth) → the cell's rows of a results frame."""

_WORST_LAST = list(_colour.OUTCOMES)
NAMES = {"score": "score", "probability": "probability", "interval": "width of the<br>95 % interval"}
"""What the colour bar is called."""


def see(
    table: pd.DataFrame,
    value: Value,
    palette: Palette,
    failed: Collection[tuple[int, float]] | None = None,
    lengths: Iterable[int] | None = None,
    depths: Iterable[float] | None = None,
) -> tuple[pd.DataFrame, Paint]:
    """The grid of a results frame or grid, depths down and lengths across, and how its cells are painted."""
    if "status" not in table.columns:
        if value == "outcome":
            raise ValueError("outcomes are drawn from a results frame (analysis.frame), not from a grid of numbers")
        grid = table.reindex(
            index=table.index if depths is None else sorted(set(depths)),
            columns=table.columns if lengths is None else sorted(set(lengths)),
        )
        return grid, _paint({}, frozenset(failed or ()), value, palette)
    table = asked(table)
    rows = _rows(table)
    marked = frozenset(analysis.failed(table) if failed is None else failed)
    grid = analysis.grid(table, lengths=lengths, depths=depths)
    if value != "score":
        seen = {place: _measure(each, value) for place, each in rows.items()}
        grid = pd.DataFrame(
            [[seen.get((length, depth), math.nan) for length in grid.columns] for depth in grid.index],
            index=grid.index,
            columns=grid.columns,
            dtype="float64",
        )
    return grid, _paint(rows, marked, value, palette)


def asked(table: pd.DataFrame) -> pd.DataFrame:
    """A results frame without its control cells, in which nothing was hidden."""
    return table[~table["control"].astype(bool)] if "control" in table.columns else table


def _rows(table: pd.DataFrame) -> Rows:
    rows: Rows = {}
    for row in table.itertuples(index=False):
        rows.setdefault((int(row.length), float(row.depth)), []).append(row)
    return rows


def interval(rows: Sequence[Any]) -> tuple[float, float] | None:
    """Wilson's 95 % interval of a cell's mean score; None where nothing was measured.

    For graded scores it takes their sum for the number of full ones: no scores 0–1 of that mean vary more than 0/1
    ones do, so that the interval is too wide rather than too narrow.
    """
    scores = [float(row.score) for row in rows if row.status == "ok"]
    return certainty.wilson(cast("int", sum(scores)), len(scores)) if scores else None


def outcome(rows: Sequence[Any]) -> Outcome:
    """The most frequent outcome of a cell's measured repeats, of equals the worst; "error" where none was measured."""
    counts = Counter(row.outcome for row in rows if row.status == "ok")
    if not counts:
        return "error"
    most = max(counts, key=lambda each: (counts[each], _WORST_LAST.index(each)))
    return cast("Outcome", most)


def _measure(rows: Sequence[Any], value: Value) -> float:
    """A cell's probability, outcome (as its place in `_colour.OUTCOMES`) or width of the interval; NaN without one."""
    if value == "outcome":
        return float(_WORST_LAST.index(outcome(rows)))
    if value == "interval":
        between = interval(rows)
        return math.nan if between is None else between[1] - between[0]
    sure = [math.exp(row.answer_logprob) for row in rows if row.status == "ok" and not math.isnan(row.answer_logprob)]
    return sum(sure) / len(sure) if sure else math.nan


def _paint(rows: Rows, failed: frozenset[tuple[int, float]], value: Value, palette: Palette) -> Paint:
    def paint(length: int, depth: float, number: float) -> Look | None:
        there = rows.get((length, depth), [])
        if (length, depth) in failed and (math.isnan(number) or value == "outcome"):
            return failure(_hover.cell(length, depth, "failed", there, None))
        if math.isnan(number) and not any(row.status == "ok" for row in there):
            return None
        scores = [row.score for row in there if row.status == "ok"]
        score = sum(scores) / len(scores) if scores else number
        verdict = f"{'score' if scores else value} {_hover.percent(score)} %"
        colour, sign = _shown(number, value, palette)
        return Look(colour, sign, _hover.cell(length, depth, verdict, there, interval(there)))

    return paint


def _shown(number: float, value: Value, palette: Palette) -> tuple[str, str]:
    """A measured cell's colour and sign."""
    if math.isnan(number):
        return _colour.BLANK, "–"
    if value == "outcome":
        sign, colour = _colour.OUTCOMES[_WORST_LAST[int(number)]]
        return colour, sign
    return shade(number, value, palette), analysis.score_label(number)


def shade(number: float, value: Value, palette: Palette) -> str:
    """`#rrggbb` of a value 0–1; a wide interval is as bad as a low score."""
    return _colour.shade(1 - number if value == "interval" else number, palette)
