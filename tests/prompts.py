"""Recipes of prompts over all tokenizer families and texts, and the promises that every prompt has to keep."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import tokenizers_zoo as zoo
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from needle import tasks, template
from needle.errors import FitError
from needle.prompt import Builder
from needle.types import Cell, Prompt, Span

LONGEST = 1600

quick = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)

families = st.sampled_from(sorted(zoo.BUILDERS))
CHINESE = ("qwen", "llama", "neox", "mistral")
"""Families that know Chinese characters, or at least their bytes."""


def fixed(**changes: Any) -> dict[str, Any]:
    recipe = {"family": "qwen", "text": "essays", "task": "number", "seed": 0, "tolerance": 0.01, "budget": 16}
    return recipe | changes


depths = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False))
_recipes = st.fixed_dictionaries(
    {
        "family": families,
        "text": st.sampled_from(zoo.NAMES),
        "task": st.sampled_from(tasks.names()),
        "seed": st.integers(0, 5),
        "tolerance": st.sampled_from([0.0, 0.01, 0.05]),
        "budget": st.sampled_from([1, 16, 64]),
    }
)
recipes = _recipes.filter(lambda r: r["task"] != "sentence_zh" or r["family"] in CHINESE)


@cache
def frame(family: str, task: str) -> template.Frame:
    return template.frame(zoo.tokenizer(family), tasks.get(task))


def fresh(recipe: dict[str, Any], longest: int = LONGEST) -> Builder:
    """A builder that has built nothing yet."""
    family, task = recipe["family"], recipe["task"]
    return Builder(
        zoo.tokenizer(family),
        zoo.tokens(family, recipe["text"]),
        tasks.get(task),
        frame(family, task),
        recipe["seed"],
        recipe["budget"],
        longest,
        recipe["tolerance"],
    )


def builder(recipe: dict[str, Any], longest: int = LONGEST) -> Builder:
    """The builder of that recipe, made once a process."""
    return _kept(longest, **recipe)


@cache
def _kept(longest: int, **recipe: Any) -> Builder:
    return fresh(recipe, longest)


def needed(b: Builder, cell: Cell) -> int:
    """The shortest length at which the cell fits, out of the error that says so."""
    with pytest.raises(FitError) as caught:
        b.places(Cell(1, cell.depth, cell.repeat))
    return needed_at(caught.value)


def needed_at(error: FitError) -> int:
    found = re.search(r"need (\d+)", str(error))
    assert found
    return int(found[1])


@st.composite
def cells(
    draw: st.DrawFn, of: st.SearchStrategy[dict[str, Any]] = recipes, control: bool = False
) -> tuple[dict[str, Any], Cell]:
    """A recipe and a cell of it that fits, from the very shortest on."""
    recipe = draw(of)
    depth, repeat = draw(depths), draw(st.integers(0, 2))
    b = builder(recipe)
    # A needle at the end is another at each length, so that its need may be some tokens more than that of any other.
    need = needed(b, Cell(1, depth, repeat)) + 24
    extra = draw(st.one_of(st.integers(0, 40), st.integers(0, LONGEST - need)))
    return recipe, Cell(need + extra, 0.0 if control else depth, repeat, control)


def built(recipe: dict[str, Any], cell: Cell) -> list[Prompt]:
    """The cell's prompts with the needle at its first, middle and last place."""
    b = builder(recipe)
    places = b.places(cell)
    return [b.build(cell, p) for p in sorted({places[0], places[len(places) // 2], places[-1]})]


def plain(text: str) -> str:
    """Letters and signs alone: without case, accents and white space, as the poorest tokenizer keeps them."""
    apart = unicodedata.normalize("NFKD", text.casefold().replace("<unk>", ""))
    return "".join(c for c in apart if not c.isspace() and not unicodedata.combining(c))


def decode(recipe: dict[str, Any], ids: Sequence[int]) -> str:
    text: str = zoo.tokenizer(recipe["family"]).decode(ids)
    return text


def spoken(recipe: dict[str, Any], prompt: Prompt, span: Span) -> str:
    return plain(decode(recipe, prompt.ids[span.start : span.end]))


def needle_of(prompt: Prompt) -> Span:
    """The asked needle's, first of all spans."""
    span = prompt.spans[0]
    assert span.kind == "needle"
    return span


def keeps_its_promises(recipe: dict[str, Any], prompt: Prompt) -> None:
    """All that holds for any prompt, one by one."""
    fills_its_length(prompt)
    holds_the_needle(recipe, prompt)
    holds_others_whole(recipe, prompt)
    is_the_haystack_otherwise(recipe, prompt)
    records_its_depth(prompt)
    ends_with_the_question(recipe, prompt)


def fills_its_length(prompt: Prompt) -> None:
    assert len(prompt.ids) + prompt.max_new_tokens == prompt.cell.length
    assert prompt.sha256 == hashlib.sha256(prompt.ids.astype("<i4").tobytes()).hexdigest()


def holds_the_needle(recipe: dict[str, Any], prompt: Prompt) -> None:
    said = spoken(recipe, prompt, needle_of(prompt))
    assert said == plain(prompt.question.needle)
    needles = [spoken(recipe, prompt, s) for s in prompt.spans if s.kind == "needle"]
    assert all(any(plain(answer) in needle for needle in needles) for answer in prompt.question.answers)


def holds_others_whole(recipe: dict[str, Any], prompt: Prompt) -> None:
    """Each once and as what it is, none with the asked needle's value; all of them if the task wants all."""
    task = tasks.get(recipe["task"])
    others = task.others(recipe["seed"], prompt.cell.repeat, 2 * LONGEST)
    told = [(spoken(recipe, prompt, s), s.kind) for s in prompt.spans[0 if prompt.cell.control else 1 :]]
    assert set(told) <= {(plain(o.text), o.kind) for o in others}
    assert len(set(told)) == len(told)
    wanted = [o for o in others if not (prompt.cell.control and o.kind == "needle")]
    assert not task.per_length or len(told) == len(wanted)
    if recipe["task"] in ("number", "uuid", "word"):
        assert not any(plain(prompt.question.prefix) in other for other, _ in told)
    assert not set(prompt.question.answers) & set(prompt.question.distractors)


def is_the_haystack_otherwise(recipe: dict[str, Any], prompt: Prompt) -> None:
    """Without needle and distractors the document is the haystack from the offset on, so nothing was torn or lost."""
    start, end = prompt.document
    keep = np.ones(len(prompt.ids), dtype=bool)
    for span in prompt.spans:
        assert start <= span.start < span.end <= end
        assert keep[span.start : span.end].all(), "two spans overlap"
        keep[span.start : span.end] = False
    text = prompt.ids[start:end][keep[start:end]]
    hay = builder(recipe).hay
    assert text.tolist() == hay.cut(prompt.offset, prompt.offset + len(text)).tolist()


def records_its_depth(prompt: Prompt) -> None:
    start, end = prompt.document
    span = needle_of(prompt)
    room = end - start - (span.end - span.start)
    assert prompt.depth == ((span.start - start) / room if room else prompt.cell.depth)
    if prompt.cell.depth == 0:
        assert span.start == start
    if prompt.cell.depth == 1:
        assert span.end == end


def ends_with_the_question(recipe: dict[str, Any], prompt: Prompt) -> None:
    tail = plain(decode(recipe, prompt.ids[prompt.document[1] :]))
    assert plain(prompt.question.question) in tail
    headers = {
        "qwen": "<|im_start|>assistant",
        "llama": "<|start_header_id|>assistant<|end_header_id|>",
        "gemma": "<start_of_turn>model",
        "mistral": "[/INST]",
    }
    prefix = prompt.question.prefix
    opened = frame(recipe["family"], recipe["task"]).kind == "base" or tasks.get(recipe["task"]).prefill
    assert tail.endswith(plain(headers.get(recipe["family"], "") + (prefix if opened else "")))
    assert prompt.question.draft is not None
    assert prompt.question.draft.startswith(prefix) == (not tasks.get(recipe["task"]).prefill or not in_chat(recipe))


def in_chat(recipe: dict[str, Any]) -> bool:
    return frame(recipe["family"], recipe["task"]).kind == "chat"
