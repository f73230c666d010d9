"""The shared body of RULER's retrieval tasks: k keys, v values a key, q queries, in its own words.

Source: Hsieh et al. 2024 (arXiv:2404.06654) and github.com/NVIDIA/RULER, scripts/data/synthetic/constants.py, niah.py
and scripts/synthetic.yaml: needle, template, answer prefix, answer budget, and the singular forms of all of them where
one value of one key is asked for. The prefix stands at the head of the answer for every model, in a chat as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from needle import needles, tasks
from needle.tasks import _values, _words
from needle.types import Other, Question

Maker = Callable[[Random], str]

MANY = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards.\n{{context}}\n{{question}}"
)
ONE = MANY.replace("Some", "A").replace(" are ", " is ")
ASK_MANY = "What are all the special magic {kind} for {query} mentioned in the provided text?"
ASK_ONE = "What is the special magic {kind} for {query} mentioned in the provided text?"
PREFIX_MANY = "The special magic {kind} for {query} mentioned in the provided text are"
PREFIX_ONE = PREFIX_MANY.removesuffix("are") + "is"
MAKERS: dict[str, Maker] = {"numbers": _values.number, "uuids": _values.uuid4, "words": _words.asked}

_Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Niah:
    """A task with needles of `kind` ("numbers", "uuids") under keys of `key_kind`; see `needle.tasks.Task`.

    `keys` in all, each with one needle, of which `queries` are asked for; or one key with several `values`, all of them
    asked for. `haystack` is RULER's kind of haystack as it is called here. The thousands of values in one of needles
    are not listed among a question's distractors.
    """

    summary: str
    haystack: str | None
    key_kind: str = "words"
    kind: str = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1
    max_new_tokens: int = 128
    system: str | None = None
    prefill: bool = True

    @property
    def per_length(self) -> bool:
        """RULER has the same number of needles in every context."""
        return self.keys * self.values > 1

    @property
    def template(self) -> str:
        """RULER's, for one or for many."""
        return (MANY if self._many else ONE).format(kind=self._kind)

    @property
    def base(self) -> str:
        """The same, the answer's prefix behind it."""
        return self.template + " {prefix}"

    def question(self, seed: int, repeat: int, place: str) -> Question:
        """One needle of its own at each place, and the question for it and its companions."""
        rng = tasks.rng(seed, repeat, place)
        companions = self._companions(seed, repeat)
        # Of one key with many values all needles have to name that key; else each place has a key of its own.
        key = self._key(seed, repeat) if self.values > 1 else self._new(rng, self.key_kind, {k for k, _ in companions})
        value = self._new(rng, self.kind, {*(v for _, v in companions), *self._strewn()})
        asked = [(key, value), *(companions if self._many else [])]
        rng.shuffle(asked)
        query = _listed(list(dict.fromkeys(k for k, _ in asked)))
        answers = tuple(v for _, v in asked)
        prefix = (PREFIX_MANY if self._many else PREFIX_ONE).format(kind=self._kind, query=query)
        return Question(
            needle=self._needle((key, value)),
            question=(ASK_MANY if self._many else ASK_ONE).format(kind=self._kind, query=query),
            answers=answers,
            distractors=tuple(v for _, v in companions if v not in answers),
            draft=f"{prefix} {_listed(list(answers))}.",
            prefix=prefix,
        )

    def others(self, seed: int, repeat: int, tokens: int) -> list[Other]:
        """The companions, anywhere."""
        rng = tasks.rng(seed, repeat, "companions' places")
        places = sorted(int(rng.random() * tokens) for _ in self._companions(seed, repeat))
        texts = map(self._needle, self._companions(seed, repeat))
        return [Other(p, t, "needle" if self._many else "distractor") for p, t in zip(places, texts, strict=True)]

    @property
    def _many(self) -> bool:
        return self.values * self.queries > 1

    @property
    def _kind(self) -> str:
        return self.kind if self._many else self.kind.removesuffix("s")

    def _companions(self, seed: int, repeat: int) -> list[_Pair]:
        """Key and value of every needle but the one that the depth is of."""
        rng = tasks.rng(seed, repeat, "companions")
        keys = {self._key(seed, repeat)} if self.values > 1 else set()
        found: list[_Pair] = []
        for _ in range(self.keys * self.values - 1):
            key = self._key(seed, repeat) if self.values > 1 else self._new(rng, self.key_kind, keys)
            found.append((key, self._new(rng, self.kind, {*(v for _, v in found), *self._strewn()})))
            keys.add(key)
        return found

    def _key(self, seed: int, repeat: int) -> str:
        """The key that has many values."""
        return MAKERS[self.key_kind](tasks.rng(seed, repeat, "key"))

    def _strewn(self) -> tuple[str, ...]:
        """Values that lie about in a haystack of needles."""
        return needles.values(self.key_kind) if self.haystack == f"needles-{self.key_kind}" else ()

    def _new(self, rng: Random, kind: str, taken: set[str]) -> str:
        """Another than those that are taken."""
        made = MAKERS[kind](rng)
        while made in taken:
            made = MAKERS[kind](rng)
        return made

    def _needle(self, pair: _Pair) -> str:
        return needles.NEEDLE.format(kind=self.kind, key=pair[0], value=pair[1])


def _listed(texts: list[str]) -> str:
    """As RULER lists its queries: "a", "a, and b", "a, b, and c"."""
    return ", ".join(texts[:-1]) + ", and " + texts[-1] if len(texts) > 1 else texts[0]
