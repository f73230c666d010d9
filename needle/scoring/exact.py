"""1 if the reply is the expected answer and nothing more, else 0."""

from __future__ import annotations

from needle.scoring._outcome import outcome, plain, wrong_value
from needle.types import Answer, Question, Score


def score(answer: Answer, question: Question) -> Score:
    """Compares without case, white space and closing punctuation.

    The task's whole-sentence reply counts as well, also without the prefix that a base model's prompt gives away.
    """
    said = _bare(answer.text)
    sentence = question.draft or ""
    wanted = [", ".join(question.answers), sentence, sentence.removeprefix(question.prefix)]
    right = next((w.strip() for w in wanted if w and _bare(w) == said), None)
    value = float(right is not None)
    kind = outcome(value, answer, question)
    extracted = right or (wrong_value(answer, question) or "" if kind == "distractor" else "")
    why = "equals the expected answer" if right else f"expected exactly '{wanted[0]}'"
    return Score(value, kind, extracted, why)


def _bare(text: str) -> str:
    return plain(text).strip(" .!?。！？\"'")
