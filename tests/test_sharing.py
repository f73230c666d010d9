"""Prompts shared out over workers: each is answered once, none waits for long, and shared prefixes stay together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle import forest, sharing
from needle.cost import Cost
from needle.types import Ids

costs = st.builds(Cost, st.floats(0.1, 10), st.floats(0, 0.1))


def ids(values: Sequence[int]) -> Ids:
    return np.array(values, dtype=np.int32)


@st.composite
def prompts(draw: st.DrawFn, most: int = 15) -> list[Ids]:
    """Prompts that leave one another at any place, some the same, some with long endings."""
    made: list[list[int]] = []
    for _ in range(draw(st.integers(1, most))):
        base = draw(st.sampled_from(made)) if made else []
        kept = base[: draw(st.integers(0, len(base)))]
        own = draw(st.lists(st.integers(0, 3), min_size=1, max_size=8))
        made.append([*kept, *own, *[9] * draw(st.sampled_from([0, 0, 20, 300]))])
    return [ids(p) for p in made]


def walked(cost: Cost, some: Sequence[Ids]) -> float:
    """FLOPs of the forest over `some` alone, as a worker would walk it."""
    return cost.planned(forest.plan(some), [len(p) for p in some])


def grid(lengths: Sequence[int], positions: Sequence[int], seed: int = 0) -> list[Ids]:
    """A sweep: one haystack, a needle of 8 tokens at each position, cut at each length, a question of 20."""
    words = np.random.default_rng(seed)
    hay = words.integers(0, 1000, max(lengths), dtype=np.int32)
    needle = words.integers(1000, 2000, (len(positions), 8), dtype=np.int32)
    question = words.integers(2000, 3000, 20, dtype=np.int32)
    return [
        np.concatenate([hay[:p], needle[at], hay[p : n - 28], question])
        for n in lengths
        for at, p in enumerate(positions)
        if p <= n - 28
    ]


@settings(max_examples=40)
@given(prompts(), costs, st.integers(1, 9))
def test_each_prompt_is_served_once(given: list[Ids], cost: Cost, workers: int) -> None:
    shares = sharing.split(given, cost, workers)
    assert sorted(itertools.chain(*shares)) == list(range(len(given)))
    assert 1 <= len(shares) <= workers
    assert all(shares)
    stretches = sharing.queue(given, cost, workers)
    assert sorted(i for s in stretches for i in s.indexes) == list(range(len(given)))
    assert [s.cost for s in stretches] == sorted((s.cost for s in stretches), reverse=True)


@settings(max_examples=40)
@given(prompts(), costs, st.integers(1, 9))
def test_no_worker_has_more_than_its_share_a_trunk_and_a_prefix(given: list[Ids], cost: Cost, workers: int) -> None:
    """The shares are walked for real: what each costs is not taken from the planner's word."""
    plan = forest.plan(given)
    lengths = [len(p) for p in given]
    trunk = max(
        cost.feed(t.keep, t.stop) + sum(cost.feed(f.cut, lengths[f.index]) for f in t.forks) for t in plan.trunks
    )
    prefix = max(cost.feed(0, t.keep) for t in plan.trunks)
    last = max(walked(cost, [given[i] for i in share]) for share in sharing.split(given, cost, workers))
    assert last <= (cost.planned(plan, lengths) / workers + trunk + prefix) * (1 + 1e-9)


@settings(max_examples=40)
@given(prompts(), costs, st.integers(1, 9))
def test_a_stretch_costs_what_it_says(given: list[Ids], cost: Cost, workers: int) -> None:
    for stretch in sharing.queue(given, cost, workers):
        real = walked(cost, [given[i] for i in stretch.indexes])
        # Prompts that end where another goes on feed that one's last token twice when they are together.
        assert real == pytest.approx(stretch.cost, rel=1e-6, abs=cost.feed(0, 500) / 50)


@settings(max_examples=40)
@given(prompts(10), costs, st.integers(1, 4))
def test_no_other_cut_of_the_walk_is_better(given: list[Ids], cost: Cost, workers: int) -> None:
    """Against every way of cutting the same walk at trunks."""
    trunks = forest.plan(given).trunks
    lengths = [len(p) for p in given]
    own = [cost.feed(t.keep, t.stop) + sum(cost.feed(f.cut, lengths[f.index]) for f in t.forks) for t in trunks]
    best = min(
        max(cost.feed(0, trunks[a].keep) + sum(own[a:b]) for a, b in itertools.pairwise([0, *cuts, len(trunks)]))
        for count in range(min(workers, len(trunks)))
        for cuts in itertools.combinations(range(1, len(trunks)), count)
    )
    pieces = sharing._cut(sharing._steps(given, cost), workers)
    assert max(p.cost for p in pieces) == pytest.approx(best, rel=1e-6)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers(1, 8))
def test_the_makespan_is_within_grahams_bound(pieces: list[float], workers: int) -> None:
    end = sharing.makespan(pieces, workers)
    assert end >= max(max(pieces), sum(pieces) / workers) * (1 - 1e-9)
    assert end <= sum(pieces) / workers + (1 - 1 / workers) * max(pieces) + 1e-9


def test_a_sweep_is_nearly_halved_by_two_workers_and_quartered_by_four() -> None:
    sweep = grid(range(1024, 16385, 1024), range(100, 16000, 700))
    cost = Cost(linear=1e6, attention=1e3)
    one = walked(cost, sweep)
    for workers, gain in ((2, 1.7), (4, 2.8)):
        stretches = sharing.queue(sweep, cost, workers)
        assert one / sharing.makespan([s.cost for s in stretches], workers) > gain


def test_prompts_that_share_long_prefixes_stay_together() -> None:
    """Three haystacks, three workers: each gets one, whole."""
    sweeps = [grid(range(1024, 4097, 1024), range(100, 3000, 500), seed) for seed in range(3)]
    flat = [p for sweep in sweeps for p in sweep]
    owner = [seed for seed, sweep in enumerate(sweeps) for _ in sweep]
    shares = sharing.split(flat, Cost(1.0, 0.001), 3)
    assert sorted(sorted({owner[i] for i in share}) for share in shares) == [[0], [1], [2]]


def test_repeats_of_no_common_text_become_finer_stretches() -> None:
    """Where a cut costs nothing there are several stretches a worker, so that a slow one holds nobody up."""
    free = [ids([seed, *range(400)]) for seed in range(40)]
    assert len(sharing.queue(free, Cost(1.0, 0.0), 2)) == 2 * sharing.FINEST


def test_nothing_to_do_is_no_work_for_anybody() -> None:
    assert sharing.split([], Cost(1.0, 1.0), 3) == []
    assert sharing.queue([], Cost(1.0, 1.0), 3) == []
