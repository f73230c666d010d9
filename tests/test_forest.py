"""The forest over any prompts: walked with a list for a cache, each comes out whole, and nothing is fed twice."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from needle import forest
from needle.forest import Plan
from needle.types import Ids

Prompts = list[Ids]


def ids(*values: int) -> Ids:
    return np.asarray(values, dtype=np.int32)


@st.composite
def trees(draw: st.DrawFn) -> Prompts:
    """Prompts that begin as others do, end early, come twice, or have long endings of their own."""
    tokens = st.lists(st.sampled_from([0, 1, 2, 255, 256, 70_000]), min_size=1, max_size=12)
    prompts = [draw(tokens)]
    for _ in range(draw(st.integers(0, 9))):
        base = draw(st.sampled_from(prompts))
        cut = draw(st.integers(0, len(base)))
        more = draw(st.one_of(tokens, st.just([]), st.integers(9, 30).map(lambda n: list(range(n)))))
        prompts.append((base[:cut] + more) or base)
    return [ids(*p) for p in prompts]


def walked(prompts: Prompts, plan: Plan) -> tuple[dict[int, list[int]], int]:
    """Each prompt as the walk serves it, and how many tokens were fed for that."""
    cache: list[int] = []
    served: dict[int, list[int]] = {}
    fed = 0
    for trunk in plan.trunks:
        assert trunk.keep <= len(cache), "the walk would keep more than there is"
        assert trunk.keep <= trunk.stop <= len(prompts[trunk.source])
        cache = cache[: trunk.keep] + prompts[trunk.source][trunk.keep : trunk.stop].tolist()
        fed += trunk.stop - trunk.keep
        assert trunk.forks, "a trunk that serves no one"
        for fork in trunk.forks:
            own = prompts[fork.index][fork.cut :].tolist()
            assert own, "a prompt needs a token of its own to be answered"
            assert fork.cut <= len(cache)
            assert fork.index not in served
            served[fork.index] = cache[: fork.cut] + own
            fed += len(own)
    return served, fed


LIMITS = st.sampled_from([1, 2, 5, 8, forest.FORK_LIMIT])


@given(trees(), LIMITS)
@example([ids(7)], 1)
@example([ids(1, 2), ids(1, 2), ids(1, 2, 3), ids(1)], 1)
def test_every_prompt_is_served_once_and_whole(prompts: Prompts, limit: int) -> None:
    plan = forest.plan(prompts, limit)
    served, fed = walked(prompts, plan)
    assert served == {i: p.tolist() for i, p in enumerate(prompts)}
    assert plan.planned_tokens == fed
    assert plan.plain_tokens == sum(map(len, prompts))
    assert plan.planned_tokens <= plan.plain_tokens


@given(trees(), LIMITS)
def test_the_first_trunk_is_the_longest(prompts: Prompts, limit: int) -> None:
    plan = forest.plan(prompts, limit)
    assert plan.trunks[0].keep == 0
    assert plan.trunks[0].stop == plan.longest == max(t.stop for t in plan.trunks)


@given(trees())
def test_every_distinct_prefix_is_fed_once(prompts: Prompts) -> None:
    """All but the last token of each prompt can be shared; that one is its own."""
    distinct = {tuple(p[:n].tolist()) for p in prompts for n in range(1, len(p))}
    assert forest.plan(prompts).planned_tokens == len(distinct) + len(prompts)


@given(trees(), st.sampled_from([2, 5, 8]))
def test_endings_in_a_step_stay_small(prompts: Prompts, limit: int) -> None:
    plan = forest.plan(prompts, limit)
    assert max(len(prompts[f.index]) - f.cut for t in plan.trunks for f in t.forks) <= limit


@given(trees(), st.randoms(use_true_random=False))
def test_the_order_of_the_prompts_changes_no_cost(prompts: Prompts, random: object) -> None:
    mixed = prompts[:]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert forest.plan(mixed).planned_tokens == forest.plan(prompts).planned_tokens


@given(trees())
def test_common_is_what_two_prompts_share_before_the_last_token_of_either(prompts: Prompts) -> None:
    for a, b in combinations(prompts, 2):
        shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        assert forest.common(a, b) == forest.common(b, a) == min(shared, len(a) - 1, len(b) - 1)


def test_no_prompts_need_no_walk() -> None:
    assert forest.plan([]) == Plan((), 0, 0, 0)


@pytest.mark.parametrize("depth", [3, 2000])
def test_a_comb_of_prompts_costs_its_longest_one_and_a_token_each(depth: int) -> None:
    prompts = [ids(*([1] * n), 2) for n in range(depth)]
    assert forest.plan(prompts).planned_tokens == depth - 1 + depth
