"""The forest's cache: a trunk that grows and is cropped in one place, and forks beside it that see what they should."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import models
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from needle import cache as caches
from needle.cache import NAME, Branch, Walk
from needle.engines._forest import Walker

HEADS, DIM = 2, 4


def states(*tokens: int) -> tuple[Tensor, Tensor]:
    """Keys that tell which token they are of, and values that are their negatives."""
    keys = torch.tensor(tokens, dtype=torch.float32)[None, None, :, None].expand(1, HEADS, -1, DIM)
    return keys, -keys


def tokens_of(keys: Tensor, values: Tensor) -> list[int]:
    assert torch.equal(keys, -values)
    assert torch.equal(keys, keys[:, :1, :, :1].expand_as(keys))
    return keys[0, 0, :, 0].int().tolist()


def grow(walk: Walk, *tokens: int) -> list[int]:
    """Feed the trunk; what is in every layer then, and what attention got to see in all but the last."""
    seen = []
    with walk.stepping([], []):
        for layer in walk.layers:
            seen.append(layer.update(*states(*tokens)))
        pytest.fail("the forward went on after the last layer had its keys and values")
    walk.length += len(tokens)
    held = [tokens_of(layer.keys[:, :, : walk.length], layer.values[:, :, : walk.length]) for layer in walk.layers]
    assert [tokens_of(*pair) for pair in seen] == held[:-1]
    assert all(tokens == held[0] for tokens in held)
    return held[0]


def fork(walk: Walk, branches: list[Branch], *tokens: list[int]) -> list[tuple[list[int], list[int]]]:
    """Feed the forks in one step; (trunk up to the cut, own) as attention gets to see it of each."""
    layer = walk.layers[-1]
    with walk.stepping(branches, [len(t) for t in tokens]):
        layer.update(*states(*(token for t in tokens for token in t)))
        owns = [layer.own(branch, len(t)) for branch, t in zip(branches, tokens, strict=True)]
    for branch, t in zip(branches, tokens, strict=True):
        branch.length += len(t)
    trunk = tokens_of(layer.keys[:, :, : walk.length], layer.values[:, :, : walk.length]) if walk.length else []
    return [(trunk[: branch.cut], tokens_of(*own)) for branch, own in zip(branches, owns, strict=True)]


def walk_of(capacity: int, layers: int = 2) -> Walk:
    walk = Walk(layers, "eager")
    walk.reserve(capacity)
    return walk


def test_a_trunk_grows_is_cropped_and_grows_another_way() -> None:
    walk = walk_of(8)
    assert grow(walk, 1, 2, 3) == [1, 2, 3]
    assert grow(walk, 4, 5, 6) == [1, 2, 3, 4, 5, 6]
    walk.length = 2
    assert walk.get_seq_length() == 2
    assert grow(walk, 7) == [1, 2, 7]
    assert grow(walk, 8, 9) == [1, 2, 7, 8, 9]


def test_a_walk_stays_in_the_memory_it_has() -> None:
    walk = walk_of(16)
    grow(walk, 1)
    homes = [(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in walk.layers]
    for length in (0, 5, 3, 1):
        walk.length = min(walk.length, length)
        walk.reserve(12)
        seen = grow(walk, *range(9))
        assert len(seen) <= 16
        assert [(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in walk.layers] == homes
    assert len({home for pair in homes for home in pair}) == 4


def test_forks_see_the_trunk_up_to_their_cut_and_themselves() -> None:
    walk = walk_of(8)
    grow(walk, 1, 2, 3, 4, 5)
    short, long = Branch(cut=2), Branch(cut=5)
    walk.seat([short, long], [6, 6])
    assert fork(walk, [short, long], [20, 21], [50, 51, 52]) == [
        ([1, 2], [20, 21]),
        ([1, 2, 3, 4, 5], [50, 51, 52]),
    ]
    assert fork(walk, [long, short], [53], [22]) == [([1, 2, 3, 4, 5], [50, 51, 52, 53]), ([1, 2], [20, 21, 22])]
    # What a draft held beyond its agreement is overwritten.
    long.length = 2
    assert fork(walk, [long], [59]) == [([1, 2, 3, 4, 5], [50, 51, 59])]
    assert grow(walk, 6) == [1, 2, 3, 4, 5, 6], "forks left something in the trunk"


def test_a_fork_may_leave_before_anything_was_fed() -> None:
    walk = walk_of(0)
    leaf = Branch(0)
    walk.seat([leaf], [4])
    assert fork(walk, [leaf], [1, 2]) == [([], [1, 2])]


def rooms(walk: Walk) -> set[int]:
    return {room.shape[2] for layer in walk.layers for room in (layer.fork_keys, layer.fork_values)}


def test_forks_that_go_on_move_with_what_they_have_and_the_others_leave() -> None:
    walk = walk_of(4, layers=1)
    grow(walk, 1, 2)
    branches = [Branch(1), Branch(2), Branch(2)]
    walk.seat(branches, [2, 3, 1])
    fork(walk, branches, [10, 11], [20, 21, 22], [30])
    assert rooms(walk) == {6}
    # The first is answered; the second's draft held for two of its tokens.
    _, second, third = branches
    second.length = 2
    walk.seat([third, second], [4, 5])
    assert rooms(walk) == {9}
    assert fork(walk, [second, third], [29], [31, 32]) == [([1, 2], [20, 21, 29]), ([1, 2], [30, 31, 32])]
    walk.seat([], [])
    assert rooms(walk) == {0}


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 4)), min_size=1, max_size=6))
def test_however_forks_are_seated_again_they_keep_their_own(forks: list[tuple[int, bool, int]]) -> None:
    """Of each: tokens fed, whether it goes on, and tokens fed then."""
    walk = walk_of(1, layers=1)
    grow(walk, 1)
    branches = [Branch(1) for _ in forks]
    first = [[10 * i + n for n in range(fed)] for i, (fed, *_) in enumerate(forks)]
    walk.seat(branches, [fed for fed, *_ in forks])
    fork(walk, branches, *first)
    on = [i for i, (_, goes_on, _) in enumerate(forks) if goes_on]
    walk.seat([branches[i] for i in on], [forks[i][0] + forks[i][2] for i in on])
    then = [[100 * (i + 1) + n for n in range(forks[i][2])] for i in on]
    if on:
        assert [own for _, own in fork(walk, [branches[i] for i in on], *then)] == [
            first[i] + more for i, more in zip(on, then, strict=True)
        ]


@pytest.mark.parametrize("layers", [1, 3])
def test_reserving_more_keeps_what_is_there(layers: int) -> None:
    walk = walk_of(3, layers)
    grow(walk, 1, 2, 3)
    walk.reserve(5)
    assert grow(walk, 4, 5) == [1, 2, 3, 4, 5]
    walk.reserve(2)
    assert [layer.keys.shape[2] for layer in walk.layers] == [walk.capacity] * layers == [5] * layers


def test_release_gives_all_memory_back() -> None:
    walk = walk_of(64)
    grow(walk, 1, 2)
    leaf = Branch(1)
    walk.seat([leaf], [8])
    fork(walk, [leaf], [3])
    walk.release()
    held = (t for layer in walk.layers for t in (layer.keys, layer.values, layer.fork_keys, layer.fork_values))
    assert (walk.length, walk.capacity, sum(t.numel() for t in held)) == (0, 0, 0)
    walk.reserve(2)
    assert grow(walk, 4, 5) == [4, 5]


class Ends:
    """Memory that has room for so many more buffers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.make = 1 << 30, Tensor.new_empty
        monkeypatch.setattr(Tensor, "new_empty", self)

    def __get__(self, tensor: Tensor, _owner: type) -> Callable[..., Tensor]:
        def made(*shape: Any, **more: Any) -> Tensor:
            self.left -= 1
            if self.left < 0:
                raise torch.OutOfMemoryError("no memory")
            return self.make(tensor, *shape, **more)

        return made


