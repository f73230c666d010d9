"""One attention over (past, own) and several kernels for it.

The queries are the last `n` tokens of "own"; they see all of the past and, causally, own. Stock kernels build a dense
mask for that, or recompute; here both halves go through a flash kernel and are merged by their log-sum-exp, at the cost
that theory says. Shapes: query (1, heads, n, dim); keys and values (1, kv heads, tokens, dim); heads are a multiple of
kv heads.

Source of the merge: Dao et al. 2022, "FlashAttention", and flash-decoding's split over keys.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Tensor]
"""(query, past keys, past values, own keys, own values, scale) to an output of the query's shape.

The queries are all of own, or its last one alone."""


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


def flash_cpu(q: Tensor, past_k: Tensor, past_v: Tensor, own_k: Tensor, own_v: Tensor, scale: float) -> Tensor:
    """PyTorch's flash kernel for the CPU on both halves."""

    def half(k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = kernel(q, _wide(k, q), _wide(v, q), 0.0, causal, scale=scale)
        return out, lse

    return _both(half, q, past_k, past_v, own_k, own_v)


def flash_cuda(q: Tensor, past_k: Tensor, past_v: Tensor, own_k: Tensor, own_v: Tensor, scale: float) -> Tensor:
    """PyTorch's flash kernel for CUDA on both halves; half precision only."""

    def half(k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention
        found = kernel(q, _wide(k, q), _wide(v, q), 0.0, causal, False, scale=scale)
        return found[0], found[1]

    return _both(half, q, past_k, past_v, own_k, own_v)


def flash_2(q: Tensor, past_k: Tensor, past_v: Tensor, own_k: Tensor, own_v: Tensor, scale: float) -> Tensor:
    """The flash-attn package, version 2: grouped heads without copies."""
    from flash_attn import flash_attn_func

    def half(k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        turned = (t.transpose(1, 2) for t in (q, k, v))
        out, lse, _ = flash_attn_func(*turned, softmax_scale=scale, causal=causal, return_attn_probs=True)
        return out.transpose(1, 2), lse

    return _both(half, q, past_k, past_v, own_k, own_v)


def flash_3(q: Tensor, past_k: Tensor, past_v: Tensor, own_k: Tensor, own_v: Tensor, scale: float) -> Tensor:
    """The flash-attn package, version 3, for Hopper."""
    from flash_attn_interface import flash_attn_func

    def half(k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        turned = (t.transpose(1, 2) for t in (q, k, v))
        out, lse = flash_attn_func(*turned, softmax_scale=scale, causal=causal, return_attn_probs=True)
        return out.transpose(1, 2), lse

    return _both(half, q, past_k, past_v, own_k, own_v)


KERNELS: dict[str, Kernel] = {
    "flash_attention_3": flash_3,
    "flash_attention_2": flash_2,
    "torch-flash-cuda": flash_cuda,
    "torch-flash-cpu": flash_cpu,
    "sdpa": sdpa,
    "eager": eager,
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


def _both(
    half: Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor]],
    q: Tensor,
    past_k: Tensor,
    past_v: Tensor,
    own_k: Tensor,
    own_v: Tensor,
) -> Tensor:
    """Attention over past and own, weighed by how much of the softmax's mass each holds."""
    # One query at the end of its own sees all of them; more than one must be all there is of own (top-left causal).
    own, own_mass = half(own_k, own_v, q.shape[2] > 1)
    if not past_k.shape[2]:
        return own
    past, past_mass = half(past_k, past_v, False)
    # CUDA kernels may pad the rows of the log-sum-exp.
    rows = own.shape[2]
    share = torch.sigmoid(past_mass[..., :rows] - own_mass[..., :rows]).unsqueeze(-1)
    return torch.lerp(own.float(), past.float(), share.float()).to(own.dtype)


def _wide(t: Tensor, q: Tensor) -> Tensor:
    """Keys or values, once a query head; nothing is copied where each kv head serves one head, or one serves all."""
    heads, kv_heads = q.shape[1], t.shape[1]
    if heads == kv_heads:
        return t
    if kv_heads == 1:
        return t.expand(-1, heads, -1, -1)
    return t.repeat_interleave(heads // kv_heads, dim=1)


def _seen(q: Tensor, k: Tensor) -> Tensor:
    """(n, keys) mask: query i sees all keys up to its own."""
    n, total = q.shape[2], k.shape[2]
    index = torch.arange(total, device=q.device)
    return index[None, :] <= torch.arange(total - n, total, device=q.device)[:, None]
