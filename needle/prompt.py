"""One cell, fitted to the token: template + haystack + needle + question + answer budget = context length."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from needle import straw
from needle.errors import FitError, UsageError
from needle.haystack import Tokens
from needle.straw import Straw
from needle.tasks import Task
from needle.template import Frame
from needle.types import Cell, Ids, Prompt, Question, Span

END = -1
"""The place of a needle that stands at the very end of the document, wherever the length cuts it."""

SPARE = 64
"""Tokens by which a needle may be longer than that of another place before it pushes a companion out of the text."""

_Key = tuple[int, int, bool]


def place_name(task: Task, length: int, place: int) -> str:
    """What a task is told of a place in a context of `length` tokens.

    The same at every length, save for the end, which lies elsewhere at each, and where no two lengths share a text.
    """
    if place == END:
        return f"end of {length}"
    return f"{place} of {length}" if task.per_length else str(place)


@dataclass(eq=False)
class Builder:
    """Builds the prompts of one run; the same arguments give the same ids.

    `longest` is the greatest context length asked, `tolerance` the share of the document by which a needle may stand
    off its asked depth.
    """

    tokenizer: Any
    hay: Tokens
    task: Task
    frame: Frame
    seed: int
    max_new_tokens: int
    longest: int
    tolerance: float = 0.01
    _straws: dict[_Key, Straw] = field(default_factory=dict, init=False, repr=False)
    _needs: dict[tuple[_Key, str], int] = field(default_factory=dict, init=False, repr=False)

    def cut_from(self, cell: Cell) -> _Key:
        """What names the straw that `cell` is cut from: its repeat, and for some tasks its length, or that it is a
        control.
        """
        if self.task.per_length:
            return cell.repeat, cell.length, cell.control
        return cell.repeat, 0, False

    def straw(self, cell: Cell) -> Straw:
        """The haystack with the task's others in it that the cell is cut from.

        Raises:
            FitError: the cell is too short to hold all that the task asks for.
        """
        key = self.cut_from(cell)
        if key not in self._straws:
            whole = (self.hay, self.tokenizer, self.task, self.seed, cell.repeat)
            if self.task.per_length:
                made = straw.build_whole(*whole, cell.length, self._room_for_others(cell), cell.control)
            else:
                made = straw.build(*whole, self.longest)
            self._straws[key] = made
        return self._straws[key]

    def places(self, cell: Cell) -> list[int]:
        """Positions at which the cell's needle may stand, ascending, no place of the haystack left out between them.

        Those whose depth is within the tolerance, else the one that comes nearest; the start itself for depth 0, and
        for a control, and `END` for depth 1. Tolerance 0 asks for the nearest place, too.

        Raises:
            FitError: template, needle, question and answer budget are longer than the cell.
        """
        if cell.depth == 1 and not cell.control:
            self._room(cell, END)
            return [END]
        room = self._room(cell, 0)
        if cell.depth == 0 or cell.control:
            return [0]
        # Needles differ by some tokens, and the room for the document with them: look a little beyond the tolerance.
        slack = self.tolerance * room + (cell.length - room)
        places = self.straw(cell).around(cell.depth * room - slack, cell.depth * room + slack)
        offs = [self._off(cell, p) for p in places]
        first = last = offs.index(min(offs))
        while first and offs[first - 1] <= self.tolerance:
            first -= 1
        while last + 1 < len(offs) and offs[last + 1] <= self.tolerance:
            last += 1
        return places[first : last + 1]

    def build(self, cell: Cell, place: int) -> Prompt:
        """The prompt of `cell` with its needle before straw position `place` (or at `END`).

        A control has the question of place 0 and no needle.

        Raises:
            FitError: template, needle, question and answer budget are longer than the cell, or the place lies beyond.
            UsageError: no needle can stand there.
        """
        question, needle, after = self._parts(cell, place)
        room = self._room(cell, place)
        position = room if place == END else place
        if position > room:
            raise FitError(
                f"a needle at token {place} lies beyond the {room} tokens of text in a context of {cell.length}"
            )
        straw = self.straw(cell)
        document, others = straw.cut(room)
        if self.task.per_length and len(others) < len(straw.spans):
            raise FitError(
                f"a needle at token {place} leaves no room for the task's other texts in {cell.length} tokens"
            )
        before = np.asarray(self.frame.prefix, dtype=np.int32)
        ids = np.concatenate([before, document[:position], needle, document[position:], after])
        start = len(before) + position
        spans = [] if cell.control else [Span(start, start + len(needle), "needle")]
        for s in others:
            shift = len(before) + (len(needle) if s.start >= position else 0)
            spans.append(Span(s.start + shift, s.end + shift, s.kind))
        return Prompt(
            cell=cell,
            ids=ids,
            question=question,
            max_new_tokens=self.max_new_tokens,
            position=place,
            depth=position / room if room and not cell.control else cell.depth,
            offset=straw.offset,
            document=(len(before), len(before) + room + len(needle)),
            spans=tuple(spans),
            sha256=hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest(),
        )

    def _parts(self, cell: Cell, place: int) -> tuple[Question, Ids, Ids]:
        """The question at `place`, the needle's ids as it stands there, and those of all that follows the document."""
        if cell.control and place != 0:
            raise UsageError(f"a control has no needle, so none can stand at token {place}; its position is 0")
        question = self._question(cell, place)
        text, needle = question.needle, []
        if place == END:
            needle = straw.tail(self.tokenizer, text)
        elif not cell.control:
            needle = self.straw(cell).lead(self.tokenizer, place, text)
        after = self.frame.suffix(question)
        return question, np.asarray(needle, dtype=np.int32), np.asarray(after, dtype=np.int32)

    def _question(self, cell: Cell, place: int) -> Question:
        """The task's question; its draft goes on from the prefix where the prompt ends in that."""
        question = self.task.question(self.seed, cell.repeat, place_name(self.task, cell.length, place))
        if self.frame.prefill and question.draft is not None:
            return replace(question, draft=question.draft.removeprefix(question.prefix))
        return question

    def _room_for_others(self, cell: Cell) -> int:
        """Document tokens that a cell has whatever its needle and wherever that stands, short of `SPARE` tokens."""
        question = self.task.question(self.seed, cell.repeat, "any")
        parts = (self.frame.prefix, straw.tail(self.tokenizer, question.needle), self.frame.suffix(question))
        need = sum(map(len, parts)) + self.max_new_tokens + SPARE
        least = straw.least(self.hay, self.tokenizer, self.task, self.seed, cell.repeat)
        if need + least > cell.length:
            raise self._too_short(cell, need + least)
        return cell.length - need

    def _room(self, cell: Cell, place: int) -> int:
        """Haystack tokens (others included) that the cell has left with its needle at `place`."""
        if self.task.per_length:
            self.straw(cell)
        need = self._need(cell, place)
        if need > cell.length:
            raise self._too_short(cell, need)
        if cell.length > self.longest:
            raise UsageError(f"a context of {cell.length} tokens is longer than the run's longest, {self.longest}")
        return cell.length - need

    def _too_short(self, cell: Cell, need: int) -> FitError:
        return FitError(
            f"a context of {cell.length} tokens is too short: template, needle, question and "
            f"{self.max_new_tokens} answer tokens need {need}; raise --min-len or lower --max-new-tokens"
        )

    def _need(self, cell: Cell, place: int) -> int:
        """Tokens of the cell that are not the document's."""
        key = (cell.repeat, 0, cell.control), place_name(self.task, cell.length, place)
        if key not in self._needs:
            _, needle, after = self._parts(cell, place)
            self._needs[key] = len(self.frame.prefix) + len(needle) + len(after) + self.max_new_tokens
        return self._needs[key]

    def _off(self, cell: Cell, place: int) -> float:
        """How far the depth at `place` is from the one asked; endless where the document does not reach."""
        room = cell.length - self._need(cell, place)
        others = self.straw(cell).spans if self.task.per_length else ()
        if place > room or (others and others[-1].end > room):
            return math.inf
        return abs(place / room - cell.depth) if room else 0.0
