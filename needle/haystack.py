"""The text that needles hide in: read in sorted order with its hash, tokenised once, its sentence boundaries known."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from needle import needles
from needle.errors import UsageError
from needle.types import Ids

BUNDLED = ("essays", "noise", "zh", "needles-words", "needles-uuids")

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
"""The repeated sentences of RULER's simplest task (Hsieh et al. 2024, arXiv:2404.06654)."""

LONG = 256
"""Tokens: a stretch longer than this without a place offers the next finer kind of place as well."""

APART = 16
"""Tokens: of word breaks and tokens one in each so many is a place, for a needle need not stand at any of thousands."""

SEPARATOR = 4
"""Characters of the white space around a needle that are taken for its own separator, at most."""

# One mark at a time before the white space: a run of dots must not be scanned again from each of its dots.
_SENTENCE_END = re.compile(r"""[.!?…؟।۔]["'”’»)\]]*(\s+)|[。！？]+["'”’」』）]*(\s*)""")
_BREAK = re.compile(r"(\s+)")


_UNSPACED = re.compile("[\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff60\U00020000-\U0003ffff]")


def unspaced(character: str) -> bool:
    """Whether a character is of Chinese or Japanese writing, punctuation included, which parts words by no spaces."""
    return bool(_UNSPACED.fullmatch(character))


@dataclass(frozen=True, slots=True)
class Haystack:
    """Text under a name; `sha256` is of its UTF-8 bytes."""

    name: str
    text: str
    sha256: str


def load(source: str) -> Haystack:
    """The bundled haystack of that name, or the user's own file or folder of UTF-8 text files.

    Raises:
        UsageError: there is no such path, nothing to read in it, or it is not text.
    """
    if source == "noise":
        return _of(source, NOISE)
    if source in ("essays", "zh"):
        return _of(source, _read_folder(_bundled(source)))
    if source in ("needles-words", "needles-uuids"):
        return _of(source, needles.text(source.removeprefix("needles-")))
    try:
        path = Path(source).expanduser()
        folder, file = bool(source.strip()) and path.is_dir(), path.is_file()
    except (OSError, RuntimeError, ValueError):
        # A path that is too long, names no user's home or holds a NUL is no more a file than one that is missing.
        folder = file = False
    if folder:
        return _of(path.resolve().name or str(path), _read_folder(path))
    if file:
        return _of(path.name, _read_file(path))
    words = " ".join(source.split())
    # A path's end says more than its beginning.
    shown = words if len(words) <= 100 else "…" + words[-99:]
    raise UsageError(
        f"no haystack '{shown}': give a text file, a folder of .txt or .md files, or one of {', '.join(BUNDLED)}"
    )


def _bundled(name: str) -> Path:
    """A folder of texts beside the package in a checkout, or inside it when installed from a wheel."""
    for house in (Path(__file__).parents[1], Path(__file__).parent):
        if (house / "haystacks" / name).is_dir():
            return house / "haystacks" / name
    raise UsageError(
        f"the bundled '{name}' is missing from this installation; give --haystack PATH or --haystack noise"
    )


def _of(name: str, text: str) -> Haystack:
    """The text ends in white space, so that its last word is parted from its first where it repeats."""
    if not text.strip():
        raise UsageError(f"haystack '{name}' holds no text; give a file with some words in it")
    text = text if text[-1].isspace() else text + "\n"
    return Haystack(name, text, hashlib.sha256(text.encode()).hexdigest())


def _read_folder(folder: Path) -> str:
    files = [f for f in folder.rglob("*") if f.suffix.lower() in {".txt", ".md"} and f.is_file()]
    files.sort(key=lambda f: f.relative_to(folder).as_posix())
    if not files:
        raise UsageError(f"haystack folder '{folder}' has no .txt or .md file; put one there or give a file")
    return "\n\n".join(_read_file(f).strip() for f in files) + "\n\n"


def _read_file(path: Path) -> str:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"haystack '{path}' cannot be read ({error.strerror}); give one that you may read") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"haystack '{path}' is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if "\0" in text:
        raise UsageError(f"haystack '{path}' is a binary file; give plain text")
    return text.replace("\r\n", "\n")


