"""Scorers, one file each: a module of this folder with a `score` function, or a `make` that gives one, is one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from needle import registry
from needle.types import Answer, Question, Score

Scorer = Callable[[Answer, Question], Score]


def names() -> list[str]:
    """The scorers there are."""
    return registry.names(sys.modules[__name__])


def get(name: str, options: Mapping[str, Any]) -> Scorer:
    """The scorer of that name; one that has settings (a module with `make`) takes them from a run's `options`.

    Raises:
        UsageError: there is none, or a setting is missing or has no meaning.
    """
    module = registry.get(sys.modules[__name__], name, "scorer")
    scorer: Scorer = module.make(options) if hasattr(module, "make") else module.score
    return scorer
