"""A model, and prompts of ids without a tokenizer, answered through the forest and the plain way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import models
import numpy as np
import pytest

from needle.cache import NAME
from needle.engines._forest import Forest
from needle.engines._ways import Cells, Draft, Reply
from needle.types import Cell, Prompt, Question

ROOM = 6


def prompt(ids: Sequence[int], room: int = ROOM) -> Prompt:
    made = np.asarray(ids, np.int32)
    question = Question("", "", ())
    return Prompt(Cell(len(made) + room, 0.0, 0), made, question, room, 0, 0.0, 0, (0, 0), (), "")


def prompts_of(seed: int = 0, count: int = 9, room: int = ROOM) -> list[Prompt]:
    """Prompts over one haystack: a needle of three tokens somewhere, a cut, a question."""
    random = np.random.default_rng(seed)
    hay = random.integers(3, models.VOCABULARY, 300).tolist()
    made = []
    for i in range(count):
        place, stop = 20 * (i % 3), 60 + 70 * (i // 3)
        made.append(prompt([*hay[:place], 3, 4, 5 + i % 3, *hay[place:stop], 9, 8, 7 + i % 2], room))
    return made


@cache
def model_of(family: str) -> Any:
    return models.make(family, **({"sliding_window": None} if family == "mistral" else {}))


@contextmanager
def on_the_forest(model: Any) -> Iterator[None]:
    stock = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(stock)


def walked(
    model: Any,
    prompts: Sequence[Prompt],
    drafts: Sequence[Draft] | None = None,
    ends: frozenset[int] = frozenset(),
    way: Forest | None = None,
) -> dict[int, Reply]:
    with on_the_forest(model):
        found = list(
            (way or Forest("torch-flash-cpu")).replies(model, prompts, drafts or [Draft([])] * len(prompts), ends)
        )
    assert sorted(i for i, _ in found) == list(range(len(prompts))), "a prompt was answered twice, or never"
    return dict(found)


def plain(model: Any, prompts: Sequence[Prompt], ends: frozenset[int] = frozenset()) -> list[list[int]]:
    replies = dict(Cells("sdpa").replies(model, prompts, [], ends))
    assert not any(r.error for r in replies.values())
    return [replies[i].ids for i in range(len(prompts))]


def ids_of(replies: dict[int, Reply]) -> list[list[int]]:
    assert not any(r.error for r in replies.values()), replies
    return [replies[i].ids for i in range(len(replies))]


class Forwards:
    """Counts a model's forwards, and lets a test refuse some: `refuse(new tokens, tokens of the trunk before)`."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, model: Any, refuse: Callable[[list[int], Any], None] = lambda *_: None
    ) -> None:
        self.trunk: list[int] = []
        self.forks: list[int] = []
        forward = model.base_model.forward

        def watched(*args: Any, **more: Any) -> Any:
            walk, ids = more.get("past_key_values"), more["input_ids"][0].tolist()
            refuse(ids, walk)
            if hasattr(walk, "step"):
                (self.forks if walk.step.branches else self.trunk).append(len(ids))
            return forward(*args, **more)

        monkeypatch.setattr(model.base_model, "forward", watched)
