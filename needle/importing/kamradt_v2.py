"""needle-in-a-haystack, version 2 (`niah`): JSONL, one row a cell and seed, graded 0–1, failed calls included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from needle.importing._row import LONGEST, Row, Unreadable, first, mapping, number, percent, text, title, unless, whole
from needle.importing._source import Document

if TYPE_CHECKING:
    from needle.importing import Asked

LINES = True


def fits(document: Document) -> bool:
    """Whether this is one of its rows."""
    row = document.value
    return isinstance(row, dict) and "target_depth_percent" in row and "context_length" in row


def parts(document: Document) -> list[Document]:
    """The one row of a line."""
    return [document]


def read(document: Document, asked: Asked) -> Row:
    """The row's measurement; with several needles, its depth is the first one's."""
    row = mapping(document.value)
    failed = row.get("status") == "error"
    recipe, usage = _inside(row, "recipe"), _inside(row, "usage")
    placed = recipe.get("needle_placements")
    needle = placed[0] if isinstance(placed, list) and placed and isinstance(placed[0], dict) else {}
    haystack, expected = _inside(recipe, "haystack"), unless(text, row, "expected_answer")
    return Row(
        model=first(unless(title, row, "model_id"), asked.model, "unknown"),
        task=f"kamradt {unless(title, row, 'task_type') or 'unknown'}",
        length=whole(row, "context_length", 1),
        depth=percent(row, "target_depth_percent"),
        score=None if failed else _grade(row),
        scorer="kamradt-v2",
        explanation="" if failed else "graded by its own scorer",
        haystack=first(unless(title, haystack, "path"), unless(title, haystack, "type"), "unknown"),
        turn=unless(whole, row, "seed") or 0,
        depth_used=unless(percent, needle, "actual_depth_percent"),
        position=unless(whole, needle, "insertion_token_index"),
        prompt_tokens=unless(whole, usage, "input_tokens"),
        new_tokens=unless(whole, usage, "output_tokens") or 0,
        question=unless(text, row, "prompt_question") or "",
        expected=() if expected is None else (expected,),
        answer=unless(text, row, "response"),
        seconds=unless(number, row, "duration_seconds", 0, LONGEST) or 0.0,
        error=(unless(text, row, "error") or "no reason given") if failed else None,
    )


def _grade(row: dict[str, Any]) -> float:
    score = row.get("score")
    if not isinstance(score, dict):
        raise Unreadable("no score")
    try:
        return number(score, "value", 0, 1)
    except Unreadable as error:
        raise Unreadable(f"score: {error}") from None


def _inside(row: dict[str, Any], name: str) -> dict[str, Any]:
    """The object called `name`; empty where there is none."""
    value = row.get(name)
    return value if isinstance(value, dict) else {}
