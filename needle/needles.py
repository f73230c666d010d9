"""Haystacks made of needles: every sentence is one, each with a key of its own.

Source of the wording and of the idea: RULER's `niah_multikey_2` and `niah_multikey_3` (Hsieh et al. 2024,
arXiv:2404.06654). Keys are drawn once, so that the text is the same on every machine and never depends on a run's seed.
"""

from __future__ import annotations

from functools import cache
from random import Random

from needle.tasks import _values, _words

NEEDLE = "One of the special magic {kind} for {key} is: {value}."

COUNTS = {"words": 10_000, "uuids": 4_000}
"""Needles in the haystack: more than 128K tokens under any usual tokenizer."""


def text(keys: str) -> str:
    """The haystack with "words" for keys and 7-digit numbers for values, or "uuids" for both; one needle a line."""
    kind = "numbers" if keys == "words" else "uuids"
    return "".join(NEEDLE.format(kind=kind, key=key, value=value) + "\n" for key, value in pairs(keys))


@cache
def pairs(keys: str) -> tuple[tuple[str, str], ...]:
    """Keys and values of that haystack, in their order; no key and no value comes twice."""
    rng = Random(f"a haystack of {keys}")
    count = COUNTS[keys]
    if keys == "words":
        numbers = rng.sample(range(1_000_000, 10_000_000), count)
        return tuple(zip(rng.sample(_words.strewn(), count), map(str, numbers), strict=True))
    return tuple((_values.uuid4(rng), _values.uuid4(rng)) for _ in range(count))


@cache
def values(keys: str) -> tuple[str, ...]:
    """The values of that haystack, in their order."""
    return tuple(value for _, value in pairs(keys))
