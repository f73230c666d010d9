"""The shape of pocket and its wired initialisation.

A three-layer transformer finds a needle by an induction circuit: a layer that writes "what preceded me" into each
position, and a later one that looks for positions whose "what preceded me" equals "what I am" and copies them out.
Gradient descent finds that circuit by itself only after a long plateau, so the weights start close to it and then
everything is trained. Nothing of a task is in the wiring: it knows offsets and equality, no words.

Source of the circuit: Olsson et al. 2022, "In-context Learning and Induction Heads".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

HIDDEN, LAYERS, HEADS, HEAD_DIM, MLP, VOCAB = 128, 3, 2, 64, 256, 2048


def config(rope_theta: float, limit: int, eos: int, pad: int) -> Qwen2Config:
    """A plain Qwen2 configuration: 0.7 M parameters, one key/value head, tied embeddings."""
    return Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        head_dim=HEAD_DIM,
        max_position_embeddings=limit,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
    )


def frequencies(rope_theta: float) -> Tensor:
    """Rotary frequencies of one head, shape (HEAD_DIM / 2,), radians a token."""
    return rope_theta ** (-torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM)


def _orthogonal(rows: int, columns: int) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns))


def _look_back(attention: nn.Module, offsets: list[float], strengths: list[float], freq: Tensor) -> None:
    """Biases that make head h attend `offsets[h]` tokens back, whatever the tokens are."""
    fast = (freq >= 0.05).float()
    key = torch.cat([max(strengths) * fast, torch.zeros_like(freq)])
    queries = [
        torch.cat([a * torch.cos(-freq * o) * fast, a * torch.sin(-freq * o) * fast])
        for o, a in zip(offsets, strengths, strict=True)
    ]
    attention.k_proj.bias.copy_(key)
    attention.q_proj.bias.copy_(torch.cat(queries))


@torch.no_grad()
def wire(model: Qwen2ForCausalLM, rope_theta: float) -> None:
    """Initialise `model` in place with the look-back heads and the matching last layer."""
    freq = frequencies(rope_theta)
    model.model.embed_tokens.weight.normal_(std=0.06)
    outs = []
    for layer in model.model.layers:
        attention = layer.self_attn
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.normal_(std=0.01)
            projection.bias.zero_()
        attention.v_proj.weight.copy_(_orthogonal(HEAD_DIM, HIDDEN))
        attention.v_proj.bias.zero_()
        outs.append(_orthogonal(HIDDEN, HEADS * HEAD_DIM))
        attention.o_proj.weight.copy_(0.12 * outs[-1])
        layer.mlp.gate_proj.weight.normal_(std=HIDDEN**-0.5)
        layer.mlp.up_proj.weight.normal_(std=HIDDEN**-0.5)
        layer.mlp.down_proj.weight.normal_(std=0.01)

    first, middle, last = (layer.self_attn for layer in model.model.layers)
    _look_back(first, [1.0, 2.5], [5.0, 3.0], freq)
    _look_back(middle, [1.0, 1.0], [5.0, 5.0], freq)

    # Matching must not care how far away the match is: only dimensions that hardly turn over the context take part.
    slow = (freq < 3e-3 * (1e4 / rope_theta) ** 0.25).float().repeat(2)[:, None]
    wanted = 0.9 * middle.v_proj.weight * slow
    previous = outs[1].view(HIDDEN, HEADS, HEAD_DIM).sum(1)
    last.q_proj.weight.add_(wanted.repeat(HEADS, 1))
    last.k_proj.weight.add_(0.9 * previous.T * slow)
    last.o_proj.weight.copy_(0.5 * last.v_proj.weight.T.repeat(1, HEADS))
