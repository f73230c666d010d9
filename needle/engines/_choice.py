"""Which way a model can go: the forest where it holds, else one prefill a cell, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from needle import attention
from needle.cache import NAME, Branch, Walk
from needle.engines._forest import Forest, Walker
from needle.engines._ways import Cells, Way

PLANS = ("forest", "cells")


def choose(model: Any, plan: str, asked: str, longest: int, chunk: int, say: Callable[[str], None]) -> Way:
    """The way for `--plan` and `--attn`; what cannot go through the forest goes plain, and `say` tells why."""
    stock = model.config._attn_implementation
    if plan == "cells":
        return Cells(stock)
    kernel = attention.choose(stock if asked != "auto" or "flash" in stock else "auto", model.device, model.dtype)
    reason = unfit(model.config, longest) or _trial(model, kernel)
    if reason is None:
        return Forest(kernel, chunk)
    model.set_attn_implementation(stock)
    say(f"no shared prefill: {reason}; one prefill a cell instead")
    return Cells(stock)


def unfit(config: Any, longest: int) -> str | None:
    """Why a model of this configuration cannot share prefixes between contexts of up to `longest` tokens, or None."""
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = {rope.get("rope_type")} | {v.get("rope_type") for v in rope.values() if isinstance(v, dict)}
    if kinds & {"dynamic", "longrope"}:
        return "its rotary positions depend on the context's length"
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder"
    layers = set(getattr(text, "layer_types", None) or ["full_attention"])
    if layers - {"full_attention", "sliding_attention"}:
        return f"it has {', '.join(sorted(layers - {'full_attention', 'sliding_attention'}))} layers"
    window = getattr(text, "sliding_window", None)
    windowed = "sliding_attention" in layers or not getattr(text, "layer_types", None)
    if window and windowed and getattr(text, "use_sliding_window", True) and window < longest:
        return f"its attention slides over a window of {window} tokens"
    return None


@torch.inference_mode()
def _trial(model: Any, kernel: str) -> str | None:
    """Answer two short forks both ways, and leave the model on the forest's attention if they agree."""
    device = model.get_input_embeddings().weight.device
    ids = np.random.default_rng(0).integers(0, model.get_input_embeddings().num_embeddings, 48)
    forks = [(40, ids[40:]), (17, ids[:5])]
    plain = []
    for cut, tail in forks:
        whole = torch.from_numpy(np.concatenate([ids[:cut], tail]))[None].to(device)
        plain.append(model(whole, use_cache=False, logits_to_keep=len(tail)).logits[0].float())
    try:
        model.set_attn_implementation(NAME)
        shared = _forest_logits(model, kernel, ids, forks)
    except (
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        NotImplementedError,
        LookupError,
        ImportError,
    ) as error:
        return f"it does not take the forest's cache and attention ({type(error).__name__}: {str(error)[:120]})"
    exact = model.dtype == torch.float32
    off = max(float((a - b.float()).norm() / a.norm()) for a, b in zip(plain, shared, strict=True))
    if off > (1e-3 if exact else 5e-2):
        return f"a trial differs from a plain prefill by {off:.1%}"
    return None


def _forest_logits(model: Any, kernel: str, ids: Any, forks: list[tuple[int, Any]]) -> list[Tensor]:
    walk = Walk(model.config.get_text_config().num_hidden_layers, kernel)
    walker = Walker(model, walk, chunk=16)
    walker.feed(ids.astype(np.int32), 0, 40)
    walk.fork_capacity = 16
    branches = [Branch(cut, 8 * at) for at, (cut, _) in enumerate(forks)]
    tokens = torch.from_numpy(np.concatenate([tail for _, tail in forks])).to(walker.device)
    positions = [p for cut, tail in forks for p in range(cut, cut + len(tail))]
    with walk.stepping(branches, [len(tail) for _, tail in forks]):
        logits = model(
            input_ids=tokens[None],
            position_ids=torch.tensor(positions, device=walker.device)[None],
            past_key_values=walk,
            use_cache=True,
        ).logits[0]
    return list(logits.split([len(tail) for _, tail in forks]))
