"""As `niah_single_2`, with the needles of three other keys in every context."""

from __future__ import annotations

from needle.tasks._niah import Niah

TASK = Niah("RULER: the number of one word of four, in essays", "essays", keys=4)
