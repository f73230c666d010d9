"""Prompts to the token, over every tokenizer family and every text: what is promised holds for each of them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers_zoo as zoo
from hypothesis import assume, given
from hypothesis import strategies as st
from prompts import (
    LONGEST,
    builder,
    built,
    cells,
    decode,
    depths,
    fills_its_length,
    fixed,
    fresh,
    holds_others_whole,
    is_the_haystack_otherwise,
    keeps_its_promises,
    needed,
    needed_at,
    needle_of,
    quick,
    recipes,
)

from needle import tasks
from needle.errors import FitError, UsageError
from needle.prompt import END, Builder
from needle.types import Cell


@quick
@given(cells())
def test_every_prompt_keeps_its_promises(drawn: tuple[dict[str, Any], Cell]) -> None:
    recipe, cell = drawn
    for prompt in built(recipe, cell):
        keeps_its_promises(recipe, prompt)


@quick
@given(cells())
def test_depth_is_within_tolerance_where_a_place_is_else_nearest(drawn: tuple[dict[str, Any], Cell]) -> None:
    recipe, cell = drawn
    assume(0 < cell.depth < 1)
    b = builder(recipe)
    places = b.places(cell)
    offs = {p: abs(b.build(cell, p).depth - cell.depth) for p in places}
    all_places = b.straw(cell).places
    first, last = all_places.index(places[0]), all_places.index(places[-1])
    assert all_places[first : last + 1] == places, "a place was left out"
    beyond = {p: _off(b, cell, p) for p in [*all_places[max(0, first - 8) : first], *all_places[last + 1 : last + 9]]}
    if len(places) == 1 and offs[places[0]] > b.tolerance:
        assert min(beyond.values(), default=9) >= offs[places[0]]
    else:
        assert max(offs.values()) <= b.tolerance
        edges = [all_places[first - 1]] * (first > 0) + all_places[last + 1 : last + 2]
        assert all(beyond[p] > b.tolerance for p in edges)


def _off(b: Builder, cell: Cell, place: int) -> float:
    try:
        return abs(b.build(cell, place).depth - cell.depth)
    except FitError:
        return 9.0


@pytest.mark.parametrize("family", ["qwen", "llama"])
@pytest.mark.parametrize("task", ["number", "sentence"])
@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_byte_level_prompt_reads_as_the_rendered_chat(family: str, task: str, depth: float) -> None:
    recipe, tok, made = fixed(family=family, task=task), zoo.tokenizer(family), tasks.get(task)
    prompt = built(recipe, Cell(1200, depth, 0))[0]
    start, end = prompt.document
    user = made.template.format(context="CONTEXT", question=prompt.question.question)
    turns = [{"role": "system", "content": made.system}] * bool(made.system) + [{"role": "user", "content": user}]
    rendered = tok.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert f"{decode(recipe, prompt.ids[:start])}CONTEXT{decode(recipe, prompt.ids[end:])}" == rendered


@quick
@given(cells(), st.integers(1, 2000))
def test_longer_cell_with_the_same_place_begins_as_the_shorter(drawn: tuple[dict[str, Any], Cell], more: int) -> None:
    recipe, cell = drawn
    longest = 2 * LONGEST
    b = builder(recipe, longest)
    assume(not b.task.per_length)
    place = b.places(cell)[0]
    assume(place != END)
    short, long = b.build(cell, place), b.build(Cell(min(cell.length + more, longest), cell.depth, cell.repeat), place)
    assert short.question == long.question
    same = short.document[1]
    room = same - short.document[0] - (needle_of(short).end - needle_of(short).start)
    torn = [s for s in b.straw(cell).spans if s.start < room < s.end]
    same -= room - torn[0].start if torn else 0
    assert short.ids[:same].tolist() == long.ids[:same].tolist()
    assert [s for s in short.spans if s.end <= same] == [s for s in long.spans if s.end <= same]


@quick
@given(cells())
def test_a_longer_run_builds_the_same_cell(drawn: tuple[dict[str, Any], Cell]) -> None:
    recipe, cell = drawn
    first, again = builder(recipe), builder(recipe, 3 * LONGEST)
    assert first.places(cell) == again.places(cell)
    place = first.places(cell)[0]
    assert first.build(cell, place).sha256 == again.build(cell, place).sha256


def refusal(b: Builder, cell: Cell) -> FitError | None:
    try:
        b.places(cell)
    except FitError as error:
        return error
    return None


@quick
@given(recipes, depths, st.integers(0, 2))
def test_too_short_a_length_names_the_need(recipe: dict[str, Any], depth: float, repeat: int) -> None:
    b = builder(recipe)
    need = needed(b, Cell(1, depth, repeat))
    cell = Cell(need - 2, depth, repeat)
    while error := refusal(b, cell):
        # At depth 1 each length has a needle of its own, so the need may differ by some tokens.
        assert cell.length < needed_at(error)
        assert depth == 1 or needed_at(error) == need
        assert "raise --min-len or lower --max-new-tokens" in str(error)
        cell = Cell(cell.length + 1, depth, repeat)
    assert depth == 1 or cell.length == need
    fills_its_length(b.build(cell, b.places(cell)[0]))


@pytest.mark.parametrize("text", ["essays", "noise", "short"])
def test_a_cut_through_a_distractor_leaves_no_part_of_it(text: str) -> None:
    recipe = fixed(text=text)
    b, seen = builder(recipe), set()
    for length in range(400, 520):
        cell = Cell(length, 0.0, 1)
        prompt = b.build(cell, 0)
        fills_its_length(prompt)
        holds_others_whole(recipe, prompt)
        is_the_haystack_otherwise(recipe, prompt)
        seen.add(len(prompt.spans))
    assert len(seen) > 1, "no distractor came in between"


def test_building_touches_no_global_generator() -> None:
    recipe = fixed(task="uuid", seed=3)
    before, numpy_before = random.getstate(), np.random.get_state()[1].tolist()
    random.seed(7)
    b = fresh(recipe)
    first = b.build(Cell(1500, 0.5, 1), b.places(Cell(1500, 0.5, 1))[0])
    assert random.getstate() == random.Random(7).getstate()
    random.seed(8)
    b = fresh(recipe)
    assert b.build(Cell(1500, 0.5, 1), b.places(Cell(1500, 0.5, 1))[0]).sha256 == first.sha256
    assert np.random.get_state()[1].tolist() == numpy_before
    random.setstate(before)


ELSEWHERE = """
import json, sys
from transformers import PreTrainedTokenizerFast
from needle import haystack, tasks, template
from needle.prompt import Builder
from needle.types import Cell
found = []
for folder, source in json.loads(sys.argv[1]):
    tok, task = PreTrainedTokenizerFast.from_pretrained(folder), tasks.get("word")
    hay = haystack.tokenize(haystack.load(source), tok)
    b = Builder(tok, hay, task, template.frame(tok, task), 4, 32, 900, 0.02)
    for cell in [Cell(900, depth, 1) for depth in (0, 0.37, 1)]:
        found.append(b.build(cell, b.places(cell)[-1]).sha256)
