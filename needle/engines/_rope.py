"""How far a configuration's rotary positions reach, and how `--rope-scaling` stretches them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from needle.errors import UsageError

_EXAMPLE = '{"rope_type": "yarn", "factor": 4.0}'
_BASE = ("rope_theta", "partial_rotary_factor")


def limit(config: Any) -> int | None:
    """The context length, in tokens, that the configuration allows; None if it sets none.

    Some checkpoints name the stretched length, some the one before (Qwen2.5 with YaRN); the longer one counts.
    """
    most = _positions(config)
    if most is None:
        return None
    reached = [most]
    for rope in _ropes(config):
        factor = float(rope.get("factor") or 1.0)
        if "original_max_position_embeddings" in rope:
            reached.append(int(int(rope["original_max_position_embeddings"]) * factor))
        elif rope.get("rope_type") == "dynamic":
            reached.append(int(most * factor))
    return max(reached)


def rotary(config: Any) -> bool:
    """Whether the model's positions are rotary."""
    return any(_ropes(config))


def original(config: Any) -> int:
    """The context length, in tokens, that the model knew before any stretching."""
    named = [r["original_max_position_embeddings"] for r in _ropes(config) if "original_max_position_embeddings" in r]
    return int(named[0]) if named else int(_positions(config) or 0)


def scale(config: Any, scaling: Mapping[str, Any]) -> None:
    """Put `scaling` in the place of the configuration's own, and lengthen what it allows by the factor.

    Where layers differ in their positions only those that see the whole context are stretched.

    Raises:
        UsageError: it is no scaling that Transformers knows, or something is missing from it.
    """
    text = config.get_text_config()
    if not rotary(config):
        raise UsageError("--rope-scaling is for rotary positions, and this model has others")
    kind, before, factor = _checked(config, scaling)
    ropes = getattr(text, "rope_parameters", None) or {}
    nested = "full_attention" in ropes
    old = ropes["full_attention"] if nested else ropes
    new = {**{k: old[k] for k in _BASE if k in old}, **scaling}
    if kind in ("yarn", "longrope", "llama3"):
        new["original_max_position_embeddings"] = before
    text.rope_parameters = {**ropes, "full_attention": new} if nested else new
    # Dynamic NTK counts its stretching from this number, so it has to stay.
    text.max_position_embeddings = before if kind == "dynamic" else int(before * factor)
    try:
        text.validate_rope()
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"--rope-scaling of type '{kind}' is not complete: {str(error).strip(chr(34))}") from error


def _checked(config: Any, scaling: Mapping[str, Any]) -> tuple[str, int, float]:
    """The scaling's type, the length that it starts from, and its factor."""
    kind = scaling.get("rope_type")
    if not isinstance(kind, str) or kind not in ROPE_INIT_FUNCTIONS:
        known = ", ".join(sorted(ROPE_INIT_FUNCTIONS))
        raise UsageError(f"--rope-scaling needs a rope_type, one of {known}, as in '{_EXAMPLE}'")
    before = _number("original_max_position_embeddings", scaling, original(config))
    # A longrope without a factor takes it from the lengths that the configuration has already.
    implied = max(1.0, (_positions(config) or before) / before) if kind == "longrope" else None
    return kind, int(before), _number("factor", scaling, implied)


def _number(name: str, scaling: Mapping[str, Any], default: float | None) -> float:
    value = scaling.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf:
        raise UsageError(f"--rope-scaling needs a {name} of at least 1, as in '{_EXAMPLE}'; got {value!r}")
    return float(value)


def _positions(config: Any) -> int | None:
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(found) if found else None


def _ropes(config: Any) -> list[Mapping[str, Any]]:
    """The rotary parameters: one set, or one for each kind of layer."""
    ropes = getattr(config.get_text_config(), "rope_parameters", None) or {}
    nested = [r for r in ropes.values() if isinstance(r, Mapping)]
    return nested or [ropes]
