"""RULER predictions: `{model}/{benchmark}/{length}/pred/{task}.jsonl`, joined with their data on `input`.

The score is recomputed: RULER's `string_match_all`, for its `qa` tasks `string_match_part` (Hsieh et al. 2024,
arXiv:2404.06654). The length is the folder's, else the row's `length`. The depth is the one that row or data say, else
`token_position_answer` over `length`, else where the first expected answer stands in the input; a depth found in the
last two ways is shown at the nearest 10 %, `depth_used` keeps it as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from needle.importing._row import LONGEST, Row, Unreadable, first, mapping, number, percent, text, unless, whole
from needle.importing._source import Document

if TYPE_CHECKING:
    from needle.importing import Asked

LINES = True
_CONTROL = re.compile(r"[\x00-\x1f]")
_SAME_LENGTH = 0.97
"""Samples of one file differ by a sentence or so; lengths this near to a longer one are one column."""
_FIELDS = ("length", "max_length", "max_seq_length", "depth", "depth_percent", "token_position_answer")


def fits(document: Document) -> bool:
    """Whether this is a prediction."""
    row = document.value
    return isinstance(row, dict) and "pred" in row and "outputs" in row


def parts(document: Document) -> list[Document]:
    """The one row of a line."""
    return [document]


def fields(value: Any) -> dict[str, dict[str, Any]]:
    """What a row of a data file says of the inputs that it may stand for, by their hash."""
    row = mapping(value)
    asked, prefix = text(row, "input"), unless(text, row, "answer_prefix") or ""
    said = _said(row)
    return {_key(asked): said, _key(asked + prefix): said}


def read(document: Document, asked: Asked) -> Row:
    """The row's measurement; `settle` finishes its length and depth."""
    row = mapping(document.value)
    expected, pred, given = _expected(row), text(row, "pred"), unless(text, row, "input") or ""
    key = _key(given)
    said = {**_said(row), **asked.data.get(key, {})}
    task = re.sub(r"-[0-9]+$", "", document.file.stem)[:200]
    folder, model = _folders(document.file)
    own = unless(whole, said, "length", 1)
    any_will_do = task.startswith("qa")
    score, found = _match(pred, expected, any_will_do)
    return Row(
        model=first(asked.model, model, document.file.absolute().parent.name),
        task=task,
        length=_column(said, folder, own),
        depth=unless(percent, said, "depth_percent"),
        score=score,
        scorer="string_match_part" if any_will_do else "string_match_all",
        explanation=f"{len(found)} of {len(expected)} expected found",
        haystack="RULER",
        turn=unless(whole, row, "index") or 0,
        unscaled_depth=unless(number, said, "depth", 0, 100),
        prompt_sha256=key if given else None,
        depth_used=_place(said, own, given, expected),
        expected=expected,
        answer=pred,
        extracted=", ".join(found),
        joined=key in asked.data or not asked.data,
    )


def settle(rows: Sequence[Row]) -> list[Row]:
    """The rows of one run, once all are known.

    A `depth` above 1 says that every one in the run is per cent. Lengths near to a longer one become that one.
    """
    scale = 100 if any((row.unscaled_depth or 0) > 1 for row in rows) else 1
    columns: dict[int, int] = {}
    column = 2 * LONGEST
    for length in sorted({row.length for row in rows}, reverse=True):
        column = column if length >= _SAME_LENGTH * column else length
        columns[length] = column
    return [replace(row, length=columns[row.length], depth=_asked_depth(row, scale)) for row in rows]


def _asked_depth(row: Row, scale: int) -> float | None:
    if row.depth is not None:
        return row.depth
    if row.unscaled_depth is not None:
        return round(row.unscaled_depth / scale, 6)
    return None if row.depth_used is None else round(row.depth_used, 1)


def _expected(row: dict[str, Any]) -> tuple[str, ...]:
    outputs = row.get("outputs")
    texts = [outputs] if isinstance(outputs, str) else outputs
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t for t in texts):
        raise Unreadable("no outputs" if outputs is None else "outputs is no list of texts")
    return tuple(texts)


def _match(pred: str, expected: Sequence[str], any_will_do: bool) -> tuple[float, list[str]]:
    """RULER's grade of one prediction, and the expected texts that are in it."""
    said = _CONTROL.sub("\n", pred.strip()).strip().lower()
    found = [answer for answer in expected if answer.lower() in said]
    return float(bool(found)) if any_will_do else len(found) / len(expected), found


def _said(row: dict[str, Any]) -> dict[str, Any]:
    """Where the row, or the `others` in it, says its lengths and depths; −1 is RULER's word for unknown."""
    others = row.get("others")
    both = {**others, **row} if isinstance(others, dict) else row
    return {name: both[name] for name in _FIELDS if name in both and both[name] not in (None, -1)}


def _folders(file: Path) -> tuple[int | None, str | None]:
    """The length and the model that RULER's folders name, `{model}/{benchmark}/{length}/pred/{task}.jsonl`."""
    above = [folder.name for folder in file.absolute().parents][:4]
    digits = next((name for name in above[:2] if re.fullmatch("[0-9]{1,9}", name)), None)
    model = above[3] if len(above) == 4 and above[0] == "pred" and above[1] == digits else None
    return int(digits) if digits and int(digits) else None, model or None


def _column(said: Mapping[str, Any], folder: int | None, own: int | None) -> int:
    """The context length that was asked for, else the sample's own."""
    asked = (unless(whole, said, name, 1) for name in ("max_length", "max_seq_length"))
    length: int | None = first(*asked, folder, own)
    if length is None:
        raise Unreadable("its length is unknown; keep RULER's folders, or give --data")
    return length


def _place(said: Mapping[str, Any], own: int | None, given: str, expected: Sequence[str]) -> float | None:
    """The share of the input that stands before the first expected answer: in tokens if they are said, else in text."""
    token: int | None = unless(whole, said, "token_position_answer")
    if token is not None and own is not None and token <= own:
        return round(token / own, 6)
    at = given.find(expected[0])
    return round(at / len(given), 6) if at >= 0 else None


def _key(given: str) -> str:
    return hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()
