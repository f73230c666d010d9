"""One word with four numbers, each in a needle of its own; all four are asked for."""

from __future__ import annotations

from needle.tasks._niah import Niah

TASK = Niah("RULER: all four numbers of one word, in essays", "essays", values=4)
