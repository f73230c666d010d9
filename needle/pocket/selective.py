"""The training loss over one sample, with gradients only where they matter.

A long body costs too much to differentiate whole. Its hidden states are computed once without gradients; the second
pass carries gradients through the needle rows and the question turns, and through the key/value weights of every other
row (whose hidden states are constants). At 4,096 tokens the gradient has a cosine of at least 0.995 with the full one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from needle.pocket.samples import Sample


def _heads(x: Tensor, head_dim: int) -> Tensor:
    """(rows, heads * head_dim) as (1, heads, rows, head_dim)."""
    return x.view(1, x.shape[0], -1, head_dim).transpose(1, 2)


def _keys_values(layer: nn.Module, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    key = _heads(attention.k_proj(normed), attention.head_dim)
    key, _ = apply_rotary_pos_emb(key, key, *rotary)
    return key, _heads(attention.v_proj(normed), attention.head_dim)


def _attend(layer: nn.Module, hidden: Tensor, rotary: tuple[Tensor, Tensor], kv: tuple[Tensor, Tensor],
            mask: Tensor | None) -> Tensor:  # fmt: skip
    """One decoder layer for `hidden` (rows, width) over the given keys and values; causal when `mask` is None."""
    attention = layer.self_attn
    query = _heads(attention.q_proj(layer.input_layernorm(hidden)), attention.head_dim)
    query, _ = apply_rotary_pos_emb(query, query, *rotary)
    key, value = (t.expand(-1, query.shape[1], -1, -1) for t in kv)
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
    hidden = hidden + attention.o_proj(found.transpose(1, 2).reshape(hidden.shape[0], -1))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _mask(sample: Sample, rest: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The additive mask of (needle rows, turns) over (rest, needle rows, turns), and the turns' position ids."""
    turn: list[int] = []
    limit: list[int] = []
    position: list[int] = []
    for i, t in enumerate(sample.turns):
        turn += [i] * len(t.ids)
        limit += [t.cut - 1] * len(t.ids)
        start = sample.positions[t.cut - 1] + 1
        position += range(start, start + len(t.ids))
    own, far = torch.tensor(turn), torch.tensor(limit)
    order = torch.arange(len(turn))
    key_index = torch.cat([rest, rows])
    to_body = key_index[None, :] <= torch.cat([rows, far])[:, None]
    to_turn = (own[:, None] == own[None, :]) & (order[:, None] >= order[None, :])
    to_turn = torch.cat([torch.zeros(len(rows), len(own), dtype=torch.bool), to_turn])
    seen = torch.cat([to_body, to_turn], dim=1)
    return torch.zeros(seen.shape).masked_fill_(~seen, float("-inf")), torch.tensor(position)


@torch.no_grad()
def _body_states(model: Qwen2ForCausalLM, body: Tensor, rotary: tuple[Tensor, Tensor]) -> list[Tensor]:
    """The input of every layer for the whole body, without gradients; the last layer's output is not needed."""
    hidden = model.model.embed_tokens(body)
    states = [hidden]
    for layer in model.model.layers[:-1]:
        hidden = _attend(layer, hidden, rotary, _keys_values(layer, hidden, rotary), None)
        states.append(hidden)
    return states


def loss(model: Qwen2ForCausalLM, sample: Sample, full: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted cross-entropy over the answers of `sample`, as a scalar mean.

    With `full` every body row carries gradients. Also returns, for each weighted answer token, whether it was the
    greedy choice, and its weight: shapes (answer tokens,).
    """
    body = torch.tensor(sample.body)
    everything = torch.arange(len(body))
    rows = everything if full else torch.tensor(sample.needle_rows)
    kept = torch.ones(len(body), dtype=torch.bool)
    kept[rows] = False
    rest = everything[kept]
    mask, turn_positions = _mask(sample, rest, rows)
    positions = torch.tensor(sample.positions)
    rotary_body = model.model.rotary_emb(body[None].float(), positions[None])
    rotary_rows = model.model.rotary_emb(body[None].float(), torch.cat([positions[rows], turn_positions])[None])
    rotary_rest = tuple(t[:, rest] for t in rotary_body)
    states = [] if full else _body_states(model, body, rotary_body)

    turn_ids = torch.tensor([i for t in sample.turns for i in t.ids])
    hidden = model.model.embed_tokens(torch.cat([body[rows], turn_ids]))
    last = len(model.model.layers) - 1
    for at, layer in enumerate(model.model.layers):
        kv = _keys_values(layer, hidden, rotary_rows)
        if len(rest):
            constant = _keys_values(layer, states[at][rest], rotary_rest)
            kv = tuple(torch.cat([a, b], dim=2) for a, b in zip(constant, kv, strict=True))
        if at == last:
            hidden, mask = hidden[len(rows) :], mask[len(rows) :]
            rotary_rows = tuple(t[:, len(rows) :] for t in rotary_rows)
        hidden = _attend(layer, hidden, rotary_rows, kv, mask)

    weights = torch.tensor([w for t in sample.turns for w in t.weights])
    at_loss = weights.nonzero()[:, 0]
    logits = model.lm_head(model.model.norm(hidden[at_loss - 1]))
    weights, targets = weights[at_loss], turn_ids[at_loss]
    each = F.cross_entropy(logits, targets, reduction="none")
    right = logits.detach().argmax(-1) == targets
    return (each * weights).sum() / weights.sum(), right, weights
