"""What holds for a whole figure: its axes, its colour bar, its size and ground."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from needle.analysis import printable

GAP = 0.05
_GROUND = "rgba(128, 130, 140, 0.13)"  # seen through, so that it is a shade of the page, light or dark

GRID = "rgba(128, 130, 140, 0.3)"
"""Lines behind curves."""


def lay_out(figure: go.Figure, rows: int, title: str) -> None:
    """Title, ground and height; `rows` are the cells that stand above each other."""
    figure.update_layout(
        title={"text": markup(title)},
        template="plotly_white",
        plot_bgcolor=_GROUND,
        barmode="overlay",
        bargap=GAP,
        uniformtext={"minsize": 8, "mode": "hide"},
        hoverlabel={"align": "left"},
        height=min(max(360, 26 * rows + 170), 980),
        margin={"l": 80, "r": 30, "t": 70, "b": 70},
    )


def axes(figure: go.Figure, across: Sequence[str], down: Sequence[str], names: tuple[str, str], **at: int) -> None:
    """Axes of equal cells, the first row on top; `names` are those of the two axes."""
    figure.update_xaxes(
        type="category",
        categoryorder="array",
        categoryarray=list(across),
        # Said outright, because an automatic range leaves out columns that have no measured cell yet.
        range=[-0.5, max(len(across), 1) - 0.5],
        title={"text": names[0]},
        showgrid=False,
        **at,
    )
    figure.update_yaxes(
        range=[max(len(down), 1), 0],
        tickvals=[row + 0.5 for row in range(len(down))],
        ticktext=list(down),
        title={"text": names[1]},
        showgrid=False,
        zeroline=False,
        **at,
    )


def scale(colour: Callable[[float], str], low: float, title: str, **bar: Any) -> go.Scatter:
    """No points, only the scale from `low` to 1 beside the picture; the cells carry their colours themselves."""
    stops = [[stop / 10, colour(low + stop / 10 * (1 - low))] for stop in range(11)]
    bar = {"title": {"text": f"{title}<br> "}, "tickformat": ".0%", "outlinewidth": 0, "thickness": 14, **bar}
    marker = {"color": [0.0], "colorscale": stops, "cmin": low, "cmax": 1, "showscale": True, "colorbar": bar}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, hoverinfo="skip", showlegend=False)


def key(name: str, colour: str) -> go.Scatter:
    """No points, only a class of cells and its colour in the legend."""
    marker = {"color": colour, "symbol": "square", "size": 12}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name, hoverinfo="skip")


def markup(text: str) -> str:
    """Untrusted text for a place where Plotly reads its small HTML."""
    return escape(printable(text))
