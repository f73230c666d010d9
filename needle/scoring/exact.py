"""1 if the reply is the expected answer and nothing more, else 0."""

from __future__ import annotations

from needle.scoring._outcome import grade, held, plain, sentences
from needle.types import Answer, Question, Score


def score(answer: Answer, question: Question) -> Score:
    """Compares without case, white space and closing punctuation.

    The task's whole-sentence reply counts as well, also without the prefix that a base model's prompt gives away.

    Raises:
        ScoreError: no expected answer is known.
    """
    amid = held(answer, question)
    said, wanted = _bare(answer.text), sentences(question)
    right = [w.strip() for w in wanted if said and _bare(w) == said][:1]
    why = "equals the expected answer" if right else f"expected exactly '{wanted[0]}'"
    if amid and not right:
        why += f"; '{amid[0]}' stands among other words"
    return grade(float(bool(right)), float(bool(right)), answer, question, right, why)


def _bare(text: str) -> str:
    return plain(text).strip(" .!?。！？\"'")
