"""Config, tokenizer and weights of a checkpoint, from a folder, the hub, or the bundled ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from needle import pocket
from needle.errors import UsageError

WEIGHTS = ("*.safetensors", "*.bin")
_SAMPLE = 1 << 16


def locate(model: str) -> str:
    """A bundled name's folder, a path as it stands, else the hub id.

    Raises:
        UsageError: it looks like a path and nothing is there, or the folder is no checkpoint.
    """
    bundled = pocket.path(model)
    if bundled:
        return str(bundled)
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(f"'{model}' is no checkpoint: it has no config.json")
        return str(path)
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise UsageError(f"no model at '{model}': give a checkpoint folder, a hub id, or one of {_bundled()}")
    return model


def _bundled() -> str:
    return ", ".join(pocket.NAMES)


def read_config(model: str, options: Mapping[str, Any]) -> Any:
    """The checkpoint's configuration, RoPE scaling applied.

    Raises:
        UsageError: there is no such model, it is out of reach, or it asks for code of its own.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(locate(model), **_where(options))
    except (OSError, ValueError) as error:
        raise UsageError(_why(model, error, "config")) from error
    if options.get("rope_scaling"):
        _scale_rope(config, options["rope_scaling"])
    return config


def read_tokenizer(model: str, options: Mapping[str, Any]) -> Any:
    """The checkpoint's tokenizer.

    Raises:
        UsageError: it has none that loads.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(locate(model), **_where(options))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(_why(model, error, "tokenizer")) from error


def limit(config: Any) -> int | None:
    """The context length, in tokens, that the configuration allows; None if it sets none."""
    text = config.get_text_config()
    found = getattr(text, "max_position_embeddings", None)
    return int(found) if found else None


def check_length(config: Any, longest: int) -> None:
    """Raise UsageError if a context of `longest` tokens is more than the model takes."""
    most = limit(config)
    if most is not None and longest > most:
        scaling = {
            "rope_type": "yarn",
            "factor": float(-(-longest // most)),
            "original_max_position_embeddings": most,
        }
        raise UsageError(
            f"a context of {longest} tokens is longer than the model's {most}; lower --max-len, or stretch its "
            f"positions with --rope-scaling '{json.dumps(scaling)}'"
        )


def sources(model: str, config: Any, tokenizer: Any) -> dict[str, str]:
    """Hashes that tell one checkpoint from another: of its weights and config, and of its tokenizer."""
    text = tokenizer.backend_tokenizer.to_str() if getattr(tokenizer, "is_fast", False) else repr(tokenizer)
    template = str(getattr(tokenizer, "chat_template", ""))
    where = locate(model)
    weights = _fingerprint(Path(where)) if Path(where).is_dir() else str(getattr(config, "_commit_hash", ""))
    return {"model": weights, "tokenizer": hashlib.sha256((text + template).encode()).hexdigest()}


def _fingerprint(folder: Path) -> str:
    """Hash of config.json and of every weight file's name, size, and 32 blocks spread over it."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for pattern in WEIGHTS:
        for path in sorted(folder.glob(pattern)):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with path.open("rb") as file:
                for block in range(32):
                    file.seek(block * size // 32)
                    digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def read_weights(model: str, config: Any, options: Mapping[str, Any], dtype: Any, attention: str, device: str) -> Any:
    """The model in evaluation mode on its device.

    Raises:
        UsageError: the weights cannot be read, or only from pickles while --allow-pickle was not given.
    """
    from transformers import AutoModelForCausalLM

    placed = options.get("device_map")
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            locate(model),
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=None if options.get("allow_pickle") else True,
            device_map=placed,
            **_where(options),
        )
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(_why(model, error, "weights")) from error
    return (loaded if placed else loaded.to(device)).eval()


def _where(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "revision": options.get("revision") or "main",
        "trust_remote_code": bool(options.get("trust_remote_code")),
    }


def _scale_rope(config: Any, scaling: Mapping[str, Any]) -> None:
    text = config.get_text_config()
    if "rope_type" not in scaling:
        raise UsageError('--rope-scaling needs a rope_type, as in {"rope_type": "yarn", "factor": 4.0}')
    old = dict(getattr(text, "rope_parameters", None) or {})
    original = int(scaling.get("original_max_position_embeddings", text.max_position_embeddings))
    text.rope_parameters = {**old, "original_max_position_embeddings": original, **scaling}
    text.max_position_embeddings = int(original * float(scaling.get("factor", 1.0)))


def _why(model: str, error: Exception, part: str) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "trust_remote_code" in str(error):
        return f"model '{model}' brings code of its own; read it, then allow it with --trust-remote-code"
    if part == "weights" and "safetensors" in str(error):
        return f"model '{model}' has no safetensors; allow pickled weights with --allow-pickle if you trust them"
    return f"model '{model}': its {part} cannot be loaded ({first[:300]}); bundled are {_bundled()}"
