"""RULER's tasks say what its published templates say, and hide as many needles as it hides."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle import haystack, needles, tasks
from needle.tasks import _niah, _words

quick = settings(max_examples=50, deadline=None)
seeds, repeats = st.integers(0, 10**6), st.integers(0, 50)
names = st.sampled_from(tasks.RULER)
WORD, NUMBER = r"[a-z]+-[a-z]+", r"[1-9]\d{6}"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

PARAMETERS = {
    "niah_single_1": ("noise", WORD, NUMBER, 1, 1, 1),
    "niah_single_2": ("essays", WORD, NUMBER, 1, 1, 1),
    "niah_single_3": ("essays", WORD, UUID, 1, 1, 1),
    "niah_multikey_1": ("essays", WORD, NUMBER, 4, 1, 1),
    "niah_multikey_2": ("needles-words", WORD, NUMBER, 1, 1, 1),
    "niah_multikey_3": ("needles-uuids", UUID, UUID, 1, 1, 1),
    "niah_multivalue": ("essays", WORD, NUMBER, 1, 4, 1),
    "niah_multiquery": ("essays", WORD, NUMBER, 4, 1, 4),
}
"""Haystack, kind of key, kind of value, keys, values, queries, as in RULER's synthetic.yaml."""


def test_the_family_is_complete() -> None:
    assert tasks.family("ruler") == tuple(PARAMETERS)
    assert tasks.family("number") == ("number",)
    assert set(tasks.RULER) <= set(tasks.names())


@pytest.mark.parametrize("name", ["niah_single_1", "niah_multikey_1", "niah_multikey_2"])
def test_one_value_of_one_key_is_asked_for_in_the_singular(name: str) -> None:
    task = tasks.get(name)
    question = task.question(3, 1, "77")
    key, value = re.findall(rf"for ({WORD}) is: ({NUMBER})", question.needle)[0]
    assert question.needle == f"One of the special magic numbers for {key} is: {value}."
    assert task.base.format(context="TEXT", question=question.question, prefix=question.prefix) == (
        "A special magic number is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the number afterwards.\nTEXT\n"
        f"What is the special magic number for {key} mentioned in the provided text? "
        f"The special magic number for {key} mentioned in the provided text is"
    )


@pytest.mark.parametrize(
    ("name", "query"), [("niah_multivalue", WORD), ("niah_multiquery", rf"{WORD}(?:, {WORD}){{2}}, and {WORD}")]
)
def test_many_are_asked_for_in_the_plural(name: str, query: str) -> None:
    task = tasks.get(name)
    question = task.question(3, 1, "77")
    whole = task.base.format(context="TEXT", question=question.question, prefix=question.prefix)
    assert re.fullmatch(
        r"Some special magic numbers are hidden within the following text\. Make sure to memorize it\. "
        r"I will quiz you about the numbers afterwards\.\nTEXT\n"
        rf"What are all the special magic numbers for ({query}) mentioned in the provided text\? "
        r"The special magic numbers for \1 mentioned in the provided text are",
        whole,
    )


def test_uuids_are_called_by_their_name() -> None:
    question = tasks.get("niah_single_3").question(0, 0, "5")
    assert question.needle.startswith("One of the special magic uuids for ")
    assert question.question.startswith("What is the special magic uuid for ")


@pytest.mark.parametrize("name", tasks.RULER)
def test_budget_prefix_and_haystack_are_rulers(name: str) -> None:
    task = tasks.get(name)
    assert (task.max_new_tokens, task.prefill, task.system) == (128, True, None)
    assert task.haystack == PARAMETERS[name][0]
    assert task.haystack in haystack.BUNDLED


@quick
@given(names, seeds, repeats, st.integers(0, 10**6).map(str))
def test_each_hides_as_many_keys_and_values_as_published(name: str, seed: int, repeat: int, place: str) -> None:
    _, key, value, keys, values, queries = PARAMETERS[name]
    task = tasks.get(name)
    question, others = task.question(seed, repeat, place), task.others(seed, repeat, 4000)
    told = [
        re.fullmatch(rf"One of the special magic \w+ for ({key}) is: ({value})\.", t)
        for t in (question.needle, *(o.text for o in others))
    ]
    assert all(told)
    pairs = [(m[1], m[2]) for m in told if m]
    assert len({k for k, _ in pairs}) == keys
    assert len({v for _, v in pairs}) == len(pairs) == keys * values
    assert len(question.answers) == values * queries
    asked = [v for k, v in pairs if k in question.question]
    assert sorted(question.answers) == sorted(asked)
    assert {o.kind for o in others} == ({"needle"} if len(asked) > 1 else {"distractor"} if others else set())
    assert set(question.distractors) == {v for _, v in pairs} - set(question.answers)
    assert task.per_length == bool(others)


@quick
@given(names, seeds, repeats)
def test_values_are_answered_in_the_order_of_their_keys(name: str, seed: int, repeat: int) -> None:
    question, others = tasks.get(name).question(seed, repeat, "9"), tasks.get(name).others(seed, repeat, 99)
    of = dict(re.findall(r"for (\S+) is: (\S+)\.", t)[0][::-1] for t in (question.needle, *(o.text for o in others)))
    keys = [of[a] for a in question.answers]
    assert [question.question.index(k) for k in keys] == sorted(question.question.index(k) for k in keys)


@quick
@given(names, seeds, repeats, st.integers(1, 10**6), st.integers(1, 10**6))
def test_others_stand_at_the_same_shares_of_any_length(name: str, seed: int, repeat: int, one: int, two: int) -> None:
    short, long = (tasks.get(name).others(seed, repeat, n) for n in (one, two))
    assert [(o.text, o.kind) for o in short] == [(o.text, o.kind) for o in long]
    assert all(abs(a.position / one - b.position / two) <= 1 / one + 1 / two for a, b in zip(short, long, strict=True))
    assert all(0 <= o.position < one for o in short)


@quick
@given(st.sampled_from(["niah_multikey_2", "niah_multikey_3"]), seeds, repeats, st.integers(0, 10**6).map(str))
def test_no_asked_key_and_no_asked_value_is_the_haystacks(name: str, seed: int, repeat: int, place: str) -> None:
    task = tasks.get(name)
    question = task.question(seed, repeat, place)
    key, value = re.findall(r"for (\S+) is: (\S+)\.", question.needle)[0]
    strewn = needles.pairs(task.haystack.removeprefix("needles-") if task.haystack else "")
    assert key not in {k for k, _ in strewn}
    assert value not in {v for _, v in strewn}


def test_a_value_that_is_taken_is_drawn_again() -> None:
    from random import Random

    taken = {_niah.MAKERS["numbers"](Random(4))}
    assert tasks.get("niah_single_1")._new(Random(4), "numbers", taken) not in taken  # type: ignore[attr-defined]


def test_words_are_distinct_and_none_hides_in_another() -> None:
    for words in (_words.ADJECTIVES, _words.NOUNS):
        assert len(set(words)) == len(words)
    assert not [(a, b) for a in _words.ADJECTIVES for b in _words.ADJECTIVES if a != b and b.endswith(a)]
    assert not [(a, b) for a in _words.NOUNS for b in _words.NOUNS if a != b and b.startswith(a)]
    asked = {_words.asked(tasks.rng(i)) for i in range(3000)}
    assert len(asked) > 1500
    assert not asked & set(_words.strewn())
