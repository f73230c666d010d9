"""RULER's vanilla needle: one word, one 7-digit number, in essays."""

from __future__ import annotations

from needle.tasks._niah import Niah

TASK = Niah("RULER: a 7-digit number of a word, in essays", "essays")
