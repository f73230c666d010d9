"""The heatmap of one run: context length across, needle depth down."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial
from pathlib import PurePath

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from needle.analysis import Summary
from needle.figures import _cells, _colour, _page, _views
from needle.figures._colour import Palette
from needle.figures._views import Value
from needle.store import Run


def heatmap(
    table: pd.DataFrame,
    title: str = "",
    failed: Collection[tuple[int, float]] | None = None,
    lengths: Iterable[int] | None = None,
    depths: Iterable[float] | None = None,
    value: Value = "score",
    palette: Palette = "traffic",
) -> go.Figure:
    """Draw a results frame (`analysis.frame`) or a grid of numbers 0–1 (`analysis.grid`) on the fixed range 0–100 %.

    From a results frame a cell's hover text also holds what the model answered, and `failed` is found in it; with a
    grid, `failed` names the cells to mark with ×. `lengths` and `depths` widen the axes to all that was asked for.
    Control cells are left out.

    `value` is what of a cell is shown: its mean `score`; the `probability` that the model gave a token of the expected
    answer (geometric mean over tokens, mean over repeats); its `outcome`, the most frequent of its repeats, of equals
    the worst; or the width of the 95 % `interval` of its score.

    Raises:
        ValueError: outcomes are asked of a grid, which has none, or `value` or `palette` is unknown.
    """
    check(value, palette)
    grid, paint = _views.see(table, value, palette, failed, lengths, depths)
    figure = go.Figure()
    _cells.place(figure, grid, paint)
    if value == "outcome":
        _add_classes(figure, grid)
    else:
        figure.add_trace(_page.scale(partial(_views.shade, value=value, palette=palette), 0, _views.NAMES[value]))
    _page.lay_out(figure, len(grid.index), title)
    return figure


def check(value: str, palette: str) -> None:
    """Raise ValueError if there is no such view or palette."""
    for name, given, known in (("value", value, _views.VALUES), ("palette", palette, _colour.PALETTES)):
        if given not in known:
            raise ValueError(f"{name} '{given}' is unknown; use one of {', '.join(known)}")


def _add_classes(figure: go.Figure, grid: pd.DataFrame) -> None:
    """A legend of the outcomes that are there, best first."""
    seen = np.unique(grid.to_numpy())
    for at, (name, (sign, colour)) in enumerate(_colour.OUTCOMES.items()):
        if at in seen:
            figure.add_trace(_page.key(f"{sign} {name}", colour))
    figure.update_layout(showlegend=True, legend={"itemclick": False, "itemdoubleclick": False})


def title(run: Run | Summary) -> str:
    """Model, task, haystack and how many cells were measured: "pocket-32k · number in essays · n = 110"."""
    if isinstance(run, Summary):
        model, task, haystack, done, asked = run.model, run.task, run.haystack, run.done, run.asked
    else:
        spec = run.spec
        model, task, haystack = spec.model, spec.task, spec.haystack
        if spec.options.get("revision"):
            model += f"@{spec.options['revision']}"
        done = sum(result.status == "ok" and not result.control for result in run.results)
        asked = run.asked
    count = f"{done}" if done == asked else f"{done} of {asked}"
    # The last two parts of a path tell a checkpoint from others, and are the whole of a hub id.
    return f"{'/'.join(PurePath(model).parts[-2:])} · {task} in {PurePath(haystack).name} · n = {count}"
