"""A checkpoint series as a film of heatmaps, with a step slider and a play button that need no server."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from needle import series as all_series
from needle.figures._colour import Palette
from needle.figures._heatmap import heatmap
from needle.figures._steps import heading
from needle.figures._views import Value
from needle.series import Series

_FRAME_MS = 700


def played(series: Series, title: str | None = None, value: Value = "score", palette: Palette = "traffic") -> go.Figure:
    """The heatmap (see `heatmap`) of the last step, a slider to the others and a button that plays them in order.

    A frame's name is its step.
    """
    grids = [run.spec.grid for run in series.runs]
    depths = sorted({depth for grid in grids for depth in grid.depths})
    told = {"lengths": all_series.lengths(series), "depths": depths, "value": value, "palette": palette}
    pictures = [heatmap(all_series.frame(run), heading(series, title), **told) for run in series.runs]  # type: ignore[arg-type]
    figure = pictures[-1]
    cells = list(range(len(depths)))
    figure.frames = [
        go.Frame(name=str(step), data=[picture.data[row] for row in cells], traces=cells)
        for step, picture in zip(series.steps, pictures, strict=True)
    ]
    if value == "outcome":
        _share_legend(figure, pictures)
    figure.update_layout(sliders=[_slider(series.steps)], updatemenus=[_buttons()])
    figure.update_layout(height=figure.layout.height + 130, margin={"b": 200})
    return figure


def _share_legend(figure: go.Figure, pictures: list[go.Figure]) -> None:
    """Classes that other steps have and the last one has not."""
    there = {trace.name for trace in figure.data if trace.type == "scatter"}
    for trace in (trace for picture in pictures for trace in picture.data if trace.type == "scatter"):
        if trace.name not in there:
            there.add(trace.name)
            figure.add_trace(trace)


def _slider(steps: tuple[int, ...]) -> dict[str, Any]:
    return {
        "active": len(steps) - 1,
        "currentvalue": {"prefix": "step "},
        "pad": {"t": 55},
        "steps": [{"label": f"{step:,}", "method": "animate", "args": [[str(step)], _timing(0)]} for step in steps],
    }


def _buttons() -> dict[str, Any]:
    def button(sign: str, frames: list[None] | None, duration: int) -> dict[str, Any]:
        return {"label": sign, "method": "animate", "args": [frames, _timing(duration)]}

    return {
        "type": "buttons",
        "direction": "left",
        "showactive": False,
        "buttons": [button("▶ play", None, _FRAME_MS), button("❚❚", [None], 0)],
        "pad": {"t": 150},
        "x": 0,
        "xanchor": "left",
        "y": 0,
        "yanchor": "top",
    }


def _timing(duration: int) -> dict[str, Any]:
    """How frames follow each other: at once, without blending numbers that were never measured."""
    return {
        "mode": "immediate",
        "frame": {"duration": duration, "redraw": True},
        "transition": {"duration": 0},
        "fromcurrent": True,
    }
