"""Facts to train on: keys, attributes and values of many kinds in several forms of statement and question.

Keys and values are drawn from pseudo-words, from words of the training text and from digits; the cities, words and
numbers that `needle.tasks` uses are not in here, so that measuring with those measures finding, not remembering.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from needle.pocket.corpus import pseudo_word

_NOUNS = (
    "code number password token label colour price name address motto answer plan signal phrase address title "
    "record secret weight nickname river animal mascot key tool dish rule season remedy idea thing way place"
).split()
_ADJECTIVES = (
    "secret special hidden official favourite best worst oldest new private first last strange magic local usual "
    "recommended forgotten final correct cheapest most famous least known"
).split()
_VERBS = "do see eat visit say buy bring remember avoid learn try find take".split()

# (statement, question); A is the attribute, K the key, V the value. The answer is the statement.
_FORMS = [
    ("The {A} for {K} is {V}.", "the {A} for {K}"),
    ("The {A} for {K} is {V}.", "the {A} for {K}"),
    ("The {A} for {K} is {V}.", "the {A} for {K}"),
    ("The {A} of {K} is {V}.", "the {A} of {K}"),
    ("The {A} in {K} is {V}.", "the {A} in {K}"),
    ("The {A} to {D} in {K} is {V}.", "the {A} to {D} in {K}"),
    ("{K}'s {A} is {V}.", "{K}'s {A}"),
    ("One of the {A}s for {K} is: {V}.", "one of the {A}s for {K}"),
    ("In {K}, the {A} is {V}.", "in {K}, the {A}"),
]
_QUESTIONS = [
    "What is {Q}?",
    "What is {Q}?",
    "What is {Q}?",
    "What was {Q}?",
    "Tell me {Q}.",
    "Question: what is {Q}?",
    "According to the text, what is {Q}?",
    "Please state {Q}.",
    "Which is {Q}?",
]
_SUFFIXES = [
    "",
    "",
    "",
    " Answer in one sentence.",
    " Be short.",
    " Use only what the text says.",
    " Say nothing else.",
    " Don't add information from outside the text and don't repeat yourself.",
]


@dataclass(frozen=True, slots=True)
class Fact:
    """One needle: the sentence that is hidden, the question for it, and the value that the answer must hold."""

    statement: str
    question: str
    value: str


class FactMaker:
    """Draws groups of facts whose keys differ; `words` and `spans` come from the training text."""

    def __init__(self, rng: Random, words: list[str], sentences: list[str]) -> None:
        self.rng, self.words, self.sentences = rng, words, sentences

    def group(self, count: int) -> list[Fact]:
        """`count` facts with distinct keys; half the groups share one attribute, form and kind of value."""
        rng = self.rng
        shared = rng.random() < 0.5
        form, attribute, verb = rng.choice(_FORMS), self.attribute(), rng.choice(_VERBS)
        value_of, key_of = self.value_kind(), self.key_kind()
        facts: list[Fact] = []
        keys: set[str] = set()
        while len(facts) < count:
            if not shared:
                form, attribute, verb = rng.choice(_FORMS), self.attribute(), rng.choice(_VERBS)
                value_of, key_of = self.value_kind(), self.key_kind()
            key = key_of()
            if key in keys:
                key_of = self.key_kind()
                continue
            keys.add(key)
            facts.append(self._fact(form, {"A": attribute, "K": key, "V": value_of(), "D": verb}))
        return facts

    def _fact(self, form: tuple[str, str], parts: dict[str, str]) -> Fact:
        question = self.rng.choice(_QUESTIONS).format(Q=form[1].format(**parts)) + self.rng.choice(_SUFFIXES)
        return Fact(form[0].format(**parts), question, parts["V"])

    def attribute(self) -> str:
        """One to four words, such as "secret code" or "strange river of glass"."""
        rng = self.rng
        noun = rng.choice(_NOUNS) if rng.random() < 0.6 else rng.choice(self.words)
        roll = rng.random()
        if roll < 0.2:
            return noun
        if roll < 0.8:
            return f"{rng.choice(_ADJECTIVES)} {noun}"
        return f"{rng.choice(_ADJECTIVES)} {rng.choice(self.words)} {noun}"

    def key_kind(self) -> Callable[[], str]:
        """A maker of keys: names of one to three words, hyphenated pairs, hex."""
        rng = self.rng
        makers = [self._name, self._name, self._name, self._long_name, self._word, self._hyphenated, self._hex]
        return rng.choice(makers)

    def value_kind(self) -> Callable[[], str]:
        """A maker of values: digits, uuids and hex, words, phrases."""
        roll = self.rng.random()
        if roll < 0.38:
            return self._digits_maker()
        if roll < 0.55:
            return self._uuid
        if roll < 0.60:
            return self._hex
        if roll < 0.75:
            return self.rng.choice([self._hyphenated, self._name, self._word, self._hyphenated])
        return self._phrase

    def _digits_maker(self) -> Callable[[], str]:
        length = self.rng.choice([4, 5, 6, 7, 7, 7, 7, 8, 9, 10])
        prefix = str(self.rng.randrange(10, 999)) if self.rng.random() < 0.1 else ""
        return lambda: prefix + "".join(str(self.rng.randrange(10)) for _ in range(length - len(prefix)))

    def _word(self) -> str:
        return self.rng.choice(self.words) if self.rng.random() < 0.6 else pseudo_word(self.rng)

    def _name(self) -> str:
        return pseudo_word(self.rng).capitalize()

    def _long_name(self) -> str:
        return " ".join(self._word().capitalize() for _ in range(self.rng.choice([2, 2, 3])))

    def _hyphenated(self) -> str:
        return "-".join(self._word() for _ in range(self.rng.choice([2, 2, 2, 3])))

    def _hex(self) -> str:
        return f"{self.rng.getrandbits(40):010x}"[: self.rng.randint(4, 10)]

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def _phrase(self) -> str:
        """Three to sixteen running words of the training text, or random words strung together."""
        count = self.rng.randint(3, 16)
        if self.rng.random() < 0.3:
            return " ".join(self._word() for _ in range(min(count, 8)))
        words = self.rng.choice(self.sentences).rstrip(".!?").split()
        start = self.rng.randrange(max(1, len(words) - count))
        phrase = " ".join(words[start : start + count])
        return phrase.rstrip(",;:") or "nothing at all"
