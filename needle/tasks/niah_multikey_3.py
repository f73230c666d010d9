"""As `niah_multikey_2`, with uuids for keys and for values."""

from __future__ import annotations

from needle.tasks._niah import Niah

TASK = Niah("RULER: the uuid of a uuid, in a haystack of such needles", "needles-uuids", key_kind="uuids", kind="uuids")
