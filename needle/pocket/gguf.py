"""A Qwen2 checkpoint as a GGUF file, for llama.cpp and Ollama: `python -m needle.pocket.gguf pocket-32k out.gguf`.

Float32 throughout, so that what llama.cpp answers differs from the checkpoint by its kernels alone. Only what the
bundled checkpoints need: a dense Qwen2 with plain RoPE and Qwen's tokenizer. Names and keys follow the GGUF
specification (github.com/ggml-org/ggml, docs/gguf.md) through the package `gguf`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from needle import pocket
from needle.errors import NeedleError, UsageError
from needle.pocket.tokenizer import SPLIT

SUFFIXES = (".weight", ".bias")


def convert(checkpoint: str, out: Path) -> Path:
    """Write `checkpoint`, a bundled name or a folder, to `out` as GGUF and return that.

    Raises:
        UsageError: there is no such checkpoint, it is no plain Qwen2, or the package `gguf` is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise UsageError("GGUF needs the package 'gguf'; install needle-eval[gguf]") from error
    folder = pocket.path(checkpoint) or Path(checkpoint)
    config, words = _json(folder / "config.json"), _json(folder / "tokenizer.json")
    _check(folder, config, words)
    # Beside the file it becomes, so that a conversion that fails leaves nothing that looks whole.
    beside = out.with_name(f".{out.name}.new")
    writer = gguf.GGUFWriter(beside, "qwen2")
    _shape(writer, folder.name, config)
    _vocabulary(writer, folder, config, words)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config["num_hidden_layers"])
    for name, values in _tensors(folder):
        told = names.get_name(name, try_suffixes=SUFFIXES)
        if told is None:
            raise UsageError(f"'{folder}' has a tensor '{name}' that a Qwen2 has not; convert a Qwen2")
        writer.add_tensor(told, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return beside.replace(out)


def _json(path: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read ({error.strerror}); give a checkpoint folder") from error
    return read


def _check(folder: Path, config: dict[str, Any], words: dict[str, Any]) -> None:
    """Raise UsageError for what llama.cpp's "qwen2" would compute differently."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    plain = rope.get("rope_type", "default") == "default" and not config.get("use_sliding_window")
    if config.get("model_type") != "qwen2" or not plain:
        raise UsageError(f"'{folder}' is no Qwen2 with plain positions; use llama.cpp's own converter")
    split = json.dumps(words.get("pre_tokenizer"))
    if json.dumps(SPLIT)[1:-1] not in split:
        raise UsageError(f"'{folder}' splits text otherwise than Qwen2 does; use llama.cpp's own converter")


def _shape(writer: Any, name: str, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or config
    writer.add_name(name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(0)  # ALL_F32
    writer.add_vocab_size(config["vocab_size"])


def _vocabulary(writer: Any, folder: Path, config: dict[str, Any], words: dict[str, Any]) -> None:
    """Every id's token, up to the size of the embedding; ids that no token has are marked unused."""
    from gguf import TokenType

    tokens = [f"[unused {i}]" for i in range(config["vocab_size"])]
    kinds = [TokenType.UNUSED] * len(tokens)
    for token, index in words["model"]["vocab"].items():
        tokens[index], kinds[index] = token, TokenType.NORMAL
    for added in words["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], kinds[added["id"]] = added["content"], kind
    merges = words["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    ends = config["eos_token_id"]
    writer.add_eos_token_id(ends[0] if isinstance(ends, list) else ends)
    if config.get("pad_token_id") is not None:
        writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    template = folder / "chat_template.jinja"
    if template.is_file():
        writer.add_chat_template(template.read_text(encoding="utf-8"))


def _tensors(folder: Path) -> list[tuple[str, NDArray[np.float32]]]:
    """The weights in float32, by name; those of a tied output are the embedding's and are not there."""
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UsageError(f"'{folder}' has no safetensors; give a checkpoint that has")
    return [(name, values.float().numpy()) for file in files for name, values in sorted(load_file(file).items())]


def main() -> None:
    """Command line of the module."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m needle.pocket.gguf CHECKPOINT OUT.gguf")
    try:
        made = convert(sys.argv[1], Path(sys.argv[2]))
    except NeedleError as error:
        print(f"needle: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{made}: {made.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
