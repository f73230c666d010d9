"""The share of expected answers that the reply holds, whatever their case and white space.

Source: RULER's `string_match_all` (Hsieh et al. 2024, arXiv:2404.06654).
"""

from __future__ import annotations

from needle.scoring._outcome import found_of, grade, held
from needle.types import Answer, Question, Score


def score(answer: Answer, question: Question) -> Score:
    """Grade 0–1: found answers over expected ones.

    Raises:
        ScoreError: no expected answer is known.
    """
    right = held(answer, question)
    value = len(right) / len(question.answers)
    return grade(value, value, answer, question, right, found_of(right, answer, question))
