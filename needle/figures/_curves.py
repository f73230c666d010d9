"""Curves of mean scores, each point with its 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import plotly.graph_objects as go

from needle import certainty
from needle.analysis import depth_label, length_label
from needle.certainty import Floats
from needle.comparison import Side
from needle.figures import _cells, _colour, _page, _views

_APART = 0.09
"""How far curves stand off each other, in columns, so that their intervals can be told apart."""


def curves(sides: Sequence[Side], by: Literal["length", "depth"] = "length", title: str = "") -> go.Figure:
    """Mean score of each run with its 95 % interval, by context length or depth; a gap where nothing was measured.

    Dotted is the threshold of the effective length, where it is lengths that are looked at.
    """
    figure = go.Figure()
    add(figure, sides, by)
    _page.lay_out(figure, 8, title)
    figure.update_layout(legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0}, showlegend=True)
    return figure


def add(figure: go.Figure, sides: Sequence[Side], by: Literal["length", "depth"], **at: int) -> None:
    """Draw the curves of `curves` as a figure's only picture, or as one of several."""
    grids = [side.run.spec.grid for side in sides]
    if by == "length":
        places: list[float] = sorted({float(n) for grid in grids for n in grid.lengths})
        labels = [length_label(int(n)) for n in places]
    else:
        places = sorted({d for grid in grids for d in grid.depths})
        labels = [depth_label(d) for d in places]
    for number, side in enumerate(sides):
        off = (number - (len(sides) - 1) / 2) * _APART
        x = [column + off for column in range(len(places))]
        figure.add_trace(curve(x, labels, _scores(side, by, places), side.label, number), **at)
    if by == "length":
        for threshold in {s.effective.threshold for s in sides if not math.isnan(s.effective.threshold)}:
            figure.add_hline(threshold, line={"dash": "dot", "width": 1, "color": "#8A8F9C"}, **at)
    ticks = {"tickvals": list(range(len(places))), "ticktext": labels, "range": [-0.5, max(len(places), 1) - 0.5]}
    figure.update_xaxes(title={"text": _cells.AXES[by == "depth"]}, zeroline=False, **ticks, **at)
    figure.update_xaxes(gridcolor=_page.GRID, **at)
    figure.update_yaxes(gridcolor=_page.GRID, **at)
    figure.update_yaxes(title={"text": "mean score"}, range=[-0.03, 1.03], tickformat=".0%", zeroline=False, **at)


def _scores(side: Side, by: str, places: Sequence[float]) -> list[Floats]:
    """The measured scores at each place."""
    table = _views.asked(side.frame)
    measured = table[table["status"] == "ok"]
    return [measured.loc[(measured[by] - place).abs() < 1e-9, "score"].to_numpy(dtype=float) for place in places]


def curve(x: Sequence[float], labels: Sequence[str], scores: Sequence[Floats], name: str, number: int) -> go.Scatter:
    """Curve `number` of a figure: the mean of each place's scores; a gap where there are none."""
    means = [certainty.mean(each) for each in scores]
    ends = [certainty.interval(each) for each in scores]
    return go.Scatter(
        x=list(x),
        y=means,
        error_y={
            "symmetric": False,
            "array": [high - mean for mean, (_, high) in zip(means, ends, strict=True)],
            "arrayminus": [mean - low for mean, (low, _) in zip(means, ends, strict=True)],
            "thickness": 1.2,
            "width": 3,
        },
        mode="lines+markers",
        line={"color": _colour.CURVES[number % len(_colour.CURVES)]},
        marker={"symbol": _colour.MARKS[number % len(_colour.MARKS)], "size": 8},
        customdata=[[label, len(each), *end] for label, each, end in zip(labels, scores, ends, strict=True)],
        hovertemplate="%{customdata[0]}: %{y:.1%} (%{customdata[2]:.1%} to %{customdata[3]:.1%}, "
        "%{customdata[1]} cells)",
        name=_page.markup(name),
    )
