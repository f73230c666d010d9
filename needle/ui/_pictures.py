"""Figures on a page, and the files that they and their tables can be saved as."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from needle import export
from needle.types import Grid

_EMPTY = "rgba(128, 134, 148, 0.16)"
"""The ground under the cells, seen where one was not measured; it is a shade of the page, light or dark."""


def show(figure: go.Figure, key: str, select: bool = False) -> list[dict[str, Any]]:
    """Draw a figure of `needle.figures` in the page's own colours.

    With `select`, a click reruns the page; returned are the points that are selected, each with its `customdata`.
    """
    figure.update_layout(plot_bgcolor=_EMPTY, paper_bgcolor="rgba(0,0,0,0)")
    config = {"displaylogo": False, "displayModeBar": False, "scrollZoom": False}
    if not select:
        st.plotly_chart(figure, key=key, config=config)
        return []
    figure.update_layout(clickmode="event+select", dragmode=False)
    state = st.plotly_chart(figure, key=key, on_select="rerun", selection_mode="points", config=config)
    points: list[dict[str, Any]] = state["selection"]["points"] if state else []
    return points


def outline(figure: go.Figure, grid: Grid, length: int | None, depth: float | None) -> None:
    """Frame the cell at `length` and `depth` of a heatmap of `grid`, if it has one there."""
    lengths, depths = sorted(set(grid.lengths)), sorted(set(grid.depths))
    if length not in lengths or depth not in depths:
        return
    across, down = lengths.index(length), depths.index(depth)
    corners = {"x0": across - 0.5, "x1": across + 0.5, "y0": down, "y1": down + 1}
    # Dark within light, so that it is seen on every colour.
    for colour, width in (("#ffffff", 5), ("#16181d", 2.5)):
        figure.add_shape(type="rect", **corners, line={"color": colour, "width": width}, layer="above")


def downloads(stem: str, figure: Callable[[], go.Figure], table: Callable[[], pd.DataFrame] | None, key: str) -> None:
    """Buttons that save `figure` as HTML, PNG and SVG, and `table` as CSV; each is made when it is asked for.

    `stem` begins the files' names.
    """
    with st.popover("Download", icon=":material/download:"):
        _button("Interactive page (HTML)", f"{stem}.html", "text/html", lambda: _html(figure()), f"{key}-html")
        if table is not None:
            _button("Cells (CSV)", f"{stem}.csv", "text/csv", lambda: _csv(table()), f"{key}-csv")
        drawn = importlib.util.find_spec("kaleido") is not None
        for kind, mime in (("png", "image/png"), ("svg", "image/svg+xml")):
            _button(
                f"Picture ({kind.upper()})", f"{stem}.{kind}", mime, _image(figure, kind), f"{key}-{kind}", not drawn
            )
        if drawn:
            st.caption("Pictures take some seconds, and need Chrome or Chromium on this machine.")
        else:
            st.caption("PNG and SVG need the package kaleido: `pip install 'needle-eval[png]'`")


def _button(label: str, name: str, mime: str, make: Callable[[], bytes], key: str, off: bool = False) -> None:
    st.download_button(label, make, name, mime, key=key, on_click="ignore", disabled=off, width="stretch")


def _html(figure: go.Figure) -> bytes:
    return _through(lambda path: export.html(figure, path), ".html")


def _csv(table: pd.DataFrame) -> bytes:
    return _through(lambda path: export.csv(table, path), ".csv")


def _through(write: Callable[[Path], None], ending: str) -> bytes:
    """What `write` puts into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{ending}"
        write(path)
        return path.read_bytes()


def _image(figure: Callable[[], go.Figure], kind: str) -> Callable[[], bytes]:
    def draw() -> bytes:
        if kind == "png":
            return _through(lambda path: export.png(figure(), path), ".png")
        picture: bytes = figure().to_image(format=kind, width=1100)
        return picture

    return draw
