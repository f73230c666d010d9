"""What a token costs, held against what real models do and weigh."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import models
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from needle import cost, forest
from needle.cache import NAME, Walk
from needle.cost import Cost
from needle.engines._forest import Walker

WIDER = {
    "llama": {"hidden_size": 64, "num_key_value_heads": 1, "intermediate_size": 112},
    "qwen2": {"hidden_size": 48, "num_key_value_heads": 4, "num_hidden_layers": 3},
    "gemma": {"hidden_size": 64, "head_dim": 32},
    "mixtral": {"num_local_experts": 6, "num_experts_per_tok": 3},
}
TOKENS = 96


def counted(model: Any, attention: str) -> int:
    """FLOPs of all matrix products in a prefill without the head."""
    model.set_attn_implementation(attention)
    if hasattr(model.config, "num_local_experts"):
        model.set_experts_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.base_model(torch.arange(TOKENS)[None], use_cache=False)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma", "mixtral"])
@pytest.mark.parametrize("wider", [False, True])
def test_flops_are_those_of_the_models_matrix_products(family: str, wider: bool) -> None:
    model = models.make(family, **(WIDER.get(family, {}) if wider else {}))
    found = cost.of(model.config)
    # The counter does not see PyTorch's fused attention on a CPU: without it, the linear part is left.
    assert counted(model, "sdpa") == found.linear * TOKENS
    # Eager attention computes the pairs that a causal kernel leaves out, too.
    assert counted(model, "eager") == found.linear * TOKENS + found.attention * TOKENS**2


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma", "mixtral"])
@pytest.mark.parametrize("wider", [False, True])
def test_a_trunk_spares_what_the_model_does_not_compute(family: str, wider: bool) -> None:
    model = models.make(family, **(WIDER.get(family, {}) if wider else {}))
    found = cost.of(model.config)
    model.set_attn_implementation(NAME)
    if hasattr(model.config, "num_local_experts"):
        model.set_experts_implementation("eager")
    walker = Walker(model, Walk(model.config.num_hidden_layers, "eager"), TOKENS)
    with FlopCounterMode(display=False) as counter:
        walker.feed(np.arange(TOKENS, dtype=np.int32), 0, TOKENS)
    linear, pairs = found.linear - found.spared_linear, found.attention - found.spared_attention
    assert counter.get_total_flops() == linear * TOKENS + pairs * TOKENS**2
    assert found.grow(0, TOKENS) == pytest.approx(linear * TOKENS + pairs * TOKENS**2 / 2)
    assert found.whole().grow(0, TOKENS) == found.feed(0, TOKENS)


SHAPES = {
    # name: class, and layers, hidden, inner, heads, kv heads as in the published configurations, on fewer layers.
    "llama-8b": ("Llama", (2, 4096, 14336, 32, 8), {"vocab_size": 128_256}),
    "qwen2-0.5b": ("Qwen2", (4, 896, 4864, 14, 2), {"vocab_size": 151_936, "tie_word_embeddings": True}),
    "mixtral": ("Mixtral", (1, 4096, 14336, 32, 8), {"vocab_size": 32_000, "num_local_experts": 8}),
    "qwen3-moe": ("Qwen3Moe", (2, 2048, 6144, 32, 4), {"moe_intermediate_size": 768, "num_experts": 128}),
    "qwen2-moe": ("Qwen2Moe", (2, 2048, 5632, 16, 16), {"num_experts": 60}),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("width", [2, 4])
def test_weights_are_those_of_the_real_model(name: str, width: int) -> None:
    prefix, (layers, hidden, inner, heads, kv_heads), more = SHAPES[name]
    config = getattr(transformers, f"{prefix}Config")(
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        **more,
    )
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    there = sum(p.numel() for p in model.parameters()) * width
    assert cost.of(config, width).weights == pytest.approx(there, rel=0.02)


def test_a_token_of_cache_is_what_a_real_cache_holds() -> None:
    model = models.make("qwen3")
    with torch.inference_mode():
        held = model(torch.arange(TOKENS)[None], use_cache=True).past_key_values
    size = sum(t.nbytes for layer in held.layers for t in (layer.keys, layer.values))
    assert cost.of(model.config, 4).kv * TOKENS == size


@pytest.mark.parametrize(
    "name", ["Mamba", "FalconMamba", "Gemma3nText", "GPT2", "DeepseekV3", "Jamba", "RecurrentGemma"]
)
def test_no_configuration_is_too_strange(name: str) -> None:
    """No attention, a width for each layer, other names: `needle` must come to the model's own error, or none."""
    found = cost.of(getattr(transformers, f"{name}Config")())
    assert found.linear > 0
    assert found.weights > 0
    assert (found.attention > 0) == (not name.endswith("Mamba"))


def test_a_model_inside_another_is_the_one_that_counts() -> None:
    inner = models.make("llama").config
    assert cost.of(SimpleNamespace(get_text_config=lambda: inner)) == cost.of(inner)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=6).map(sorted))
def test_feeding_in_parts_costs_what_the_whole_does(stops: list[int]) -> None:
    costs = Cost(3.0, 0.5)
    parts = sum(costs.feed(start, stop) for start, stop in pairwise(stops))
    assert parts == pytest.approx(costs.feed(stops[0], stops[-1]))
    assert costs.feed(0, stops[-1]) == 3.0 * stops[-1] + 0.5 * stops[-1] ** 2 / 2


@st.composite
def prompts(draw: st.DrawFn) -> list[Any]:
    base = draw(st.lists(st.integers(0, 2), min_size=1, max_size=30))
    cuts = draw(st.lists(st.tuples(st.integers(0, 30), st.integers(3, 5)), min_size=1, max_size=6))
    return [np.asarray([*base[:cut], own], np.int32) for cut, own in cuts]


@given(prompts(), st.floats(0, 10), st.floats(0, 10))
def test_a_plan_never_costs_more_than_one_prefill_a_prompt(many: list[Any], linear: float, attention: float) -> None:
    costs, lengths = Cost(linear, attention), [len(p) for p in many]
    plan = forest.plan(many)
    planned, plain = costs.planned(plan, lengths), costs.plain(lengths)
    assert planned <= plain * (1 + 1e-9)
    assert Cost(1.0, 0.0).planned(plan, lengths) == plan.planned_tokens
    assert Cost(1.0, 0.0).plain(lengths) == plan.plain_tokens
