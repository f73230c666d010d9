"""Needle tasks: what they hide, what they ask, and that neither depends on anything but its arguments."""

from __future__ import annotations

import random
import re
import uuid
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle import registry, tasks
from needle.errors import UsageError
from needle.tasks import _codes, _values

quick = settings(max_examples=100, deadline=None)
CODES = ("number", "uuid", "word")
seeds, repeats = st.integers(0, 10**6), st.integers(0, 50)
spots = st.one_of(st.integers(0, 10**6).map(str), st.integers(1, 10**6).map("end of {}".format))
VALUES = {
    "number": r"[1-9]\d{6}",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "word": r"[a-z]+-[a-z]+",
}


def test_the_folder_is_the_registry() -> None:
    files = Path(tasks.__file__).parent.glob("[!_]*.py")
    assert tasks.names() == sorted(f.stem for f in files) == ["number", "sentence", "uuid", "word"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("numbr", "did you mean 'number'?"),
        ("Number", "did you mean 'number'?"),
        ("qqq", "known are number, sentence, uuid, word"),
        ("_codes", "known are number, sentence, uuid, word"),
        ("../tasks", "known are number, sentence, uuid, word"),
        ("", "known are number, sentence, uuid, word"),
    ],
)
def test_an_unknown_task_is_refused_with_the_nearest_name(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        tasks.get(name)
    assert str(caught.value) == f"unknown task '{name}'; {hint}"


def test_registry_gives_the_module() -> None:
    assert registry.get(tasks, "word", "task").TASK is tasks.get("word")


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_says_what_it_is(name: str) -> None:
    task = tasks.get(name)
    assert task.summary
    assert "\n" not in task.summary
    assert task.max_new_tokens > 0
    assert task.template.count("{context}") == task.template.count("{question}") == 1
    assert task.template.index("{context}") < task.template.index("{question}")
    assert task.base.endswith("{prefix}")


@quick
@given(st.sampled_from(tasks.names()), seeds, repeats, spots)
def test_a_question_depends_on_its_arguments_alone(name: str, seed: int, repeat: int, place: str) -> None:
    state = random.getstate()
    question = tasks.get(name).question(seed, repeat, place)
    random.random()
    assert tasks.get(name).question(seed, repeat, place) == question
    random.setstate(state)
    tasks.get(name).question(seed, repeat, place)
    tasks.get(name).distractors(seed, repeat, 9999)
    assert random.getstate() == state


@quick
@given(st.sampled_from(tasks.names()), seeds, repeats, spots)
def test_a_perfect_reply_holds_every_answer(name: str, seed: int, repeat: int, place: str) -> None:
    question = tasks.get(name).question(seed, repeat, place)
    assert question.answers
    assert question.draft is not None
    assert question.draft.startswith(question.prefix)
    for answer in question.answers:
        assert answer in question.needle
        assert answer in question.draft
        assert answer not in question.question + question.prefix


@quick
@given(st.sampled_from(CODES), seeds, repeats, spots)
def test_codes_are_of_the_tasks_kind_and_no_distractors(name: str, seed: int, repeat: int, place: str) -> None:
    question = tasks.get(name).question(seed, repeat, place)
    found = re.fullmatch(rf"The secret code for (\w+) is ({VALUES[name]})\.", question.needle)
    assert found
    city, value = found.groups()
    assert city in _values.CITIES
    assert question.answers == (value,)
    assert question.question == f"What is the secret code for {city}?"
    texts = [text for _, text in tasks.get(name).distractors(seed, repeat, 2**21)]
    assert all(re.fullmatch(rf"The secret code for \w+ is {VALUES[name]}\.", text) for text in texts)
    assert not any(f"for {city} is" in text or value in text for text in texts)
    assert not any(value in other or other in value for other in question.distractors)
    assert {text.split()[-1].rstrip(".") for text in texts} <= set(question.distractors)
    if name == "uuid":
        assert uuid.UUID(value).version == 4


def test_word_needles_never_share_a_distractors_value() -> None:
    """With 1,225 words and 30 distractors one needle in forty would, if nothing prevented it."""
    for place in range(3000):
        question = tasks.get("word").question(0, 0, str(place))
        assert question.answers[0] not in question.distractors


@quick
@given(st.sampled_from(CODES), seeds, repeats, st.integers(1, 2**21), st.integers(1, 2**21))
def test_a_longer_context_adds_distractors_and_moves_none(
    name: str, seed: int, repeat: int, tokens: int, more: int
) -> None:
    short, long = (tasks.get(name).distractors(seed, repeat, n) for n in (tokens, tokens + more))
    assert [d for d in long if d[0] < tokens] == short
    assert all(a <= b for (a, _), (b, _) in pairwise(long))
    assert len({text for _, text in long}) == len(long)


@quick
@given(st.sampled_from(CODES), seeds, repeats, st.integers(0, 11))
def test_distractors_are_many_near_the_start_and_two_a_doubling(name: str, seed: int, repeat: int, power: int) -> None:
    found = tasks.get(name).distractors(seed, repeat, 1024 * 2**power)
    assert sum(p < _codes.FIRST for p, _ in found) == _codes.NEAR
    assert len(found) == _codes.NEAR + _codes.MORE * power


def test_places_repeats_and_seeds_have_needles_of_their_own() -> None:
    needles = {tasks.get("number").question(s, r, str(p)).needle for s in (0, 1) for r in (0, 1) for p in range(50)}
    assert len(needles) == 200


def test_kamradts_needle_is_as_published() -> None:
    task = tasks.get("sentence")
    question = task.question(1, 2, "3")
    assert question.needle == (
        "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."
    )
    assert question.question == "What is the best thing to do in San Francisco?"
    assert task.distractors(1, 2, 10**6) == []
    assert task.system is not None


def test_words_to_draw_from_are_distinct_and_held_out() -> None:
    for words in (_values.CITIES, _values.ADJECTIVES, _values.NOUNS):
        assert len(words) == len(set(words))
        assert {w.lower() for w in words} <= _values.held_out_words()
