"""A haystack as one repeat sees it: begun at its offset, with the task's distractors in place, without the needle."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np

from needle import tasks
from needle.errors import UsageError
from needle.haystack import Tokens
from needle.tasks import Task
from needle.template import encode_after
from needle.types import Ids, Span


@dataclass(frozen=True, slots=True, eq=False)
class Straw:
    """Ids of `offset` onwards, distractors included, and where a needle may stand in them.

    `places` are straw positions, ascending from 0; `origins` the haystack tokens, counted from the offset, that they
    stand before; `spans` the distractors and `roots` the origins that those stand before.
    """

    hay: Tokens
    ids: Ids
    offset: int
    places: list[int]
    origins: list[int]
    spans: tuple[Span, ...]
    roots: tuple[int, ...]

    def around(self, low: float, high: float) -> list[int]:
        """Places in [low, high], and one more on either side where there is one."""
        return self.places[max(0, bisect_left(self.places, low) - 1) : bisect_right(self.places, high) + 1]

    def cut(self, stop: int) -> tuple[Ids, tuple[Span, ...]]:
        """The first `stop` ids. A distractor that would be torn gives its room to the text after it."""
        whole = tuple(s for s in self.spans if s.end <= stop)
        if len(whole) == len(self.spans) or self.spans[len(whole)].start >= stop:
            return self.ids[:stop], whole
        torn, root = self.spans[len(whole)], self.offset + self.roots[len(whole)]
        return np.concatenate([self.ids[: torn.start], self.hay.cut(root, root + stop - torn.start)]), whole

    def lead(self, tokenizer: Any, place: int, text: str) -> list[int]:
        """Ids of `text` as it stands at `place`, with the separator that the haystack has there.

        Raises:
            UsageError: the place is none of this straw's.
        """
        at = bisect_left(self.places, place)
        if place not in self.places[at : at + 1]:
            raise UsageError(f"a needle cannot stand at token {place} of this haystack; build the run anew")
        if place == 0:
            return _opening(self.hay, tokenizer, self.offset, text)
        return _placed(self.hay, tokenizer, self.offset + self.origins[at], text)

    def tail(self, tokenizer: Any, text: str) -> list[int]:
        """Ids of `text` as it stands at the end of a document, wherever that was cut."""
        return encode_after(tokenizer, "a.", " " + text)


def build(hay: Tokens, tokenizer: Any, task: Task, seed: int, repeat: int, tokens: int) -> Straw:
    """The straw of one repeat, at least `tokens` ids long. The offset is a place drawn from the seed."""
    offset = _offset(hay, seed, repeat)
    others = [(_root(hay, offset, p), text) for p, text in task.distractors(seed, repeat, tokens)]
    pieces: list[Ids] = []
    spans: list[Span] = []
    done = length = 0
    for root, text in sorted(others, key=lambda other: other[0]):
        ids = _placed(hay, tokenizer, offset + root, text)
        pieces += [hay.cut(offset + done, offset + root), np.asarray(ids, dtype=np.int32)]
        start = length + root - done
        done, length = root, start + len(ids)
        spans.append(Span(start, length, "distractor"))
    pieces.append(hay.cut(offset + done, offset + max(done, tokens)))
    roots = sorted(root for root, _ in others)
    origins = [0, *(int(p) - offset for p in hay.between(offset + 1, offset + tokens))]
    # A needle stands behind all distractors of its place, so that these stay where they are.
    shifts = np.cumsum([0] + [s.end - s.start for s in spans])[np.searchsorted(roots, origins, side="right")]
    places = (np.asarray(origins) + shifts).tolist()
    return Straw(hay, np.concatenate(pieces), offset, places, origins, tuple(spans), tuple(roots))


def _root(hay: Tokens, offset: int, position: int) -> int:
    """The place nearest to `position` for a distractor, counted from the offset; never the very beginning."""
    near = hay.nearest(offset + position)
    return (near if near > offset else hay.after(offset)) - offset


def _offset(hay: Tokens, seed: int, repeat: int) -> int:
    """Where the haystack begins: at its start for the first repeat of seed 0, else at a place drawn from the seed.

    White space that parts it from what stood before is left behind.
    """
    if not (seed or repeat):
        return 0
    place = int(tasks.rng(seed, repeat, "offset").choice(hay.places.tolist()))
    while place + 1 < len(hay) and hay.text[hay.starts[place] : hay.starts[place + 1]].isspace():
        place += 1
    return place


def _placed(hay: Tokens, tokenizer: Any, position: int, text: str) -> list[int]:
    """Ids of `text` at a place: after white space it brings its own behind it, else before it."""
    words, before, after = hay.around(position)
    if before:
        return encode_after(tokenizer, words + before, text + before)
    return encode_after(tokenizer, words or "a.", (after or " ") + text)


def _opening(hay: Tokens, tokenizer: Any, offset: int, text: str) -> list[int]:
    """Ids of `text` as a document's first words; a line break parts it from a text that brings no white space."""
    _, _, after = hay.around(offset)
    return encode_after(tokenizer, "\n", text if after else text + "\n")
