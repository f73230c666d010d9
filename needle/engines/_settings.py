"""Settings of where and by how many answers are computed; they are no part of what is asked of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from needle.errors import UsageError


def setting(options: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """The value of `name` under a run's `options["service"]`, else in `options` themselves, else `default`."""
    service = options.get("service") or {}
    value = service.get(name, options.get(name))
    return default if value is None else value


def count(options: Mapping[str, Any], name: str, default: int) -> int:
    """The setting `name`, which must be a whole number from 1.

    Raises:
        UsageError: it is none.
    """
    value = setting(options, name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{flag(name)} {value} is no whole number from 1")
    return value


def flag(name: str) -> str:
    """The option of the command line that gives the setting."""
    return f"--{name.replace('_', '-')}"
