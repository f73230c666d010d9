"""Grades: what counts as found, by each scorer."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from questions import CODE

from needle import scoring
from needle.errors import ScoreError, UsageError
from needle.scoring import exact, match, part, regex
from needle.types import Answer, Question

SANDWICH = Question(
    needle="",
    question="",
    answers=("eat a sandwich", "sit in Dolores Park", "on a sunny day"),
    draft="The best thing is eat a sandwich and sit in Dolores Park on a sunny day.",
    prefix="The best thing is",
)
WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=12)


def test_the_folder_is_what_there_is() -> None:
    assert scoring.names() == ["exact", "judge", "logprob", "match", "part", "regex", "rouge"]
    assert scoring.get("match", {"pattern": "not its own"}) is match.score


def test_settings_are_known_and_another_scorers_are_refused() -> None:
    assert scoring.settings("match") == ()
    assert scoring.settings("regex") == ("pattern",)
    scoring.check_settings("regex", {"pattern": "a", "rouge_variant": None, "dtype": "auto"})
    with pytest.raises(UsageError, match="--rouge-variant is a setting of scorer 'rouge' and means nothing to 'regex'"):
        scoring.check_settings("regex", {"pattern": "a", "rouge_variant": "rouge1"})
    with pytest.raises(UsageError, match="unknown scorer 'mach'; did you mean 'match'"):
        scoring.settings("mach")


def test_a_scorer_whose_package_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=r"needs the package 'rouge_score'; install it with .*needle-eval\[rouge\]"):
        scoring.get("rouge", {})


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


def test_exact_does_not_take_nothing_for_what_is_all_punctuation() -> None:
    assert exact.score(Answer("..."), Question("", "", ("?!",))).value == 0


@given(st.text(), st.sampled_from(["stop", "length"]), st.sampled_from([CODE, SANDWICH]))
def test_any_text_is_graded(text: str, finish: str, question: Question) -> None:
    answer = Answer(text, finish=finish)  # type: ignore[arg-type]
    loose, strict = match.score(answer, question), exact.score(answer, question)
    assert 0 <= strict.value <= loose.value <= part.score(answer, question).value <= 1
    assert loose.explanation
    assert "\n" not in loose.explanation


NAMELESS = [Question("", "", ()), Question("", "", ("",)), Question("", "", ("Lima", " \n"))]


@pytest.mark.parametrize("question", NAMELESS)
@pytest.mark.parametrize("name", ["match", "part", "exact", "rouge", "logprob", "regex"])
def test_where_nothing_is_expected_nothing_is_graded(name: str, question: Question) -> None:
    scorer = scoring.get(name, {"pattern": "{answer}"})
    for text in ("", "4821937"):
        with pytest.raises(ScoreError, match="no expected answer is known"):
            scorer(Answer(text, answer_logprob=-0.1), question)


@given(st.permutations(range(3)), st.integers(0, 3))
def test_part_is_full_with_any_of_them(order: list[int], count: int) -> None:
    score = part.score(Answer("; ".join(["well", *(SANDWICH.answers[i] for i in order[:count])])), SANDWICH)
    assert score.value == (count > 0)
    assert score.outcome == ("found" if count else "wrong")


@pytest.mark.parametrize(
    ("pattern", "text", "value"),
    [
        (r"\b{answer}\b", "It is 4821937.", 1),
        (r"\b{answer}\b", "It is 48219375.", 0),
        (r"^{answer}$", "4821937", 1),
        (r"^{answer}$", "4821937.", 0),
        (r"code for (?P<city>\w+) is {answer}", "The secret code for Lisbon is 4821937.", 1),
        (r"CODE", "the code", 0),
        (r"(?i)CODE", "the code", 1),
        (r"\d{7}", "It is 1111111", 1),
        (r"[{answer}]", "5", 0),
        ("(?s)is.{answer}", "is\n4821937", 1),
    ],
)
def test_regex(pattern: str, text: str, value: int) -> None:
    assert scoring.get("regex", {"pattern": pattern})(Answer(text), CODE).value == value


@given(st.text(min_size=1).filter(str.strip), st.sampled_from(["", "x", ".*"]))
def test_regex_takes_an_expected_answer_as_it_is_written(expected: str, before: str) -> None:
    scorer = scoring.get("regex", {"pattern": "^it is {answer}$"})
    assert scorer(Answer(f"it is {expected}"), Question("", "", (expected,))).value == 1
    assert scorer(Answer(f"it is {before}."), Question("", "", (f"{before}{expected}!",))).value == 0


def test_regex_gives_the_share_of_answers_that_match_and_what_matched() -> None:
    score = scoring.get("regex", {"pattern": r"(?i)\b{answer}\W"})(Answer("Eat a sandwich, on a  sunny day."), SANDWICH)
    assert (score.value, score.outcome, score.extracted) == (1 / 3, "partial", "Eat a sandwich,")
    assert "for 1 of 3 expected answers" in score.explanation
    wrong = scoring.get("regex", {"pattern": "^{answer}"})(Answer("1111111"), CODE)
    assert (wrong.outcome, wrong.extracted) == ("distractor", "1111111")
    assert "does not match; '1111111' belongs to a distractor" in wrong.explanation


def test_a_pattern_needs_no_expected_answer_that_it_does_not_name() -> None:
    assert scoring.get("regex", {"pattern": r"\d"})(Answer("7"), NAMELESS[0]).outcome == "found"


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "needs a --pattern"),
        (None, "needs a --pattern"),
        ("({answer}", r"--pattern '\({answer}' is no regular expression: missing \)"),
        ("*", "is no regular expression: nothing to repeat"),
        ("(((a{1000}){1000}){1000})", "has too many repeats of repeats"),
        ("a{99999999999999999999}", "write fewer or smaller ones"),
        ("(" * 5000 + ")" * 5000, "is no regular expression"),
    ],
)
def test_a_pattern_that_is_none_is_refused_at_once(pattern: str | None, why: str) -> None:
    began = time.monotonic()
    with pytest.raises(UsageError, match=why):
        scoring.get("regex", {"pattern": pattern})
    assert time.monotonic() - began < 5


def test_a_pattern_that_never_ends_is_an_error_and_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = scoring.get("regex", {"pattern": "(a|aa)+$"})
    assert scorer(Answer("aaa"), CODE).value == 1
    monkeypatch.setattr(regex, "SECONDS", 0.1)
    began = time.monotonic()
    with pytest.raises(ScoreError, match=r"takes longer than 0\.1 s on this answer"):
        scorer(Answer("a" * 100 + "b"), CODE)
    assert time.monotonic() - began < 15


def test_no_scorer_is_loaded_before_it_is_asked_for() -> None:
    import subprocess
    import sys

    code = "import sys; from needle import scoring; scoring.names(); [scoring.settings(n) for n in scoring.names()];"
    code += "print([m for m in ('openai', 'tenacity', 'rouge_score', 'nltk', 'regex', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\[\]\s*", done.stdout)
