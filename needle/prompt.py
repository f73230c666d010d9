"""One cell, fitted to the token: template + haystack + needle + question + answer budget = context length."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from needle import straw
from needle.errors import FitError
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
    _straws: dict[int, Straw] = field(default_factory=dict)

    def straw(self, repeat: int) -> Straw:
        """The haystack with distractors that all cells of one repeat are cut from."""
        if repeat not in self._straws:
            self._straws[repeat] = straw.build(
                self.hay, self.tokenizer, self.task, self.seed, repeat, self.longest
            )
        return self._straws[repeat]

    def places(self, cell: Cell) -> list[int]:
        """Positions at which the cell's needle may stand: those within the tolerance, else the nearest one.

        Depth 1 is the end itself. Tolerance 0 asks for the nearest place, too.

        Raises:
            FitError: needle and question are longer than the cell.
        """
        if cell.depth == 1:
            self._room(cell, self._question(cell, END), END)
            return [END]
        sample = self.straw(cell.repeat).nearest(cell.depth * cell.length)
        room = self._room(cell, self._question(cell, sample), sample)
        straw = self.straw(cell.repeat)
        slack = max(0.0, self.tolerance * room - 2)
        near = straw.within(cell.depth * room - slack, min(cell.depth * room + slack, room)) if slack else []
        nearest = straw.nearest(cell.depth * room)
        return near or [nearest if nearest <= room else straw.nearest(0)]

    def build(self, cell: Cell, place: int) -> Prompt:
        """The prompt of `cell` with its needle before straw position `place` (or at `END`).

        Raises:
            FitError: needle and question are longer than the cell.
        """
        question = self._question(cell, place)
        needle, after = self._ids(cell, question, place)
        room = self._room(cell, question, place)
        position = room if place == END else min(place, room)
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
            depth=position / room if room else 0.0,
            offset=self.straw(cell.repeat).offset,
            document=(len(before), len(before) + room + len(needle)),
            spans=tuple(spans),
            sha256=hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest(),
        )

    def _question(self, cell: Cell, place: int) -> Question:
        name = f"end of {cell.length}" if place == END else str(place)
        return self.task.question(self.seed, cell.repeat, name)

    def _ids(self, cell: Cell, question: Question, place: int) -> tuple[Ids, Ids]:
        """The needle's ids as they stand at `place`, and those of everything after the document."""
        straw = self.straw(cell.repeat)
        needle = (
            straw.tail(self.tokenizer, question.needle)
            if place == END
            else straw.lead(self.tokenizer, place, question.needle)
        )
        return np.asarray(needle, dtype=np.int32), np.asarray(self.frame.suffix(question), dtype=np.int32)

    def _room(self, cell: Cell, question: Question, place: int) -> int:
        """Haystack tokens (distractors included) that the cell has left."""
        needle, after = self._ids(cell, question, place)
        need = len(self.frame.prefix) + len(needle) + len(after) + self.max_new_tokens
        if need > cell.length:
            raise FitError(
                f"a context of {cell.length} tokens is too short: template, needle, question and "
                f"{self.max_new_tokens} answer tokens need {need}; raise --min-len or lower --max-new-tokens"
            )
        return cell.length - need
