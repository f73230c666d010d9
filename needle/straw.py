"""A haystack as one repeat sees it: begun at its offset, with the task's distractors in place, without the needle."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np

from needle import tasks
from needle.haystack import Tokens
from needle.tasks import Task
from needle.template import encode_after
from needle.types import Ids, Span


@dataclass(frozen=True, slots=True, eq=False)
class Straw:
    """Ids of `offset` onwards, distractors included, and where a needle may stand in them.

    `places` are straw positions, ascending; `origins` the haystack tokens they stand before; `spans` the distractors.
    """

    hay: Tokens
    ids: Ids
    offset: int
    places: list[int]
    origins: list[int]
    spans: tuple[Span, ...]

    def within(self, low: float, high: float) -> list[int]:
        """Places in [low, high]."""
        return self.places[bisect_left(self.places, low) : bisect_right(self.places, high)]

    def nearest(self, position: float) -> int:
        """The place closest to `position`; the earlier one of two. Position 0 is a place always."""
        at = bisect_left(self.places, position)
        near = self.places[max(0, at - 1) : at + 1]
        return min(near, key=lambda p: abs(p - position))

    def cut(self, stop: int) -> tuple[Ids, tuple[Span, ...]]:
        """The first `stop` ids. A distractor that would be torn gives its room to the text after it."""
        whole = tuple(s for s in self.spans if s.end <= stop)
        torn = next((s for s in self.spans if s.start < stop < s.end), None)
        if torn is None:
            return self.ids[:stop], whole
        after = self.ids[torn.end : torn.end + stop - torn.start]
        return np.concatenate([self.ids[: torn.start], after]), whole

    def lead(self, tokenizer: Any, place: int, text: str) -> list[int]:
        """Ids of `text` as it stands at `place`, after the separator that the haystack has there."""
        if place == 0:
            return _opening(self, tokenizer, text)
        origin = self.origins[bisect_left(self.places, place)]
        return _placed(self.hay, tokenizer, self.offset + origin, text)

    def tail(self, tokenizer: Any, text: str) -> list[int]:
        """Ids of `text` as it stands at the end of a document, wherever that was cut."""
        return encode_after(tokenizer, "a.", " " + text)


def build(hay: Tokens, tokenizer: Any, task: Task, seed: int, repeat: int, tokens: int) -> Straw:
    """The straw of one repeat, at least `tokens` ids long. The offset is a sentence start drawn from the seed."""
    offset = _offset(hay, seed, repeat)
    wanted = task.distractors(seed, repeat, tokens)
    at = [max(0, hay.nearest(offset + p) - offset) for p, _ in wanted]
    pieces, spans, moved, done, length = [], [], [], 0, 0
    for origin, (_, text) in sorted(zip(at, wanted, strict=True), key=lambda pair: pair[0]):
        pieces.append(hay.cut(offset + done, offset + origin))
        length += origin - done
        ids = _placed(hay, tokenizer, offset + origin, text)
        pieces.append(np.asarray(ids, dtype=np.int32))
        spans.append(Span(length, length + len(ids), "distractor"))
        moved.append((origin, len(ids)))
        length, done = length + len(ids), origin
    pieces.append(hay.cut(offset + done, offset + max(done, tokens) + 1))
    origins = [0] + [int(p) - offset for p in hay.between(offset + 1, offset + tokens)]
    shifts = [sum(n for origin, n in moved if origin <= o) if o else 0 for o in origins]
    places = [o + s for o, s in zip(origins, shifts, strict=True)]
    return Straw(hay, np.concatenate(pieces), offset, places, origins, tuple(spans))


def _offset(hay: Tokens, seed: int, repeat: int) -> int:
    """Where the haystack begins: at its start for the first repeat of seed 0, else at a place drawn from the seed.

    White space that parts it from what stood before is left behind.
    """
    if not (seed or repeat):
        return 0
    place = int(tasks.rng(seed, repeat, "offset").choice(hay.places.tolist()))
    starts = hay.starts
    blank = place + 1 < len(hay) and hay.text[starts[place] : starts[place + 1]].isspace()
    return place + 1 if blank and starts[place] < starts[place + 1] else place


def _placed(hay: Tokens, tokenizer: Any, position: int, text: str) -> list[int]:
    before, gap = hay.around(position)
    return encode_after(tokenizer, before or "a.", (gap or ("" if hay.kind == "sentence" else " ")) + text)


def _opening(straw: Straw, tokenizer: Any, text: str) -> list[int]:
    """`text` as the document's first words; a line break parts it from a haystack that brings no white space."""
    first = straw.hay.text[int(straw.hay.starts[straw.offset % len(straw.hay)]) :][:1]
    before = straw.hay.around(straw.offset)[1] if straw.offset else ""
    return encode_after(tokenizer, "\n", text if first.isspace() or before else text + "\n")
