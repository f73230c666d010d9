"""Prompts without a needle, with needles over the whole context, in Chinese, and in RULER's chat: to the token, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tokenizers_zoo as zoo
from hypothesis import given
from hypothesis import strategies as st
from prompts import (
    LONGEST,
    builder,
    built,
    cells,
    decode,
    ends_with_the_question,
    fills_its_length,
    fixed,
    holds_others_whole,
    is_the_haystack_otherwise,
    needed,
    quick,
    recipes,
)

from needle import running, tasks
from needle.cost import Cost
from needle.errors import FitError, UsageError
from needle.prompt import END
from needle.types import Cell, Prompt

SPREAD = [name for name in tasks.names() if tasks.get(name).per_length]
spread = recipes.filter(lambda r: r["task"] in SPREAD)


@quick
@given(cells(control=True))
def test_a_control_is_the_same_context_without_any_needle(drawn: tuple[dict[str, Any], Cell]) -> None:
    recipe, cell = drawn
    b = builder(recipe)
    assert b.places(cell) == [0]
    control, with_needle = b.build(cell, 0), b.build(replace(cell, control=False), 0)
    fills_its_length(control)
    holds_others_whole(recipe, control)
    is_the_haystack_otherwise(recipe, control)
    ends_with_the_question(recipe, control)
    assert (control.position, control.depth) == (0, 0.0)
    assert control.question == with_needle.question
    assert {s.kind for s in control.spans} <= {"distractor"}
    assert control.offset == with_needle.offset
    # Distractors stand before the same haystack tokens; what a needle leaves free, more haystack fills.
    there, without = distractor_roots(with_needle), distractor_roots(control)
    assert without[: len(there)] == there
    assert control.ids[: control.document[0]].tolist() == with_needle.ids[: with_needle.document[0]].tolist()


def distractor_roots(prompt: Prompt) -> list[int]:
    """How many haystack tokens stand before each distractor."""
    others = [s for s in prompt.spans if s.kind == "distractor"]
    return [
        s.start - prompt.document[0] - sum(o.end - o.start for o in prompt.spans if o.start < s.start) for s in others
    ]


def test_a_control_takes_no_needle_anywhere_else() -> None:
    with pytest.raises(UsageError, match="a control has no needle"):
        builder(fixed()).build(Cell(1500, 0.0, 0, control=True), END)


@quick
@given(cells(spread))
def test_every_context_of_a_spread_task_holds_all_of_its_others(drawn: tuple[dict[str, Any], Cell]) -> None:
    recipe, cell = drawn
    for prompt in built(recipe, cell):
        others = builder(recipe).task.others(recipe["seed"], cell.repeat, 9)
        assert len(prompt.spans) == 1 + len(others)
        assert sum(s.kind == "needle" for s in prompt.spans[1:]) == sum(o.kind == "needle" for o in others)


@pytest.mark.parametrize("task", SPREAD)
def test_others_stand_near_their_shares_of_any_length(task: str) -> None:
    b = builder(fixed(task=task), 8000)
    for length in (3000, 8000):
        prompt = b.build(Cell(length, 1.0, 1), END)
        room = prompt.document[1] - prompt.document[0]
        shares = [o.position / 10**6 for o in b.task.others(0, 1, 10**6)]
        found = sorted((s.start - prompt.document[0]) / room for s in prompt.spans[1:])
        assert np.allclose(found, shares, atol=0.15), (length, found, shares)
    assert b.straw(Cell(3000, 1.0, 1)) is not b.straw(Cell(8000, 0.0, 1))
    assert b.straw(Cell(3000, 1.0, 1)) is b.straw(Cell(3000, 0.0, 1))


@quick
@given(cells(spread), st.booleans())
def test_a_spread_task_is_rebuilt_to_the_token_by_a_longer_run(
    drawn: tuple[dict[str, Any], Cell], control: bool
) -> None:
    recipe, cell = drawn
    cell = replace(cell, control=control)
    first, again = builder(recipe), builder(recipe, 2 * LONGEST)
    place = first.places(cell)[-1]
    assert first.build(cell, place).sha256 == again.build(cell, place).sha256


def test_a_context_too_short_for_its_others_is_refused() -> None:
    b = builder(fixed(task="chain"))
    need = needed(b, Cell(1, 0.5, 0))
    for depth in (0.0, 0.5, 1.0):
        with pytest.raises(FitError, match=f"need {need}; raise --min-len"):
            b.places(Cell(need - 1, depth, 0))
        assert len(b.build(Cell(need, depth, 0), b.places(Cell(need, depth, 0))[0]).spans) == 8


@pytest.mark.parametrize("task", ["niah_multikey_1", "number"])
def test_a_grid_is_placed_straw_by_straw(task: str) -> None:
    b = builder(fixed(task=task))
    grid = [Cell(n, d, r) for r in (0, 1) for n in (1000, 1500) for d in (0.0, 0.5, 1.0)]
    grid += [Cell(n, 0.0, r, control=True) for r in (0, 1) for n in (1000, 1500)]
    prompts = running.build(b, grid, Cost(1.0, 0.001))
    assert [p.cell for p in prompts] == grid
    for prompt in prompts:
        fills_its_length(prompt)
        assert abs(prompt.depth - prompt.cell.depth) <= 0.05
        assert (prompt.position == 0) == (prompt.cell.depth == 0)
        assert any(s.kind == "needle" for s in prompt.spans) != prompt.cell.control
    starts = {p.ids[:850].tobytes() for p in prompts if p.cell.control and p.cell.repeat == 0}
    assert len(starts) == (2 if b.task.per_length else 1), "controls of one straw share their beginnings"


@pytest.mark.parametrize("family", zoo.BYTE_LEVEL)
def test_chinese_needles_stand_without_spaces(family: str) -> None:
    recipe = fixed(family=family, text="zh", task="sentence_zh")
    b = builder(recipe)
    for repeat in range(3):
        for place in [p for p in b.straw(Cell(1500, 0.5, repeat)).places if p < 500][:12]:
            prompt = b.build(Cell(1500, 0.5, repeat), place)
            start, end = prompt.document
            whole = decode(recipe, prompt.ids[start:end])
            before, found, after = whole.partition(prompt.question.needle)
            assert found, whole[:300]
            assert not before.endswith(" "), before[-20:]
            assert not after.startswith(" "), after[:20]
            assert before.rstrip("\n”") == "" or before.rstrip("\n”")[-1] in "。！？", before[-20:]
    last = b.build(Cell(1500, 1.0, 0), END)
    assert decode(recipe, last.ids[last.document[0] : last.document[1]]).endswith("\n" + last.question.needle)


@pytest.mark.parametrize("family", zoo.CHATS)
def test_rulers_answer_prefix_heads_the_answer_in_a_chat(family: str) -> None:
    recipe = fixed(family=family, task="niah_single_2")
    prompt = built(recipe, Cell(1200, 0.5, 0))[0]
    (value,) = prompt.question.answers
    assert decode(recipe, prompt.ids).rstrip().endswith(prompt.question.prefix)
    assert prompt.question.draft == f" {value}."
    plain_task = built(fixed(family=family, task="number"), Cell(1200, 0.5, 0))[0]
    assert plain_task.question.draft == plain_task.question.needle
