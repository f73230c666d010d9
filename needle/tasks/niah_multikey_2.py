"""One needle in a haystack of needles: every sentence of the context gives the number of a word."""

from __future__ import annotations

from needle.tasks._niah import Niah

TASK = Niah("RULER: the number of a word, in a haystack of such needles", "needles-words")
