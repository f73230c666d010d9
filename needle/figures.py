"""The heatmap as a Plotly figure: context length across, needle depth down, red through amber to green.

It is drawn with one bar trace a depth rather than `go.Heatmap`, whose cells cannot be selected in a browser app. In a
figure of one heatmap, trace number and point number are the cell's row and column. Each point's `customdata` is
[length, depth].
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Collection, Iterable
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from needle import analysis, certainty
from needle.analysis import delta_colour, delta_label, depth_label, length_label
from needle.comparison import Comparison, Contrast, Side, delta
from needle.pairing import Pair

_GAP = 0.05
_ANSWERS_SHOWN = 3
_ANSWER_CHARACTERS = 180
_EMPTY = "#F4F5F7"
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's, told apart by all eyes
_MARKS = ("circle", "square", "diamond", "triangle-up", "x", "cross")

Paint = Callable[[int, float, float], tuple[bool, str, str, str]]
"""(length, depth, value) → whether there is a cell to draw, its colour, its text and its hover text."""


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
    grid, paint = _scores(table, failed, lengths, depths)
    figure = go.Figure([*_bars(grid, paint), _scale(analysis.colour, 0, "score")])
    _lay_out(figure, len(grid.index), title)
    _axes(figure, grid)
    return figure


def _scores(
    table: pd.DataFrame,
    failed: Collection[tuple[int, float]] | None = None,
    lengths: Iterable[int] | None = None,
    depths: Iterable[float] | None = None,
) -> tuple[pd.DataFrame, Paint]:
    """The grid of a results frame or grid, and how its cells are painted; see `heatmap`."""
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

    def paint(length: int, depth: float, score: float) -> tuple[bool, str, str, str]:
        there = not math.isnan(score)
        hover = _hover(length, depth, score, rows.get((length, depth), []))
        colour = analysis.colour(score) if there else analysis.FAILED
        return there or (length, depth) in marked, colour, analysis.score_label(score) if there else "×", hover

    return grid, paint


def _bars(grid: pd.DataFrame, paint: Paint) -> list[go.Bar]:
    """One trace a depth, each cell a bar of the same height that stands on its row's number."""
    return [_row(at, float(depth), grid.loc[depth], paint) for at, depth in enumerate(grid.index)]


def _row(at: int, depth: float, values: pd.Series, paint: Paint) -> go.Bar:
    lengths = [int(length) for length in values.index]
    painted = [paint(length, depth, float(value)) for length, value in zip(lengths, values, strict=True)]
    return go.Bar(
        x=[length_label(length) for length in lengths],
        y=[1 - _GAP if there else None for there, *_ in painted],
        base=at + _GAP / 2,
        customdata=[[length, depth] for length in lengths],
        marker={"color": [colour for _, colour, *_ in painted], "line": {"width": 0}},
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        text=[text for *_, text, _ in painted],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"color": analysis.INK},
        hovertext=[hover for *_, hover in painted],
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


def compared(comparison: Comparison, title: str) -> go.Figure:
    """Draw runs side by side on one scale; below, each one's difference from the first, −100 to 100 %, and the curves.

    The curves are mean scores by length with 95 % intervals; dotted is the threshold of the effective length.
    """
    sides, contrasts = comparison.sides, comparison.contrasts
    lengths = sorted({n for side in sides for n in side.run.spec.grid.lengths})
    depths = sorted({d for side in sides for d in side.run.spec.grid.depths})
    names = [s.label for s in sides] + [f"{c.second} − {c.first}" for c in contrasts] + ["mean score by length"]
    titles = [escape(analysis.printable(name)) for name in names]
    figure = make_subplots(2, len(sides), subplot_titles=titles, vertical_spacing=0.15, horizontal_spacing=0.1)
    for at, side in enumerate(sides, 1):
        _place(figure, *_scores(side.frame, lengths=lengths, depths=depths), row=1, col=at)
    for at, contrast in enumerate(contrasts, 1):
        grid = delta(contrast).reindex(index=depths, columns=lengths)
        _place(figure, grid, _delta_paint(contrast), row=2, col=at)
    for at, side in enumerate(sides):
        figure.add_trace(_curve(side, lengths, at), row=2, col=len(sides))
    for threshold in {s.effective.threshold for s in sides if not math.isnan(s.effective.threshold)}:
        figure.add_hline(threshold, line={"dash": "dot", "width": 1}, row=2, col=len(sides))
    figure.add_trace(_scale(analysis.colour, 0, "score", y=0.8, len=0.42))
    figure.add_trace(_scale(delta_colour, -1, "difference", y=0.2, len=0.42))
    _lay_out(figure, 2 * len(depths) + 8, title)
    labels = [length_label(length) for length in lengths]
    last = {"row": 2, "col": len(sides)}
    figure.update_xaxes(type="category", categoryarray=labels, range=[-0.5, len(labels) - 0.5], **last)
    figure.update_xaxes(title={"text": "context length (tokens)"}, **last)
    figure.update_yaxes(range=[-0.03, 1.03], tickformat=".0%", **last)
    figure.update_layout(legend={"orientation": "h", "y": -0.12, "x": 1, "xanchor": "right"})
    return figure


