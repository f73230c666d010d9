"""What a format makes of its source: one `Row` a measurement. Every value is checked, for other tools wrote it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST = 10**9
"""The longest context, in tokens, that a source may claim."""
_LONGEST_NAME = 300


class Unreadable(ValueError):
    """Why a row cannot be read, in one line."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement of a source. `length` is in tokens, `depth` (asked) and `depth_used` 0–1, `score` 0–1.

    A depth that the source does not say is None. `score` is None, and `error` set, where the other tool had failed
    itself. `unscaled_depth` is one that only the whole run tells to be a share or per cent. `turn` orders a cell's
    repeats. `file`, of hash `sha256`, and `place` in it are where the row stands; `joined` is False where the data that
    were given do not know it.
    """

    model: str
    task: str
    length: int
    depth: float | None
    score: float | None
    scorer: str
    explanation: str
    haystack: str = "unknown"
    turn: int = 0
    unscaled_depth: float | None = None
    depth_used: float | None = None
    position: int | None = None
    prompt_tokens: int | None = None
    prompt_sha256: str | None = None
    new_tokens: int = 0
    question: str = ""
    expected: tuple[str, ...] = ()
    answer: str | None = None
    extracted: str = ""
    seconds: float = 0.0
    error: str | None = None
    joined: bool = True
    file: Path = Path()
    place: str = ""
    sha256: str = ""


def mapping(value: Any) -> dict[str, Any]:
    """`value`, which must be a JSON object."""
    if not isinstance(value, dict):
        raise Unreadable(f"{_said(value)} where an object should be")
    return value


def number(row: dict[str, Any], name: str, low: float, high: float) -> float:
    """The number called `name`, which must lie within `low` and `high`."""
    value = row.get(name)
    if value is None:
        raise Unreadable(f"no {name}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(f"{name} is {_said(value)}, no number")
    if not low <= value <= high:
        raise Unreadable(f"{name} {_said(value)} is not within {low:g}–{high:g}")
    return float(value)


def whole(row: dict[str, Any], name: str, low: int = 0, high: int = LONGEST) -> int:
    """The whole number called `name`."""
    value = number(row, name, low, high)
    if value != int(value):
        raise Unreadable(f"{name} {_said(row[name])} is no whole number")
    return int(value)


def percent(row: dict[str, Any], name: str) -> float:
    """The per cent called `name`, as a share 0–1."""
    return round(number(row, name, 0, 100) / 100, 6)


def text(row: dict[str, Any], name: str) -> str:
    """The text called `name`."""
    value = row.get(name)
    if not isinstance(value, str):
        raise Unreadable(f"no {name}" if value is None else f"{name} is {_said(value)}, no text")
    return value


def title(row: dict[str, Any], name: str) -> str:
    """The text called `name`, which must do as a model's or a task's name."""
    value = text(row, name).strip()
    if not value or len(value) > _LONGEST_NAME:
        raise Unreadable(f"{name} is empty" if not value else f"{name} has {len(value)} characters")
    return value


def unless(read: Callable[..., Any], *given: Any) -> Any:
    """What `read(*given)` finds, or None: for what a row may do without, such as a duration."""
    try:
        return read(*given)
    except Unreadable:
        return None


def first(*values: Any) -> Any:
    """The first of `values` that is not None."""
    return next((value for value in values if value is not None), None)


def _said(value: Any) -> str:
    """An untrusted value in a few characters."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    said = repr(value[:40] if isinstance(value, str) else value)
    return said if len(said) <= 60 else f"{said[:59]}…"