@pytest.mark.parametrize("there", range(4))
def test_memory_that_ends_while_the_trunk_moves_loses_nothing(monkeypatch: pytest.MonkeyPatch, there: int) -> None:
    memory, walk = Ends(monkeypatch), walk_of(3)
    grow(walk, 1, 2, 3)
    walk.reserve(5)
    memory.left = there
    with pytest.raises(torch.OutOfMemoryError):
        grow(walk, 4)
    memory.left = 4
    assert grow(walk, 4) == [1, 2, 3, 4]
    assert tokens_of(walk.layers[0].keys[:, :, :4], walk.layers[0].values[:, :, :4]) == [1, 2, 3, 4]


@pytest.mark.parametrize("there", range(2))
def test_memory_that_ends_in_the_fork_room_leaves_it_usable(monkeypatch: pytest.MonkeyPatch, there: int) -> None:
    memory, walk = Ends(monkeypatch), walk_of(3)
    grow(walk, 1)
    leaf = Branch(1)
    walk.seat([leaf], [6])
    memory.left = there
    with pytest.raises(torch.OutOfMemoryError):
        fork(walk, [leaf], [7, 8])
    memory.left = 2
    walk.seat([leaf], [2])
    assert fork(walk, [leaf], [7, 8]) == [([1], [7, 8])]


