"""As `number`, with an adjective and a noun for a value."""

from __future__ import annotations

from needle.tasks import _values
from needle.tasks._codes import Codes

TASK = Codes("adjective-noun code of a city, among codes of other cities", _values.word)
