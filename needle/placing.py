"""Where needles stand: few positions that serve all cells, at the least cost.

A cell asks for a depth within a tolerance, so its needle may stand at any place of an interval. Cells whose needle
stands at the same position share one trunk, fed from there to the longest of them. Which positions are cheapest?

Each cell is a strip [first place, last place] × [its extent, ∞); a trunk from p to extent e is a point (p, e) of cost
`feed(p, e)`, and every strip must hold a point. Among the strips between two chosen positions take the one of greatest
extent: some point must lie in it, that point needs no greater extent, and it serves all strips around it; what is left
falls apart into the strips before it and those after it. As feeding from a later position is cheaper, only last places
need be tried. So the least cost of a gap follows exactly from those of the narrower gaps in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Feed = Callable[[int, int], float]
"""Cost of feeding tokens [start, stop); the later the start, the less."""

_Strip = tuple[int, int, int]
_Gap = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Want:
    """A cell's places, ascending, none left out between them; its extent; where it would best stand."""

    places: Sequence[int]
    extent: int
    target: float


def choose(wants: Sequence[Want], feed: Feed) -> list[int]:
    """A position for each want, out of its places, such that all trunks together cost the least."""
    extents = _trunks(wants, feed)
    return [min(_serving(w, extents), key=lambda p: (abs(p - w.target), p)) for w in wants]


def _serving(want: Want, extents: dict[int, int]) -> list[int]:
    """Positions among its places whose trunk reaches as far as it needs."""
    first, last = want.places[0], want.places[-1]
    return [p for p, extent in extents.items() if first <= p <= last and extent >= want.extent]


def _trunks(wants: Sequence[Want], feed: Feed) -> dict[int, int]:
    """The cheapest positions that serve all wants, each with its extent."""
    strips = sorted({(w.places[0], w.places[-1], w.extent) for w in wants}, key=lambda s: (-s[2], s[0]))
    whole = (-1, 1 + max((last for _, last, _ in strips), default=0))
    best = _solve(whole, strips, feed)
    chosen: dict[int, int] = {}
    waiting = [whole]
    while waiting:
        a, b = waiting.pop()
        _, p, extent = best[a, b]
        if p >= 0:
            chosen[p] = extent
            waiting += [(a, p), (p, b)]
    return chosen


def _solve(whole: _Gap, strips: Sequence[_Strip], feed: Feed) -> dict[_Gap, tuple[float, int, int]]:
    """Of each gap between two positions: the least cost of the strips in it, and the first point (p, e) for that.

    A stack of gaps instead of a recursion: a thousand depths would go too deep. `strips` come by falling extent.
    """
    inside: dict[_Gap, Sequence[_Strip]] = {whole: strips}
    best: dict[_Gap, tuple[float, int, int]] = {}
    waiting = [whole]
    while waiting:
        a, b = waiting[-1]
        held = inside[a, b]
        if (a, b) in best or not held:
            best.setdefault((a, b), (0.0, -1, 0))
            waiting.pop()
            continue
        first, last, extent = held[0]
        tries = {end for _, end, _ in held if first <= end <= last}
        unknown = [gap for p in tries for gap in ((a, p), (p, b)) if gap not in best]
        if not unknown:
            best[a, b] = min((feed(p, extent) + best[a, p][0] + best[p, b][0], p, extent) for p in tries)
            continue
        for left, right in unknown:
            if (left, right) not in inside:
                inside[left, right] = [s for s in held if left < s[0] and s[1] < right]
        waiting += unknown
    return best
