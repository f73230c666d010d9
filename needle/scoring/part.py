"""1 if the reply holds any of the expected answers, whatever their case and white space, else 0.

Source: RULER's `string_match_part` (Hsieh et al. 2024, arXiv:2404.06654), meant for answers that are alternatives.
"""

from __future__ import annotations

from needle.scoring._outcome import found_of, grade, held
from needle.types import Answer, Question, Score


def score(answer: Answer, question: Question) -> Score:
    """Compares as `match` does.

    Raises:
        ScoreError: no expected answer is known.
    """
    right = held(answer, question)
    value = float(bool(right))
    why = f"holds '{right[0]}', and any one is enough" if len(question.answers) > 1 and right else None
    return grade(value, value, answer, question, right, why or found_of(right, answer, question))
