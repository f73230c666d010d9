"""Cells as records for another harness: what is asked, what counts as an answer, and which cell it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from needle import scoring
from needle.errors import UsageError
from needle.running import Prepared
from needle.types import Answer, Prompt, Question, Score

FORMAT = 1
"""The number that a record carries as "needle_cell", by which it is known when it comes back."""
_READS_IDS = ("logprob",)
"""Scorers of what only an engine of this package measures."""


def records(prepared: Prepared) -> list[dict[str, Any]]:
    """One record a cell, in grid order; JSON all through, and the same keys in each.

    Raises:
        UsageError: the scorer needs what no other harness measures.
    """
    spec = prepared.spec
    if spec.scorer in _READS_IDS:
        raise UsageError(f"--scorer {spec.scorer} needs what only needle's own engines measure; use another scorer")
    for option, given in (
        ("--control", spec.grid.control),
        ("--adaptive", spec.grid.max_repeats is not None),
        ("--temperature", spec.temperature > 0),
    ):
        if given:
            raise UsageError(f"{option} means nothing to another harness; leave it out")
    common = {
        "needle_cell": FORMAT,
        "model": spec.model,
        "task": spec.task,
        "haystack": spec.haystack,
        "scorer": spec.scorer,
        "max_new_tokens": spec.max_new_tokens,
    }
    return [{**common, **_record(prepared.engine.tokenizer, prompt)} for prompt in prepared.prompts]


def _record(tokenizer: Any, prompt: Prompt) -> dict[str, Any]:
    cell, question = prompt.cell, prompt.question
    return {
        "length": cell.length,
        "depth": float(cell.depth),
        "repeat": cell.repeat,
        "control": cell.control,
        "depth_used": round(float(prompt.depth), 6),
        "position": int(prompt.position),
        "prompt_tokens": len(prompt.ids),
        "prompt_sha256": prompt.sha256,
        "question": question.question,
        "expected": list(question.answers),
        "distractors": list(question.distractors),
        "draft": question.draft or "",
        "prefix": question.prefix,
        "prompt": text(tokenizer, prompt),
    }


def text(tokenizer: Any, prompt: Prompt) -> str:
    """The whole prompt as text, special tokens and all."""
    said: str = tokenizer.decode(prompt.ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return said


def exact(tokenizer: Any, prompt: Prompt) -> bool:
    """Whether the prompt's text, tokenised as it stands, is the prompt again to the token."""
    ids: list[int] = tokenizer.encode(text(tokenizer, prompt), add_special_tokens=False)
    own: list[int] = prompt.ids.tolist()
    return ids == own


def grade(record: Mapping[str, Any], answer: str, options: Mapping[str, Any]) -> Score:
    """The answer's score by the run's scorer; `options` are the run's."""
    question = Question(
        needle="",
        question=record["question"],
        answers=tuple(record["expected"]),
        distractors=tuple(record["distractors"]),
        draft=record["draft"] or None,
        prefix=record["prefix"],
    )
    return scoring.get(record["scorer"], options)(Answer(text=answer.strip()), question)


def title(prepared: Prepared) -> str:
    """A name for these very cells that any harness takes."""
    words = re.sub(r"[^a-z0-9]+", "_", prepared.spec.task.lower()).strip("_")[:40]
    return f"needle_{words or 'task'}_{prepared.sources['prompts'][:8]}"
