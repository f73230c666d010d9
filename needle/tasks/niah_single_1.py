"""RULER's pass key among repeated sentences: one word, one 7-digit number, a haystack of noise."""

from __future__ import annotations

from needle.tasks._niah import Niah

TASK = Niah("RULER: a 7-digit number of a word, among repeated sentences", "noise")
