"""Four words with a number each; all four are asked for at once."""

from __future__ import annotations

from needle.tasks._niah import Niah

TASK = Niah("RULER: the numbers of four words at once, in essays", "essays", keys=4, queries=4)
