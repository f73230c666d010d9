"""One result a line: how `results.jsonl` is written and read back.

It is UTF-8 whatever a model says, so that other tools can read it; a line without its end counts as not written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import get_args

from needle.errors import StoreError
from needle.types import Outcome, Result

_FIELDS = {f.name for f in fields(Result)}
_LISTS = ("expected", "answer_ids", "answer_logprobs")


def read(path: Path) -> tuple[list[Result], int]:
    """Rows of whole lines, and the size in bytes of the part that is sound."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise StoreError(f"'{path}' cannot be read ({error.strerror}); mend its permissions") from error
    sound = data.rfind(b"\n") + 1
    lines = data[:sound].split(b"\n")[:-1]
    return [_parsed(line, path, number) for number, line in enumerate(lines, 1)], sound


def line(result: Result) -> bytes:
    """One line of JSON. Half a surrogate pair, which UTF-8 cannot say, is escaped, and then the rest of its line is."""
    row = asdict(result)
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row).encode() + b"\n"


def flaw(result: Result) -> str | None:
    """What no row may say, if this one does."""
    if result.status not in ("ok", "error") or result.outcome not in get_args(Outcome):
        return f"status '{result.status}', outcome '{result.outcome}'"
    graded = isinstance(result.score, int | float) and 0 <= result.score <= 1
    return f"score {result.score} is not within 0–1" if result.status == "ok" and not graded else None


def latest(rows: list[Result], known: Iterable[str]) -> list[Result]:
    """One result a cell, in the order of the keys `known`: the last that is ok, else the last error."""
    best: dict[str, Result | None] = dict.fromkeys(known)
    for row in rows:
        if row.key in best:
            before = best[row.key]
            if before is None or before.status == "error" or row.status == "ok":
                best[row.key] = row
    return [row for row in best.values() if row is not None]


def _parsed(line: bytes, path: Path, number: int) -> Result:
    try:
        row = {k: v for k, v in json.loads(line.decode()).items() if k in _FIELDS}
        lists = {name: tuple(row.get(name, ())) for name in _LISTS}
        result = Result(**{**row, **lists})
        wrong = flaw(result)
        if wrong:
            raise ValueError(wrong)
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"'{path}' line {number} is damaged ({error}); delete that line and run again") from error
    return result
