"""Rows to runs: one a model, task and haystack, its grid the union of the lengths and depths that were measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from needle import store
from needle.errors import UsageError
from needle.importing._row import Row
from needle.importing._source import joined
from needle.types import Cell, Grid, Outcome, Result, RunSpec

_MOST_CELLS = 200_000
"""A union of lengths and depths beyond this would make a run that nothing can draw."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A run that is not written yet: its spec, what it was made of by hash, each cell's row, and what to know of it."""

    spec: RunSpec
    sources: dict[str, str]
    cells: list[tuple[Cell, Row]]
    notes: tuple[str, ...]

    def results(self) -> list[Result]:
        """The run's rows as the store keeps them."""
        identity = store.identity(self.spec, self.sources)
        return [_result(store.key(identity, cell), cell, row) for cell, row in self.cells]


def draft(rows: Sequence[Row], form: str, data: str | None) -> Draft:
    """The run of `rows`, all of one model, task, haystack and scorer, read as format `form` with `data`'s hash.

    Raises:
        UsageError: they would make a grid that is too large.
    """
    depthless = all(row.depth is None for row in rows)
    cells = _cells(rows)
    grid = Grid(
        tuple(sorted({cell.length for cell, _ in cells})),
        tuple(sorted({cell.depth for cell, _ in cells})),
        1 + max(cell.repeat for cell, _ in cells),
    )
    size = len(grid.lengths) * len(grid.depths) * grid.repeats
    one = rows[0]
    if size > _MOST_CELLS:
        raise UsageError(
            f"{one.model}, {one.task}: {len(grid.lengths)} lengths × {len(grid.depths)} depths × {grid.repeats} "
            f"repeats are {size} cells for {len(rows)} rows, too many to draw; import a part of them"
        )
    options = {"format": form, **({"depth": "unknown"} if depthless else {})}
    spec = RunSpec(
        model=one.model,
        task=one.task,
        haystack=one.haystack,
        grid=grid,
        engine="import",
        scorer=one.scorer,
        max_new_tokens=0,
        prompt="unknown",
        depth_tolerance=0.0,
        options=options,
    )
    sources = {"source": joined(row.sha256 for row in rows), **({"data": data} if data else {})}
    return Draft(spec, sources, cells, _notes(rows, depthless))


def _notes(rows: Sequence[Row], depthless: bool) -> tuple[str, ...]:
    strange = sum(not row.joined for row in rows)
    notes = (
        "no depth is known; all stand at 0 %" if depthless else "",
        f"{strange} are not in the data" if strange else "",
    )
    return tuple(filter(None, notes))


def keep(root: Path, made: Draft, session: Mapping[str, Any]) -> tuple[store.Run, int]:
    """Put the run into `root`, what of it lies there already left as it is; the run, and how many rows are new.

    Raises:
        StoreError: the folder cannot be written.
    """
    done = store.finished(root, made.spec, made.sources)
    kept = {result.key for result in done.results} if done else set()
    results = made.results()
    if done and all(result.key in kept for result in results):
        return done, 0
    with store.writing(root, made.spec, made.sources, session) as writer:
        kept = {result.key for result in writer.run.results}
        new = [result for result in results if result.key not in kept]
        for result in new:
            writer.append(result)
        return store.read(writer.run.folder), len(new)


def _cells(rows: Sequence[Row]) -> list[tuple[Cell, Row]]:
    """Each row's cell; rows of one length and depth are its repeats, by their turn and then as they were read."""
    seen: Counter[tuple[int, float]] = Counter()
    cells = []
    for row in sorted(rows, key=lambda row: row.turn):
        place = row.length, row.depth or 0.0  # minus zero, which is another cell to the store, is zero as well
        cells.append((Cell(*place, seen[place]), row))
        seen[place] += 1
    return cells


def _result(key: str, cell: Cell, row: Row) -> Result:
    ok = row.error is None
    return Result(
        key=key,
        length=cell.length,
        depth=cell.depth,
        repeat=cell.repeat,
        status="ok" if ok else "error",
        score=row.score if ok else None,
        outcome=_outcome(row),
        depth_used=row.depth_used,
        position=row.position,
        prompt_tokens=row.prompt_tokens,
        prompt_sha256=row.prompt_sha256,
        question=row.question,
        expected=row.expected,
        answer=row.answer or "",
        extracted=row.extracted,
        explanation=", ".join(filter(None, (row.explanation, row.file.name, row.place))),
        new_tokens=row.new_tokens,
        seconds=row.seconds,
        way="import",
        error=row.error,
    )


def _outcome(row: Row) -> Outcome:
    """The class of a measurement. Whether a wrong answer was a distractor's, or cut off, no source says."""
    if row.error is not None or row.score is None:
        return "error"
    if row.score >= 1:
        return "found"
    if row.answer is not None and not row.answer.strip():
        return "empty"
    return "partial" if row.score > 0 else "wrong"
