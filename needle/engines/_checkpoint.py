"""Config, tokenizer and weights of a checkpoint, from a folder, the hub, or the bundled ones."""

from __future__ import annotations

import difflib
import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from needle import pocket
from needle.engines import _rope
from needle.engines._ways import out_of_memory
from needle.errors import UsageError

_WEIGHTS = ("*.safetensors", "*.bin")
_DECIDING = ("config.json", "generation_config.json", "*.py")
_SAMPLE = 1 << 16
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
    StrictDataclassError,
)
"""What a checkpoint that is broken, or not for this version of Transformers, may raise on its way in."""


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
    if model in pocket.NAMES:
        raise UsageError(f"the bundled checkpoint '{model}' is not in this installation; give a model of your own")
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
    where = locate(model)
    try:
        config = AutoConfig.from_pretrained(where, **_where(options))
    except _UNREADABLE as error:
        raise UsageError(_why(model, error, "config")) from error
    if not Path(where).is_dir():
        config._commit_hash = _commit(where, options)
    scaling = options.get("rope_scaling")
    if scaling is not None:
        _rope.scale(config, scaling)
    return config


def _commit(model: str, options: Mapping[str, Any]) -> str:
    """The commit of a hub model whose config was just read: a branch moves, and its name is no identity."""
    found = try_to_load_from_cache(model, "config.json", revision=_where(options)["revision"])
    if not isinstance(found, str):
        raise UsageError(f"model '{model}' is not in the hub's cache; download it and give its folder instead")
    return Path(found).parent.name


def read_tokenizer(model: str, options: Mapping[str, Any]) -> Any:
    """The checkpoint's tokenizer.

    Raises:
        UsageError: it has none that loads.
    """
    where = locate(model)
    try:
        return AutoTokenizer.from_pretrained(where, **_where(options))
    except _UNREADABLE as error:
        raise UsageError(_why(model, error, "tokenizer")) from error


def check_length(config: Any, longest: int) -> None:
    """Raise UsageError if a context of `longest` tokens is more than the model takes."""
    most = _rope.limit(config)
    if most is None or longest <= most:
        return
    remedy = "lower --max-len"
    if _rope.rotary(config):
        before = _rope.original(config)
        factor = float(-(-longest // before))
        scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": before}
        remedy += f", or stretch its positions with --rope-scaling '{json.dumps(scaling)}'"
    raise UsageError(f"a context of {longest} tokens is longer than the model's {most}; {remedy}")


def sources(model: str, config: Any, tokenizer: Any) -> dict[str, str]:
    """Hashes that tell one checkpoint from another: of its weights and config, and of its tokenizer."""
    text = tokenizer.backend_tokenizer.to_str() if getattr(tokenizer, "is_fast", False) else repr(tokenizer)
    template = str(getattr(tokenizer, "chat_template", ""))
    where = locate(model)
    weights = _fingerprint(Path(where)) if Path(where).is_dir() else str(config._commit_hash)
    return {"model": weights, "tokenizer": hashlib.sha256((text + template).encode()).hexdigest()}


def _fingerprint(folder: Path) -> str:
    """Hash of the config, of code that comes with it, and of every weight file's name, size and 32 blocks of it."""
    digest = hashlib.sha256()
    for path in (p for pattern in _DECIDING for p in sorted(folder.glob(pattern))):
        digest.update(path.name.encode() + path.read_bytes())
    for path in (p for pattern in _WEIGHTS for p in sorted(folder.glob(pattern))):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for block in range(32):
                file.seek(block * size // 32)
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def read_weights(
    model: str, config: Any, options: Mapping[str, Any], dtype: Any, attention: str | None, device: str
) -> Any:
    """The model in evaluation mode on its device, without the checkpoint's sampling settings.

    Raises:
        UsageError: the weights cannot be read, are not whole, do not fit the memory, or are pickles while
            --allow-pickle was not given.
    """
    where, placed = locate(model), options.get("device_map")
    if not options.get("allow_pickle"):
        _refuse_pickles(model, Path(where))
    try:
        loaded, report = AutoModelForCausalLM.from_pretrained(
            where,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=None if options.get("allow_pickle") else True,
            device_map=placed,
            output_loading_info=True,
            **{**_where(options), "revision": getattr(config, "_commit_hash", None)},
        )
        loaded = loaded if placed else loaded.to(device)
    except (*_UNREADABLE, MemoryError) as error:
        if out_of_memory(error):
            remedy = "try --dtype bfloat16 or --device-map auto"
            raise UsageError(f"model '{model}' does not fit the memory of {device}; {remedy}") from error
        raise UsageError(_why(model, error, "weights")) from error
    # Transformers would fill these with random numbers and only warn.
    lacking = sorted(report["missing_keys"])
    if lacking:
        raise UsageError(f"model '{model}': its weights lack {len(lacking)} of the tensors, as '{lacking[0]}'")
    loaded.generation_config = _ends_only(loaded.generation_config)
    return loaded.eval()


def _refuse_pickles(model: str, folder: Path) -> None:
    """Raise UsageError where a local checkpoint has weights, but no safetensors."""
    if any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"model '{model}' has no safetensors; allow pickled weights with --allow-pickle if you trust them"
        )


def _ends_only(told: Any) -> GenerationConfig:
    """Which ids end an answer, and nothing of temperature, penalties and the like: `generate` would mix those in."""
    return GenerationConfig(
        bos_token_id=told.bos_token_id, eos_token_id=told.eos_token_id, pad_token_id=told.pad_token_id
    )


def _where(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "revision": options.get("revision") or "main",
        "trust_remote_code": bool(options.get("trust_remote_code")),
    }


def _why(model: str, error: Exception, part: str) -> str:
    """What to tell of an error from Transformers, whose messages run over many lines."""
    text = str(error)
    if "trust_remote_code" in text:
        return f"model '{model}' brings code of its own; read it, then allow it with --trust-remote-code"
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if not isinstance(error, OSError | ValueError):
        first = f"{type(error).__name__}: {first}"
    if not Path(locate(model)).is_dir():
        if part == "weights" and "safetensors" in text:
            return f"model '{model}' has no safetensors; allow pickled weights with --allow-pickle if you trust them"
        near = difflib.get_close_matches(model, pocket.NAMES, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"bundled are {_bundled()}"
        return f"model '{model}' is no folder here, and the hub did not give its {part} ({first[:300]}); {hint}"
    return f"model '{model}': its {part} cannot be loaded ({first[:300]})"
