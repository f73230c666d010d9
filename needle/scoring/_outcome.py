"""What the scorers share: how texts are compared, and what an answer that is not right is called."""

from __future__ import annotations

import unicodedata

from needle.types import Answer, Outcome, Question


def plain(text: str) -> str:
    """`text` without case, accents composed, with every run of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def outcome(value: float, answer: Answer, question: Question) -> Outcome:
    """The class of an answer that scored `value`."""
    if value >= 1:
        return "found"
    if not answer.text.strip():
        return "empty"
    if value > 0:
        return "partial"
    if wrong_value(answer, question):
        return "distractor"
    return "truncated" if answer.finish == "length" else "wrong"


def wrong_value(answer: Answer, question: Question) -> str | None:
    """The first distractor's value that the answer names."""
    said = plain(answer.text)
    return next((d for d in question.distractors if plain(d) in said), None)
