"""The shared body of the tasks that hide "The secret code for {city} is {value}." among codes of other cities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from needle import tasks
from needle.tasks._values import CITIES
from needle.types import Other, Question

NEEDLE = "The secret code for {city} is {value}."
NEAR = 8
"""Distractors within the first `FIRST` haystack tokens, so that even a 1K context holds them all."""
FIRST = 512
MORE = 2
"""Further distractors in each doubling of the context after 1,024 tokens."""


@dataclass(frozen=True, slots=True)
class Codes:
    """A task over one kind of value; see `needle.tasks.Task`."""

    summary: str
    value: Callable[[Random], str]
    max_new_tokens: int = 64
    system: str | None = None
    haystack: str | None = None
    prefill: bool = False
    per_length: bool = False
    template: str = tasks.TEMPLATE
    base: str = tasks.BASE

    def question(self, seed: int, repeat: int, place: str) -> Question:
        """A city that is no distractor's, and a value that is none's."""
        others = dict(self._pairs(seed, repeat))
        rng = tasks.rng(seed, repeat, place)
        city = rng.choice([c for c in CITIES if c not in others])
        value = self.value(rng)
        while value in others.values():
            value = self.value(rng)
        return Question(
            needle=NEEDLE.format(city=city, value=value),
            question=f"What is the secret code for {city}?",
            answers=(value,),
            distractors=tuple(others.values()),
            draft=NEEDLE.format(city=city, value=value),
            prefix=f"The secret code for {city} is",
        )

    def others(self, seed: int, repeat: int, tokens: int) -> list[Other]:
        """Codes of other cities, at `early` positions."""
        return early(seed, repeat, tokens, [NEEDLE.format(city=c, value=v) for c, v in self._pairs(seed, repeat)])

    def _pairs(self, seed: int, repeat: int) -> list[tuple[str, str]]:
        """Three fifths of the cities with a value each: enough for contexts up to two million tokens."""
        rng = tasks.rng(seed, repeat, "distractors")
        return [(c, self.value(rng)) for c in rng.sample(CITIES, len(CITIES) * 3 // 5)]


def early(seed: int, repeat: int, tokens: int, texts: Sequence[str]) -> list[Other]:
    """`texts`, as many as there are: eight near the start, two more in each doubling from 1,024 tokens."""
    rng = tasks.rng(seed, repeat, "distractor positions")
    places = [(i * FIRST // NEAR) + rng.randrange(FIRST // NEAR) for i in range(NEAR)]
    start = 1024
    while start < tokens:
        places += sorted(rng.randrange(start, 2 * start) for _ in range(MORE))
        start *= 2
    return [Other(p, t) for p, t in zip(places, texts, strict=False) if p < tokens]
