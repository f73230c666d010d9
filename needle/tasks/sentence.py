"""Kamradt's original needle: the sandwich in Dolores Park.

Source: github.com/gkamradt/LLMTest_NeedleInAHaystack (needle, question, system prompt and instruction as published).
"""

from __future__ import annotations

from dataclasses import dataclass

from needle.types import Other, Question

NEEDLE = "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."


@dataclass(frozen=True, slots=True)
class Sentence:
    """One needle that is the same at every place; see `needle.tasks.Task`."""

    summary: str = "Kamradt's sandwich in Dolores Park"
    system: str | None = (
        "You are a helpful AI bot that answers questions for a user. Keep your response short and direct"
    )
    template: str = "{context}\n\n{question} Don't give information outside the document or repeat your findings"
    base: str = "{context}\n\nQuestion: {question}\nAnswer: {prefix}"
    max_new_tokens: int = 64
    haystack: str | None = None
    prefill: bool = False
    per_length: bool = False

    def question(self, seed: int, repeat: int, place: str) -> Question:  # noqa: ARG002
        """The published needle and question."""
        return Question(
            needle=NEEDLE,
            question="What is the best thing to do in San Francisco?",
            answers=("eat a sandwich", "sit in Dolores Park", "on a sunny day"),
            draft=NEEDLE,
            prefix="The best thing to do in San Francisco is",
        )

    def others(self, seed: int, repeat: int, tokens: int) -> list[Other]:  # noqa: ARG002
        """None."""
        return []


TASK = Sentence()
