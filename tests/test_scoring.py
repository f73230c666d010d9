"""Grades: what counts as found, and what an answer that is not found is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from needle import scoring
from needle.scoring import exact, match
from needle.types import Answer, Question

CODE = Question(
    needle="The secret code for Lisbon is 4821937.",
    question="What is the secret code for Lisbon?",
    answers=("4821937",),
    distractors=("1111111", "2222222"),
    draft="The secret code for Lisbon is 4821937.",
    prefix="The secret code for Lisbon is",
)
SANDWICH = Question(
    needle="",
    question="",
    answers=("eat a sandwich", "sit in Dolores Park", "on a sunny day"),
    draft="The best thing is eat a sandwich and sit in Dolores Park on a sunny day.",
    prefix="The best thing is",
)
WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=12)


def test_the_folder_is_what_there_is() -> None:
    assert scoring.names() == ["exact", "match"]
    assert scoring.get("match", {}) is match.score


@pytest.mark.parametrize("scorer", [match.score, exact.score])
@pytest.mark.parametrize(
    ("text", "finish", "value", "outcome"),
    [
        ("4821937", "stop", 1.0, "found"),
        ("The secret code for Lisbon is 4821937.", "stop", 1.0, "found"),
        ("  the SECRET\n\ncode for\tLisbon is  4821937 . ", "length", 1.0, "found"),
        ("The secret code for Lisbon is 1111111.", "stop", 0.0, "distractor"),
        ("The secret code for Lisbon is 482", "length", 0.0, "truncated"),
        ("The secret code for Lisbon is 482", "stop", 0.0, "wrong"),
        ("The secret code is 2222222, I thi", "length", 0.0, "distractor"),
        ("", "stop", 0.0, "empty"),
        (" \n\t", "length", 0.0, "empty"),
    ],
)
def test_outcomes(scorer: scoring.Scorer, text: str, finish: str, value: float, outcome: str) -> None:
    score = scorer(Answer(text, finish=finish), CODE)  # type: ignore[arg-type]
    assert (score.value, score.outcome) == (value, outcome)


def test_match_takes_an_answer_among_other_words_and_exact_does_not() -> None:
    chatty = Answer("Sure! The code you want, 4821937, stands in the second paragraph.")
    assert match.score(chatty, CODE).outcome == "found"
    assert exact.score(chatty, CODE).outcome == "wrong"


@given(st.permutations(range(3)), st.integers(0, 3))
def test_match_is_the_share_that_was_found(order: list[int], count: int) -> None:
    said = [SANDWICH.answers[i].upper() for i in order[:count]]
    score = match.score(Answer("; ".join(["well", *said])), SANDWICH)
    assert score.value == count / 3
    assert score.outcome == ("wrong", "partial", "partial", "found")[count]
    assert set(score.extracted.split(", ")) - {""} == {SANDWICH.answers[i] for i in order[:count]}
    missing = {a for a in SANDWICH.answers if f"'{a}'" in score.explanation}
    assert missing == ({SANDWICH.answers[i] for i in order[count:]} or set(SANDWICH.answers))


@given(WORDS, WORDS, st.sampled_from([str.upper, str.lower, str.title, str.casefold]), st.text(" \t\n", min_size=1))
def test_match_does_not_see_case_nor_kind_of_white_space(one: str, two: str, change: object, gap: str) -> None:
    question = Question("", "", (f"{one} {two}",))
    assert match.score(Answer(f"it is {one}{gap}{two}, so"), question).value == 1
    if one.isascii() and two.isascii():
        assert match.score(Answer(f"IT IS {change(one)}{gap}{change(two)}!"), question).value == 1  # type: ignore[operator]


def test_accents_count_the_same_however_they_are_encoded() -> None:
    question = Question("", "", ("Krak\u00f3w", "Stra\u00dfe"))
    assert match.score(Answer("KRAKO\u0301W, STRASSE"), question).value == 1


def test_a_distractor_that_was_said_is_named() -> None:
    for scorer in (match.score, exact.score):
        assert scorer(Answer("It is 2222222."), CODE).extracted == "2222222"
    assert "belongs to a distractor" in match.score(Answer("It is 2222222."), CODE).explanation


def test_a_distractor_beside_the_answer_takes_nothing_away() -> None:
    assert match.score(Answer("Not 1111111 but 4821937."), CODE).outcome == "found"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("eat a sandwich, sit in Dolores Park, on a sunny day", 1),
        ("The best thing is eat a sandwich and sit in Dolores Park on a sunny day", 1),
        # What is left of the sentence when a base model's prompt ends in its prefix.
        ("eat a sandwich and sit in Dolores Park on a sunny day.", 1),
        ("eat a sandwich", 0),
        ("eat a sandwich, sit in Dolores Park, on a sunny day, and then some", 0),
    ],
)
def test_exact_takes_the_answers_or_the_whole_sentence(text: str, value: int) -> None:
    assert exact.score(Answer(text), SANDWICH).value == value


@given(st.text(), st.sampled_from(["stop", "length"]), st.sampled_from([CODE, SANDWICH]))
def test_any_text_is_graded(text: str, finish: str, question: Question) -> None:
    answer = Answer(text, finish=finish)  # type: ignore[arg-type]
    loose, strict = match.score(answer, question), exact.score(answer, question)
    assert 0 <= strict.value <= loose.value <= 1
    assert loose.explanation
    assert "\n" not in loose.explanation
