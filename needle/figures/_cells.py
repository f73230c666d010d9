"""Cells as bars: one trace a row, since the cells of `go.Heatmap` cannot be selected in a browser app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from needle import analysis
from needle.analysis import depth_label, length_label
from needle.figures import _colour, _page

AXES = ("context length (tokens)", "needle depth")


@dataclass(frozen=True, slots=True)
class Look:
    """How a cell is drawn: its colour (`#rrggbb`), the sign on it, its text under the pointer; hatched if `failed`."""

    colour: str
    sign: str
    hover: str
    failed: bool = False


Paint = Callable[[Any, Any, float], Look | None]
"""(column, row, value) → its look; None where there is no cell to draw. In a heatmap these are length and depth."""


def failure(hover: str) -> Look:
    """The look of a cell that was tried and failed."""
    return Look(analysis.FAILED, "×", hover, failed=True)


def place(figure: go.Figure, grid: pd.DataFrame, paint: Paint, **at: int) -> None:
    """Add a depth × length grid and its axes, whole or as one of several pictures."""
    lengths = [length_label(int(length)) for length in grid.columns]
    depths = [depth_label(float(depth)) for depth in grid.index]
    for bar in bars(grid, paint, lengths, depths):
        figure.add_trace(bar, **at)
    _page.axes(figure, lengths, depths, AXES, **at)


def bars(grid: pd.DataFrame, paint: Paint, across: list[str], down: list[str]) -> list[go.Bar]:
    """One trace a row of `grid`, labelled `across` and `down`; each cell's customdata is [column, row]."""
    values = grid.to_numpy(dtype=float).tolist()
    columns, rows = grid.columns.tolist(), grid.index.tolist()
    traces = []
    for at, (row, line) in enumerate(zip(rows, values, strict=True)):
        looks = [paint(column, row, value) for column, value in zip(columns, line, strict=True)]
        traces.append(_row(at, down[at], across, [[column, row] for column in columns], looks))
    return traces


def _row(at: int, name: str, across: list[str], places: list[list[Any]], looks: list[Look | None]) -> go.Bar:
    """Cells of the same height that stand on their row's number."""
    drawn = [look or Look(analysis.FAILED, "", "") for look in looks]
    inks = [_colour.ink(look.colour) for look in drawn]
    return go.Bar(
        x=across,
        y=[None if look is None else 1 - _page.GAP for look in looks],
        base=at + _page.GAP / 2,
        customdata=places,
        marker={
            "color": [look.colour for look in drawn],
            "line": {"width": 0},
            "pattern": {"shape": ["/" if look.failed else "" for look in drawn], "size": 7, "solidity": 0.18},
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        text=[look.sign for look in drawn],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        insidetextfont={"color": inks},
        hovertext=[look.hover for look in drawn],
        hoverinfo="text",
        name=name,
        showlegend=False,
    )
