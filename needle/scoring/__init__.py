"""Scorers, one file each: a module of this folder with a `score` function, or a `make` that gives one, is one.

A scorer with settings has `make(options)`, names its settings in `SETTINGS`, and, where more than they decide what its
grades are, says so in `sources(options)`. A scorer raises ScoreError where an answer cannot be graded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from needle import registry
from needle.errors import UsageError
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


def settings(name: str) -> tuple[str, ...]:
    """The keys of a run's `options` that the scorer reads.

    Raises:
        UsageError: there is no such scorer.
    """
    found: tuple[str, ...] = getattr(registry.get(sys.modules[__name__], name, "scorer"), "SETTINGS", ())
    return found


def sources(name: str, options: Mapping[str, Any]) -> dict[str, str]:
    """What besides `options` decides the scorer's grades, by hash, for a run's sources; {} for most.

    Raises:
        UsageError: there is no such scorer.
    """
    module = registry.get(sys.modules[__name__], name, "scorer")
    found: dict[str, str] = module.sources(options) if hasattr(module, "sources") else {}
    return found


def check_settings(name: str, options: Mapping[str, Any]) -> None:
    """Raise UsageError if `options` has a scorer's setting, other than None, that scorer `name` does not read."""
    known = {key: other for other in names() for key in settings(other)}
    read = settings(name)
    for key, other in known.items():
        if options.get(key) is not None and key not in read:
            option = "--" + key.replace("_", "-")
            raise UsageError(f"{option} is a setting of scorer '{other}' and means nothing to '{name}'; leave it out")


def need(scorer: str, *packages: str) -> None:
    """Raise UsageError if one of the `packages` that the scorer works with is not installed."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise UsageError(
            f"scorer '{scorer}' needs the package '{missing[0]}'; install it with pip install 'needle-eval[{scorer}]'"
        )
