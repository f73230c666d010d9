"""One cell, fitted to the token: template + haystack + needle + question + answer budget = context length."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
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
    _straws: dict[int, Straw] = field(default_factory=dict, init=False, repr=False)
    _needs: dict[tuple[int, str], int] = field(default_factory=dict, init=False, repr=False)

    def straw(self, repeat: int) -> Straw:
        """The haystack with distractors that all cells of one repeat are cut from."""
        if repeat not in self._straws:
            self._straws[repeat] = straw.build(self.hay, self.tokenizer, self.task, self.seed, repeat, self.longest)
        return self._straws[repeat]

    def places(self, cell: Cell) -> list[int]:
        """Positions at which the cell's needle may stand, ascending, no place of the haystack left out between them.

        Those whose depth is within the tolerance, else the one that comes nearest; the start itself for depth 0 and
        `END` for depth 1. Tolerance 0 asks for the nearest place, too.

        Raises:
            FitError: template, needle, question and answer budget are longer than the cell.
        """
        if cell.depth == 1:
            self._room(cell, END)
            return [END]
        room = self._room(cell, 0)
        if cell.depth == 0:
            return [0]
        # Needles differ by some tokens, and the room for the document with them: look a little beyond the tolerance.
        slack = self.tolerance * room + (cell.length - room)
        places = self.straw(cell.repeat).around(cell.depth * room - slack, cell.depth * room + slack)
        offs = [self._off(cell, p) for p in places]
        first = last = offs.index(min(offs))
        while first and offs[first - 1] <= self.tolerance:
            first -= 1
        while last + 1 < len(offs) and offs[last + 1] <= self.tolerance:
            last += 1
        return places[first : last + 1]

    def build(self, cell: Cell, place: int) -> Prompt:
        """The prompt of `cell` with its needle before straw position `place` (or at `END`).

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
        document, others = self.straw(cell.repeat).cut(room)
        before = np.asarray(self.frame.prefix, dtype=np.int32)
        ids = np.concatenate([before, document[:position], needle, document[position:], after])
        start = len(before) + position
        spans = [Span(start, start + len(needle), "needle")]
        for s in others:
            shift = len(before) + (len(needle) if s.start >= position else 0)
            spans.append(Span(s.start + shift, s.end + shift, "distractor"))
        return Prompt(
            cell=cell,
            ids=ids,
            question=question,
            max_new_tokens=self.max_new_tokens,
            position=place,
            depth=position / room if room else cell.depth,
            offset=self.straw(cell.repeat).offset,
            document=(len(before), len(before) + room + len(needle)),
            spans=tuple(spans),
            sha256=hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest(),
        )

    def _parts(self, cell: Cell, place: int) -> tuple[Question, Ids, Ids]:
        """The question at `place`, the needle's ids as it stands there, and those of all that follows the document."""
        straw = self.straw(cell.repeat)
        question = self.task.question(self.seed, cell.repeat, _name(cell, place))
        text = question.needle
        needle = straw.tail(self.tokenizer, text) if place == END else straw.lead(self.tokenizer, place, text)
        after = self.frame.suffix(question)
        return question, np.asarray(needle, dtype=np.int32), np.asarray(after, dtype=np.int32)

    def _room(self, cell: Cell, place: int) -> int:
        """Haystack tokens (distractors included) that the cell has left with its needle at `place`."""
        need = self._need(cell, place)
        if need > cell.length:
            raise FitError(
                f"a context of {cell.length} tokens is too short: template, needle, question and "
                f"{self.max_new_tokens} answer tokens need {need}; raise --min-len or lower --max-new-tokens"
            )
        if cell.length > self.longest:
            raise UsageError(f"a context of {cell.length} tokens is longer than the run's longest, {self.longest}")
        return cell.length - need

    def _need(self, cell: Cell, place: int) -> int:
        """Tokens of the cell that are not the document's."""
        key = cell.repeat, _name(cell, place)
        if key not in self._needs:
            _, needle, after = self._parts(cell, place)
            self._needs[key] = len(self.frame.prefix) + len(needle) + len(after) + self.max_new_tokens
        return self._needs[key]

    def _off(self, cell: Cell, place: int) -> float:
        """How far the depth at `place` is from the one asked; endless where the document does not reach."""
        room = cell.length - self._need(cell, place)
        if place > room:
            return math.inf
        return abs(place / room - cell.depth) if room else 0.0


def _name(cell: Cell, place: int) -> str:
    """What a task is told of a place: the same at every length, save for the end, which lies elsewhere at each."""
    return f"end of {cell.length}" if place == END else str(place)
