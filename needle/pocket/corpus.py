"""The text that pocket is trained on: its own prose, Python's reference manual, and word salad.

None of it is among the bundled essays, which stay held out for measuring. The manual comes with every Python
(`pydoc_data.topics`), so training needs no download; the exact text depends on the Python minor version.
"""

from __future__ import annotations

import re
from pathlib import Path
from pydoc_data import topics
from random import Random

PROSE = Path(__file__).parent / "corpus"

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_ONSETS = "b c d f g h j k l m n p r s t v w z br cl dr fl gr kr pl pr sl st str th tr ch sh".split()
_VOWELS = "a e i o u ai ea ie oa ou".split()
_CODAS = ["", "", "", "n", "r", "l", "s", "t", "m", "nd", "rk", "st", "ng", "ck", "x"]


def paragraphs_of(text: str) -> list[list[str]]:
    """Paragraphs of `text`, each a list of sentences without surrounding white space."""
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text))
    return [_SENTENCE_END.split(block) for block in blocks if len(block) > 20]


def prose() -> list[list[str]]:
    """The project's own training prose."""
    files = sorted(PROSE.glob("*.txt"))
    return [p for f in files for p in paragraphs_of(f.read_text(encoding="utf-8"))]


def manual() -> list[list[str]]:
    """Python's language reference as plain paragraphs; rulers and tables of signs are left out."""
    text = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    return [p for p in paragraphs_of(text) if _is_prose(" ".join(p))]


def _is_prose(text: str) -> bool:
    letters = sum(c.isalpha() or c == " " for c in text)
    return letters > 0.8 * len(text)


def pseudo_word(rng: Random, syllables: int | None = None) -> str:
    """A pronounceable word that no text has: one to four syllables."""
    count = syllables or rng.choice([1, 2, 2, 2, 3, 3, 4])
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))


def salad(rng: Random, words: list[str]) -> list[str]:
    """A paragraph of sentences in which known words and pseudo-words stand in random order."""
    sentences = []
    for _ in range(rng.randint(3, 8)):
        picked = [rng.choice(words) if rng.random() < 0.6 else pseudo_word(rng) for _ in range(rng.randint(4, 18))]
        text = " ".join(w + ("," if rng.random() < 0.08 else "") for w in picked).rstrip(",")
        sentences.append(text[:1].upper() + text[1:] + rng.choice(".....!?"))
    return sentences