def test_memory_that_ends_while_forks_move_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, walk, leaf = Ends(monkeypatch), walk_of(3), Branch(1)
    grow(walk, 1)
    walk.seat([leaf], [2])
    with walk.stepping([leaf], [2]):
        for layer in walk.layers:
            layer.update(*states(7, 8))
    leaf.length, memory.left = 2, 3
    with pytest.raises(torch.OutOfMemoryError):
        walk.seat([leaf], [6])
    memory.left, other = 2, Branch(1)
    walk.seat([other], [2])
    assert fork(walk, [other], [8, 9]) == [([1], [8, 9])]


# In a model.


@cache
def model() -> Any:
    made = models.make("llama")
    made.set_attn_implementation(NAME)
    return made


@cache
def plain(ids: tuple[int, ...]) -> Tensor:
    """Logits of the last token, from one prefill without a cache."""
    model().set_attn_implementation("eager")
    with torch.inference_mode():
        found: Tensor = model()(torch.tensor([ids]), use_cache=False).logits[0, -1]
    model().set_attn_implementation(NAME)
    return found


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40), st.lists(st.integers(0, 60), max_size=3)), max_size=5),
    st.sampled_from(["torch-flash-cpu", "sdpa", "eager"]),
    st.sampled_from([1, 7, 64]),
)
def test_any_walk_gives_the_logits_of_a_plain_prefill(
    turns: list[tuple[int, int, list[int]]], kernel: str, chunk: int
) -> None:
    """Crop, grow, and step some forks twice, over and over."""
    random = np.random.default_rng(0)
    trunk: list[int] = []
    walker = Walker(model(), Walk(2, kernel), chunk)
    for keep, more, cuts in turns:
        keep = min(keep, len(trunk))
        trunk = trunk[:keep] + random.integers(0, models.VOCABULARY, more).tolist()
        walker.feed(np.asarray(trunk, np.int32), keep, len(trunk))
        branches = [Branch(min(cut, len(trunk))) for cut in cuts]
        own: list[list[int]] = [[] for _ in branches]
        walker.walk.seat(branches, [4] * len(branches))
        for size in (3, 1) if branches else ():
            new = [random.integers(0, models.VOCABULARY, size).tolist() for _ in branches]
            with torch.inference_mode():
                logits = walker.step(branches, new, [1] * len(branches))
            for branch, said, fresh, found in zip(branches, own, new, logits, strict=True):
                branch.length += size
                said += fresh
                expected = plain((*trunk[: branch.cut], *said))
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_of_the_last_layer_a_trunk_takes_keys_and_values_alone() -> None:
    """Its attention and MLP are left out, and what the cache holds is what a whole prefill leaves."""
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in model().named_modules()
        if name.endswith(("k_proj", "v_proj", "o_proj", "down_proj"))
    ]
    walker = Walker(model(), Walk(2, "eager"), chunk=64)
    try:
        walker.feed(np.arange(50, dtype=np.int32), 0, 50)
    finally:
        for hook in hooks:
            hook.remove()
    assert {name.split(".")[-1] for name in ran if "layers.0." in name} == {"k_proj", "v_proj", "o_proj", "down_proj"}
    assert {name.split(".")[-1] for name in ran if "layers.1." in name} == {"k_proj", "v_proj"}
    model().set_attn_implementation("eager")
    with torch.inference_mode():
        whole = model()(torch.arange(50)[None], use_cache=True).past_key_values
    model().set_attn_implementation(NAME)
    for ours, theirs in zip(walker.walk.layers, whole.layers, strict=True):
        torch.testing.assert_close(ours.keys[:, :, :50], theirs.keys, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.values[:, :, :50], theirs.values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("more", caches.BEYOND)
def test_attention_that_no_kernel_here_computes_is_refused(more: str) -> None:
    attend = caches._attention
    q = torch.zeros(1, HEADS, 3, DIM)
    module = type("Module", (), {"layer_idx": 0})
    walk = walk_of(3)
    with walk.stepping([], []):
        assert attend(module, q, q, q, None, **{more: None})[0].shape == (1, 3, HEADS, DIM)
        with pytest.raises(NotImplementedError, match=more):
            attend(module, q, q, q, None, **{more: 30.0})
