"""The default task: a 7-digit code of one city among codes of other cities."""

from __future__ import annotations

from needle.tasks import _values
from needle.tasks._codes import Codes

TASK = Codes("7-digit code of a city, among codes of other cities", _values.number)
