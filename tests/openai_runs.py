"""What the tests of the openai engine share: one way to ask a stub, and somebody who hears what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostile import MODEL

from needle import running
from needle.types import Answer, Grid, Prompt, RunSpec

GRID = Grid((700, 1000), (0.0, 0.5, 1.0))
HAY: dict[str, Path] = {}
"""The haystack of the run, under "path"; `openai_fixtures` sets it."""


def spec(url: str, grid: Grid = GRID, model: str = MODEL, **more: Any) -> RunSpec:
    """A run on the server at `url`; what is no field of a `RunSpec` goes into its options."""
    fields = {name: more.pop(name) for name in ("prompt", "system", "task", "temperature", "seed") if name in more}
    service = {"concurrency": 1, "timeout": 5, **more.pop("service", {})}
    options = {"base_url": url, "tokenizer": "pocket-4k", **more, "service": service}
    fields = {"task": "number", "haystack": str(HAY["path"]), **fields}
    return RunSpec(model=model, grid=grid, engine="openai", options=options, **fields)


class Ear:
    """A watcher that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    def loaded(self) -> None: ...

    def cell(self, result: Any, fresh: bool = True) -> None: ...


def ask(asked: RunSpec, ear: Ear | None = None) -> tuple[list[Prompt], dict[int, Answer], dict[str, Any]]:
    """Prompts, answers by index, and the session, without a run folder."""
    prepared = running.prepare(asked, (ear or Ear()).say)
    session = prepared.engine.load()
    return prepared.prompts, dict(prepared.engine.answers(prepared.prompts)), session


def all_found(prompts: list[Prompt], answers: dict[int, Answer]) -> bool:
    """Whether every prompt has an answer, and the right one."""
    return len(answers) == len(prompts) and all(p.question.answers[0] in answers[i].text for i, p in enumerate(prompts))
