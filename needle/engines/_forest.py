"""The forest way: trunks fed once, forks answered together, the expected reply verified as a draft.

A reply is what greedy decoding gives: a draft token counts only where it is the model's own first choice, and decoding
goes on from the first one that is not. At a temperature, "choice" is the draw that `Sampling` makes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from needle import forest
from needle.cache import Branch, Walk
from needle.engines._sampling import Sampling
from needle.engines._ways import FAILURES, GREEDY, Draft, Reply, describe, out_of_memory
from needle.forest import Fork
from needle.types import Ids, Prompt

CHUNK = 1024
"""Tokens in one forward where nothing else is said."""
SMALLEST_CHUNK = 128
FORK_TOKENS = 1024
"""Tokens of all forks that are asked together, drafts included: bounds their room in the cache before they answer."""

T = TypeVar("T")


@dataclass(slots=True)
class _Live:
    """A fork being answered: its place in the cache, its own end of the prompt, its draft, what it has said so far."""

    index: int
    prompt: Prompt
    branch: Branch
    tail: list[int]
    draft: Draft
    out: list[int] = field(default_factory=list)
    logprobs: tuple[float, ...] = ()
    rank: int | None = None
    done: bool = False

    @classmethod
    def of(cls, fork: Fork, prompt: Prompt, draft: Draft) -> _Live:
        """A fork that has said nothing yet; of the draft there is as much as may be said."""
        tail = prompt.ids[fork.cut :].tolist()
        return cls(fork.index, prompt, Branch(fork.cut), tail, Draft(draft.ids[: prompt.max_new_tokens], draft.answer))

    @property
    def room(self) -> int:
        """Tokens in the cache for its own end of the prompt and a whole reply."""
        return len(self.tail) + self.prompt.max_new_tokens

    @property
    def asked(self) -> list[int]:
        """What the question step feeds: the last token of a draft only has to be guessed."""
        return self.tail + self.draft.ids[:-1]

    def say(self, token: int, ends: frozenset[int]) -> None:
        self.out.append(token)
        self.done = token in ends or len(self.out) >= self.prompt.max_new_tokens
        # What was said is in the cache by now, but for this token, which is fed next.
        self.branch.length = len(self.tail) + len(self.out) - 1


class Forest:
    """One walk over all prompts; see `needle.forest`."""

    name = "forest"

    def __init__(self, kernel: str, chunk: int = CHUNK, sampling: Sampling = GREEDY) -> None:
        self.kernel, self.chunk, self.sampling = kernel, chunk, sampling

    def replies(
        self, model: Any, prompts: Sequence[Prompt], drafts: Sequence[Draft], ends: frozenset[int]
    ) -> Iterator[tuple[int, Reply]]:
        """See `needle.engines._ways.Way`. The model must run on the attention of `needle.cache`."""
        walk = Walk(model.config.get_text_config().num_hidden_layers, self.kernel)
        walker = Walker(model, walk, self.chunk, self.sampling)
        for trunk in forest.plan([p.ids for p in prompts]).trunks:
            began, failed = time.perf_counter(), None
            try:
                walker.feed(prompts[trunk.source].ids, trunk.keep, trunk.stop)
            except FAILURES as error:
                failed = describe(error)
            shared = (time.perf_counter() - began) / len(trunk.forks)
            if failed is None:
                for batch in fork_batches(trunk.forks, prompts, drafts):
                    yield from _answer(walker, batch, prompts, drafts, ends, shared)
            else:
                yield from ((fork.index, Reply([], shared, failed)) for fork in trunk.forks)


def fork_batches(forks: Sequence[Fork], prompts: Sequence[Prompt], drafts: Sequence[Draft]) -> Iterator[list[Fork]]:
    """Forks to be answered together: within `FORK_TOKENS`, at least one each."""
    return _batches(forks, lambda f: len(prompts[f.index].ids) - f.cut + len(drafts[f.index].ids), FORK_TOKENS)


def _batches(items: Sequence[T], tokens: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Items in order, in groups of at most `limit` tokens, at least one each."""
    batch: list[T] = []
    total = 0
    for item in items:
        size = tokens(item)
        if batch and total + size > limit:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


def _answer(
    walker: Walker,
    forks: Sequence[Fork],
    prompts: Sequence[Prompt],
    drafts: Sequence[Draft],
    ends: frozenset[int],
    shared: float,
) -> Iterator[tuple[int, Reply]]:
    """Replies of one batch, `shared` seconds added to each; a batch that fails is halved, down to the fork at fault."""
    began, failed, lives = time.perf_counter(), "", []
    try:
        lives = walker.answer(forks, prompts, drafts, ends)
    except FAILURES as error:
        # What follows waits until the error is gone: it holds on to all that the failed step had in memory.
        failed = describe(error)
    seconds = shared + (time.perf_counter() - began) / len(forks)
    if not failed:
        yield from ((live.index, Reply(live.out, seconds, None, live.logprobs, live.rank)) for live in lives)
    elif len(forks) == 1:
        yield forks[0].index, Reply([], seconds, failed)
    else:
        middle = len(forks) // 2
        for half in (forks[:middle], forks[middle:]):
            yield from _answer(walker, half, prompts, drafts, ends, shared)


