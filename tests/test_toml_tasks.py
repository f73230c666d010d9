"""Tasks that users write: the worked example runs, and what is wrong is said in one line that names file and key."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompts import fixed, keeps_its_promises
from tokenizers_zoo import tokenizer, tokens

from needle import tasks, template
from needle.errors import UsageError
from needle.prompt import Builder
from needle.types import Cell

EXAMPLE = Path(__file__).parents[1] / "docs" / "task.toml"
LEAST = """needle = "The bell of {place} weighs {weight} pounds."
question = "How heavy is the bell of {place}?"
answers = ["{weight}"]
"""
VALUES = '[values]\nplace = "word"\nweight = "number"\n'
quick = settings(max_examples=50, deadline=None)
Stated = Callable[[str], str]


@pytest.fixture
def stated(tmp_path: Path) -> Stated:
    """The path of a task file with that text."""

    def write(text: str) -> str:
        path = tmp_path / "own.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def refusal(path: str) -> str:
    with pytest.raises(UsageError) as caught:
        tasks.get(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"task file '{path}'")
    return message


@pytest.mark.parametrize("family", ["qwen", "gemma", "neox"])
@pytest.mark.parametrize("depth", [0.0, 0.4, 1.0])
def test_the_worked_example_builds_sound_prompts(family: str, depth: float) -> None:
    task = tasks.get(str(EXAMPLE))
    tok = tokenizer(family)
    b = Builder(tok, tokens(family, "essays"), task, template.frame(tok, task), 0, task.max_new_tokens, 1600)
    cell = Cell(1600, depth, 1)
    prompt = b.build(cell, b.places(cell)[0])
    keeps_its_promises(fixed(family=family, task=str(EXAMPLE)), prompt)
    assert len(prompt.spans) == 5


def test_the_worked_example_names_every_key() -> None:
    from needle.tasks._toml import KEYS

    text = EXAMPLE.read_text()
    for key in KEYS:
        assert re.search(rf"^(\[+{key}\]+|{key} =)", text, re.M), key


@quick
@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(0, 10**6).map(str))
def test_no_needle_says_what_a_distractor_says(seed: int, repeat: int, place: str) -> None:
    task = tasks.get(str(EXAMPLE))
    question, others = task.question(seed, repeat, place), task.others(seed, repeat, 4000)
    assert task.question(seed, repeat, place) == question
    gardeners = [re.findall(r"gardener (\w+)", t)[0] for t in (question.needle, *(o.text for o in others))]
    plots = [re.findall(r"\d+", t)[0] for t in (question.needle, *(o.text for o in others))]
    assert len(set(gardeners)) == len(set(plots)) == 5
    assert question.draft == question.needle
    assert not set(question.answers) & set(question.distractors)
    assert "tulips" in question.distractors
    assert len(question.distractors) == 9


def test_a_task_needs_needle_question_and_answers_only(stated: Stated) -> None:
    task = tasks.get(stated(LEAST + VALUES))
    question = task.question(1, 0, "8")
    assert re.fullmatch(r"The bell of [a-z]+-[a-z]+ weighs \d{7} pounds\.", question.needle)
    assert (question.prefix, question.distractors, task.others(1, 0, 9999)) == ("", (), [])
    assert (task.haystack, task.system, task.max_new_tokens, task.per_length) == (None, None, 64, False)
    assert len({task.question(1, 0, str(p)).needle for p in range(20)}) == 20


def test_lists_and_texts_of_its_own(stated: Stated) -> None:
    path = stated(
        'distractors = ["A bell hung in Ulm.", "No bell rang."]\nper_length = true\n'
        + LEAST
        + '[values]\nplace = ["Gera", "Jena", "Suhl"]\nweight = "number"\n'
    )
    task = tasks.get(path)
    assert {o.text for o in task.others(0, 0, 100)} == {"A bell hung in Ulm.", "No bell rang."}
    assert len({o.position for n in (100, 1000) for o in task.others(0, 0, n)}) == 4
    assert {task.question(0, 0, str(p)).needle.split()[3] for p in range(50)} == {"Gera", "Jena", "Suhl"}
    counted = tasks.get(
        stated("distractors = 2\n" + LEAST + '[values]\nplace = ["Gera", "Jena", "Suhl"]\nweight = "uuid"\n')
    )
    for repeat in range(9):
        told = {
            t.split()[3]
            for t in (counted.question(0, repeat, "3").needle, *(o.text for o in counted.others(0, repeat, 2000)))
        }
        assert told == {"Gera", "Jena", "Suhl"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("needle = ", "is not TOML (Invalid value"),
        (VALUES, "needle: is missing; a task needs needle, question and answers"),
        ('needle = "N."\nquestion = "Q?"', "answers: is missing"),
        (LEAST.replace("answers", "answer") + VALUES, "answer: is unknown; did you mean 'answers'?"),
        ("colour = 1\n" + LEAST + VALUES, "colour: is unknown; known are summary, needle"),
        (LEAST, "needle: names {place}, which is unknown; there are no values and no facts"),
        (LEAST + '[values]\nplace = "word"', "needle: names {weight}, which is unknown; known are place"),
        (
            LEAST + VALUES.replace('"word"', '"city"'),
            "values.place: is no list of texts and none of number, uuid, word",
        ),
        (LEAST + VALUES.replace('"word"', "[]"), "values.place: has to be a list of texts"),
        (LEAST + VALUES.replace('"word"', '["a", "a"]'), "values.place: a text stands there twice"),
        (LEAST + VALUES + '"a b" = "word"', "values.a b: is no name for a placeholder"),
        ("values = 3\n" + LEAST, "values: has to be a table"),
        ('needle = ""\nquestion = "Q?"\nanswers = ["a"]', "needle: has to be a text in quotes"),
        (LEAST.replace('["{weight}"]', '"{weight}"') + VALUES, "answers: has to be a list of texts"),
        (LEAST.replace('["{weight}"]', "[]") + VALUES, "answers: has to be a list of texts"),
        (LEAST.replace("{place} weighs", "{place weighs") + VALUES, "needle: has a brace too many or too few"),
        (
            LEAST.replace("{place} weighs", "{place.real} weighs") + VALUES,
            "needle: names {place.real}, which is unknown",
        ),
        (LEAST.replace("{place} weighs", "{place!r} weighs") + VALUES, "needle: names {place!r}, which is unknown"),
        (LEAST.replace("{place} weighs", "{place:9} weighs") + VALUES, "needle: names {place:9}, which is unknown"),
        ("distractors = -1\n" + LEAST + VALUES, "distractors: has to be a whole number from 0 or a list of texts"),
        ("distractors = true\n" + LEAST + VALUES, "distractors: has to be a whole number"),
        (
            "distractors = 1156\n" + LEAST + '[values]\nplace = "word"\nweight = "uuid"',
            "values.place: there are 1,156 words",
        ),
        ("distractors = 10_001\n" + LEAST + VALUES, "distractors: 10,001 are too many"),
        ("distractors = 2.5\n" + LEAST + VALUES, "distractors: has to be a whole number"),
        ("max_new_tokens = 0\n" + LEAST + VALUES, "max_new_tokens: has to be a whole number from 1"),
        ("per_length = 1\n" + LEAST + VALUES, "per_length: has to be true or false"),
        ('prefix = "It is"\n' + LEAST + VALUES, "reply: has to begin with the prefix"),
        ('reply = "Heavy."\n' + LEAST + VALUES, "reply: does not hold the answer '{weight}'"),
        ('template = "{context}"\n' + LEAST + VALUES, "template: has to hold {question} once"),
        ('base = "{context} {question} {prefix} so"\n' + LEAST + VALUES, "base: has to end in {prefix}"),
        (
            'distractors = 2\nneedle = "N."\nquestion = "Q?"\nanswers = ["N"]',
            "distractors: 2 of a needle that says the same",
        ),
        (
            "distractors = 2\n" + LEAST + VALUES.replace('"word"', '["a", "b"]'),
            "values.place: 2 are too few for the needle",
        ),
        ("distractors = 1\n" + LEAST + '[[facts]]\nplace = "a"\nweight = "9"', "facts: 1 are too few for the needle"),
        (LEAST + "[[facts]]\nplace = 3", "facts.place: of row 1 is no text"),
        (LEAST + '[[facts]]\nplace = "a"\n[[facts]]\nweight = "b"', "facts: row 2 has other fields than the first"),
        (LEAST + '[[facts]]\nplace = "a"\n[[facts]]\nplace = "a"', "facts: a row stands there twice"),
        (LEAST + VALUES + '[[facts]]\nplace = "a"', "facts.place: is among the values, too"),
        ("facts = [1]\n" + LEAST, "facts: has to be a list of tables"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(stated: Stated, text: str, said: str) -> None:
    assert said in refusal(stated(text))


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    (tmp_path / "huge.toml").write_bytes(b"#" * 1_000_001)
    assert "cannot be read (No such file" in refusal(str(tmp_path / "none.toml"))
    assert "cannot be read (Is a directory" in refusal(str(tmp_path / "folder.toml"))
    assert "is not TOML" in refusal(str(tmp_path / "binary.toml"))
    assert "is not TOML" in refusal(str(tmp_path / "deep.toml"))
    assert "is larger than 1000000 bytes" in refusal(str(tmp_path / "huge.toml"))
    with pytest.raises(UsageError, match=r"task file 'a\\x00\.toml' cannot be read"):
        tasks.get("a\0.toml")


def test_a_tasks_source_is_the_hash_of_its_file(stated: Stated) -> None:
    path = stated(LEAST + VALUES)
    assert tasks.source(path) == hashlib.sha256((LEAST + VALUES).encode()).hexdigest()
    assert tasks.source("number") is None
    with pytest.raises(UsageError, match="cannot be read"):
        tasks.source("none.toml")


def test_the_example_runs_on_the_bundled_checkpoint(needle: Any, tmp_path: Path) -> None:
    done = needle(
        "run", "pocket-4k", "--task", EXAMPLE, "--lengths", "700", "--depths", "0.5", "-o", tmp_path, "--json"
    )
    assert done.code == 0, done.err
    assert list(tmp_path.glob("*/results.jsonl"))
