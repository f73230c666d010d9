"""The pass key of Mohtashami and Jaggi: five digits, said twice, in a long text of no meaning.

Source: "Landmark Attention" (arXiv:2305.16300), its prompt as published; the noise is the one that RULER took over.
"""

from __future__ import annotations

from dataclasses import dataclass

from needle import tasks
from needle.types import Other, Question

NEEDLE = "The pass key is {value}. Remember it. {value} is the pass key."


@dataclass(frozen=True, slots=True)
class PassKey:
    """Another key at each place; see `needle.tasks.Task`."""

    summary: str = "Mohtashami and Jaggi's 5-digit pass key, among repeated sentences"
    system: str | None = None
    template: str = (
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
        "I will quiz you about the important information there.\n\n{context}\n\n{question}"
    )
    max_new_tokens: int = 32
    haystack: str | None = "noise"
    prefill: bool = False
    per_length: bool = False

    @property
    def base(self) -> str:
        """As published: the question, and the beginning of the answer."""
        return self.template + " {prefix}"

    def question(self, seed: int, repeat: int, place: str) -> Question:
        """Five digits, the first not zero."""
        value = str(tasks.rng(seed, repeat, place).randrange(10_000, 100_000))
        return Question(
            needle=NEEDLE.format(value=value),
            question="What is the pass key?",
            answers=(value,),
            draft=f"The pass key is {value}.",
            prefix="The pass key is",
        )

    def others(self, seed: int, repeat: int, tokens: int) -> list[Other]:  # noqa: ARG002
        """None."""
        return []


TASK = PassKey()
