"""A cache made for the forest: one preallocated trunk that is cropped without copying, and a small room for forks.

A model of Hugging Face's sees it as its `past_key_values`; the attention function that is registered here reads from it
what the new tokens may see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.masking_utils import AttentionMaskInterface

from needle import attention

NAME = "needle_forest"
"""The name under which transformers finds the attention function. It must not hold the word "flash"."""

BEYOND = ("softcap", "s_aux", "sinks", "position_bias", "indices", "block_indices")
"""What some models ask of their attention and no kernel here does."""


@dataclass(slots=True)
class Branch:
    """One fork in the cache: it sees the trunk up to `cut`, and its own `length` tokens, `base` in the fork room on.

    `Walk.seat` says where its base is.
    """

    cut: int
    length: int = 0
    base: int = 0


class Grown(Exception):
    """A trunk's new tokens are in the cache of every layer: what the last layer would make of them, nobody reads."""


@dataclass(frozen=True, slots=True)
class Step:
    """The tokens of one forward: `branches[i]` brings the next `counts[i]` of them. No branches: the trunk grows."""

    branches: list[Branch]
    counts: list[int]


class Layer(CacheLayerMixin):
    """Keys and values of one layer, in buffers of the walk's capacity."""

    is_croppable = True

    def __init__(self, walk: Walk, last: bool) -> None:
        super().__init__()
        self.walk, self.last = walk, last
        self.release()

    def release(self) -> None:
        """Give the buffers back."""
        self.keys = self.values = self.fork_keys = self.fork_values = torch.empty(1, 0, 0, 0)
        self.is_initialized = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make buffers shaped like these states, of the walk's capacity; what the trunk holds stays."""
        keys, values = _rooms(key_states, value_states, self.walk.capacity)
        if self.is_initialized:
            keys[:, :, : self.walk.length] = self.keys[:, :, : self.walk.length]
            values[:, :, : self.walk.length] = self.values[:, :, : self.walk.length]
        self.keys, self.values, self.is_initialized = keys, values, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Put new states where the step says; returns the trunk with them, or for forks just the new states.

        Raises:
            Grown: the trunk has grown in this last layer, too.
        """
        if not self.is_initialized or self.keys.shape[2] < self.walk.capacity:
            self.lazy_initialization(key_states, value_states)
        if self.walk.step.branches:
            self._keep_forks(key_states, value_states)
            return key_states, value_states
        start, stop = self.walk.length, self.walk.length + key_states.shape[2]
        self.keys[:, :, start:stop] = key_states
        self.values[:, :, start:stop] = value_states
        if self.last:
            raise Grown
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def _keep_forks(self, keys: Tensor, values: Tensor) -> None:
        if not self.fork_keys.shape[2]:
            self.fork_keys, self.fork_values = _rooms(keys, values, self.walk.fork_capacity)
        row = 0
        for branch, count in zip(self.walk.step.branches, self.walk.step.counts, strict=True):
            at = branch.base + branch.length
            self.fork_keys[:, :, at : at + count] = keys[:, :, row : row + count]
            self.fork_values[:, :, at : at + count] = values[:, :, row : row + count]
            row += count

    def seat(self, branches: Sequence[Branch], bases: Sequence[int]) -> None:
        """Move what these forks have to other bases, in a room of the walk's capacity for forks; the rest goes."""
        keys, values = self.fork_keys, self.fork_values
        self.fork_keys = self.fork_values = torch.empty(1, 0, 0, 0)
        if not any(branch.length for branch in branches):
            # The next step makes the room: only then is the states' shape known.
            return
        self.fork_keys, self.fork_values = _rooms(keys, values, self.walk.fork_capacity)
        for branch, base in zip(branches, bases, strict=True):
            old, new = slice(branch.base, branch.base + branch.length), slice(base, base + branch.length)
            self.fork_keys[:, :, new] = keys[:, :, old]
            self.fork_values[:, :, new] = values[:, :, old]

    def own(self, branch: Branch, count: int) -> attention.Pair:
        """Keys and values that a fork has beside the trunk, the step's `count` tokens included."""
        own = slice(branch.base, branch.base + branch.length + count)
        return self.fork_keys[:, :, own], self.fork_values[:, :, own]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(keys, offset), as transformers asks; no mask is made of it."""
        return self.walk.length + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens of the trunk."""
        return self.walk.length

    def get_max_length(self) -> int:
        """Tokens there is room for."""
        return self.walk.capacity


class Walk(Cache):
    """The cache of a walk through the forest. Cropping is setting `length`; `step` is what the next forward brings."""

    def __init__(self, layers: int, kernel: str) -> None:
        self.length = 0
        self.capacity = 0
        self.fork_capacity = 0
        self.step = Step([], [])
        self.kernel = attention.KERNELS[kernel]
        super().__init__(layers=[Layer(self, at == layers - 1) for at in range(layers)])

    def reserve(self, capacity: int) -> None:
        """Make room for a trunk of `capacity` tokens; what is there stays."""
        self.capacity = max(self.capacity, capacity)

    def seat(self, branches: Sequence[Branch], sizes: Sequence[int]) -> None:
        """Give each fork room for so many tokens of its own, in all; what it has stays, all other forks' goes.

        After a failure forks can only be seated anew.
        """
        *bases, self.fork_capacity = accumulate(sizes, initial=0)
        for layer in self.layers:
            layer.seat(branches, bases)
        for branch, base in zip(branches, bases, strict=True):
            branch.base = base

    def release(self) -> None:
        """Give all memory back and begin at nothing."""
        self.length = self.capacity = self.fork_capacity = 0
        for layer in self.layers:
            layer.release()

    @contextmanager
    def stepping(self, branches: list[Branch], counts: list[int]) -> Iterator[None]:
        """For one forward: these branches bring that many tokens each; with none, the trunk grows.

        A forward that grows the trunk ends here as soon as the last layer has its keys and values.
        """
        self.step = Step(branches, counts)
        token = _WALK.set(self)
        try:
            with suppress(Grown):
                yield
        finally:
            _WALK.reset(token)
            self.step = Step([], [])

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention of the step's tokens in one layer, shapes as in `needle.attention`."""
        if not self.step.branches:
            past = key.shape[2] - query.shape[2]
            return self.kernel([query], (key, value), [past], [(key[:, :, past:], value[:, :, past:])], scale)
        room = self.layers[layer]
        owns = [room.own(branch, count) for branch, count in zip(self.step.branches, self.step.counts, strict=True)]
        cuts = [branch.cut for branch in self.step.branches]
        queries = query.split(self.step.counts, dim=2)
        return self.kernel(queries, (room.keys, room.values), cuts, owns, scale)


_WALK: ContextVar[Walk] = ContextVar("walk")


def _rooms(keys: Tensor, values: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Room for so many tokens' keys and values; memory may end between the two: neither is kept without the other."""
    return (
        keys.new_empty(*keys.shape[:2], tokens, keys.shape[3]),
        values.new_empty(*values.shape[:2], tokens, values.shape[3]),
    )


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer; returns (1, tokens, heads, dim) as it wants it.

    Raises:
        NotImplementedError: the model asks for more than plain causal attention.
    """
    asked = [name for name in BEYOND if more.get(name) is not None]
    if asked:
        raise NotImplementedError(f"attention with {', '.join(asked)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    found = _WALK.get().attend(module.layer_idx, query, key, value, scale)
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, lambda *_, **__: None)
