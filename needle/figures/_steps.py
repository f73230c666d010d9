"""A checkpoint series over its training steps: the picture of steps and lengths, and curves by length."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from needle import analysis
from needle import series as all_series
from needle.analysis import length_label
from needle.figures import _cells, _colour, _curves, _hover, _page
from needle.figures._cells import Look, Paint
from needle.figures._colour import Palette
from needle.series import Series

_STEP = "training step"
_LENGTH = "context length (tokens)"
_MEAN = "mean score"


def over_steps(series: Series, title: str | None = None, palette: Palette = "traffic") -> go.Figure:
    """Mean scores (fixed range 0–100 %), training steps across and context lengths down, the shortest on top.

    One bar trace a length; each point's `customdata` is [step, length].
    """
    figure = go.Figure()
    _add_picture(figure, series, palette)
    figure.add_trace(_page.scale(partial(_colour.shade, palette=palette), 0, _MEAN))
    _page.lay_out(figure, len(all_series.lengths(series)), heading(series, title))
    return figure


def steps_by_length(series: Series, title: str | None = None) -> go.Figure:
    """Mean scores over training steps with 95 % intervals, a curve a context length.

    Where there are more than six lengths, neighbours share a curve, which its name says: 1K–4K.
    """
    figure = go.Figure()
    _add_curves(figure, series)
    _page.lay_out(figure, 11, heading(series, title))
    return figure


def progress(series: Series, title: str | None = None, palette: Palette = "traffic") -> go.Figure:
    """`over_steps` above `steps_by_length`, as one figure."""
    rows = len(all_series.lengths(series))
    # The picture gets its rows' height, the curves that of eleven more.
    share = max(rows, 6) / (max(rows, 6) + 11)
    figure = make_subplots(2, 1, row_heights=[share, 1 - share], vertical_spacing=0.16)
    _add_picture(figure, series, palette, row=1, col=1)
    _add_curves(figure, series, row=2, col=1)
    ends = figure.layout.yaxis.domain
    bar = {"y": sum(ends) / 2, "len": ends[1] - ends[0], "lenmode": "fraction"}
    figure.add_trace(_page.scale(partial(_colour.shade, palette=palette), 0, _MEAN, **bar))
    _page.lay_out(figure, max(rows, 6) + 16, heading(series, title))
    # A short picture has no room for the axis' whole name.
    figure.update_yaxes(title={"text": "length"}, row=1, col=1)
    figure.update_layout(legend={"y": figure.layout.yaxis2.domain[1], "yanchor": "top"})
    return figure


def heading(series: Series, given: str | None) -> str:
    """The title given, else the training, task, haystack and steps."""
    spec = series.runs[-1].spec
    first, last = series.steps[0], series.steps[-1]
    steps = f"step {first:,}" if first == last else f"steps {first:,}–{last:,}"
    return given if given is not None else f"{all_series.place(series)} · {spec.task} in {spec.haystack} · {steps}"


def _add_picture(figure: go.Figure, series: Series, palette: Palette, **at: int) -> None:
    table = all_series.table(series)
    grid = table.pivot(index="length", columns="step", values="mean")
    across, down = [f"{step:,}" for step in grid.columns], [length_label(int(length)) for length in grid.index]
    for bar in _cells.bars(grid, _paint(series, palette), across, down):
        figure.add_trace(bar, **at)
    _page.axes(figure, across, down, (_STEP, _LENGTH), **at)


def _paint(series: Series, palette: Palette) -> Paint:
    facts = {(row.step, row.length): row for row in all_series.table(series).itertuples(index=False)}
    failed = {
        (step, result.length)
        for step, run in zip(series.steps, series.runs, strict=True)
        for result in run.results
        if result.status == "error"
    }

    def paint(step: int, length: int, mean: float) -> Look | None:
        fact: Any = facts[step, length]
        head = f"<b>step {step:,} · {length_label(length)}</b><br>{length:,} tokens · "
        if math.isnan(mean):
            return _cells.failure(f"{head}failed") if (step, length) in failed else None
        cells = f"{fact.n} cell{'s' if fact.n > 1 else ''}"
        hover = f"{head}mean score {_hover.percent(mean)} % of {cells}<br>{_hover.interval(fact.low, fact.high)}"
        return Look(_colour.shade(mean, palette), analysis.score_label(mean), hover)

    return paint


def _add_curves(figure: go.Figure, series: Series, **at: int) -> None:
    lengths = np.asarray(all_series.lengths(series))
    scores = [analysis.bands(all_series.frame(run), lengths.tolist()) for run in series.runs]
    labels = [f"step {step:,}" for step in series.steps]
    for number, band in enumerate(np.array_split(lengths, min(len(lengths), len(_colour.CURVES)))):
        name = "–".join(dict.fromkeys(length_label(int(length)) for length in (band[0], band[-1])))
        pooled = [np.concatenate([each[int(length)] for length in band]) for each in scores]
        figure.add_trace(_curves.curve(series.steps, labels, pooled, name, number), **at)
    figure.update_xaxes(title={"text": _STEP}, tickformat=",d", gridcolor=_page.GRID, **at)
    ends = {"range": [-0.03, 1.03], "tickformat": ".0%", "zeroline": False}
    figure.update_yaxes(title={"text": _MEAN}, gridcolor=_page.GRID, **ends, **at)
    figure.update_layout(showlegend=True, legend={"title": {"text": "context length"}})
