"""How probable the expected answer was to the model: the geometric mean of its tokens' probabilities, 0–1.

The engine reads it off the model's distributions after the beginning of the reply as the task words it, so it tells a
near miss from a wild one, and may be high although the model's own text went another way. An engine that gives no
log-probabilities cannot be graded so.
"""

from __future__ import annotations

import math

from needle.errors import ScoreError
from needle.scoring._outcome import grade, held
from needle.types import Answer, Question, Score


def score(answer: Answer, question: Question) -> Score:
    """Grade exp(`answer.answer_logprob`); found where every token was the model's first choice, or the text holds it.

    Raises:
        ScoreError: the engine gave no log-probability, or none that can be one.
    """
    mean = answer.answer_logprob
    if mean is None:
        raise ScoreError("the engine gave no log-probability of the expected answer; choose another --scorer")
    if math.isnan(mean) or mean > 1e-3:  # rounding may leave a certain token a little above probability 1
        raise ScoreError(f"{mean} is no log-probability")
    right = held(answer, question)
    first = answer.answer_rank == 1
    share = 1.0 if first else len(right) / len(question.answers)
    value = min(math.exp(mean), 1.0)
    rank = "" if answer.answer_rank is None else f", worst rank {answer.answer_rank}"
    own = "" if len(right) == len(question.answers) else "; its own text does not hold it"
    why = f"probability {value:.3g} a token of the expected answer{rank}{own if first else ''}"
    return grade(value, share, answer, question, question.answers if first else right, why)