print(json.dumps(found))
"""


def test_another_process_builds_the_same_ids(tmp_path: Path) -> None:
    wants, here = [], []
    (tmp_path / "own.txt").write_text(zoo.TEXTS["emoji and words"])
    for family in zoo.BUILDERS:
        zoo.tokenizer(family).save_pretrained(tmp_path / family)
        text = "essays" if family == "gemma" else "emoji and words"
        wants.append((str(tmp_path / family), text if text == "essays" else str(tmp_path / "own.txt")))
        b = fresh({"family": family, "text": text, "task": "word", "seed": 4, "tolerance": 0.02, "budget": 32}, 900)
        here += [b.build(c, b.places(c)[-1]).sha256 for c in (Cell(900, depth, 1) for depth in (0, 0.37, 1))]
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, json.dumps(wants)], env=env, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == here


def test_other_seeds_and_repeats_draw_other_needles_and_texts() -> None:
    recipe = fixed()
    prompts = [builder({**recipe, "seed": s}).build(Cell(1500, 1.0, r), END) for s in (0, 1) for r in (0, 1)]
    assert len({p.offset for p in prompts}) == 4
    assert len({p.question.needle for p in prompts}) == 4
    assert prompts[0].offset == 0


@pytest.mark.parametrize("family", zoo.BUILDERS)
def test_documents_begin_at_a_place_without_its_white_space(family: str) -> None:
    hay = zoo.tokens(family, "essays")
    starts = hay.starts.tolist()
    for repeat in range(1, 30):
        offset = builder(fixed(family=family)).straw(Cell(LONGEST, 0.5, repeat)).offset
        place = max(p for p in hay.places.tolist() if p <= offset)
        assert place == offset or hay.text[starts[place] : starts[offset]].isspace()
        assert not hay.text[starts[offset] : starts[offset + 1]].isspace()


def test_needles_are_parted_from_the_text_around_them() -> None:
    """A needle's neighbours are white space, or the text has none there."""
    for family in zoo.BYTE_LEVEL:
        for text in ("essays", "crlf", "newlines", "noise", "blank lines"):
            recipe = fixed(family=family, text=text, task="sentence", tolerance=0.05)
            b = builder(recipe)
            for repeat in (0, 1):
                for place in [p for p in b.straw(Cell(1300, 0.5, repeat)).places if p < 900][:30:2]:
                    prompt = b.build(Cell(1300, 0.5, repeat), place)
                    start, end = prompt.document
                    whole, needle = decode(recipe, prompt.ids[start:end]), prompt.question.needle
                    at = whole.index(needle)
                    assert at == 0 or whole[at - 1].isspace(), (family, text, whole[at - 30 : at + 9])
                    assert whole[at + len(needle)].isspace(), (family, text, whole[at + len(needle) - 9 :][:30])


