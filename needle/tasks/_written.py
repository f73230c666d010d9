"""A task that a user wrote: texts with placeholders, and what each needle draws for them anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TypeVar

from needle import tasks
from needle.tasks._codes import early
from needle.tasks._values import MAKERS
from needle.types import Other, Question

_Drawn = dict[str, str]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Written:
    """A task as its file states it; see `needle.tasks.Task` and `docs/task.toml`.

    `asked`, `answers`, `prefix` and `reply` are of the question that each needle brings; `count` distractors have the
    needle's own form, or `texts` are they; `wrong` are values that only these name. `values` are generators by name, or
    lists; `facts` rows of texts that belong together.
    """

    summary: str
    needle: str
    asked: str
    answers: tuple[str, ...]
    prefix: str
    reply: str
    count: int
    texts: tuple[str, ...]
    wrong: tuple[str, ...]
    values: Mapping[str, str | tuple[str, ...]]
    facts: tuple[Mapping[str, str], ...]
    template: str
    base: str
    system: str | None
    max_new_tokens: int
    haystack: str | None
    prefill: bool
    per_length: bool

    def question(self, seed: int, repeat: int, place: str) -> Question:
        """A needle with values and facts that no distractor of this repeat has."""
        others = self._others(seed, repeat)
        drawn = self._draw(tasks.rng(seed, repeat, place), seed, repeat, self.count, self._taken(others))
        answers = tuple(a.format_map(drawn) for a in self.answers)
        wrong = dict.fromkeys([*(a.format_map(other) for other in others for a in self.answers), *self.wrong])
        return Question(
            needle=self.needle.format_map(drawn),
            question=self.asked.format_map(drawn),
            answers=answers,
            distractors=tuple(w for w in wrong if w not in answers),
            draft=self.reply.format_map(drawn),
            prefix=self.prefix.format_map(drawn),
        )

    def others(self, seed: int, repeat: int, tokens: int) -> list[Other]:
        """The distractors: over the whole context if `per_length`, else at the positions of the tasks with codes."""
        texts = [*self.texts, *(self.needle.format_map(other) for other in self._others(seed, repeat))]
        if not self.per_length:
            return early(seed, repeat, tokens, texts)
        rng = tasks.rng(seed, repeat, "distractors' places")
        places = sorted(int(rng.random() * tokens) for _ in texts)
        return [Other(p, t) for p, t in zip(places, texts, strict=True)]

    def _others(self, seed: int, repeat: int) -> list[_Drawn]:
        """What each distractor of the needle's own form says."""
        found: list[_Drawn] = []
        taken = self._taken(())
        for at in range(self.count):
            found.append(self._draw(tasks.rng(seed, repeat, f"distractor {at}"), seed, repeat, at, taken))
            for name, values in taken.items():
                values.add(found[-1][name])
        return found

    def _taken(self, others: Sequence[_Drawn]) -> dict[str, set[str]]:
        """By name, the values that these have."""
        return {name: {other[name] for other in others} for name in self.values}

    def _draw(self, rng: Random, seed: int, repeat: int, at: int, taken: Mapping[str, Set[str]]) -> _Drawn:
        """One of everything, for distractor `at` or, from `count` on, for a needle; made values are none of `taken`.

        Lists and facts have an order of this repeat's own: the first are the distractors', the rest the needles'.
        """

        def one(what: str, many: Sequence[_T]) -> _T:
            order = _order(len(many), seed, repeat, what)
            return many[order[at] if at < self.count else rng.choice(order[self.count :])]

        drawn = dict(one("facts", self.facts)) if self.facts else {}
        for name, source in self.values.items():
            if not isinstance(source, str):
                drawn[name] = one(name, source)
                continue
            drawn[name] = MAKERS[source](rng)
            while drawn[name] in taken[name]:
                drawn[name] = MAKERS[source](rng)
        return drawn


@lru_cache(maxsize=64)
def _order(count: int, seed: int, repeat: int, what: str) -> Sequence[int]:
    """Places of a list in an order that this repeat has to itself."""
    return tasks.rng(seed, repeat, "order of", what).sample(range(count), count)
