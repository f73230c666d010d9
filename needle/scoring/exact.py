"""1 if the reply is the expected answer and nothing more, else 0."""

from __future__ import annotations

from needle.scoring._outcome import outcome, plain
from needle.types import Answer, Question, Score


def score(answer: Answer, question: Question) -> Score:
    """Compares without case, white space and closing punctuation; the task's whole-sentence reply counts as well."""
    said = _bare(answer.text)
    wanted = [", ".join(question.answers), *([question.draft] if question.draft else [])]
    right = next((w for w in wanted if _bare(w) == said), None)
    value = float(right is not None)
    why = "equals the expected answer" if right else f"expected exactly '{wanted[0]}'"
    return Score(value, outcome(value, answer, question), right or "", why)


def _bare(text: str) -> str:
    return plain(text).strip(" .!?。！？\"'")
