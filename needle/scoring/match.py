"""The share of expected answers that the reply holds, whatever their case and white space.

Source: RULER's `string_match_all` (Hsieh et al. 2024, arXiv:2404.06654).
"""

from __future__ import annotations

from needle.scoring._outcome import outcome, plain, wrong_value
from needle.types import Answer, Question, Score


def score(answer: Answer, question: Question) -> Score:
    """Grade 0–1: found answers over expected ones."""
    said = plain(answer.text)
    found = [a for a in question.answers if plain(a) in said]
    value = len(found) / len(question.answers)
    kind = outcome(value, answer, question)
    if kind == "distractor":
        extracted = wrong_value(answer, question) or ""
        return Score(value, kind, extracted, f"'{extracted}' belongs to a distractor; expected {_list(question)}")
    if value == 1:
        return Score(value, kind, ", ".join(found), f"holds {_list(question)}")
    missing = ", ".join(f"'{a}'" for a in question.answers if a not in found)
    return Score(value, kind, ", ".join(found), f"{len(found)} of {len(question.answers)} found; missing {missing}")


def _list(question: Question) -> str:
    return ", ".join(f"'{a}'" for a in question.answers)
