"""Which way a model can go: the forest where it holds, else one prefill a cell, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from needle import attention
from needle.cache import NAME, Branch, Walk
from needle.engines._forest import Forest, Walker
from needle.engines._sampling import Sampling
from needle.engines._ways import GREEDY, Cells, Way, describe
from needle.types import Ids

PLANS = ("forest", "cells")

_REFUSALS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, ImportError, AssertionError)
"""How a model may show that the forest's cache and attention are not for it."""


def choose(
    model: Any,
    plan: str,
    asked: str,
    longest: int,
    chunk: int,
    say: Callable[[str], None],
    sampling: Sampling = GREEDY,
) -> Way:
    """The way for `--plan` and `--attn`; what cannot go through the forest goes plain, and `say` tells why."""
    stock = model.config._attn_implementation
    if plan == "cells":
        return Cells(stock, sampling)
    # Of what transformers takes by itself only the flash-attn packages are better than the kernels here.
    wanted = "auto" if asked == "auto" and "flash" not in stock else stock
    kernel = attention.choose(wanted, model.device, model.dtype)
    reason = unfit(model.config, longest) or _trial(model, kernel)
    if reason is None:
        return Forest(kernel, chunk, sampling)
    model.set_attn_implementation(stock)
    say(f"no shared prefill: {reason}; one prefill a cell instead")
    return Cells(stock, sampling)


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
    embeddings = model.get_input_embeddings()
    ids = np.random.default_rng(0).integers(0, embeddings.num_embeddings, 48, dtype=np.int32)
    forks = [(40, ids[40:]), (17, ids[:5])]
    plain = []
    for cut, tail in forks:
        whole = torch.from_numpy(np.concatenate([ids[:cut], tail])).long().to(embeddings.weight.device)
        plain.append(model(whole[None], use_cache=False).logits[0, -len(tail) :])
    try:
        model.set_attn_implementation(NAME)
        shared = _shared(model, kernel, ids[:40], forks)
    except _REFUSALS as error:
        return f"it does not take the forest's cache and attention ({describe(error)[:160]})"
    exact = model.dtype == torch.float32
    off = max(_distance(a, b) for a, b in zip(plain, shared, strict=True))
    return f"a trial differs from a plain prefill by {off:.1%}" if off > (1e-3 if exact else 5e-2) else None


def _shared(model: Any, kernel: str, trunk: Ids, forks: Sequence[tuple[int, Ids]]) -> Sequence[Tensor]:
    """The logits of both forks' own tokens, computed together on one trunk."""
    walk = Walk(model.config.get_text_config().num_hidden_layers, kernel)
    walker = Walker(model, walk, chunk=16)
    walker.feed(trunk, 0, len(trunk))
    sizes = [len(tail) for _, tail in forks]
    branches = [Branch(cut) for cut, _ in forks]
    walk.seat(branches, sizes)
    return walker.step(branches, [tail.tolist() for _, tail in forks], sizes).split(sizes)


def _distance(plain: Tensor, shared: Tensor) -> float:
    """How far apart, relative to `plain`; endless if a number is none."""
    off = float((plain.float() - shared.float()).norm() / plain.float().norm())
    return math.inf if math.isnan(off) else off
