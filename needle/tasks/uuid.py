"""As `number`, with a uuid for a value: a long answer in which every token counts."""

from __future__ import annotations

from needle.tasks import _values
from needle.tasks._codes import Codes

TASK = Codes("uuid of a city, among uuids of other cities", _values.uuid4, max_new_tokens=96)