def test_control_tokens_in_the_text_are_text() -> None:
    # A Unigram model holds its control tokens among its pieces and finds them in any text.
    for family in set(zoo.BUILDERS) - {"gemma"}:
        recipe = fixed(family=family, text="control tokens")
        tok = zoo.tokenizer(family)
        prompt = builder(recipe).build(Cell(1200, 1.0, 0), END)
        start, end = prompt.document
        specials = set(tok.all_special_ids) - {tok.unk_token_id}
        assert not specials & set(prompt.ids[start:end].tolist()), family


def test_no_character_is_torn_by_a_needle() -> None:
    for text in ("emoji", "cjk", "cjk unpunctuated", "emoji and words"):
        for family in zoo.BYTE_LEVEL:
            hay = zoo.tokens(family, text)
            tok = zoo.tokenizer(family)
            for place in hay.places.tolist():
                assert "\ufffd" not in tok.decode(hay.cut(0, place)), (family, text, place)


def test_a_stretch_without_sentences_offers_finer_places() -> None:
    recipe = fixed(text="mostly a table", task="sentence")
    b = builder(recipe, 2500)
    for depth in (0.3, 0.5, 0.7):
        cell = Cell(2500, depth, 0)
        assert abs(b.build(cell, b.places(cell)[0]).depth - depth) <= 0.01


def test_a_place_that_is_none_is_refused() -> None:
    recipe = fixed()
    b = builder(recipe)
    places = b.straw(Cell(1500, 0.5, 0)).places
    none = next(p for p in range(1, 999) if p not in places)
    with pytest.raises(UsageError, match="cannot stand at token"):
        b.build(Cell(1500, 0.5, 0), none)
    with pytest.raises(FitError, match="lies beyond"):
        b.build(Cell(1500, 0.5, 0), next(p for p in places if p > 1500))
    with pytest.raises(UsageError, match="longer than the run's longest"):
        b.places(Cell(LONGEST + 1, 0.5, 0))
