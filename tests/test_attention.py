"""Every kernel against the plain formula: any number of heads, any past, prefill and decoding."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from needle import attention
from needle.attention import KERNELS

CPU = ("torch-flash-cpu", "sdpa", "eager")


def by_hand(q: Tensor, past_k: Tensor, past_v: Tensor, own_k: Tensor, own_v: Tensor, scale: float) -> Tensor:
    """In float64, a query at a time: the softmax over all that stands before it and itself."""
    k, v = torch.cat([past_k, own_k], 2)[0].double(), torch.cat([past_v, own_v], 2)[0].double()
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[0], 0) for t in (k, v))
    before = k.shape[1] - q.shape[2]
    out = []
    for i in range(q.shape[2]):
        seen = slice(0, before + i + 1)
        scores = k[:, seen] @ q[0, :, i, :, None].double() * scale
        out.append((scores.softmax(1) * v[:, seen]).sum(1))
    return torch.stack(out, 1)[None]


def states(seed: int, heads: int, ratio: int, dim: int, past: int, own: int, n: int, **more: Any) -> list[Tensor]:
    """Query, past keys and values, own keys and values, as slices of longer buffers, as a cache has them."""
    torch.manual_seed(seed)
    kv = heads // ratio
    room = [torch.randn(1, kv, past + own + 3, dim) for _ in range(2)]
    made = [torch.randn(1, n, heads, dim).transpose(1, 2)]
    made += [t[:, :, :past] for t in room] + [t[:, :, past : past + own] for t in room]
    return [t.to(**more) for t in made] if more else made


def attend(kernel: attention.Kernel, *given_states: Any) -> Tensor:
    """One fork at the end of its past, which is how a trunk grows, too."""
    q, past_k, past_v, own_k, own_v, scale = given_states
    return kernel([q], (past_k, past_v), [past_k.shape[2]], [(own_k, own_v)], scale)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, int]:
    ratio = draw(st.sampled_from([1, 2, 7]))
    heads = ratio * draw(st.integers(1, 3))
    own = draw(st.sampled_from([1, 2, 5, 33]))
    return {
        "heads": heads,
        "ratio": draw(st.sampled_from([ratio, heads])),
        "dim": draw(st.sampled_from([8, 16, 64, 80])),
        "past": draw(st.sampled_from([0, 1, 3, 70])),
        "own": own,
        "n": draw(st.sampled_from([1, own])),
        "seed": draw(st.integers(0, 1 << 16)),
    }


@pytest.mark.parametrize("name", CPU)
@settings(max_examples=30)
@given(shape=shapes(), scale=st.sampled_from([None, 0.3, 2.0]))
@example(shape={"heads": 4, "ratio": 4, "dim": 64, "past": 0, "own": 9, "n": 1, "seed": 0}, scale=None)
@example(shape={"heads": 4, "ratio": 2, "dim": 64, "past": 7, "own": 9, "n": 1, "seed": 0}, scale=None)
def test_kernels_compute_the_formula(name: str, shape: dict[str, int], scale: float | None) -> None:
    given_states, scale = states(**shape), scale or shape["dim"] ** -0.5
    found = attend(KERNELS[name], *given_states, scale)
    assert found.shape == given_states[0].shape
    assert relative(found, by_hand(*given_states, scale)) < 1e-5


@pytest.mark.parametrize("name", CPU)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("past", "own", "n"), [(0, 40, 40), (90, 40, 40), (90, 1, 1), (90, 12, 1)])
def test_half_precision_stays_near_the_formula(name: str, dtype: torch.dtype, past: int, own: int, n: int) -> None:
    given_states = states(0, 6, 3, 32, past, own, n, dtype=dtype)
    found = attend(KERNELS[name], *given_states, 32**-0.5)
    assert found.dtype == dtype
    assert relative(found, by_hand(*given_states, 32**-0.5)) < 1e-2


@pytest.mark.parametrize("name", CPU)
@pytest.mark.parametrize("side", ["past", "own"])
@pytest.mark.parametrize("strength", [30.0, 300.0, 3e4])
def test_one_half_may_hold_all_of_the_mass(name: str, side: str, strength: float) -> None:
    """A key that a query meets with a score of thousands leaves nothing for the other half, and makes no NaN."""
    q, past_k, past_v, own_k, own_v = (t.clone() for t in states(0, 4, 2, 16, 20, 6, 6))
    direction = torch.ones(16) / 4
    q[:] = direction
    (past_k if side == "past" else own_k)[:, :, 0] = strength * direction
    found = attend(KERNELS[name], q, past_k, past_v, own_k, own_v, 1.0)
    winner = (past_v if side == "past" else own_v)[:, :, 0].repeat_interleave(2, dim=1)
    torch.testing.assert_close(found, winner[:, :, None].expand_as(found), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lead", [-1e30, -700.0, -20.0, 0.0, 20.0, 700.0, 1e30])
def test_halves_are_weighed_by_their_mass(lead: float) -> None:
    """The past leads by `lead` in log-sum-exp; the outputs are all ones and all zeros, so the share itself shows."""

    def half(q: Tensor, k: Tensor, _v: Tensor, _scale: float, _causal: bool) -> tuple[Tensor, Tensor]:
        past = k.shape[2] == 7
        # As CUDA's kernels do: more rows in the log-sum-exp than there are queries.
        mass = torch.full((1, q.shape[1], q.shape[2] + 3), lead if past else 0.0)
        mass[..., q.shape[2] :] = float("nan")
        return torch.full_like(q, float(past)), mass

    share = attend(attention.merged(half), *states(0, 4, 2, 8, 7, 5, 5), 1.0)
    torch.testing.assert_close(share, torch.full((1, 4, 5, 8), lead).sigmoid())


def test_rows_of_a_group_go_back_to_their_heads() -> None:
    """Heads that share a kv head go through the past as further rows; each must come back to its own place."""

    def half(q: Tensor, _k: Tensor, _v: Tensor, _scale: float, _causal: bool) -> tuple[Tensor, Tensor]:
        return q.clone(), q[..., 0]

    given_states = states(0, 6, 3, 8, 7, 5, 5)
    torch.testing.assert_close(attend(attention.merged(half), *given_states, 1.0), given_states[0])


# Forks on one trunk.

FORKS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6), st.booleans()), min_size=1, max_size=6)
"""Of each its cut, its own tokens, and whether it brings only the last of them."""


def forks_of(
    shape: list[tuple[int, int, bool]], heads: int, ratio: int, dim: int
) -> tuple[list[Tensor], tuple[Tensor, Tensor], list[int], list[tuple[Tensor, Tensor]]]:
    trunk = states(0, heads, ratio, dim, 40, 1, 1)[1:3]
    made = [states(i + 1, heads, ratio, dim, 0, own, 1 if last else own) for i, (_, own, last) in enumerate(shape)]
    return [m[0] for m in made], (trunk[0], trunk[1]), [cut for cut, _, _ in shape], [(m[3], m[4]) for m in made]


@pytest.mark.parametrize("name", CPU)
@settings(max_examples=40)
@given(shape=FORKS, group=st.sampled_from([(1, 1), (4, 4), (6, 3), (4, 1)]), dim=st.sampled_from([8, 64]))
@example(shape=[(0, 1, True), (40, 3, False), (40, 2, True), (0, 5, False)], group=(4, 2), dim=8)
def test_forks_see_the_trunk_up_to_their_cut_and_their_own(
    name: str, shape: list[tuple[int, int, bool]], group: tuple[int, int], dim: int
) -> None:
    queries, trunk, cuts, owns = forks_of(shape, *group, dim)
    found = KERNELS[name](queries, trunk, cuts, owns, dim**-0.5)
    assert found.shape == (1, group[0], sum(q.shape[2] for q in queries), dim)
    for out, q, cut, own in zip(found.split([q.shape[2] for q in queries], 2), queries, cuts, owns, strict=True):
        past = [t[:, :, :cut] for t in trunk]
        assert relative(out, by_hand(q, past[0], past[1], *own, dim**-0.5)) < 1e-5


@given(shape=FORKS)
def test_forks_read_the_trunk_once(shape: list[tuple[int, int, bool]]) -> None:
    """Each of its keys is met in one call, by all rows that see it, whatever the number of forks."""
    right, met = attention.flash_cpu, []

    def half(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
        if k.shape[2] and k.data_ptr() >= trunk[0].data_ptr() and k.data_ptr() < trunk[0].data_ptr() + room:
            met.append((k.shape[2], q.shape[2]))
        return right(q, k, v, scale, causal)

    queries, trunk, cuts, owns = forks_of(shape, 2, 2, 8)
    room = 40 * 8 * trunk[0].element_size()
    attention.merged(half)(queries, trunk, cuts, owns, 1.0)
    assert sum(keys for keys, _ in met) == max(cuts)
    assert sum(keys * rows for keys, rows in met) == sum(
        2 * q.shape[2] * cut for q, cut in zip(queries, cuts, strict=True)
    )


# The flash-attn packages and CUDA.


def stand_in(q: Tensor, k: Tensor, v: Tensor, softmax_scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """What flash-attn's functions promise: (1, tokens, heads, dim), grouped heads, a bottom-right causal mask."""
    q, k, v = (t.transpose(1, 2).double() for t in (q, k, v))
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    scores = q @ k.transpose(2, 3) * softmax_scale
    if causal:
        n, total = scores.shape[2:]
        scores = scores.masked_fill(~torch.ones(n, total, dtype=torch.bool).tril(total - n), float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).float(), scores.logsumexp(-1).float()


