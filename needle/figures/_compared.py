"""Runs side by side, their differences from the first, and their curves by length."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from needle.analysis import delta_colour, delta_label
from needle.comparison import Comparison, Contrast, delta
from needle.figures import _cells, _colour, _curves, _hover, _page, _views
from needle.figures._cells import Look
from needle.figures._colour import Palette
from needle.pairing import Pair


def compared(comparison: Comparison, title: str, palette: Palette = "traffic") -> go.Figure:
    """Draw runs side by side on one scale; below, each one's difference from the first, −100 to 100 %, and the curves.

    The curves are mean scores by length with 95 % intervals; dotted is the threshold of the effective length.
    """
    sides, contrasts = comparison.sides, comparison.contrasts
    lengths = sorted({n for side in sides for n in side.run.spec.grid.lengths})
    depths = sorted({d for side in sides for d in side.run.spec.grid.depths})
    names = [s.label for s in sides] + [f"{c.second} − {c.first}" for c in contrasts] + ["mean score by length"]
    titles = [_page.markup(name) for name in names]
    figure = make_subplots(2, len(sides), subplot_titles=titles, vertical_spacing=0.15, horizontal_spacing=0.1)
    for at, side in enumerate(sides, 1):
        seen = _views.see(side.frame, "score", palette, lengths=lengths, depths=depths)
        _cells.place(figure, *seen, row=1, col=at)
    for at, contrast in enumerate(contrasts, 1):
        _add_difference(figure, contrast, lengths, depths, row=2, col=at)
    _curves.add(figure, sides, "length", row=2, col=len(sides))
    figure.update_yaxes(title={"text": ""}, row=2, col=len(sides))  # the picture's heading says it
    figure.add_trace(_page.scale(partial(_colour.shade, palette=palette), 0, "score", y=0.8, len=0.42))
    figure.add_trace(_page.scale(delta_colour, -1, "difference", y=0.2, len=0.42))
    _page.lay_out(figure, 2 * len(depths) + 8, title)
    figure.update_layout(legend={"orientation": "h", "y": -0.12, "x": 1, "xanchor": "right"})
    return figure


def difference(contrast: Contrast, lengths: Iterable[int], depths: Iterable[float], title: str = "") -> go.Figure:
    """The mean difference of scores a cell, −100 to 100 %, orange where the second run is worse; empty without pairs.

    `lengths` and `depths` are the axes, ascending.
    """
    figure, rows = go.Figure(), list(depths)
    _add_difference(figure, contrast, list(lengths), rows)
    figure.add_trace(_page.scale(delta_colour, -1, "difference"))
    _page.lay_out(figure, len(rows), title)
    return figure


def _add_difference(figure: go.Figure, contrast: Contrast, lengths: list[int], depths: list[float], **at: int) -> None:
    cells: dict[tuple[int, float], list[Pair]] = {}
    for pair in contrast.pairs:
        cells.setdefault((pair.length, pair.first.depth), []).append(pair)

    def paint(length: int, depth: float, value: float) -> Look | None:
        if math.isnan(value):
            return None
        hover = _hover.difference(length, depth, value, cells[length, depth])
        return Look(delta_colour(value), delta_label(value), hover)

    _cells.place(figure, delta(contrast).reindex(index=depths, columns=lengths), paint, **at)
