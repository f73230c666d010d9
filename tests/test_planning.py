"""`needle plan`: the numbers are those of the walk that will be made, the lines say them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from needle import forest, planning, running
from needle.cost import Cost
from needle.planning import Estimate
from needle.prompt import END
from needle.types import Grid, Prompt, RunSpec

COST = Cost(linear=2e6, attention=300.0, kv=1024.0, activation=4096.0, weights=3.5 * 1024**3)


@pytest.fixture(scope="module")
def prompts(checkpoint: Callable[..., Path]) -> list[Prompt]:
    grid = Grid((256, 512, 1024), (0.0, 0.5, 1.0), repeats=2)
    spec = RunSpec(str(checkpoint()), "number", "essays", grid, max_new_tokens=8)
    return running.prepare(spec, lambda _: None).prompts


def test_numbers_are_those_of_the_walk(prompts: list[Prompt]) -> None:
    found, plan = planning.estimate(prompts, COST, 400), forest.plan([p.ids for p in prompts])
    lengths = [len(p.ids) for p in prompts]
    assert (found.cells, found.trunks) == (18, len(plan.trunks))
    assert (found.plain_tokens, found.planned_tokens) == (plan.plain_tokens, plan.planned_tokens)
    assert found.plain_tokens == sum(lengths) == 2 * 3 * (256 + 512 + 1024 - 3 * 8)
    assert (found.plain_flops, found.planned_flops) == (COST.plain(lengths), COST.planned(plan, lengths))
    assert found.planned_flops < found.plain_flops
    assert found.speedup == found.plain_flops / found.planned_flops
    assert (found.weights, found.cache) == (COST.weights, 1024.0 * plan.longest)


def test_each_place_that_a_needle_stands_at_is_counted_once(prompts: list[Prompt]) -> None:
    """The start is the same at all lengths, the end at none, though both have one name."""
    names = {(p.cell.repeat, p.position, p.cell.length if p.position == END else 0) for p in prompts}
    assert 2 * (1 + 1 + 3) <= len(names) < len(prompts)
    assert planning.estimate(prompts, COST, 400).positions == len(names)


@pytest.mark.parametrize(("chunk", "fed"), [(100, 100), (1 << 20, None)])
def test_activations_are_those_of_a_chunk_or_of_all_there_is(
    prompts: list[Prompt], chunk: int, fed: int | None
) -> None:
    longest = forest.plan([p.ids for p in prompts]).longest
    assert planning.estimate(prompts, COST, chunk).activations == 4096.0 * (fed or longest)


def test_lines_say_the_numbers() -> None:
    found = Estimate(
        cells=1_225,
        positions=168,
        trunks=1_203,
        plain_tokens=20_000_000,
        planned_tokens=3_000_000,
        plain_flops=2.5e17,
        planned_flops=5e16,
        weights=3.5 * 1024**3,
        cache=256 * 1024**2,
        activations=768 * 1024**2,
    )
    assert planning.lines(found) == [
        "cells              1,225 at 168 needle positions, 1,203 trunks",
        "prefill, plain     20,000,000 tokens, 250.0 PFLOP",
        "prefill, planned   3,000,000 tokens, 50.0 PFLOP (5.00 times less work)",
        "memory, about      4.5 GiB: weights 3.5 GiB, cache 256 MiB, activations 768 MiB",
    ]


@pytest.mark.parametrize(("flops", "said"), [(3e9, "3.0 GFLOP"), (3e12, "3.0 TFLOP"), (3e15, "3.0 PFLOP")])
def test_flops_have_the_unit_that_fits(flops: float, said: str) -> None:
    found = Estimate(1, 1, 1, 10, 10, flops, flops, 1.0, 0.0, 0.0)
    assert planning.lines(found)[1].endswith(said)


def test_nothing_to_do_costs_nothing() -> None:
    found = planning.estimate([], COST, 400)
    assert (found.cells, found.plain_tokens, found.planned_flops, found.speedup) == (0, 0, 0, 1.0)


def test_models_of_any_size_are_asked_the_same_prompts(checkpoint: Callable[..., Path]) -> None:
    """What a model costs decides nothing of what it is asked: or models of one tokenizer would not pair."""
    grid = Grid((512, 768, 1024), (0.0, 0.3, 0.6, 1.0))
    asked = []
    for sizes in ({}, {"num_hidden_layers": 1, "intermediate_size": 4096}):
        spec = RunSpec(str(checkpoint(**sizes)), "number", "essays", grid, depth_tolerance=0.05, max_new_tokens=8)
        asked.append([p.sha256 for p in running.prepare(spec, lambda _: None).prompts])
    assert asked[0] == asked[1]


def test_of_a_model_whose_shape_is_unknown_only_tokens_are_told(prompts: list[Prompt]) -> None:
    told = "\n".join(planning.lines(planning.estimate(prompts, Cost(1.0, 0.0), 400)))
    assert "18 at" in told
    assert "FLOP" not in told
    assert "memory" not in told
