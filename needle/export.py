"""A run's figure and rows as files to hand on: HTML that needs nothing else, CSV for spreadsheets, PNG."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
from html import escape, unescape
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from pandas.api.types import is_numeric_dtype

from needle.analysis import printable
from needle.errors import UsageError

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title></head>
<body style="margin: 0">
{figure}
</body>
</html>
"""


def html(figure: go.Figure, path: Path) -> None:
    """Write the interactive figure as one page with plotly.js inside it; UsageError if `path` cannot be written."""
    body = figure.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    # A figure's title is in Plotly's small HTML; a page's may hold none.
    page = _PAGE.format(title=escape(unescape(figure.layout.title.text or "needle")), figure=body)
    _write(path, page.encode("utf-8"))


def csv(df: pd.DataFrame, path: Path) -> None:
    """Write a results frame, one row a cell; UsageError if `path` cannot be written.

    A text that a spreadsheet would run as a formula gets a leading apostrophe; numbers stay as they are. Several
    expected answers are joined by " | ".
    """
    safe = pd.DataFrame(
        {
            # As objects: pandas' own text type refuses half a surrogate pair, which a model may emit.
            _cell(name): column if is_numeric_dtype(column) else pd.Series(map(_cell, column), dtype=object)
            for name, column in df.reset_index(drop=True).items()
        }
    )
    # The line end of RFC 4180 makes the writer quote a lone carriage return too.
    _write(path, safe.to_csv(index=False, lineterminator="\r\n").encode("utf-8", "backslashreplace"))


def png(figure: go.Figure, path: Path) -> None:
    """Write the figure as a picture at twice its size; UsageError if the renderer is missing or `path` unwritable."""
    if importlib.util.find_spec("kaleido") is None:
        raise UsageError("a PNG needs the package kaleido: pip install 'needle-eval[png]', or export HTML instead")
    from kaleido.errors import KaleidoError

    try:
        picture: bytes = figure.to_image(format="png", width=1100, scale=2)
    except (RuntimeError, ValueError, OSError, KaleidoError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        remedy = "install Chrome or Chromium, or run plotly_get_chrome, or export HTML instead"
        raise UsageError(f"the PNG could not be drawn ({printable(reason).rstrip('.')}): {remedy}") from error
    _write(path, picture)


def _cell(value: Any) -> Any:
    """A spreadsheet cell that says the same and runs nothing."""
    if isinstance(value, tuple | list):
        value = " | ".join(str(item) for item in value)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value


def _write(path: Path, content: bytes) -> None:
    """Put `content` at `path` whole or not at all."""
    path = Path(path)
    beside = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with beside.open("xb") as file:
            file.write(content)
        os.replace(beside, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}; choose another path") from error
    finally:
        # Gone already when it took its place; where it cannot be looked up, it was never made.
        with contextlib.suppress(OSError):
            beside.unlink()
