"""ROUGE F1 of the reply against the expected answer or the task's whole sentence, whichever it is closer to.

Lin, "ROUGE: a package for automatic evaluation of summaries" (2004), as the rouge-score package computes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from needle import scoring
from needle.errors import UsageError
from needle.scoring._outcome import grade, held, plain, sentences
from needle.types import Answer, Question, Score

SETTINGS = ("rouge_variant",)
VARIANTS = ("rougeL", "rouge1", "rouge2", "rougeLsum")
# Thai, Lao, Burmese, Khmer, kana and Han: no space stands between their words, so each character counts as one.
_UNSPACED = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
_WORD = re.compile(rf"{_UNSPACED}|(?:(?!{_UNSPACED})[^\W_])+")


def make(options: Mapping[str, Any]) -> scoring.Scorer:
    """The scorer for `options["rouge_variant"]`, rougeL unless it is set.

    Raises:
        UsageError: there is no such variant, or rouge-score is not installed.
    """
    variant = options.get("rouge_variant") or VARIANTS[0]
    if variant not in VARIANTS:
        raise UsageError(f"--rouge-variant '{variant}' is not one of {', '.join(VARIANTS)}")
    scoring.need("rouge", "rouge_score")

    def score(answer: Answer, question: Question) -> Score:
        right = held(answer, question)
        value, nearest = max((f1(variant, wanted, answer.text), wanted) for wanted in sentences(question))
        share = 1.0 if value >= 1 else len(right) / len(question.answers)
        return grade(value, share, answer, question, right, f"{variant} F1 {value:.3f} with '{nearest}'")

    return score


def f1(variant: str, wanted: str, said: str) -> float:
    """The F1, 0–1, of `said` against `wanted`."""
    from rouge_score import rouge_scorer

    scores = rouge_scorer.RougeScorer([variant], tokenizer=_Words()).score(wanted, said)
    return min(float(scores[variant].fmeasure), 1.0)


class _Words:
    """rouge-score's own tokenizer keeps a–z and 0–9 alone, and would give every Chinese answer a 0."""

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(plain(text))
