"""Needle positions: each within its cell's places, and no choice of any kind is cheaper."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from needle import grid, placing
from needle.cost import Cost
from needle.placing import Feed, Want

FEEDS: list[Feed] = [Cost(1.0, 0.0).feed, Cost(0.0, 1.0).feed, Cost(3.0, 0.5).feed]


def cost(wants: Sequence[Want], positions: Sequence[int], feed: Feed) -> float:
    """Of all trunks: one from each position to the longest cell that has its needle there."""
    extents: dict[int, int] = {}
    for want, p in zip(wants, positions, strict=True):
        extents[p] = max(extents.get(p, 0), want.extent)
    return sum(feed(p, extent) for p, extent in extents.items())


@st.composite
def cells(draw: st.DrawFn) -> list[Want]:
    """Up to six cells over the same places, each with some of them that follow one another."""
    places = sorted(draw(st.sets(st.integers(0, 12), min_size=1, max_size=8)))
    wants = []
    for _ in range(draw(st.integers(0, 6))):
        first = draw(st.integers(0, len(places) - 1))
        own = places[first : first + draw(st.integers(1, 4))]
        wants.append(Want(own, draw(st.integers(own[-1], 16)), draw(st.floats(0, 16))))
    return wants


@given(cells(), st.sampled_from(FEEDS))
# The nearest position is another trunk's, and that one is shorter.
@example([Want([2, 3], 4, 3.0), Want([0], 16, 0.0), Want([0, 1, 2, 3], 9, 3.0)], FEEDS[0])
def test_no_choice_is_cheaper(wants: list[Want], feed: Feed) -> None:
    chosen = placing.choose(wants, feed)
    assert len(chosen) == len(wants)
    assert all(p in w.places for p, w in zip(chosen, wants, strict=True))
    least = min(cost(wants, some, feed) for some in product(*(w.places for w in wants)))
    assert cost(wants, chosen, feed) == pytest.approx(least)


@given(cells(), st.sampled_from(FEEDS))
def test_a_cell_takes_what_lies_nearest_to_its_depth_where_that_costs_nothing(wants: list[Want], feed: Feed) -> None:
    chosen = placing.choose(wants, feed)
    before = cost(wants, chosen, feed)
    for i, want in enumerate(wants):
        for other in {p for p in chosen if p in want.places}:
            if abs(other - want.target) < abs(chosen[i] - want.target):
                assert cost(wants, [*chosen[:i], other, *chosen[i + 1 :]], feed) > before


def sweep(lengths: int, depths: int, tolerance: float) -> list[Want]:
    """A grid from 1K to 32K with a place each 23 tokens, the ends of the document left out."""
    places = list(range(0, 33_000, 23))
    wants = []
    for length in grid.spaced_lengths(1024, 32_768, lengths):
        room = length - 100
        for depth in grid.spaced_depths(depths)[1:-1]:
            low = bisect_left(places, (depth - tolerance) * room)
            high = bisect_right(places, min(room, (depth + tolerance) * room))
            wants.append(Want(places[low:high] or places[low : low + 1], length, depth * length))
    return wants


def test_35_by_35_cells_are_placed_in_seconds_and_share_their_trunks() -> None:
    wants, feed = sweep(35, 35, 0.01), Cost(1.0, 1e-4).feed
    began = time.process_time()
    chosen = placing.choose(wants, feed)
    assert time.process_time() - began < 5
    alone = sum(feed(min(w.places, key=lambda p: abs(p - w.target)), w.extent) for w in wants)
    assert cost(wants, chosen, feed) < alone / 4


@pytest.mark.parametrize(("lengths", "depths"), [(1, 1100), (1000, 3)])
def test_no_grid_is_too_deep(lengths: int, depths: int) -> None:
    wants = sweep(lengths, depths, 0.0)
    assert all(p in w.places for p, w in zip(placing.choose(wants, FEEDS[0]), wants, strict=True))


def test_greater_tolerance_never_costs_more() -> None:
    feed = Cost(1.0, 1e-4).feed
    spent = [cost(w, placing.choose(w, feed), feed) for w in (sweep(12, 11, t) for t in (0.0, 0.005, 0.01, 0.02))]
    assert spent == sorted(spent, reverse=True)
