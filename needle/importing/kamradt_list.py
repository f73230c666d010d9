"""LLMTest_NeedleInAHaystack's oldest form: one JSON list of `{token_limit, depth_percent, score}`, graded 1–10.

The list that came next has `context_length`, the model and its answer too; it is read as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from needle.importing import kamradt
from needle.importing._row import Row, Unreadable, first, mapping, title, unless
from needle.importing._source import Document

if TYPE_CHECKING:
    from needle.importing import Asked

LINES = False


def fits(document: Document) -> bool:
    """Whether this is a list with at least one such row."""
    return isinstance(document.value, list) and any(
        isinstance(row, dict) and "depth_percent" in row and _length(row) for row in document.value
    )


def parts(document: Document) -> list[Document]:
    """The rows of the list, counted from 1."""
    if not isinstance(document.value, list):
        raise Unreadable("no list of rows")
    return [Document(document.file, f"row {number}", row) for number, row in enumerate(document.value, 1)]


def read(document: Document, asked: Asked) -> Row:
    """The row's measurement. The oldest rows name no model; the file's name stands for it."""
    row = mapping(document.value)
    model = first(unless(title, row, "model"), asked.model, document.file.stem)
    return kamradt.graded(row, _length(row) or "token_limit", model, asked.scale)


def _length(row: dict[str, Any]) -> str | None:
    return next((name for name in ("token_limit", "context_length") if name in row), None)
