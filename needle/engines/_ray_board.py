"""Who is to do what: pieces of a run, handed out to workers, taken back from those that die.

A piece whose worker died comes back without the cells that were finished, halved, until a cell that kills workers is
alone; alone it gets one more try. So an error row names the very cell, at a price of a few workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TRIES = 2
"""Workers that one cell alone may cost."""


@dataclass(eq=False, slots=True)
class Piece:
    """Cells, by index and in walking order, that one worker does in one go; `deaths` counts when only one is left."""

    left: list[int]
    deaths: int = 0


class Board:
    """What waits and what became of the rest.

    `patience` is how many workers in a row may die with no cell finished in between before all that waits is given up:
    then it is not a cell that kills them.
    """

    def __init__(self, pieces: Iterable[Sequence[int]], patience: int) -> None:
        self._waiting = deque(Piece(list(piece)) for piece in pieces)
        self._patience, self._barren = patience, 0

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def take(self) -> Piece:
        """The next piece, from now on the caller's."""
        return self._waiting.popleft()

    def finished(self, piece: Piece, index: int) -> None:
        """A worker finished a cell of `piece`."""
        piece.left.remove(index)
        self._barren = 0

    def lost(self, piece: Piece) -> list[int]:
        """A worker died over `piece`; the cells, of all there are, that are given up now."""
        self._barren += 1
        if self._barren >= self._patience:
            return [*piece.left, *self.give_up()]
        if len(piece.left) > 1:
            middle = len(piece.left) // 2
            # At the end of the queue: what is not suspect comes first.
            self._waiting += [Piece(piece.left[:middle]), Piece(piece.left[middle:])]
            return []
        if piece.deaths + 1 >= TRIES:
            return piece.left
        self._waiting += [Piece(piece.left, piece.deaths + 1)] if piece.left else []
        return []

    def give_up(self) -> list[int]:
        """All that waits, which from now on does not."""
        given_up = [index for piece in self._waiting for index in piece.left]
        self._waiting.clear()
        return given_up
