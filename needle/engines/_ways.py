"""What a way of answering a set of prompts is, and the plain one: `Cells`, one `generate` a prompt, the reference."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import GenerationConfig

from needle.engines._sampling import Sampling
from needle.types import Prompt

GREEDY = Sampling()

FAILURES = (RuntimeError, MemoryError, ValueError, IndexError)
"""What a model may raise over one prompt; the cell fails and the run goes on."""


@dataclass(frozen=True, slots=True)
class Reply:
    """New ids of one prompt, or why there are none.

    `logprobs` are those of the expected answer's tokens, `rank` the worst among them, where the way measures them.
    """

    ids: list[int]
    seconds: float
    error: str | None = None
    logprobs: tuple[float, ...] = ()
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """The reply that is expected, in ids, and which of them are the expected answer. No ids: nothing is expected."""

    ids: list[int]
    answer: tuple[int, ...] = ()


class Way(Protocol):
    """`name` and `kernel` go into the record of what was really done."""

    name: str
    kernel: str

    def replies(
        self, model: Any, prompts: Sequence[Prompt], drafts: Sequence[Draft], ends: frozenset[int], /
    ) -> Iterator[tuple[int, Reply]]:
        """Each prompt's index and greedy reply, in the way's own order."""


class Cells:
    """One prefill and one `generate` a prompt, as anybody would do it."""

    name = "cells"

    def __init__(self, attention: str, sampling: Sampling = GREEDY) -> None:
        self.kernel, self.sampling = attention, sampling

    def replies(
        self, model: Any, prompts: Sequence[Prompt], _drafts: Sequence[Draft], ends: frozenset[int]
    ) -> Iterator[tuple[int, Reply]]:
        """See `Way`; drafts are not used."""
        for index, prompt in enumerate(prompts):
            began = time.perf_counter()
            try:
                ids = _generate(model, prompt, ends, self.sampling)
            except FAILURES as error:
                yield index, Reply([], time.perf_counter() - began, error=describe(error))
            else:
                yield index, Reply(ids, time.perf_counter() - began)


def _generate(model: Any, prompt: Prompt, ends: frozenset[int], sampling: Sampling) -> list[int]:
    """New ids, the end included. Prefill computes logits for the last token only."""
    ids = torch.from_numpy(prompt.ids).long()[None].to(model.device)
    settings = GenerationConfig(
        max_new_tokens=prompt.max_new_tokens,
        do_sample=False,
        use_cache=True,
        eos_token_id=sorted(ends) or None,
        pad_token_id=min(ends, default=0),
    )
    with torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=settings,
            logits_processor=sampling.processors(prompt),
        )
    new: list[int] = out[0, ids.shape[1] :].tolist()
    return new


def describe(error: Exception) -> str:
    """One line for the row of a cell that failed."""
    if out_of_memory(error):
        return "out of memory"
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0][:300] if first else ''}"


def out_of_memory(error: Exception) -> bool:
    """Whether the device, or the CPU's allocator, had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
