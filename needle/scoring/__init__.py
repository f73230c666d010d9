"""Scorers, one file each: a module of this folder with a `score` function is one. Pure functions of the answer."""

from __future__ import annotations

import sys
from collections.abc import Callable

from needle import registry
from needle.types import Answer, Question, Score

Scorer = Callable[[Answer, Question], Score]


def names() -> list[str]:
    """The scorers there are."""
    return registry.names(sys.modules[__name__])


def get(name: str) -> Scorer:
    """The scorer of that name.

    Raises:
        UsageError: there is none.
    """
    scorer: Scorer = registry.get(sys.modules[__name__], name, "scorer").score
    return scorer