def _place(figure: go.Figure, grid: pd.DataFrame, paint: Paint, **at: int) -> None:
    for bar in _bars(grid, paint):
        figure.add_trace(bar, **at)
    _axes(figure, grid, **at)


def _delta_paint(contrast: Contrast) -> Paint:
    cells: dict[tuple[int, float], list[Pair]] = {}
    for pair in contrast.pairs:
        cells.setdefault((pair.length, pair.first.depth), []).append(pair)

    def paint(length: int, depth: float, difference: float) -> tuple[bool, str, str, str]:
        if math.isnan(difference):
            return False, analysis.FAILED, "", ""
        pairs = cells[length, depth]
        hover = [f"<b>{length_label(length)} · depth {depth_label(depth)}</b>"]
        hover.append(f"difference {delta_label(difference)} %, {len(pairs)} pair{'s' if len(pairs) > 1 else ''}")
        hover += [f"{escape(p.first.outcome)} → {escape(p.second.outcome)}" for p in pairs[:_ANSWERS_SHOWN]]
        return True, delta_colour(difference), delta_label(difference), "<br>".join(hover)

    return paint


def _curve(side: Side, lengths: list[int], at: int) -> go.Scatter:
    """Mean score by length, with the interval of each; a gap where nothing was measured."""
    bands = analysis.bands(side.frame, lengths)
    means = [certainty.mean(bands[length]) for length in lengths]
    ends = [certainty.interval(bands[length]) for length in lengths]
    return go.Scatter(
        x=[length_label(length) for length in lengths],
        y=means,
        error_y={
            "symmetric": False,
            "array": [high - mean for mean, (_, high) in zip(means, ends, strict=True)],
            "arrayminus": [mean - low for mean, (low, _) in zip(means, ends, strict=True)],
            "thickness": 1.2,
        },
        mode="lines+markers",
        line={"color": _LINES[at % len(_LINES)]},
        marker={"symbol": _MARKS[at % len(_MARKS)], "size": 8},
        customdata=[[len(bands[length]), *end] for length, end in zip(lengths, ends, strict=True)],
        hovertemplate="%{x}: %{y:.1%} (%{customdata[1]:.1%} to %{customdata[2]:.1%}, %{customdata[0]} cells)",
        name=escape(analysis.printable(side.label)),
    )


def _scale(colour: Callable[[float], str], low: float, title: str, **bar: Any) -> go.Scatter:
    """No points, only the scale from `low` to 1 beside the picture; the cells carry their colours themselves."""
    stops = [[stop, colour(low + stop * (1 - low))] for stop in (0.0, 0.5, 1.0)]
    bar = {"title": {"text": title}, "tickformat": ".0%", "outlinewidth": 0, "thickness": 14, **bar}
    marker = {"color": [0.0], "colorscale": stops, "cmin": low, "cmax": 1, "showscale": True, "colorbar": bar}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, hoverinfo="skip", showlegend=False)


def _lay_out(figure: go.Figure, rows: int, title: str) -> None:
    """What holds for the whole figure; `rows` are the cells that stand above each other."""
    figure.update_layout(
        title={"text": escape(analysis.printable(title))},
        template="plotly_white",
        plot_bgcolor=_EMPTY,
        barmode="overlay",
        bargap=_GAP,
        uniformtext={"minsize": 8, "mode": "hide"},
        hoverlabel={"align": "left"},
        height=min(max(360, 26 * rows + 170), 980),
        margin={"l": 80, "r": 30, "t": 70, "b": 70},
    )


def _axes(figure: go.Figure, grid: pd.DataFrame, **at: int) -> None:
    """Axes of equal-size cells, depth 0 % on top, numbers hidden together where they would not fit."""
    labels = [length_label(int(length)) for length in grid.columns]
    count = len(grid.index)
    figure.update_xaxes(
        type="category",
        categoryorder="array",
        categoryarray=labels,
        # Said outright, because an automatic range leaves out lengths that have no measured cell yet.
        range=[-0.5, max(len(labels), 1) - 0.5],
        title={"text": "context length (tokens)"},
        showgrid=False,
        **at,
    )
    figure.update_yaxes(
        range=[max(count, 1), 0],
        tickvals=[row + 0.5 for row in range(count)],
        ticktext=[depth_label(float(depth)) for depth in grid.index],
        title={"text": "needle depth"},
        showgrid=False,
        zeroline=False,
        **at,
    )
