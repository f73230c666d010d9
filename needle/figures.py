"""The heatmap as a Plotly figure: context length across, needle depth down, red through amber to green.

It is drawn with one bar trace a depth rather than `go.Heatmap`, whose cells cannot be selected in a browser app. Trace
number and point number are the cell's row and column, and each point's `customdata` is [length, depth].
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterable
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from needle import analysis
from needle.analysis import depth_label, length_label

_GAP = 0.05
_ANSWERS_SHOWN = 3
_ANSWER_CHARACTERS = 180
_EMPTY = "#F4F5F7"


def heatmap(
    table: pd.DataFrame,
    title: str,
    failed: Collection[tuple[int, float]] | None = None,
    lengths: Iterable[int] | None = None,
    depths: Iterable[float] | None = None,
) -> go.Figure:
    """Draw a results frame (`analysis.frame`) or a grid (`analysis.grid`), scores on the fixed range 0–100 %.

    From a results frame a cell's hover text also holds what the model answered, and `failed` is found in it; with a
    grid, `failed` names the cells to mark with ×. `lengths` and `depths` widen the axes to all that was asked for.
    """
    rows: dict[tuple[int, float], list[Any]] = {}
    if "status" in table.columns:
        for row in table.itertuples(index=False):
            rows.setdefault((int(row.length), float(row.depth)), []).append(row)
        failed = analysis.failed(table) if failed is None else failed
        grid = analysis.grid(table, lengths=lengths, depths=depths)
    else:
        grid = table.reindex(
            index=table.index if depths is None else sorted(set(depths)),
            columns=table.columns if lengths is None else sorted(set(lengths)),
        )
    marked = frozenset(failed or ())
    traces = [_row(at, float(depth), grid.loc[depth], marked, rows) for at, depth in enumerate(grid.index)]
    figure = go.Figure([*traces, _colour_bar()])
    _lay_out(figure, grid, title)
    return figure


def _row(
    at: int,
    depth: float,
    scores: pd.Series,
    failed: frozenset[tuple[int, float]],
    rows: dict[tuple[int, float], list[Any]],
) -> go.Bar:
    """One depth's cells as bars of equal height that stand on the row's number."""
    cells = [(int(length), float(score)) for length, score in scores.items()]
    heights, colours, texts, hovers = [], [], [], []
    for length, score in cells:
        broken, measured = (length, depth) in failed, not math.isnan(score)
        heights.append(1 - _GAP if broken or measured else None)
        colours.append(analysis.colour(score) if measured else analysis.FAILED)
        texts.append(analysis.score_label(score) if measured else "×")
        hovers.append(_hover(length, depth, score, rows.get((length, depth), [])))
    return go.Bar(
        x=[length_label(length) for length, _ in cells],
        y=heights,
        base=at + _GAP / 2,
        customdata=[[length, depth] for length, _ in cells],
        marker={"color": colours, "line": {"width": 0}},
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        text=texts,
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"color": analysis.INK},
        hovertext=hovers,
        hoverinfo="text",
        name=depth_label(depth),
        showlegend=False,
    )


def _hover(length: int, depth: float, score: float, rows: list[Any]) -> str:
    """What a cell says under the pointer, in Plotly's small HTML; all that a model wrote is escaped."""
    verdict = "failed" if math.isnan(score) else f"score {100 * score:.4g} %"
    if len(rows) > 1:
        verdict += f", mean of {sum(row.status == 'ok' for row in rows)} of {len(rows)} repeats"
    lines = [f"<b>{length_label(length)} · depth {depth_label(depth)}</b>", f"{length:,} tokens · {verdict}"]
    used = [row.depth_used for row in rows if not math.isnan(row.depth_used)]
    if used:
        ends = dict.fromkeys(f"{100 * share:.2f}" for share in (min(used), max(used)))
        lines.append(f"needle really at {'–'.join(ends)} %")
    for row in rows[:_ANSWERS_SHOWN]:
        said = row.error if row.status == "error" else row.answer
        lines.append(f"<b>{escape(row.outcome)}</b>: {_quote(said or '(no text)')}")
    if len(rows) > _ANSWERS_SHOWN:
        lines.append(f"and {len(rows) - _ANSWERS_SHOWN} more repeats")
    return "<br>".join(lines)


def _quote(text: str) -> str:
    """An answer on a few short lines, cut, with nothing in it that a page could take for markup."""
    flat = analysis.printable(" ".join(text.split()))
    cut = flat if len(flat) <= _ANSWER_CHARACTERS else flat[: _ANSWER_CHARACTERS - 1] + "…"
    return "<br>".join(escape(line) for line in textwrap.wrap(cut, 60))


def _colour_bar() -> go.Scatter:
    """No points, only the scale beside the picture; the cells carry their colours themselves."""
    stops = [[stop, analysis.colour(stop)] for stop in (0.0, 0.5, 1.0)]
    bar = {"title": {"text": "score"}, "tickformat": ".0%", "outlinewidth": 0, "thickness": 14}
    marker = {"color": [0.0], "colorscale": stops, "cmin": 0, "cmax": 1, "showscale": True, "colorbar": bar}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, hoverinfo="skip", showlegend=False)


def _lay_out(figure: go.Figure, grid: pd.DataFrame, title: str) -> None:
    """Axes of equal-size cells, depth 0 % on top, numbers hidden together where they would not fit."""
    labels = [length_label(int(length)) for length in grid.columns]
    count = len(grid.index)
    figure.update_layout(
        title={"text": escape(analysis.printable(title))},
        template="plotly_white",
        plot_bgcolor=_EMPTY,
        barmode="overlay",
        bargap=_GAP,
        uniformtext={"minsize": 8, "mode": "hide"},
        hoverlabel={"align": "left"},
        height=min(max(360, 26 * count + 170), 980),
        margin={"l": 80, "r": 30, "t": 70, "b": 70},
    )
    figure.update_xaxes(
        type="category",
        categoryorder="array",
        categoryarray=labels,
        # Said outright, because an automatic range leaves out lengths that have no measured cell yet.
        range=[-0.5, max(len(labels), 1) - 0.5],
        title={"text": "context length (tokens)"},
        showgrid=False,
    )
    figure.update_yaxes(
        range=[max(count, 1), 0],
        tickvals=[row + 0.5 for row in range(count)],
        ticktext=[depth_label(float(depth)) for depth in grid.index],
        title={"text": "needle depth"},
        showgrid=False,
        zeroline=False,
    )