def flash_attn_2(*qkv: Tensor, softmax_scale: float, causal: bool, return_attn_probs: bool) -> tuple[Any, ...]:
    assert return_attn_probs
    return (*stand_in(*qkv, softmax_scale, causal), None)


def flash_attn_3(*qkv: Tensor, softmax_scale: float, causal: bool, return_attn_probs: bool) -> tuple[Any, ...]:
    assert return_attn_probs
    return stand_in(*qkv, softmax_scale, causal)


@pytest.mark.parametrize(
    ("name", "package", "function"),
    [("flash_attention_2", "flash_attn", flash_attn_2), ("flash_attention_3", "flash_attn_interface", flash_attn_3)],
)
@pytest.mark.parametrize(("past", "own", "n"), [(0, 9, 9), (30, 9, 9), (30, 1, 1), (30, 9, 1)])
def test_flash_attn_is_called_as_it_promises(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, function: Any, past: int, own: int, n: int
) -> None:
    module = ModuleType(package)
    module.flash_attn_func = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package, module)
    given_states = states(0, 6, 3, 16, past, own, n)
    assert relative(attend(KERNELS[name], *given_states, 0.25), by_hand(*given_states, 0.25)) < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["torch-flash-cuda", "flash_attention_2", "flash_attention_3", "sdpa"])