@dataclass(frozen=True, eq=False)
class Tokens:
    """A haystack in a tokenizer's ids, endless: positions past its end begin again at its start.

    Token i stands for the text from character `starts[i]` to `starts[i + 1]`; white space that the tokenizer's offsets
    leave out counts to the token after it. `places` are the token indices, ascending, before which a needle may stand;
    `kind` says what they are: "sentence" ends, "word" breaks if the text has no sentence, else "token". Where the text
    goes on for `LONG` tokens without one, the next finer kind of place is offered in between.
    """

    text: str
    ids: Ids
    starts: NDArray[np.int64]
    places: NDArray[np.int64]
    kind: str

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, start: int, stop: int) -> Ids:
        """Ids of the endless haystack from token `start` up to `stop`, neither of which need lie in the text."""
        return self.ids.take(np.arange(start, stop), mode="wrap")

    def between(self, low: int, high: int) -> NDArray[np.int64]:
        """Places of the endless haystack within [low, high], ascending."""
        rounds = np.arange(low // len(self), high // len(self) + 1) * len(self)
        found = (rounds[:, None] + self.places).ravel()
        return found[(found >= low) & (found <= high)]

    def after(self, position: int) -> int:
        """The first place of the endless haystack behind `position`."""
        turn, within = divmod(position, len(self))
        at = int(np.searchsorted(self.places, within, side="right"))
        return turn * len(self) + int(self.places[at] if at < len(self.places) else self.places[0] + len(self))

    def nearest(self, position: int) -> int:
        """The place of the endless haystack that is closest to `position`; the earlier one of two."""
        after = self.after(position)
        at = int(np.searchsorted(self.places, after % len(self)))
        before = after - (int(self.places[at] - self.places[at - 1]) % len(self) or len(self))
        return before if position - before <= after - position else after

    def around(self, position: int) -> tuple[str, str, str]:
        """The last words before a place, the white space that stands before it, and that which stands after it."""
        start = int(self.starts[position % len(self)]) or len(self.text)
        head = self.text[max(0, start - 200) : start]
        tail = self.text[start % len(self.text) :][:200]
        before = head.rstrip()
        words = before[before.rfind(" ", 0, max(0, len(before) - 12)) + 1 :]
        return words, head[len(before) :][-SEPARATOR:], tail[: len(tail) - len(tail.lstrip())][:SEPARATOR]


def tokenize(haystack: Haystack, tokenizer: Any) -> Tokens:
    """Ids of `haystack` under a fast Hugging Face `tokenizer`, with the places where a needle may stand.

    What looks like a control token in the text is text, unless the tokenizer's own model holds it for a word.

    Raises:
        UsageError: the tokenizer cannot tell where its tokens lie in the text, or sees nothing in it.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(f"tokenizer {type(tokenizer).__name__} gives no character offsets; use a fast tokenizer")
    encoded = tokenizer(
        haystack.text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
    )
    ids = np.asarray(encoded["input_ids"], dtype=np.int32)
    if not len(ids):
        raise UsageError(f"haystack '{haystack.name}' is empty under this tokenizer; give a text that it knows")
    offsets = np.asarray(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    ends = np.concatenate([[0], np.maximum.accumulate(offsets[:, 1])[:-1]])
    starts = np.minimum(offsets[:, 0], ends)
    places, kind = _places(haystack.text, starts, whole=starts == ends)
    return Tokens(haystack.text, ids, starts, places, kind)


def _places(text: str, starts: NDArray[np.int64], whole: NDArray[np.bool_]) -> tuple[NDArray[np.int64], str]:
    """The places, and the coarsest kind among them; `whole[i]` if token i does not begin within a character."""
    clean = np.flatnonzero(whole & (starts > 0))
    kinds = {
        "sentence": _breaks(_SENTENCE_END, text, starts, whole),
        "word": _thinned(_breaks(_BREAK, text, starts, whole)),
        "token": _thinned(np.concatenate([[0], clean])),
    }
    places = np.empty(0, dtype=np.int64)
    for found in kinds.values():
        places = np.union1d(places, found[_far_between(found, places, len(starts))])
    if len(kinds["sentence"]):
        return places, "sentence"
    return places, "word" if _BREAK.search(text.strip()) else "token"


def _thinned(found: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first of `found` in each `APART` tokens."""
    if not len(found):
        return found
    return np.unique(found[np.searchsorted(found, np.arange(0, found[-1] + 1, APART))])


def _far_between(found: NDArray[np.int64], places: NDArray[np.int64], period: int) -> NDArray[np.bool_]:
    """Which of `found` stand in a stretch of more than `LONG` tokens between `places` of an endless text."""
    if not len(places):
        return np.ones(len(found), dtype=np.bool_)
    edges = np.concatenate([[places[-1] - period], places, [places[0] + period]])
    at = np.searchsorted(edges, found, side="right")
    stretch: NDArray[np.bool_] = edges[at] - edges[at - 1] > LONG
    return stretch


def _breaks(
    pattern: re.Pattern[str], text: str, starts: NDArray[np.int64], whole: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Tokens that begin within, or right behind, the white space of a break; a break at the end leads to token 0."""
    gaps = np.array([m.span(m.lastindex or 0) for m in pattern.finditer(text)], dtype=np.int64).reshape(-1, 2)
    at = np.searchsorted(starts, gaps[:, 0])
    inside = at % len(starts)
    fine = (at > 0) & whole[inside] & (starts[inside] <= gaps[:, 1])
    return np.unique(inside[fine])
