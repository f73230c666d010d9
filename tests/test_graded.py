"""Grades that lie between 0 and 1: ROUGE, and the probability of the expected answer."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from questions import CODE

from needle import scoring
from needle.errors import ScoreError, UsageError
from needle.scoring import logprob, rouge
from needle.types import Answer, Question


@given(st.text(st.characters(codec="ascii")), st.text(st.characters(codec="ascii")))
def test_rouge_counts_ascii_words_as_the_package_does(wanted: str, said: str) -> None:
    from rouge_score import rouge_scorer

    plain = rouge_scorer.RougeScorer(["rougeL", "rouge1"]).score(wanted, said)
    assert rouge.f1("rougeL", wanted, said) == pytest.approx(plain["rougeL"].fmeasure)
    assert rouge.f1("rouge1", wanted, said) == pytest.approx(plain["rouge1"].fmeasure)


@pytest.mark.parametrize(
    ("text", "value", "outcome"),
    [
        ("4821937", 1, "found"),
        ("The secret code for Lisbon is 4821937.", 1, "found"),
        ("Sure! It is 4821937, my friend.", 0.308, "found"),
        # Close to the sentence, but for the only word that matters.
        ("The secret code for Lisbon is 1111111.", 0.857, "distractor"),
        ("The secret code for Lisbon is 7654321.", 0.857, "number"),
        ("The secret code for Lisbon is", 0.923, "wrong"),
        ("nothing of the kind", 0.182, "wrong"),
        ("", 0, "empty"),
    ],
)
def test_rouge_grades_the_words_and_the_outcome_heeds_the_answer(text: str, value: float, outcome: str) -> None:
    score = scoring.get("rouge", {})(Answer(text), CODE)
    assert score.value == pytest.approx(value, abs=5e-4)
    assert score.outcome == outcome
    assert "rougeL F1" in score.explanation


def test_rouge_reads_chinese_and_accents() -> None:
    question = Question("", "", ("最好的事是吃三明治",))
    assert scoring.get("rouge", {})(Answer("最好的事是吃三明治。"), question).value == 1
    assert 0.4 < scoring.get("rouge", {})(Answer("我想吃三明治"), question).value < 0.7
    assert rouge.f1("rouge1", "Kraków jest", "KRAKO\u0301W") == pytest.approx(2 / 3)


def test_rouge_variants() -> None:
    answer, question = Answer("b a"), Question("", "", ("a b",))
    values = {v: scoring.get("rouge", {"rouge_variant": v})(answer, question).value for v in rouge.VARIANTS}
    assert values == {"rougeL": 0.5, "rouge1": 1, "rouge2": 0, "rougeLsum": 0.5}
    with pytest.raises(UsageError, match="--rouge-variant 'bleu' is not one of rougeL, rouge1"):
        scoring.get("rouge", {"rouge_variant": "bleu"})


@given(st.lists(st.floats(-30, 0), min_size=1, max_size=12))
def test_logprob_is_the_geometric_mean_of_probabilities(logprobs: list[float]) -> None:
    answer = Answer("x", answer_logprob=sum(logprobs) / len(logprobs), answer_rank=7)
    score = logprob.score(answer, CODE)
    assert score.value == pytest.approx(math.prod(math.exp(p) for p in logprobs) ** (1 / len(logprobs)), rel=1e-6)
    assert score.outcome == "wrong"
    assert "worst rank 7" in score.explanation


@pytest.mark.parametrize(
    ("text", "rank", "outcome"),
    [("x", 1, "found"), ("", 1, "found"), ("4821937", 3, "found"), ("1111111", 3, "distractor"), ("", None, "empty")],
)
def test_logprob_is_found_where_the_model_would_have_said_it(text: str, rank: int | None, outcome: str) -> None:
    score = logprob.score(Answer(text, answer_logprob=-1.0, answer_rank=rank), CODE)
    assert (score.value, score.outcome) == (math.exp(-1), outcome)
    assert ("own text does not hold it" in score.explanation) == (rank == 1)


@pytest.mark.parametrize("mean", [None, math.nan, 0.5, math.inf])
def test_no_logprob_is_an_error_and_never_0(mean: float | None) -> None:
    with pytest.raises(ScoreError, match="no log-probability"):
        logprob.score(Answer("4821937", answer_logprob=mean), CODE)
    assert logprob.score(Answer("x", answer_logprob=-math.inf), CODE).value == 0
    assert logprob.score(Answer("x", answer_logprob=1e-7), CODE).value == 1
