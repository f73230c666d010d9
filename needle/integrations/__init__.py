"""Needle inside other tools: each is imported when it is first asked for."""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {"NeedleCallback": "trainer"}
"""Name → the module of this folder that holds it."""

__all__ = ["NeedleCallback"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
