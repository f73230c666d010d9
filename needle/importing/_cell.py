"""Cells of this package that another harness has run: the record that was handed over, and what came of it."""

from __future__ import annotations

from typing import Any

from needle.importing._row import Row, Unreadable, mapping, number, text, title, unless, whole

_FORMAT = 1


def is_record(value: Any) -> bool:
    """Whether this is the record of a cell that was exported."""
    return isinstance(value, dict) and "needle_cell" in value


def row(record: Any, model: str | None, answer: str | None, score: float | None, **more: Any) -> Row:
    """The measurement of the record's cell; `model`, if known, is the one that answered.

    Raises:
        Unreadable: the record is damaged, or a newer release wrote it.
    """
    cell = mapping(record)
    if cell.get("needle_cell") != _FORMAT:
        raise Unreadable(f"a cell of format {cell.get('needle_cell')!r}, this version reads {_FORMAT}")
    if cell.get("control"):
        raise Unreadable("a control cell, which has no needle and no grade")
    expected = cell.get("expected")
    known = expected if isinstance(expected, list) and all(isinstance(e, str) for e in expected) else []
    return Row(
        model=model or title(cell, "model"),
        task=title(cell, "task"),
        length=whole(cell, "length", 1),
        depth=number(cell, "depth", 0, 1),
        score=score,
        scorer=title(cell, "scorer"),
        haystack=unless(title, cell, "haystack") or "unknown",
        turn=unless(whole, cell, "repeat") or 0,
        depth_used=unless(number, cell, "depth_used", 0, 1),
        position=unless(whole, cell, "position"),
        prompt_tokens=unless(whole, cell, "prompt_tokens"),
        prompt_sha256=unless(text, cell, "prompt_sha256"),
        question=unless(text, cell, "question") or "",
        expected=tuple(known),
        answer=answer,
        **more,
    )
