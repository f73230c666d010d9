"""A folder is a registry: every module in it is one entry, found by its file name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType

from needle.errors import UsageError


def names(package: ModuleType) -> list[str]:
    """Names of the entries of `package`, sorted; a leading underscore hides a module."""
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def get(package: ModuleType, name: str, what: str) -> ModuleType:
    """The module `name` of `package`.

    Raises:
        UsageError: there is none; the nearest name is offered.
    """
    known = names(package)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
        raise UsageError(f"unknown {what} '{name}'; {hint}")
    return importlib.import_module(f"{package.__name__}.{name}")
