"""Where another repeat would tell something: lengths whose verdict is still open.

Repeats are spent on whole lengths, every depth alike: a length whose hard cells were measured more often than its easy
ones would have a mean that is none. Looking again only where it is undecided makes intervals slightly too sure, as any
sequential test does without correction; runs that must not be are made with `--repeats`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from needle import certainty
from needle.certainty import EFFECTIVE_THRESHOLD
from needle.types import Cell, Grid, Result

STEP = 0.5
"""Cells one above the other whose means differ by this much are looked at again while their intervals overlap."""


def further(results: Sequence[Result], grid: Grid, threshold: float = EFFECTIVE_THRESHOLD) -> list[Cell]:
    """The cells to measure next: one more repeat of each undecided length that has had fewer than `max_repeats`.

    A length is undecided if its 95 % interval holds the threshold, or neighbours in depth differ without certainty.
    One that has no scores, or failed cells, is left alone: more of it would tell nothing of the model.
    """
    cells: list[Cell] = []
    for length in grid.lengths:
        rows = [r for r in results if r.length == length]
        done = 1 + max((r.repeat for r in rows), default=-1)
        sound = rows and all(r.status == "ok" for r in rows)
        if sound and done < (grid.max_repeats or 0) and undecided(rows, threshold):
            cells += grid.column((length,), (max(done, grid.repeats),))
    return cells


def undecided(rows: Sequence[Result], threshold: float = EFFECTIVE_THRESHOLD) -> bool:
    """Whether the scores of one length leave open on which side of `threshold` it lies, or where in it needles go."""
    low, high = certainty.interval(_scores(rows))
    if low < threshold <= high:
        return True
    depths = [_scores(r for r in rows if r.depth == depth) for depth in sorted({r.depth for r in rows})]
    return any(_unclear(one, other) for one, other in pairwise(depths))


def _unclear(one: list[float], other: list[float]) -> bool:
    if abs(certainty.mean(one) - certainty.mean(other)) < STEP:
        return False
    (low, high), (low2, high2) = certainty.interval(one), certainty.interval(other)
    return low <= high2 and low2 <= high


def _scores(rows: Iterable[Result]) -> list[float]:
    return [r.score for r in rows if r.score is not None]
