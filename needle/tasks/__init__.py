"""Needle tasks, one file each: a module of this folder with a `TASK` is one, and so is a user's own TOML file."""

from __future__ import annotations

import hashlib
import sys
from random import Random
from typing import Protocol

from needle import registry
from needle.types import Other, Question


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

    @property
    def haystack(self) -> str | None:
        """The haystack that the task is meant for, where the user names none."""

    @property
    def prefill(self) -> bool:
        """Whether the answer's prefix is put at the head of a chat's answer, too; a plain prompt always ends in it."""

    @property
    def per_length(self) -> bool:
        """Whether every context holds all of the others, whatever its length.

        If so they are spread over each context anew, and contexts of different lengths share nothing. Others of the
        kind "needle" need it.
        """

    def question(self, seed: int, repeat: int, place: str) -> Question:
        """The needle that stands at `place` (a name of its position), and the question for it."""

    def others(self, seed: int, repeat: int, tokens: int) -> list[Other]:
        """What else is hidden in `tokens` tokens of haystack, by ascending position.

        Unless the task is `per_length` a longer context adds others and moves none, so contexts of all lengths share
        their beginnings. If it is, positions are the same shares of any `tokens`, and the texts are always the same.
        """


TEMPLATE = "{context}\n\n{question}"
RULER = (
    *("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3"),
    *("niah_multivalue", "niah_multiquery"),
)
"""The retrieval tasks of RULER (Hsieh et al. 2024, arXiv:2404.06654)."""

FAMILIES = {"ruler": RULER}

BASE = "{context}\n\nQuestion: {question}\nAnswer: {prefix}"


def names() -> list[str]:
    """The tasks there are."""
    return registry.names(sys.modules[__name__])


def get(name: str) -> Task:
    """The task of that name, or the one that a `.toml` file states.

    Raises:
        UsageError: there is none, or the file is at fault.
    """
    if _is_file(name):
        from needle.tasks._toml import load

        return load(name)
    task: Task = registry.get(sys.modules[__name__], name, "task").TASK
    return task


def family(name: str) -> tuple[str, ...]:
    """The tasks of a family ("ruler"); any other name stands for itself."""
    return FAMILIES.get(name, (name,))


def source(name: str) -> str | None:
    """SHA-256 of the file that states the task; None for a task of ours.

    Raises:
        UsageError: the file cannot be read.
    """
    if not _is_file(name):
        return None
    from needle.tasks._toml import read

    return hashlib.sha256(read(name)).hexdigest()


def _is_file(name: str) -> bool:
    return name.lower().endswith(".toml")


def rng(*what: object) -> Random:
    """A generator of its own for whatever is named, the same on every machine."""
    return Random("/".join(map(str, what)))
