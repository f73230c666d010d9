"""Runs written through the store without a model: who scores what, where, is given by a function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from needle import series, store
from needle.comparison import Comparison, Contrast, compare
from needle.types import Cell, Grid, Result, RunSpec

GRID = Grid((1024, 2048, 4096, 8192, 16384), tuple(d / 10 for d in range(11)))
SMALL = Grid((1024, 2048, 4096), (0.0, 0.5, 1.0), 2)
Scores = Callable[[Cell], float | None]
"""A cell's score; None where it fails."""


def row(length: int, depth: float, score: float | None, repeat: int = 0, **more: object) -> Result:
    """A cell's result, of no run: found, wrong, or failed where there is no score."""
    status, outcome = ("error", "error") if score is None else ("ok", "found" if score == 1 else "wrong")
    return Result(f"{length}/{depth}/{repeat}", length, depth, repeat, status, score, outcome, **more)  # type: ignore[arg-type]


def write(
    root: Path,
    model: str,
    scores: Scores,
    grid: Grid = GRID,
    most: int | None = None,
    tokenizer: str = "t",
    text: str | None = None,
    place: str = "",
    hashed: bool = True,
    session: dict[str, Any] | None = None,
    **more: Any,
) -> store.Run:
    """A run of `grid`, or its first `most` cells; controls last. `text` is the haystack's hash, `place` of needles."""
    spec = RunSpec(model, more.pop("task", "number"), more.pop("haystack", "essays"), grid, **more)
    sources = {"model": model, "tokenizer": tokenizer, "haystack": text or spec.haystack}
    known = store.identity(spec, sources)
    with store.writing(root, spec, sources, session or {"started": model, "dtype": "float32"}) as writer:
        for cell in [*spec.grid.cells(), *spec.grid.controls()][:most]:
            told = (cell, spec.task, spec.seed, spec.system, spec.max_new_tokens, sources["haystack"], tokenizer, place)
            digest = hashlib.sha256(repr(told).encode()).hexdigest()
            writer.append(_result(store.key(known, cell), cell, scores(cell), digest if hashed else None))
    return store.read(writer.run.folder)


def _result(key: str, cell: Cell, score: float | None, digest: str | None) -> Result:
    where = (key, cell.length, cell.depth, cell.repeat)
    if score is None:
        return Result(*where, "error", None, "error", control=cell.control, prompt_sha256=digest, error="out of memory")
    outcome = "found" if score == 1 else "partial" if score else "wrong"
    return Result(
        *where,
        "ok",
        score,
        outcome,
        control=cell.control,
        prompt_sha256=digest,
        answer=f"scored {score}",
        depth_used=None if cell.control else cell.depth,
    )


def up_to(length: int) -> Scores:
    """A model that finds everything up to a length and nothing beyond."""
    return lambda cell: float(cell.length <= length)


def training(root: Path, steps: tuple[int, ...] = (100, 200, 1000), **more: Any) -> series.Series:
    """A training whose checkpoints find more and more; the only series in `root`."""
    for at, step in enumerate(steps):
        write(root, f"out/checkpoint-{step}", up_to(1024 << at), **{"grid": SMALL, **more})
    (found,) = series.of(map(store.read, store.folders(root)))
    return found


def two(root: Path, first: Scores, second: Scores, one: Mapping[str, Any] | None = None, **other: Any) -> Comparison:
    """Runs of x/pocket-4k and x/pocket-32k compared; `one` and `other` are what is special of each."""
    baseline = write(root, "x/pocket-4k", first, **(one or {}))
    return compare([baseline, write(root, "x/pocket-32k", second, **other)])


def contrast(root: Path, first: Scores, second: Scores, one: Mapping[str, Any] | None = None, **other: Any) -> Contrast:
    """What `two` finds."""
    (found,) = two(root, first, second, one, **other).contrasts
    return found
