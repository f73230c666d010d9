"""LLMTest_NeedleInAHaystack, version 1: a folder with one JSON file a cell, `{model}_len_{n}_depth_{d}_results.json`.

Its judge grades 1–10 (1 unrelated, 10 perfect), which becomes (score − 1) / 9. Forks that write ROUGE × 10 or a plain
0 or 1 under the same names need another `--scale`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from needle.importing._row import LONGEST, Row, first, mapping, number, percent, text, title, unless, whole
from needle.importing._source import Document

if TYPE_CHECKING:
    from needle.importing import Asked

LINES = False
SCALES = {"1-10": (1, 10), "0-10": (0, 10), "0-1": (0, 1)}
"""Lowest and highest grade; the lowest becomes 0, the highest 1."""


def fits(document: Document) -> bool:
    """Whether this is a cell's result."""
    row = document.value
    return isinstance(row, dict) and "depth_percent" in row and ("context_length" in row or "model_response" in row)


def parts(document: Document) -> list[Document]:
    """The one row of a file."""
    return [document]


def read(document: Document, asked: Asked) -> Row:
    """The cell's measurement."""
    row = mapping(document.value)
    return graded(row, "context_length", first(unless(title, row, "model"), asked.model, "unknown"), asked.scale)


def graded(row: dict[str, Any], length: str, model: str, scale: str) -> Row:
    """A row with a grade on `scale`; `length` names the field with the context length."""
    low, high = SCALES[scale]
    grade = number(row, "score", low, high)
    needle = unless(text, row, "needle")
    return Row(
        model=model,
        task="kamradt",
        length=whole(row, length, 1),
        depth=percent(row, "depth_percent"),
        score=(grade - low) / (high - low),
        scorer=f"kamradt {scale}",
        explanation=f"graded {grade:g} on a scale of {low}–{high}",
        turn=unless(whole, row, "version") or 0,
        expected=() if needle is None else (needle.strip(),),
        answer=unless(text, row, "model_response"),
        seconds=unless(number, row, "test_duration_seconds", 0, LONGEST) or 0.0,
    )
