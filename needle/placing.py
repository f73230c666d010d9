"""Where needles stand: few positions that serve all cells, at the least cost.

A cell asks for a depth within a tolerance, so its needle may stand at any place of an interval. Cells whose needle
stands at the same position share one trunk, fed from there to the longest of them. Which positions are cheapest?

Each cell is a strip [first place, last place] × [its extent, ∞); a trunk from p to extent e is a point (p, e) of cost
`feed(p, e)`, and every strip must hold a point. Among the strips between two chosen positions take the one of greatest
extent: some point must lie in it, that point needs no greater extent, and it serves all strips around it; what is left
falls apart into the strips before it and those after it. As feeding from a later position is cheaper, only last places
need be tried. The recursion is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

Feed = Callable[[int, int], float]
"""Cost of feeding tokens [start, stop)."""


@dataclass(frozen=True, slots=True)
class Want:
    """A cell's places, ascending, none left out between them; its extent; where it would best stand."""

    places: Sequence[int]
    extent: int
    target: float


def choose(wants: Sequence[Want], feed: Feed) -> list[int]:
    """A position for each want, out of its places, such that all trunks together cost the least."""
    chosen = _positions(wants, feed)
    return [min((p for p in chosen if p in _span(w)), key=lambda p: abs(p - w.target)) for w in wants]


def _span(want: Want) -> range:
    return range(want.places[0], want.places[-1] + 1)


def _positions(wants: Sequence[Want], feed: Feed) -> list[int]:
    """The cheapest set of positions that has one in every want's span."""
    strips = sorted({(w.places[0], w.places[-1], w.extent) for w in wants}, key=lambda s: (-s[2], s[0]))
    lasts = sorted({hi for _, hi, _ in strips})
    inside: dict[tuple[int, int], tuple[tuple[int, int, int], ...]] = {}

    def between(a: int, b: int, within: tuple[tuple[int, int, int], ...]) -> tuple[tuple[int, int, int], ...]:
        if (a, b) not in inside:
            inside[a, b] = tuple(s for s in within if a < s[0] and s[1] < b)
        return inside[a, b]

    @cache
    def best(a: int, b: int) -> tuple[float, int | None]:
        """Least cost for the strips strictly between positions a and b, and the position that it begins with."""
        held = inside[a, b]
        if not held:
            return 0.0, None
        lo, hi, extent = held[0]
        found = []
        for p in (p for p in lasts if lo <= p <= hi):
            between(a, p, held)
            between(p, b, held)
            found.append((feed(p, extent) + best(a, p)[0] + best(p, b)[0], p))
        return min(found)

    end = max((hi for _, hi, _ in strips), default=0) + 1
    inside[-1, end] = tuple(strips)
    best(-1, end)
    chosen, waiting = [], [(-1, end)]
    while waiting:
        a, b = waiting.pop()
        p = best(a, b)[1]
        if p is not None:
            chosen.append(p)
            waiting += [(a, p), (p, b)]
    return sorted(chosen)
