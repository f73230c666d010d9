"""Prompts shared out over workers: the forest's walk cut into stretches, at the places where a cut costs least.

A worker that starts in the middle of the walk feeds the prefix again that the walk before it had left in the cache.
Stretches are contiguous, so all else that prompts share stays together.

Pure integers and costs; nothing here knows what a worker is.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from needle import forest
from needle.cost import Cost
from needle.types import Ids

FINEST = 4
"""Stretches a worker at most: more would feed more prefixes again, for little."""
SLACK = 1.05
"""How much longer all may take by estimate for the sake of finer stretches, which even out workers of other speed."""
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Stretch:
    """Prompts, by index, in the order of the walk, and the FLOPs of answering them from an empty cache."""

    indexes: tuple[int, ...]
    cost: float


@dataclass(frozen=True, slots=True)
class _Step:
    """One trunk of the walk: its prompts, its FLOPs with its forks', and those of the prefix that it finds there."""

    indexes: tuple[int, ...]
    own: float
    again: float


def split(prompts: Sequence[Ids], cost: Cost, workers: int) -> list[list[int]]:
    """Indexes of `prompts` in at most `workers` lists, each prompt once, the costliest list as cheap as can be.

    No list costs more than a fair share of the walk, and its largest trunk, and its longest shared prefix.
    """
    return [list(stretch.indexes) for stretch in _cut(_steps(prompts, cost), workers)]


def queue(prompts: Sequence[Ids], cost: Cost, workers: int) -> list[Stretch]:
    """Stretches for `workers` that each take the next one when they are free: the costliest first.

    As many as `FINEST` a worker, as long as all is done nearly as soon (`SLACK`) as with the best number of them.
    """
    steps = _steps(prompts, cost)
    offers = [_cut(steps, workers * fine) for fine in range(1, FINEST + 1)]
    ends = [makespan([stretch.cost for stretch in offer], workers) for offer in offers]
    good = max(at for at, end in enumerate(ends) if end <= SLACK * min(ends))
    return sorted(offers[good], key=lambda stretch: -stretch.cost)


def makespan(costs: Sequence[float], workers: int) -> float:
    """When the last of `workers` is done if each takes the costliest piece that is left whenever it is free."""
    busy = [0.0] * workers
    for piece in sorted(costs, reverse=True):
        heapq.heapreplace(busy, busy[0] + piece)
    return max(busy)


def _steps(prompts: Sequence[Ids], cost: Cost) -> list[_Step]:
    lengths = [len(ids) for ids in prompts]
    steps = []
    for trunk in forest.plan(prompts).trunks:
        forks = sum(cost.feed(fork.cut, lengths[fork.index]) for fork in trunk.forks)
        indexes = tuple(fork.index for fork in trunk.forks)
        steps.append(_Step(indexes, cost.grow(trunk.keep, trunk.stop) + forks, cost.grow(0, trunk.keep)))
    return steps


def _cut(steps: Sequence[_Step], pieces: int) -> list[Stretch]:
    """The walk in at most `pieces` stretches whose costliest is the cheapest there can be."""
    if not steps:
        return []
    done = [0.0, *accumulate(step.own for step in steps)]
    alone = max(step.own + step.again for step in steps)
    low = max(alone, done[-1] / pieces)
    # With this much, every stretch but the last gets at least its fair share of the walk.
    high = done[-1] / pieces + max(step.own for step in steps) + max(step.again for step in steps)
    cuts = _cuts(steps, done, high)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        tried = _cuts(steps, done, middle)
        if len(tried) - 1 <= pieces:
            high, cuts = middle, tried
        else:
            low = middle
    return [
        Stretch(tuple(i for s in steps[a:b] for i in s.indexes), steps[a].again + done[b] - done[a])
        for a, b in pairwise(cuts)
    ]


def _cuts(steps: Sequence[_Step], done: Sequence[float], most: float) -> list[int]:
    """Where to cut so that no stretch costs more than `most` (but one of a single trunk), in the fewest stretches.

    For each end the earliest start that is cheap enough: fewer stretches can never be needed for more of the walk, and
    that start only moves on with the end.
    """
    starts, first = [], 0
    for end in range(1, len(steps) + 1):
        while first < end - 1 and steps[first].again + done[end] - done[first] > most:
            first += 1
        starts.append(first)
    cuts = [len(steps)]
    while cuts[-1]:
        cuts.append(starts[cuts[-1] - 1])
    return cuts[::-1]
