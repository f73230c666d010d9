"""What feeding tokens to a model costs, in FLOPs and bytes, from its configuration alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from needle.forest import Plan


@dataclass(frozen=True, slots=True)
class Cost:
    """What a token costs, and a model.

    FLOPs: `linear` a token, `attention` a (query, key) pair. Bytes: `kv` a token of cache, `activation` a token that is
    being fed, `weights` in all. `spared_linear` and `spared_attention` are what a token of a trunk goes without: of the
    last layer a trunk needs keys and values alone.
    """

    linear: float
    attention: float
    kv: float = 0.0
    activation: float = 0.0
    weights: float = 0.0
    spared_linear: float = 0.0
    spared_attention: float = 0.0

    def feed(self, start: int, stop: int) -> float:
        """FLOPs of feeding tokens [start, stop) onto a cache of `start` tokens."""
        return self.linear * (stop - start) + self.attention * (stop * stop - start * start) / 2

    def grow(self, start: int, stop: int) -> float:
        """FLOPs of growing a trunk from `start` tokens to `stop`."""
        return self.feed(start, stop) - Cost(self.spared_linear, self.spared_attention).feed(start, stop)

    def whole(self) -> Cost:
        """The cost where trunks go through every layer to the end, as in a server that keeps prefixes."""
        return replace(self, spared_linear=0.0, spared_attention=0.0)

    def plain(self, lengths: Iterable[int]) -> float:
        """FLOPs of one prefill a prompt."""
        return sum(self.feed(0, n) for n in lengths)

    def planned(self, plan: Plan, lengths: list[int]) -> float:
        """FLOPs of walking `plan`, forks included."""
        trunks = sum(self.grow(t.keep, t.stop) for t in plan.trunks)
        return trunks + sum(self.feed(f.cut, lengths[f.index]) for t in plan.trunks for f in t.forks)


def of(config: Any, width: int = 2) -> Cost:
    """The cost of a decoder with this Hugging Face configuration; `width` is bytes a number.

    Counted: attention projections, MLP (of a mixture the router and the active experts), and attention over the keys.
    Embeddings and the output head are left out: prefill uses the head for one token only. What a configuration does not
    name, as the attention heads of a model that has none, costs nothing.
    """
    text = config.get_text_config()
    hidden, layers = text.hidden_size, text.num_hidden_layers
    heads = _named(text, "num_attention_heads")
    kv_heads = _named(text, "num_key_value_heads") or heads
    head_dim = _named(text, "head_dim") or (hidden // heads if heads else 0)
    projections = hidden * head_dim * (2 * heads + 2 * kv_heads)
    inner = _named(text, "moe_intermediate_size", "intermediate_size") or 4 * hidden
    experts = _named(text, "num_local_experts", "num_experts")
    shared = _named(text, "shared_expert_intermediate_size") or inner * _named(text, "n_shared_experts")
    router = hidden * experts
    # Rows of the MLP that a token goes through, and that there are.
    active = shared + inner * _named(text, "num_experts_per_tok") if experts else inner
    there = shared + inner * experts if experts else inner
    layer = 2.0 * (projections + 3 * hidden * active + router)
    # Queries are projected, for nothing, before a layer keeps its keys.
    kept = 2.0 * hidden * head_dim * (heads + 2 * kv_heads)
    pair = 4.0 * heads * head_dim
    embeddings = text.vocab_size * hidden * (1 if getattr(text, "tie_word_embeddings", False) else 2)
    return Cost(
        linear=layers * layer,
        attention=layers * pair,
        kv=2.0 * layers * kv_heads * head_dim * width,
        # The residual stream and its norm, the projections, and three inner rows of the MLP are alive at once.
        activation=float(width * (4 * hidden + 2 * head_dim * (heads + kv_heads) + 3 * active)),
        weights=float(width * (layers * (projections + 3 * hidden * there + router) + embeddings)),
        spared_linear=layer - kept,
        spared_attention=pair,
    )


def _named(text: Any, *names: str) -> float:
    """The first of these numbers that the configuration sets, else 0; the mean where each layer has its own."""
    value = next((v for v in (getattr(text, n, None) for n in names) if v), 0)
    return sum(value) / len(value) if isinstance(value, Sequence) else value
