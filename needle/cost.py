"""What feeding tokens to a model costs, in FLOPs and bytes, from its configuration alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from needle.forest import Plan


@dataclass(frozen=True, slots=True)
class Cost:
    """What a token costs, and a model.

    FLOPs: `linear` a token, `attention` a (query, key) pair. Bytes: `kv` a token of cache, `activation` a token that is
    being fed, `weights` in all.
    """

    linear: float
    attention: float
    kv: float = 0.0
    activation: float = 0.0
    weights: float = 0.0

    def feed(self, start: int, stop: int) -> float:
        """FLOPs of feeding tokens [start, stop) onto a cache of `start` tokens."""
        return self.linear * (stop - start) + self.attention * (stop * stop - start * start) / 2

    def plain(self, lengths: Iterable[int]) -> float:
        """FLOPs of one prefill a prompt."""
        return sum(self.feed(0, n) for n in lengths)

    def planned(self, plan: Plan, lengths: list[int]) -> float:
        """FLOPs of walking `plan`, forks included."""
        trunks = sum(self.feed(t.keep, t.stop) for t in plan.trunks)
        return trunks + sum(self.feed(f.cut, lengths[f.index]) for t in plan.trunks for f in t.forks)


def of(config: Any, width: int = 2) -> Cost:
    """The cost of a decoder with this Hugging Face configuration; `width` is bytes a number.

    Counted: attention projections, MLP (the active experts of a mixture), and attention over the keys. Embeddings
    and the output head are left out: prefill uses the head for one token only.
    """
    text = config.get_text_config()
    hidden, layers = text.hidden_size, text.num_hidden_layers
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    head_dim = getattr(text, "head_dim", None) or hidden // heads
    inner = getattr(text, "moe_intermediate_size", None) or getattr(text, "intermediate_size", None) or 4 * hidden
    experts = getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None) or 1
    active = (getattr(text, "num_experts_per_tok", None) or 1) if experts > 1 else 1
    attention = hidden * head_dim * (2 * heads + 2 * kv_heads)
    mlp = 3 * hidden * inner
    tied = getattr(text, "tie_word_embeddings", False)
    embeddings = text.vocab_size * hidden * (1 if tied else 2)
    return Cost(
        linear=2.0 * layers * (attention + active * mlp),
        attention=4.0 * layers * heads * head_dim,
        kv=2.0 * layers * kv_heads * head_dim * width,
        # The residual stream and its norm, the projections, and two inner rows of the MLP are alive at once.
        activation=float(width * (4 * hidden + 2 * head_dim * (heads + kv_heads) + 3 * active * inner)),
        weights=float(width * (layers * (attention + experts * mlp) + embeddings)),
    )
