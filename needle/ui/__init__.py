"""The web app that `needle ui` and `streamlit run app.py` show. No page of it loads torch.

The runs folder is the `--output-dir` after a `--` on Streamlit's command line, else what the environment variable
NEEDLE_RUNS says, else `runs`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import streamlit as st
from PIL import Image

from needle import analysis

PAGES = {
    "heatmap": ("Run", "run", ":material/grid_on:"),
    "compare": ("Compare", "compare", ":material/compare:"),
    "series": ("Series", "series", ":material/timeline:"),
    "runs": ("Runs", "runs", ":material/table_rows:"),
    "start": ("Start a run", "start", ":material/play_arrow:"),
}
"""Module of this package → title, address and icon of its page; the first one opens."""


def main() -> None:
    """Draw the app: the navigation, and the page that is asked for."""
    st.set_page_config(page_title="needle", page_icon=_icon(), layout="wide")
    first, *_ = PAGES
    pages = {
        module: st.Page(_page(module), title=title, url_path=path, icon=icon, default=module == first)
        for module, (title, path, icon) in PAGES.items()
    }
    st.session_state["_pages"] = pages
    st.navigation(list(pages.values()), position="top").run()


def _icon() -> Image.Image:
    """A small heatmap as pixels; an icon by name would be fetched from another site."""
    scores = ((1, 1, 0.5, 0), (1, 1, 1, 0.5), (1, 1, 0.5, 1), (1, 1, 1, 1))
    cells = np.zeros((4, 4, 3), dtype=np.uint8)
    for row, column in np.ndindex(4, 4):
        cells[row, column] = list(bytes.fromhex(analysis.colour(scores[row][column])[1:]))
    return Image.fromarray(cells.repeat(16, axis=0).repeat(16, axis=1))


def _page(module: str) -> Callable[[], None]:
    """The page of that module, imported when it is opened."""

    def page() -> None:
        importlib.import_module(f"needle.ui.{module}").page()

    return page
