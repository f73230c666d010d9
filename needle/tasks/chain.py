"""A chain of uuids: each needle says which entry comes next, and the last of them is asked for.

The idea is that of `uuid_chain` in Kamradt's second tool; the wording is our own. The depth is that of the first link;
the other links are spread over the context in any order, beside those of a chain that leads elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from needle import tasks
from needle.tasks._values import uuid4
from needle.types import Other, Question

NEEDLE = "After entry {this} comes entry {that}."


@dataclass(frozen=True, slots=True)
class Chain:
    """`links` needles that lead from the asked entry to the last, and as many of another chain."""

    summary: str = "follow a chain of four uuids, each named by the one before"
    links: int = 4
    max_new_tokens: int = 96
    system: str | None = None
    template: str = tasks.TEMPLATE
    base: str = tasks.BASE
    haystack: str | None = None
    prefill: bool = False
    per_length: bool = True

    def question(self, seed: int, repeat: int, place: str) -> Question:
        """Where the chain ends that begins at an entry of this place's own."""
        first, (second, *rest), other = uuid4(tasks.rng(seed, repeat, place)), *self._chains(seed, repeat)
        return Question(
            needle=NEEDLE.format(this=first, that=second),
            question=f"Start at entry {first} and go on from entry to entry. Which entry is the last?",
            answers=(rest[-1],),
            distractors=(second, *rest[:-1], *other),
            draft=f"The last entry is {rest[-1]}.",
            prefix="The last entry is",
        )

    def others(self, seed: int, repeat: int, tokens: int) -> list[Other]:
        """The links after the first, and those of the other chain, anywhere and in any order."""
        rng = tasks.rng(seed, repeat, "links' places")
        chain, other = self._chains(seed, repeat)
        links = [(this, that, True) for this, that in pairwise(chain)]
        links += [(this, that, False) for this, that in pairwise(other)]
        found = [
            Other(int(rng.random() * tokens), NEEDLE.format(this=this, that=that), "needle" if own else "distractor")
            for this, that, own in links
        ]
        return sorted(found, key=lambda one: one.position)

    def _chains(self, seed: int, repeat: int) -> tuple[list[str], list[str]]:
        """The entries after the first one of the chain, and all of the other chain."""
        rng = tasks.rng(seed, repeat, "links")
        return [uuid4(rng) for _ in range(self.links)], [uuid4(rng) for _ in range(self.links + 1)]


TASK = Chain()
