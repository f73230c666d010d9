"""One attention over (past, own) and several kernels for it.

The queries are the last `n` tokens of "own"; they see all of the past and, causally, own. Stock kernels build a dense
mask for that, or recompute; here both halves go through a flash kernel and are merged by their log-sum-exp, at the cost
that theory says. Shapes: query (1, heads, n, dim); keys and values (1, kv heads, tokens, dim); heads are a multiple of
kv heads.

Source of the merge: Dao et al. 2022, "FlashAttention", and flash-decoding's split over keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""Keys and values."""

Kernel = Callable[[Sequence[Tensor], Pair, Sequence[int], Sequence[Pair], float], Tensor]
"""(queries, trunk, cuts, owns, scale) to (1, heads, all queries, dim): `queries[i]` see the trunk up to `cuts[i]`, and
`owns[i]`. They are all of that own, or its last one alone. A trunk that grows is one fork at its end."""

One = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Tensor]
"""(query, past keys, past values, own keys, own values, scale) to an output of the query's shape."""

Half = Callable[[Tensor, Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]
"""(query, keys, values, scale, causal) to the output over these keys and its log-sum-exp, (1, heads, at least n)."""


def eager(q: Tensor, past_k: Tensor, past_v: Tensor, own_k: Tensor, own_v: Tensor, scale: float) -> Tensor:
    """The reference: every score, in float32."""
    k, v = _wide(torch.cat([past_k, own_k], 2), q), _wide(torch.cat([past_v, own_v], 2), q)
    scores = q.float() @ k.float().transpose(2, 3) * scale
    scores = scores.masked_fill(~_seen(q, k), float("-inf"))
    return (scores.softmax(-1) @ v.float()).to(q.dtype)


def sdpa(q: Tensor, past_k: Tensor, past_v: Tensor, own_k: Tensor, own_v: Tensor, scale: float) -> Tensor:
    """PyTorch's own choice of kernel, with a dense mask where there is a past."""
    grouped = q.shape[1] != past_k.shape[1]
    if not past_k.shape[2] and q.shape[2] == own_k.shape[2]:
        return F.scaled_dot_product_attention(q, own_k, own_v, is_causal=True, scale=scale, enable_gqa=grouped)
    k, v = torch.cat([past_k, own_k], 2), torch.cat([past_v, own_v], 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=_seen(q, k), scale=scale, enable_gqa=grouped)


def each(one: One) -> Kernel:
    """A kernel that meets forks one by one."""

    def kernel(
        queries: Sequence[Tensor], trunk: Pair, cuts: Sequence[int], owns: Sequence[Pair], scale: float
    ) -> Tensor:
        keys, values = trunk
        found = [
            one(q, keys[:, :, :cut], values[:, :, :cut], *own, scale)
            for q, cut, own in zip(queries, cuts, owns, strict=True)
        ]
        return _joined(found)

    return kernel


def merged(half: Half) -> Kernel:
    """A kernel over trunk and own, each weighed by how much of the softmax's mass it holds.

    What lies between two cuts is met once, by the queries of all forks that are cut beyond it.
    """

    def kernel(
        queries: Sequence[Tensor], trunk: Pair, cuts: Sequence[int], owns: Sequence[Pair], scale: float
    ) -> Tensor:
        order = sorted(range(len(cuts)), key=lambda i: -cuts[i])
        sizes = [q.shape[2] for q in queries]
        # One query at the end of its own sees all of it; more than one must be all there is of own (top-left causal).
        found = [half(q, *own, scale, q.shape[2] > 1) for q, own in zip(queries, owns, strict=True)]
        # A fork's queries see the same trunk: heads that share a kv head go in as further rows, and it is not copied.
        kv_heads = owns[0][0].shape[1]
        rows = _joined([queries[i].reshape(1, kv_heads, -1, queries[i].shape[3]) for i in order])
        out = _joined([found[i][0].reshape(1, kv_heads, -1, rows.shape[3]) for i in order]).float()
        # CUDA kernels may pad the rows of the log-sum-exp.
        mass = _joined([found[i][1][..., : sizes[i]].reshape(1, kv_heads, -1) for i in order])
        group = rows.shape[2] // sum(sizes)
        reach = 0
        for at, below in zip(order, [*(cuts[i] for i in order[1:]), 0], strict=True):
            reach += group * sizes[at]
            if cuts[at] > below:
                keys, values = (t[:, :, below : cuts[at]] for t in trunk)
                past, past_mass = half(rows[:, :, :reach], keys, values, scale, False)
                past_mass = past_mass[..., :reach]
                out[:, :, :reach].lerp_(past.float(), torch.sigmoid(past_mass - mass[..., :reach]).unsqueeze(-1))
                mass[..., :reach] = torch.logaddexp(past_mass, mass[..., :reach])
        parts = dict(zip(order, out.split([group * sizes[i] for i in order], 2), strict=True))
        return _joined([parts[i].reshape(queries[i].shape) for i in range(len(order))]).to(rows.dtype)

    return kernel


def flash_cpu(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """PyTorch's flash kernel for the CPU."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    # A kv head as an entry of the batch: its heads then read it in place, a copy each that is none.
    kv_heads, group = k.shape[1], q.shape[1] // k.shape[1]
    k, v = (t.transpose(0, 1).expand(-1, group, -1, -1) for t in (k, v))
    out, mass = kernel(q.reshape(kv_heads, group, *q.shape[2:]), k, v, 0.0, causal, scale=scale)
    return out.reshape(q.shape), mass.reshape(*q.shape[:2], -1)


def flash_cuda(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """PyTorch's flash kernel for CUDA; half precision only."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention
    out, mass, *_ = kernel(q, _wide(k, q), _wide(v, q), 0.0, causal, False, scale=scale)
    return out, mass


def flash_2(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """The flash-attn package, version 2: grouped heads without copies."""
    from flash_attn import flash_attn_func

    turned = (t.transpose(1, 2) for t in (q, k, v))
    out, mass, _ = flash_attn_func(*turned, softmax_scale=scale, causal=causal, return_attn_probs=True)
    return out.transpose(1, 2), mass


def flash_3(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """The flash-attn package, version 3, for Hopper."""
    from flash_attn_interface import flash_attn_func

    turned = (t.transpose(1, 2) for t in (q, k, v))
    out, mass = flash_attn_func(*turned, softmax_scale=scale, causal=causal, return_attn_probs=True)
    return out.transpose(1, 2), mass


KERNELS: dict[str, Kernel] = {
    "flash_attention_3": merged(flash_3),
    "flash_attention_2": merged(flash_2),
    "torch-flash-cuda": merged(flash_cuda),
    "torch-flash-cpu": merged(flash_cpu),
    "sdpa": each(sdpa),
    "eager": each(eager),
}


def choose(asked: str, device: torch.device, dtype: torch.dtype) -> str:
    """The kernel for an attention that was asked for; PyTorch's flash kernels stand in for "auto"."""
    if asked != "auto":
        return asked
    if device.type == "cpu" and dtype in (torch.float32, torch.bfloat16, torch.float16):
        return "torch-flash-cpu"
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        return "torch-flash-cuda"
    return "sdpa"


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Along the tokens; one part alone is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _wide(t: Tensor, q: Tensor) -> Tensor:
    """Keys or values, once a query head."""
    heads, kv_heads = q.shape[1], t.shape[1]
    return t if heads == kv_heads else t.repeat_interleave(heads // kv_heads, dim=1)


def _seen(q: Tensor, k: Tensor) -> Tensor:
    """(n, keys) mask: query i sees all keys up to its own."""
    n, total = q.shape[2], k.shape[2]
    index = torch.arange(total, device=q.device)
    return index[None, :] <= torch.arange(total - n, total, device=q.device)[:, None]
