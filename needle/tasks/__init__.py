"""Needle tasks, one file each: a module of this folder with a `TASK` is one."""

from __future__ import annotations

import sys
from random import Random
from typing import Protocol

from needle import registry
from needle.types import Question


class Task(Protocol):
    """What a task file's `TASK` offers. Everything is drawn from the arguments; there is no global RNG.

    `template` is the user message with `{context}` and `{question}` in it; `base` is its form for models without a
    chat template and ends in `{prefix}`, the beginning of the answer.
    """

    @property
    def summary(self) -> str:
        """One line for `needle tasks`."""

    @property
    def system(self) -> str | None:
        """The system prompt that the task asks for, if any."""

    @property
    def template(self) -> str:
        """See the class."""

    @property
    def base(self) -> str:
        """See the class."""

    @property
    def max_new_tokens(self) -> int:
        """The answer budget unless the user sets one."""

    def question(self, seed: int, repeat: int, place: str) -> Question:
        """The needle that stands at `place` (a name of its position), and the question for it."""

    def distractors(self, seed: int, repeat: int, tokens: int) -> list[tuple[int, str]]:
        """(haystack position, text), ascending, for a context of up to `tokens` tokens.

        A longer context adds distractors and moves none, so contexts of all lengths share their beginnings.
        """


TEMPLATE = "{context}\n\n{question}"
BASE = "{context}\n\nQuestion: {question}\nAnswer: {prefix}"


def names() -> list[str]:
    """The tasks there are."""
    return registry.names(sys.modules[__name__])


def get(name: str) -> Task:
    """The task of that name.

    Raises:
        UsageError: there is none.
    """
    task: Task = registry.get(sys.modules[__name__], name, "task").TASK
    return task


def rng(*what: object) -> Random:
    """A generator of its own for whatever is named, the same on every machine."""
    return Random("/".join(map(str, what)))
