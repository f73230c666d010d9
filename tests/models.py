"""Small untrained checkpoints in the shapes of the families people run, each with a trained tokenizer."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from needle import haystack

VOCABULARY = 512
END = "<|im_end|>"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": 128}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "gemma": ("Gemma", {"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma3": ("Gemma3", {"head_dim": 16, "sliding_window": 128, "sliding_window_pattern": 2}),
    "mixtral": ("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
}
"""Name to class prefix and what its configuration has beyond the common sizes."""

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}


def build(
    folder: Path,
    family: str = "llama",
    *,
    dtype: str = "float32",
    positions: int = 2048,
    pickle: bool = False,
    chat: bool = True,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Save a checkpoint to `folder` and return it; the same arguments give the same weights.

    `positions` is the context length it allows in tokens, `pickle` saves `pytorch_model.bin` and no safetensors,
    `chat` gives the tokenizer a chat template; anything else goes into the model's configuration.
    """
    words = tokenizer(chat)
    words.save_pretrained(folder)
    model = make(family, positions=positions, seed=seed, eos_token_id=words.eos_token_id, **config)
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder)
    if pickle:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def make(family: str = "llama", *, positions: int = 2048, seed: int = 0, **config: Any) -> Any:
    """The model alone, in float32 and evaluation mode."""
    prefix, extra = FAMILIES[family]
    kind = "Gemma3TextConfig" if prefix == "Gemma3" else f"{prefix}Config"
    settings = {**SIZES, **extra, "max_position_embeddings": positions, "pad_token_id": 0, "bos_token_id": None}
    made = getattr(transformers, kind)(**{**settings, "eos_token_id": 2, **config})
    transformers.set_seed(seed)
    return getattr(transformers, f"{prefix}ForCausalLM")(made).eval()


def tokenizer(chat: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 512 tokens that has read some essays."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()),
        eos_token=END,
        pad_token="<|endoftext|>",
        chat_template=CHATML if chat else None,
        clean_up_tokenization_spaces=False,
    )


@cache
def _trained() -> str:
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<|im_start|>", END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([haystack.load("essays").text[:50_000]], trainer)
    return str(bpe.to_str())


def set_generation(folder: Path, **settings: Any) -> None:
    """Rewrite the checkpoint's generation_config.json."""
    (folder / "generation_config.json").write_text(json.dumps(settings))
