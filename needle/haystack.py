"""The text that needles hide in: read in sorted order with its hash, tokenised once, its sentence boundaries known."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from needle.errors import UsageError
from needle.types import Ids

BUNDLED = ("essays", "noise")

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
"""The repeated sentences of RULER's simplest task (Hsieh et al. 2024, arXiv:2404.06654)."""

_SENTENCE_END = re.compile(r"""[.!?…]+["'”’)\]]*(\s+)|[。！？]+["'”’」』）]*(\s*)""")
_BREAK = re.compile(r"\s+")


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
        return _of("noise", NOISE)
    if source == "essays":
        return _of("essays", _read_folder(_essays()))
    path = Path(source).expanduser()
    if path.is_dir():
        return _of(path.name or str(path), _read_folder(path))
    if path.is_file():
        return _of(path.name, _read_file(path))
    raise UsageError(
        f"no haystack '{source}': give a text file, a folder of .txt or .md files, or one of {', '.join(BUNDLED)}"
    )


def _essays() -> Path:
    """The essays beside the package in a checkout, or inside it when installed from a wheel."""
    for folder in (Path(__file__).parents[1] / "haystacks" / "essays", Path(__file__).parent / "haystacks" / "essays"):
        if folder.is_dir():
            return folder
    raise UsageError("the bundled essays are missing from this installation; give --haystack PATH or --haystack noise")


def _of(name: str, text: str) -> Haystack:
    if not text.strip():
        raise UsageError(f"haystack '{name}' holds no text; give a file with some words in it")
    return Haystack(name, text, hashlib.sha256(text.encode()).hexdigest())


def _read_folder(folder: Path) -> str:
    files = sorted(f for f in folder.rglob("*") if f.suffix in {".txt", ".md"} and f.is_file())
    if not files:
        raise UsageError(f"haystack folder '{folder}' has no .txt or .md file")
    return "\n\n".join(_read_file(f).strip() for f in files) + "\n\n"


def _read_file(path: Path) -> str:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"haystack '{path}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"haystack '{path}' is not UTF-8 text (byte {error.start}); convert it first") from error
    if "\0" in text:
        raise UsageError(f"haystack '{path}' is a binary file; give plain text")
    return text.replace("\r\n", "\n")


@dataclass(frozen=True, eq=False)
class Tokens:
    """A haystack in a tokenizer's ids, endless: positions past its end begin again at its start.

    `starts[i]` is where token i begins in the text; `places` are the token indices, ascending, before which a needle
    may stand, and `kind` says what they are: "sentence" ends, "word" breaks if the text has no sentence, else "token".
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
        rounds = range(low // len(self), high // len(self) + 1)
        found = np.concatenate([self.places + k * len(self) for k in rounds])
        return found[(found >= low) & (found <= high)]

    def nearest(self, position: int) -> int:
        """The place of the endless haystack that is closest to `position`; the earlier one of two."""
        turn, within = divmod(position, len(self))
        base = turn * len(self)
        at = int(np.searchsorted(self.places, within))
        before = self.places[at - 1] + base if at else self.places[-1] + base - len(self)
        after = self.places[at] + base if at < len(self.places) else self.places[0] + base + len(self)
        return int(before if position - before <= after - position else after)

    def around(self, position: int) -> tuple[str, str]:
        """The text just before a place (a few words) and the white space that stands at it."""
        start = int(self.starts[position % len(self)]) or len(self.text)
        head = self.text[max(0, start - 200) : start]
        tail = self.text[start % len(self.text) :][:200]
        before = head.rstrip()
        gap = head[len(before) :] + tail[: len(tail) - len(tail.lstrip())]
        return before[before.rfind(" ", 0, max(0, len(before) - 12)) + 1 :], gap


def tokenize(haystack: Haystack, tokenizer: Any) -> Tokens:
    """Ids of `haystack` under a fast Hugging Face `tokenizer`, with the places where a needle may stand.

    Raises:
        UsageError: the tokenizer cannot tell where its tokens lie in the text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(f"tokenizer {type(tokenizer).__name__} gives no character offsets; use a fast tokenizer")
    encoded = tokenizer(haystack.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = np.asarray(encoded["input_ids"], dtype=np.int32)
    if not len(ids):
        raise UsageError(f"haystack '{haystack.name}' is empty under this tokenizer")
    offsets = np.asarray(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    places, kind = _places(haystack.text, offsets)
    return Tokens(haystack.text, ids, offsets[:, 0].copy(), places, kind)


def _places(text: str, offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    starts, ends = offsets[:, 0], np.maximum.accumulate(offsets[:, 1])
    for kind, pattern in (("sentence", _SENTENCE_END), ("word", _BREAK)):
        gaps = [_gap(m) for m in pattern.finditer(text)]
        places = _clean_breaks(np.array(gaps, dtype=np.int64).reshape(-1, 2), starts, ends)
        if len(places):
            return places, kind
    return np.arange(len(offsets), dtype=np.int64), "token"


def _gap(match: re.Match[str]) -> tuple[int, int]:
    """Where the white space after a sentence (or between words) begins and ends in the text."""
    if not match.re.groups:
        return match.span()
    return match.span(1) if match.group(1) is not None else match.span(2)


def _clean_breaks(
    gaps: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Tokens that begin inside a gap while the token before them has ended by then: nothing is torn apart."""
    at = np.searchsorted(starts, gaps[:, 0])
    inside = (at > 0) & (at < len(starts))
    at, gaps = at[inside], gaps[inside]
    fine = (starts[at] <= gaps[:, 1]) & (ends[at - 1] <= gaps[:, 1])
    return np.unique(at[fine])
