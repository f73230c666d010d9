"""The web app as a test sees it: opened at an address, its words, its figure and its sheets read."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from needle.types import Cell, Grid

APP = Path(__file__).parents[1] / "app.py"
GRID = Grid((1024, 2048), (0.0, 0.5, 1.0))


def opened(**address: str | list[str]) -> AppTest:
    """The app, opened at an address."""
    at = AppTest.from_file(str(APP), default_timeout=60)
    for key, value in address.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def words(at: AppTest) -> str:
    """All plain text and all boxes of a page."""
    boxes = [*at.text, *at.info, *at.warning, *at.error, *at.code]
    return "\n".join(str(element.value) for element in boxes)


def page(module: str, **address: str | list[str]) -> AppTest:
    """One page of the app, without the navigation."""
    at = AppTest.from_string(f"from needle.ui import {module}\n{module}.page()", default_timeout=60)
    for key, value in address.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def chart(at: AppTest) -> Any:
    """The figure on the page, as JSON."""
    (drawn,) = at.get("plotly_chart")
    return json.loads(drawn.proto.spec)


def click(at: AppTest, length: int, depth: float) -> AppTest:
    """A click on a cell of the heatmap, as the browser would report it."""
    at.session_state["heatmap"] = {"selection": {"points": [{"customdata": [length, depth]}]}}
    return at.run()


def boxes(at: AppTest) -> tuple[Any, Any]:
    return at.selectbox(key="cell-length").value, at.selectbox(key="cell-depth").value


def everything(cell: Cell) -> float:
    return 1.0


def metrics(at: AppTest) -> dict[str, str]:
    return {m.label: m.value for m in at.metric}


def sheets(at: AppTest) -> list[str]:
    """What lies on the page's sheets, as HTML."""
    found = []
    for frame in at.get("iframe"):
        address, _, _ = frame.proto.src.partition("#")
        head, data = address.split(",", 1)
        assert head == "data:text/html;charset=utf-8;base64"
        found.append(base64.b64decode(data).decode())
    return found


def progress(at: AppTest) -> str:
    (bar,) = at.get("progress")
    return str(bar.proto.text)
