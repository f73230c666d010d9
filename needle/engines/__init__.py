"""Engines, one file a backend: a module of this folder with an `open` function is one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, Protocol

from needle import registry
from needle.cost import Cost
from needle.errors import UsageError
from needle.types import Answer, Prompt


class Engine(Protocol):
    """A backend that is open but holds no weights until `load`.

    `tokenizer` and `sources` (hashes of what decides the answers) are there at once, so that prompts are built and a
    finished run recognised before anything heavy is read. `cost` is what feeding tokens costs, for the plan's
    estimate. `chunk` is how many tokens are fed at once.
    """

    tokenizer: Any
    sources: dict[str, str]
    cost: Cost
    chunk: int

    def load(self) -> dict[str, Any]:
        """Read the weights; returns the provenance: device, dtype, kernel and the like, as they really are."""

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Answer]]:
        """Each prompt's index and answer, in the engine's own order. A prompt that fails yields an error answer."""


def names() -> list[str]:
    """The engines there are."""
    return registry.names(sys.modules[__name__])


def check_settings(name: str, given: Iterable[str], worker_engine: str = "transformers") -> None:
    """Raise UsageError if engine `name` does not read one of the settings that were `given`.

    A module names in `SETTINGS` those that it reads beside what all engines do; ray's workers read their own.
    """
    known: set[str] = set(getattr(get(name), "SETTINGS", ()))
    if name == "ray":
        known |= set(getattr(get(worker_engine), "SETTINGS", ()))
    for setting in given:
        if setting not in known:
            option = "--" + setting.replace("_", "-")
            raise UsageError(f"{option} means nothing to --engine {name}; leave it out, or name the engine it is for")


def get(name: str) -> ModuleType:
    """The engine module of that name; its `open(spec, say)` gives an `Engine`.

    Raises:
        UsageError: there is none.
    """
    return registry.get(sys.modules[__name__], name, "engine")
