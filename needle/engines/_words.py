"""The tokenizer of a model that runs elsewhere: from a folder, a `tokenizer.json`, the hub, or a bundled checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from needle import cost, pocket
from needle.cost import Cost
from needle.errors import UsageError

PER_TOKEN = Cost(linear=1.0, attention=0.0)
"""What feeding tokens costs where the model's shape is not known: so much a token, in units of tokens."""


def read(name: str, options: Mapping[str, Any]) -> Any:
    """The tokenizer called `name`.

    A `tokenizer.json` alone has no chat template and no special tokens' names; what lies beside it is read as well.

    Raises:
        UsageError: there is none, or it does not load; the message names --tokenizer.
    """
    from needle.engines import _checkpoint

    path = Path(name).expanduser()
    try:
        if path.is_file():
            return _from_file(path)
        if path.is_dir():
            return _from_folder(path, options)
        return _checkpoint.read_tokenizer(name, options)
    except UsageError as error:
        remedy = "give the served model's folder, hub id or tokenizer.json as --tokenizer"
        raise UsageError(f"no tokenizer '{name}': {error}; {remedy}") from error


def _from_file(path: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    if (path.parent / "tokenizer_config.json").is_file() and path.name == "tokenizer.json":
        return _from_folder(path.parent, {})
    try:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise UsageError(f"it is no tokenizer.json ({str(error)[:200]})") from error
    template = path.parent / "chat_template.jinja"
    if template.is_file():
        tokenizer.chat_template = template.read_text(encoding="utf-8")
    return tokenizer


def _from_folder(path: Path, options: Mapping[str, Any]) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(path), trust_remote_code=bool(options.get("trust_remote_code")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UsageError(f"it does not load ({first[:200]})") from error


def cost_of(name: str, options: Mapping[str, Any]) -> Cost:
    """What the model costs by the configuration that lies with its tokenizer, else `PER_TOKEN`."""
    from needle.engines import _checkpoint

    path = Path(name).expanduser()
    folder = path.parent if path.is_file() else path
    if not (pocket.path(name) or (folder / "config.json").is_file()):
        return PER_TOKEN
    try:
        return cost.of(_checkpoint.read_config(name if pocket.path(name) else str(folder), options)).whole()
    except (UsageError, AttributeError):
        return PER_TOKEN


def sha256(tokenizer: Any) -> str:
    """Hash of the tokenizer and its chat template, the same that a local checkpoint's sources have."""
    text = tokenizer.backend_tokenizer.to_str() if getattr(tokenizer, "is_fast", False) else repr(tokenizer)
    template = getattr(tokenizer, "chat_template", "")
    return hashlib.sha256((text + str(template)).encode()).hexdigest()


def text_of(tokenizer: Any, ids: Any) -> str:
    """`ids` as text, control tokens written out."""
    text: str = tokenizer.decode([int(i) for i in ids], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def count(tokenizer: Any, text: str) -> int:
    """Tokens of `text` as a server reads it: control tokens are such, nothing is added."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def takes_system(tokenizer: Any, system: str) -> bool:
    """Whether the chat template has a place for a system prompt; else it heads the user's turn."""
    from jinja2 import TemplateError

    turns = [{"role": "system", "content": system}, {"role": "user", "content": "a"}]
    try:
        return system.strip() in tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except (TemplateError, TypeError, ValueError):
        return False


def thinks(tokenizer: Any) -> bool:
    """Whether the chat template has a switch for thinking, which prompts here have off."""
    return "enable_thinking" in json.dumps(getattr(tokenizer, "chat_template", None) or "")


def chat_text(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """The chat as this tokenizer's template renders it, with the header of the answer."""
    text: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    return text