@pytest.mark.parametrize("ratio", [1, 2, 8])
@pytest.mark.parametrize(("past", "own", "n"), [(0, 70, 70), (300, 70, 70), (300, 1, 1), (300, 13, 1)])
def test_cuda_kernels_stay_near_the_formula(name: str, ratio: int, past: int, own: int, n: int) -> None:
    package = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}.get(name)
    if package:
        pytest.importorskip(package)
    given_states = states(0, 8, ratio, 64, past, own, n, dtype=torch.bfloat16, device="cuda")
    assert relative(attend(KERNELS[name], *given_states, 0.125), by_hand(*given_states, 0.125)) < 1e-2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["torch-flash-cuda", "flash_attention_2", "flash_attention_3"])
@pytest.mark.parametrize("ratio", [1, 2, 8])
def test_cuda_forks_stay_near_the_formula(name: str, ratio: int) -> None:
    package = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}.get(name)
    if package:
        pytest.importorskip(package)
    queries, trunk, cuts, owns = forks_of([(40, 3, False), (0, 2, False), (17, 6, True), (17, 5, False)], 8, ratio, 64)
    to = {"device": "cuda", "dtype": torch.bfloat16}
    queries, trunk = [q.to(**to) for q in queries], (trunk[0].to(**to), trunk[1].to(**to))
    owns = [(k.to(**to), v.to(**to)) for k, v in owns]
    found = KERNELS[name](queries, trunk, cuts, owns, 0.125).split([q.shape[2] for q in queries], 2)
    for out, q, cut, own in zip(found, queries, cuts, owns, strict=True):
        assert relative(out, by_hand(q, trunk[0][:, :, :cut], trunk[1][:, :, :cut], *own, 0.125)) < 2e-2


@pytest.mark.parametrize(
    ("asked", "device", "dtype", "kernel"),
    [
        ("auto", "cpu", torch.float32, "torch-flash-cpu"),
        ("auto", "cpu", torch.bfloat16, "torch-flash-cpu"),
        ("auto", "cuda", torch.bfloat16, "torch-flash-cuda"),
        ("auto", "cuda", torch.float32, "sdpa"),
        ("auto", "mps", torch.float16, "sdpa"),
        ("eager", "cuda", torch.bfloat16, "eager"),
        ("flash_attention_2", "cuda", torch.bfloat16, "flash_attention_2"),
    ],
)
def test_auto_takes_a_flash_kernel_where_there_is_one(asked: str, device: str, dtype: torch.dtype, kernel: str) -> None:
    assert attention.choose(asked, torch.device(device), dtype) == kernel
    assert kernel in KERNELS
