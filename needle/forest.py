"""The forest: in what order prompts that share prefixes are fed, so that every distinct prefix is computed once.

Prompts are sequences of ids. Sorted, they form a tree of shared prefixes. A *trunk* is a walk down that tree: the
cache is cropped to where it leaves the walk before, then fed on to its tip. A *fork* is one prompt's own ending: it
leaves the trunk at its cut and is answered without touching the trunk's cache. One sequence of cache is all it takes.

Pure integers; nothing here knows what a token or a model is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from needle.types import Ids

FORK_LIMIT = 256
"""A longer ending is mostly fed as a trunk of its own, so that the forks of a step stay small."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Prompt `index` leaves its trunk after `cut` tokens; `ids[cut:]` are its own, at least one."""

    index: int
    cut: int


@dataclass(frozen=True, slots=True)
class Trunk:
    """Crop the cache to `keep` tokens, feed `ids[keep:stop]` of prompt `source`, then answer `forks`."""

    keep: int
    source: int
    stop: int
    forks: tuple[Fork, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Trunks in walking order. Token counts are of prefill: `plain` one prefill a prompt, `planned` this plan."""

    trunks: tuple[Trunk, ...]
    plain_tokens: int
    planned_tokens: int
    longest: int


@dataclass(slots=True)
class _Node:
    """A prefix of `depth` tokens that several prompts share; `source` is one of them."""

    depth: int
    source: int
    forks: list[Fork] = field(default_factory=list)
    children: list[_Node] = field(default_factory=list)
    tip: int = 0


def plan(prompts: Sequence[Ids], fork_limit: int = FORK_LIMIT) -> Plan:
    """The walk over `prompts` (each of at least one id) that computes every shared prefix once."""
    if not prompts:
        return Plan((), 0, 0, 0)
    root = _tree(prompts)
    _lengthen(root, prompts, fork_limit)
    trunks = _walk(root)
    tails = sum(len(prompts[f.index]) - f.cut for t in trunks for f in t.forks)
    return Plan(
        trunks=tuple(trunks),
        plain_tokens=sum(map(len, prompts)),
        planned_tokens=sum(t.stop - t.keep for t in trunks) + tails,
        longest=max(t.stop for t in trunks),
    )


def common(a: Ids, b: Ids) -> int:
    """How many leading ids two prompts share; the last id of the shorter one is never shared."""
    n = min(len(a), len(b)) - 1
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def _tree(prompts: Sequence[Ids]) -> _Node:
    """The compressed tree of shared prefixes, built from the sorted prompts and their neighbours' common lengths."""
    order = sorted(range(len(prompts)), key=lambda i: np.asarray(prompts[i], dtype=">u4").tobytes())
    root = _Node(0, order[0])
    path = [root]
    for at, index in enumerate(order):
        before = common(prompts[order[at - 1]], prompts[index]) if at else 0
        after = common(prompts[index], prompts[order[at + 1]]) if at + 1 < len(order) else 0
        while path[-1].depth > before:
            path.pop()
        if before > path[-1].depth:
            # The shared prefix ends inside an edge that was laid before: split it.
            last = path[-1].children[-1]
            middle = _Node(before, index, children=[last])
            path[-1].children[-1] = middle
            path.append(middle)
        if after > path[-1].depth:
            child = _Node(after, index)
            path[-1].children.append(child)
            path.append(child)
        path[-1].forks.append(Fork(index, path[-1].depth))
    return root


def _lengthen(root: _Node, prompts: Sequence[Ids], limit: int) -> None:
    """Give every prompt with a long ending a node of its own close to its end."""
    stack = [root]
    while stack:
        node = stack.pop()
        stack += node.children
        long = [f for f in node.forks if len(prompts[f.index]) - node.depth > limit]
        node.forks = [f for f in node.forks if f not in long]
        for fork in long:
            depth = len(prompts[fork.index]) - max(1, limit // 2)
            node.children.append(_Node(depth, fork.index, [Fork(fork.index, depth)]))


def _walk(root: _Node) -> list[Trunk]:
    """Depth first, the deepest way first, so that the first trunk is the longest and the cache never regrows."""
    for node in reversed(_preorder(root)):
        node.children.sort(key=lambda c: -c.tip)
        node.tip = node.children[0].tip if node.children else node.depth
    trunks = []
    waiting = [(0, root)]
    while waiting:
        keep, node = waiting.pop()
        forks: list[Fork] = []
        while True:
            forks += node.forks
            # Deeper branches are pushed later and so are walked first: cropping only ever shortens the cache.
            waiting += [(node.depth, child) for child in reversed(node.children[1:])]
            if not node.children:
                break
            node = node.children[0]
        trunks.append(Trunk(keep, node.source, node.depth, tuple(forks)))
    return trunks


def _preorder(root: _Node) -> list[_Node]:
    found, stack = [], [root]
    while stack:
        node = stack.pop()
        found.append(node)
        stack += node.children
    return found
