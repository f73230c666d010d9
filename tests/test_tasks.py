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

from needle import haystack, registry, tasks
from needle.errors import UsageError
from needle.tasks import _codes, _values, association

quick = settings(max_examples=100, deadline=None)
CODES = ("number", "uuid", "word")
SHARING = [name for name in tasks.names() if not tasks.get(name).per_length]
seeds, repeats = st.integers(0, 10**6), st.integers(0, 50)
spots = st.one_of(st.integers(0, 10**6).map(str), st.integers(1, 10**6).map("end of {}".format))
VALUES = {
    "number": r"[1-9]\d{6}",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "word": r"[a-z]+-[a-z]+",
}


def test_the_folder_is_the_registry() -> None:
    files = Path(tasks.__file__).parent.glob("[!_]*.py")
    assert tasks.names() == sorted(f.stem for f in files)
    assert {*CODES, *tasks.RULER, "sentence", "sentence_zh", "association", "chain", "passkey"} == set(tasks.names())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("numbr", "did you mean 'number'?"),
        ("Number", "did you mean 'number'?"),
        ("qqq", "known are association, chain, niah_multikey_1"),
        ("_codes", "known are association, chain, niah_multikey_1"),
        ("../tasks", "known are association, chain, niah_multikey_1"),
        ("", "known are association, chain, niah_multikey_1"),
    ],
)
def test_an_unknown_task_is_refused_with_the_nearest_name(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        tasks.get(name)
    assert str(caught.value).startswith(f"unknown task '{name}'; {hint}")


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
    assert task.haystack is None or task.haystack in haystack.BUNDLED


@quick
@given(st.sampled_from(tasks.names()), seeds, repeats, spots)
def test_a_question_depends_on_its_arguments_alone(name: str, seed: int, repeat: int, place: str) -> None:
    state = random.getstate()
    question = tasks.get(name).question(seed, repeat, place)
    random.random()
    assert tasks.get(name).question(seed, repeat, place) == question
    random.setstate(state)
    tasks.get(name).question(seed, repeat, place)
    assert tasks.get(name).others(seed, repeat, 9999) == tasks.get(name).others(seed, repeat, 9999)
    assert random.getstate() == state


@quick
@given(st.sampled_from(tasks.names()), seeds, repeats, spots)
def test_a_perfect_reply_holds_every_answer(name: str, seed: int, repeat: int, place: str) -> None:
    question = tasks.get(name).question(seed, repeat, place)
    assert question.answers
    assert question.draft is not None
    assert question.draft.startswith(question.prefix)
    needles = [question.needle, *(o.text for o in tasks.get(name).others(seed, repeat, 10**6) if o.kind == "needle")]
    for answer in question.answers:
        assert any(answer in needle for needle in needles)
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
    texts = [other.text for other in tasks.get(name).others(seed, repeat, 2**21)]
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
@given(st.sampled_from(SHARING), seeds, repeats, st.integers(1, 2**21), st.integers(1, 2**21))
def test_a_longer_context_adds_distractors_and_moves_none(
    name: str, seed: int, repeat: int, tokens: int, more: int
) -> None:
    short, long = (tasks.get(name).others(seed, repeat, n) for n in (tokens, tokens + more))
    assert [o for o in long if o.position < tokens] == short
    assert all(a.position <= b.position for a, b in pairwise(long))
    assert len({o.text for o in long}) == len(long)
    assert {o.kind for o in long} <= {"distractor"}


@quick
@given(st.sampled_from(CODES), seeds, repeats, st.integers(0, 11))
def test_distractors_are_many_near_the_start_and_two_a_doubling(name: str, seed: int, repeat: int, power: int) -> None:
    found = tasks.get(name).others(seed, repeat, 1024 * 2**power)
    assert sum(o.position < _codes.FIRST for o in found) == _codes.NEAR
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
    assert task.others(1, 2, 10**6) == []
    assert task.system is not None


def test_words_to_draw_from_are_distinct_and_held_out() -> None:
    for words in (_values.CITIES, _values.ADJECTIVES, _values.NOUNS):
        assert len(words) == len(set(words))
        assert {w.lower() for w in words} <= _values.held_out_words()


def test_pass_keys_are_asked_for_as_published() -> None:
    task = tasks.get("passkey")
    question = task.question(0, 0, "12")
    value = question.answers[0]
    assert re.fullmatch(r"[1-9]\d{4}", value)
    assert question.needle == f"The pass key is {value}. Remember it. {value} is the pass key."
    assert task.base.format(context="TEXT", question=question.question, prefix=question.prefix) == (
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you "
        "about the important information there.\n\nTEXT\n\nWhat is the pass key? The pass key is"
    )


@quick
@given(seeds, repeats, spots)
def test_a_chain_leads_from_the_asked_entry_to_the_answer_only(seed: int, repeat: int, place: str) -> None:
    task = tasks.get("chain")
    question, others = task.question(seed, repeat, place), task.others(seed, repeat, 5000)
    links = dict(
        re.findall(r"After entry (\S+) comes entry (\S+)\.", question.needle + "".join(o.text for o in others))
    )
    assert len(links) == 1 + len(others) == 8
    entry = re.findall(rf"entry ({VALUES['uuid']})", question.question)[0]
    followed = []
    while entry in links:
        entry = links.pop(entry)
        followed.append(entry)
    assert question.answers == (followed[-1],)
    assert len(followed) == 4
    assert len(links) == sum(o.kind == "distractor" for o in others) == 4
    assert {*followed[:-1], *links, *links.values()} == set(question.distractors)


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


@pytest.mark.parametrize(("fact", "clue"), association.FACTS)
def test_an_association_shares_no_word_with_its_question(fact: str, clue: str) -> None:
    told, asked = words(fact.replace("{name}", "")), words(association.ASK.format(clue=clue))
    assert not told & asked
    assert not {(a, b) for a in told for b in asked if len(a) > 3 and len(b) > 3 and a[:4] == b[:4]}


def test_associations_are_many_and_distinct() -> None:
    facts, names = association.FACTS, association.NAMES
    assert len(facts) >= 20
    assert len({f for f, _ in facts}) == len({c for _, c in facts}) == len(facts) > association.OTHERS
    assert len(set(names)) == len(names) > association.OTHERS
    assert not [(a, b) for a in names for b in names if a != b and a in b]
    essays = haystack.load("essays").text
    assert not [n for n in names if n in essays]


@quick
@given(seeds, repeats, spots)
def test_nobody_else_is_told_the_asked_fact(seed: int, repeat: int, place: str) -> None:
    task = tasks.get("association")
    question, others = task.question(seed, repeat, place), task.others(seed, repeat, 2**21)
    (name,) = question.answers
    assert name in question.needle
    assert name not in question.distractors
    assert not any(name in o.text for o in others)
    assert not any(o.text.replace(n, name) == question.needle for o in others for n in question.distractors)
    assert len(others) == association.OTHERS
    assert all(any(n in o.text for n in question.distractors) for o in others)


def test_the_chinese_needle_is_one_sentence() -> None:
    question = tasks.get("sentence_zh").question(0, 0, "0")
    assert len(re.findall("[。！？]", question.needle)) == 1
    assert all(answer in question.needle for answer in question.answers)
