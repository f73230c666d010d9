"""The forest way: trunks fed once, forks answered together, the expected reply verified as a draft.

A reply is what greedy decoding gives: a draft token counts only where it is the model's own first choice, and decoding
goes on from the first one that is not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from needle import forest
from needle.cache import Branch, Walk
from needle.engines._ways import Draft, Reply, describe, out_of_memory
from needle.types import Prompt

CHUNK = 4096
SMALLEST_CHUNK = 128
FORK_TOKENS = 2048
"""Tokens of all forks in one step: bounds the memory of their activations and logits."""


@dataclass(slots=True)
class _Live:
    """A fork being answered: its place in the cache, what it has said, what it will be fed next."""

    index: int
    branch: Branch
    room: int
    out: list[int] = field(default_factory=list)
    next: int = -1
    logprob: float | None = None
    rank: int | None = None
    done: bool = False

    def say(self, token: int, ends: frozenset[int]) -> None:
        self.out.append(token)
        self.next = token
        self.done = token in ends or len(self.out) >= self.room


class Forest:
    """One walk over all prompts; see `needle.forest`."""

    name = "forest"

    def __init__(self, kernel: str, chunk: int = CHUNK) -> None:
        self.kernel, self.chunk = kernel, chunk

    def replies(
        self, model: Any, prompts: Sequence[Prompt], drafts: Sequence[Draft], ends: frozenset[int]
    ) -> Iterator[tuple[int, Reply]]:
        """See `needle.engines._ways.Way`. The model must run on the attention of `needle.cache`."""
        plan = forest.plan([p.ids for p in prompts])
        walk = Walk(model.config.get_text_config().num_hidden_layers, self.kernel)
        walker = Walker(model, walk, self.chunk)
        for trunk in plan.trunks:
            began = time.perf_counter()
            try:
                walker.feed(prompts[trunk.source].ids, trunk.keep, trunk.stop)
            except (RuntimeError, MemoryError) as error:
                each = (time.perf_counter() - began) / len(trunk.forks)
                yield from ((f.index, Reply([], each, error=describe(error))) for f in trunk.forks)
                continue
            shared = (time.perf_counter() - began) / max(1, len(trunk.forks))
            for batch in _batches(trunk.forks, prompts, drafts):
                yield from _answer(walker, batch, prompts, drafts, ends, shared)


def _batches(
    forks: Sequence[forest.Fork], prompts: Sequence[Prompt], drafts: Sequence[Draft]
) -> Iterator[list[forest.Fork]]:
    """Forks in groups that stay within `FORK_TOKENS`, at least one each."""
    batch: list[forest.Fork] = []
    tokens = 0
    for fork in forks:
        size = len(prompts[fork.index].ids) - fork.cut + len(drafts[fork.index].ids)
        if batch and tokens + size > FORK_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(fork)
        tokens += size
    if batch:
        yield batch


def _answer(
    walker: Walker,
    forks: list[forest.Fork],
    prompts: Sequence[Prompt],
    drafts: Sequence[Draft],
    ends: frozenset[int],
    shared: float,
) -> Iterator[tuple[int, Reply]]:
    """Replies of one batch; out of memory, its halves are tried, and a fork that fails alone fails alone."""
    began = time.perf_counter()
    try:
        done = walker.answer(forks, prompts, drafts, ends)
    except (RuntimeError, MemoryError) as error:
        if len(forks) > 1:
            half = len(forks) // 2
            yield from _answer(walker, forks[:half], prompts, drafts, ends, shared)
            yield from _answer(walker, forks[half:], prompts, drafts, ends, shared)
        else:
            yield forks[0].index, Reply([], shared + time.perf_counter() - began, error=describe(error))
        return
    each = shared + (time.perf_counter() - began) / len(forks)
    for live in done:
        yield live.index, Reply(live.out, each, logprob=live.logprob, rank=live.rank)


class Walker:
    """Feeds a model along a walk."""

    def __init__(self, model: Any, walk: Walk, chunk: int) -> None:
        self.model, self.walk, self.chunk = model, walk, chunk
        self.device = model.get_input_embeddings().weight.device

    @torch.inference_mode()
    def feed(self, ids: Any, keep: int, stop: int) -> None:
        """Crop the cache to `keep` (or less, if it holds less) and grow the trunk to `ids[:stop]`, chunk by chunk."""
        self.walk.length = min(keep, self.walk.length)
        self.walk.reserve(stop)
        tokens = torch.from_numpy(ids[:stop]).long().to(self.device)
        while self.walk.length < stop:
            start = self.walk.length
            end = min(stop, start + self.chunk)
            try:
                with self.walk.stepping([], []):
                    self._hidden(tokens[start:end], torch.arange(start, end, device=self.device))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if self.chunk <= SMALLEST_CHUNK:
                    self.walk.release()
                    raise
                self.chunk //= 2
                continue
            self.walk.length = end

    @torch.inference_mode()
    def answer(
        self,
        forks: Sequence[forest.Fork],
        prompts: Sequence[Prompt],
        drafts: Sequence[Draft],
        ends: frozenset[int],
    ) -> list[_Live]:
        """All forks' replies: the question step with the drafts, then one token a step for those that differ."""
        lives, base = [], 0
        for fork in forks:
            prompt = prompts[fork.index]
            lives.append(_Live(fork.index, Branch(fork.cut, base), prompt.max_new_tokens))
            base += len(prompt.ids) - fork.cut + prompt.max_new_tokens
        self.walk.fork_capacity = max(self.walk.fork_capacity, base)
        self._question(lives, prompts, drafts, ends)
        while left := [live for live in lives if not live.done]:
            logits = self._step(left, [[live.next] for live in left], [1] * len(left))
            for live, token in zip(left, logits.argmax(-1).tolist(), strict=True):
                live.branch.length += 1
                live.say(token, ends)
        return lives

    def _question(
        self, lives: list[_Live], prompts: Sequence[Prompt], drafts: Sequence[Draft], ends: frozenset[int]
    ) -> None:
        """Each fork's own tokens and its draft in one forward; as much of the draft as is greedy is kept."""
        tails = [prompts[live.index].ids[live.branch.cut :].tolist() for live in lives]
        planned = [drafts[live.index].ids[: live.room] for live in lives]
        fed = [[*tail, *draft[:-1]] for tail, draft in zip(tails, planned, strict=True)]
        rows = [max(1, len(draft)) for draft in planned]
        at = 0
        logits = self._step(lives, fed, rows)
        for live, tail, draft, count in zip(lives, tails, planned, rows, strict=True):
            own, at = logits[at : at + count], at + count
            choices = own.argmax(-1).tolist()
            live.logprob, live.rank = _answer_odds(own, drafts[live.index], len(draft))
            kept = 0
            for position, choice in enumerate(choices):
                live.say(choice, ends)
                if live.done or not draft or choice != draft[position]:
                    break
                kept += 1
            live.branch.length = len(tail) + min(kept, len(choices) - 1)

    def _step(self, lives: Sequence[_Live], fed: list[list[int]], rows: list[int]) -> Tensor:
        """One forward of all forks; logits of each one's last `rows[i]` tokens, stacked: (sum of rows, vocabulary)."""
        tokens: list[int] = []
        positions: list[int] = []
        wanted: list[int] = []
        total = 0
        for live, ids, count in zip(lives, fed, rows, strict=True):
            start = live.branch.cut + live.branch.length
            tokens += ids
            positions += range(start, start + len(ids))
            total += len(ids)
            wanted += range(total - count, total)
        with self.walk.stepping([live.branch for live in lives], [len(ids) for ids in fed]):
            out = self.model(
                input_ids=self._tensor(tokens)[None],
                position_ids=self._tensor(positions)[None],
                past_key_values=self.walk,
                use_cache=True,
                logits_to_keep=self._tensor(wanted),
            )
        logits: Tensor = out.logits[0]
        return logits

    def _hidden(self, tokens: Tensor, positions: Tensor) -> None:
        self.model.base_model(
            input_ids=tokens[None], position_ids=positions[None], past_key_values=self.walk, use_cache=True
        )

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, device=self.device)


def _answer_odds(logits: Tensor, draft: Draft, count: int) -> tuple[float | None, int | None]:
    """Mean log-probability a token of the expected answer, and the worst rank among them (1: the first choice)."""
    at = [i for i in draft.answer if i < count]
    if not at or len(at) < len(draft.answer):
        return None, None
    own = logits[at].float()
    targets = torch.tensor([draft.ids[i] for i in at], device=own.device)[:, None]
    chosen = own.gather(1, targets)
    ranks = (own > chosen).sum(1) + 1
    return float((chosen[:, 0] - own.logsumexp(1)).mean()), int(ranks.max())
