"""A haystack as one repeat sees it: begun at its offset, with the task's others in place, without the asked needle."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from needle import tasks
from needle.errors import FitError, UsageError
from needle.haystack import Tokens, unspaced
from needle.tasks import Task
from needle.template import encode_after
from needle.types import Ids, Other, Span

_Set = tuple[int, list[int], Other]
"""An other in its place: the origin that it stands before, its ids there, itself."""

_QUOTES = "\"'”’"


@dataclass(frozen=True, slots=True, eq=False)
class Straw:
    """Ids of `offset` onwards, others included, and where a needle may stand in them.

    `places` are straw positions, ascending from 0; `origins` the haystack tokens, counted from the offset, that they
    stand before; `spans` the others and `roots` the origins that those stand before.
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
        """The first `stop` ids. An other that would be torn gives its room to the text after it."""
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


def tail(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text` as it stands at the end of a document, wherever that was cut.

    A script without spaces begins a line there: nothing else would part it from a sentence that was cut.
    """
    return encode_after(tokenizer, "a.", ("\n" if unspaced(text[0]) else " ") + text)


def build(hay: Tokens, tokenizer: Any, task: Task, seed: int, repeat: int, tokens: int) -> Straw:
    """The straw of one repeat, at least `tokens` ids long. The offset is a place drawn from the seed."""
    offset = _offset(hay, seed, repeat)
    others = task.others(seed, repeat, tokens)
    found = [_set(hay, tokenizer, offset, _root(hay, offset, other.position), other) for other in others]
    return _strewn(hay, offset, found, tokens)


def build_whole(
    hay: Tokens, tokenizer: Any, task: Task, seed: int, repeat: int, tokens: int, room: int, control: bool
) -> Straw:
    """As `build`, with all of the task's others whole within the first `room` ids, spread over them.

    A `control` straw leaves the needles among them out, and all else where it is.

    Raises:
        FitError: they need more room.
    """
    offset = _offset(hay, seed, repeat)
    found = _spread(hay, tokenizer, task, seed, repeat, offset, room)
    return _strewn(hay, offset, [one for one in found if not control or one[2].kind != "needle"], tokens)


def least(hay: Tokens, tokenizer: Any, task: Task, seed: int, repeat: int) -> int:
    """Ids that a document has at least if all of the task's others are to stand in it: its first words, and they."""
    offset = _offset(hay, seed, repeat)
    first = hay.after(offset)
    texts = [other.text for other in task.others(seed, repeat, 1)]
    return first - offset + sum(len(_placed(hay, tokenizer, first, text)) for text in texts)


def _spread(hay: Tokens, tokenizer: Any, task: Task, seed: int, repeat: int, offset: int, room: int) -> list[_Set]:
    """The task's others near their shares of the haystack that `room` ids hold beside them, none beyond it."""
    first = hay.after(offset) - offset
    own = room - least(hay, tokenizer, task, seed, repeat) + first
    if own < first:
        raise FitError(f"the task's other texts do not fit into {room} tokens; raise --min-len")
    spots = hay.between(offset + first, offset + own) - offset
    others = task.others(seed, repeat, own)
    at = [int(np.abs(spots - other.position).argmin()) for other in others]
    while True:
        # A text is a token longer or shorter in another place, and so the last ones may have to stand a place before.
        found = [_set(hay, tokenizer, offset, int(spots[i]), other) for i, other in zip(at, others, strict=True)]
        last = max(at)
        if last == 0 or spots[last] + sum(len(ids) for _, ids, _ in found) <= room:
            return found
        at = [min(i, last - 1) for i in at]


def _set(hay: Tokens, tokenizer: Any, offset: int, root: int, other: Other) -> _Set:
    return root, _placed(hay, tokenizer, offset + root, other.text), other


def _strewn(hay: Tokens, offset: int, others: Sequence[_Set], tokens: int) -> Straw:
    """The haystack from `offset` on with `others` in their places, at least `tokens` ids long."""
    others = sorted(others, key=lambda other: other[0])
    pieces: list[Ids] = []
    spans: list[Span] = []
    done = length = 0
    for root, ids, other in others:
        pieces += [hay.cut(offset + done, offset + root), np.asarray(ids, dtype=np.int32)]
        start = length + root - done
        done, length = root, start + len(ids)
        spans.append(Span(start, length, other.kind))
    pieces.append(hay.cut(offset + done, offset + max(done, tokens)))
    roots = [root for root, _, _ in others]
    origins = [0, *(int(p) - offset for p in hay.between(offset + 1, offset + tokens))]
    # A needle stands behind all others of its place, so that these stay where they are.
    shifts = np.cumsum([0] + [s.end - s.start for s in spans])[np.searchsorted(roots, origins, side="right")]
    places = (np.asarray(origins) + shifts).tolist()
    return Straw(hay, np.concatenate(pieces), offset, places, origins, tuple(spans), tuple(roots))


def _root(hay: Tokens, offset: int, position: int) -> int:
    """The place nearest to `position` for an other, counted from the offset; never the very beginning."""
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
    """Ids of `text` at a place: after white space it brings its own behind it, else before it.

    Where a script without spaces meets itself there is none on either side.
    """
    words, before, after = hay.around(position)
    if before:
        return encode_after(tokenizer, words + before, text + before)
    gap = "" if unspaced(text[0]) and unspaced(words.rstrip(_QUOTES)[-1:]) else " "
    return encode_after(tokenizer, words or "a.", (after or gap) + text)


def _opening(hay: Tokens, tokenizer: Any, offset: int, text: str) -> list[int]:
    """Ids of `text` as a document's first words; a line break parts it from a text that brings no white space."""
    _, _, after = hay.around(offset)
    return encode_after(tokenizer, "\n", text if after or unspaced(text[-1]) else text + "\n")