class Walker:
    """Feeds a model along a walk, at most `chunk` tokens of a trunk or of whole forks at once."""

    def __init__(self, model: Any, walk: Walk, chunk: int, sampling: Sampling = GREEDY) -> None:
        self.model, self.walk, self.chunk, self.sampling = model, walk, chunk, sampling
        self.device = model.get_input_embeddings().weight.device

    @torch.inference_mode()
    def feed(self, ids: Ids, keep: int, stop: int) -> None:
        """Crop the cache to `keep` (or less, if it holds less) and grow the trunk to `ids[:stop]`, chunk by chunk.

        Out of memory, chunks are halved; those that went through set the size of the ones to come. Where the smallest
        fails, the cache is given up and the error passed on.
        """
        self.walk.length = min(keep, self.walk.length)
        self.walk.seat([], [])
        self.walk.reserve(stop)
        tokens = torch.from_numpy(ids[:stop]).long().to(self.device)
        chunk = self.chunk
        while self.walk.length < stop:
            end = min(stop, self.walk.length + chunk)
            try:
                self._grow(tokens[self.walk.length : end])
            except FAILURES as error:
                if not out_of_memory(error):
                    raise
                if chunk <= SMALLEST_CHUNK:
                    self.walk.release()
                    raise
                chunk //= 2
            else:
                self.walk.length, self.chunk = end, chunk

    def _grow(self, tokens: Tensor) -> None:
        """Feed the trunk's next tokens, as far as their keys and values in the last layer."""
        start = self.walk.length
        positions = torch.arange(start, start + len(tokens), device=self.device)
        with self.walk.stepping([], []):
            self.model.base_model(
                input_ids=tokens[None], position_ids=positions[None], past_key_values=self.walk, use_cache=True
            )

    @torch.inference_mode()
    def answer(
        self,
        forks: Sequence[Fork],
        prompts: Sequence[Prompt],
        drafts: Sequence[Draft],
        ends: frozenset[int],
    ) -> list[_Live]:
        """All forks' replies: question steps with the drafts, then one token a step for those that differ."""
        lives = [_Live.of(fork, prompts[fork.index], drafts[fork.index]) for fork in forks]
        self.walk.seat([live.branch for live in lives], [len(live.asked) for live in lives])
        for batch in _batches(lives, lambda live: len(live.asked), self.chunk):
            self._question(batch, ends)
        left = [live for live in lives if not live.done]
        # Room for a whole reply is made for those alone that are not answered yet.
        self.walk.seat([live.branch for live in left], [live.room for live in left])
        while left := [live for live in left if not live.done]:
            logits = self.step([live.branch for live in left], [live.out[-1:] for live in left], [1] * len(left))
            picked = self.sampling.picks(logits, [live.prompt for live in left], [len(live.out) for live in left])
            for live, token in zip(left, picked, strict=True):
                live.say(token, ends)
        return lives

    def _question(self, lives: list[_Live], ends: frozenset[int]) -> None:
        """Each fork's own tokens and its draft in one forward; as much of the draft as is chosen is said."""
        fed = [live.asked for live in lives]
        rows = [max(1, len(live.draft.ids)) for live in lives]
        logits = self.step([live.branch for live in lives], fed, rows)
        for live, own in zip(lives, logits.split(rows), strict=True):
            live.logprobs, live.rank = _answer_odds(own, live.draft)
            picked = self.sampling.picks(own, [live.prompt] * len(own), range(len(own)))
            for choice, drafted in zip(picked, live.draft.ids or [-1], strict=True):
                live.say(choice, ends)
                if live.done or choice != drafted:
                    break

    def step(self, branches: list[Branch], fed: list[list[int]], rows: list[int]) -> Tensor:
        """One forward of all forks; logits of each one's last `rows[i]` tokens, stacked: (sum of rows, vocabulary)."""
        tokens: list[int] = []
        positions: list[int] = []
        wanted: list[int] = []
        for branch, ids, count in zip(branches, fed, rows, strict=True):
            start = branch.cut + branch.length
            tokens += ids
            positions += range(start, start + len(ids))
            wanted += range(len(tokens) - count, len(tokens))
        with self.walk.stepping(branches, [len(ids) for ids in fed]):
            out = self.model(
                input_ids=self._tensor(tokens)[None],
                position_ids=self._tensor(positions)[None],
                past_key_values=self.walk,
                use_cache=True,
                logits_to_keep=self._tensor(wanted),
            )
        logits: Tensor = out.logits[0]
        return logits

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, device=self.device)


def _answer_odds(logits: Tensor, draft: Draft) -> tuple[tuple[float, ...], int | None]:
    """Log-probabilities of the expected answer's tokens, and the worst rank among them (1: the first choice).

    `logits` are the draft's, (its length, vocabulary). None, and no rank, where the draft has no answer, or had to be
    cut before its end.
    """
    at = list(draft.answer)
    if not at or max(at) >= len(draft.ids):
        return (), None
    own = logits[at].float()
    targets = torch.tensor([draft.ids[i] for i in at], device=own.device)[:, None]
    chosen = own.gather(1, targets)
    ranks = (own > chosen).sum(1) + 1
    logprobs = chosen[:, 0] - own.logsumexp(1)
    return tuple(logprobs.tolist()), int(ranks.max())
