"""As `niah_single_2`, with a uuid for a value."""

from __future__ import annotations

from needle.tasks._niah import Niah

TASK = Niah("RULER: a uuid of a word, in essays", "essays", kind="uuids")
