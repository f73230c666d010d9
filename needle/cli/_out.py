"""Where the commands write: consoles as wide as what is on them, JSON that is JSON."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_PIPED = 200
"""Columns of what goes to a file or another program, which has no edge to wrap at."""


def console(stderr: bool = False, quiet: bool = False, width: int = _PIPED) -> Console:
    """A console on stdout or stderr; `width` is for where there is no terminal and COLUMNS is not set."""
    from rich.console import Console

    found = Console(stderr=stderr, quiet=quiet)
    if found.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return found
    return Console(stderr=stderr, quiet=quiet, width=width)


def json_text(value: Any) -> str:
    """`value` as JSON; a number that JSON cannot say (NaN, infinity) is null."""
    return json.dumps(_sayable(value), indent=1, allow_nan=False)


def _sayable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _sayable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
