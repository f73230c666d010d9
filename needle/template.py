"""What stands around the document: the chat template, or a plain prompt, in the tokenizer's own ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from needle.errors import UsageError
from needle.tasks import Task
from needle.types import Question

_CONTEXT, _QUESTION = "@@CONTEXT@@", "@@QUESTION@@"
_ANCHOR = "a."


@dataclass(frozen=True, slots=True)
class Frame:
    """Ids before the document, and a function from a question to the ids after it.

    `kind` is "chat" or "base"; `note` says, where it applies, what the model's template would not take.
    """

    kind: str
    prefix: list[int]
    suffix: Callable[[Question], list[int]]
    note: str = ""


def frame(tokenizer: Any, task: Task, prompt: str = "auto", system: str | None = None) -> Frame:
    """The frame of `task` for a tokenizer; `prompt` is "chat", "base", or "auto" (chat if there is a template).

    Raises:
        UsageError: `prompt` is neither, or a chat is asked of a tokenizer that has no template.
    """
    if prompt not in ("auto", "chat", "base"):
        raise UsageError(f"--prompt '{prompt}' is unknown; use auto, chat or base")
    template = getattr(tokenizer, "chat_template", None)
    if prompt == "chat" and not template:
        raise UsageError("this tokenizer has no chat template; use --prompt base")
    system = task.system if system is None else system
    if prompt == "base" or not template:
        return _base(tokenizer, task, system)
    return _chat(tokenizer, task, system)


def encode(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text` alone, nothing added."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False) if text else []
    return ids


def encode_after(tokenizer: Any, before: str, text: str) -> list[int]:
    """Ids of `text` as it stands after `before`.

    A tokenizer that joins the two is asked for `text` alone.
    """
    head, whole = encode(tokenizer, before), encode(tokenizer, before + text)
    return whole[len(head) :] if whole[: len(head)] == head else encode(tokenizer, text)


def _base(tokenizer: Any, task: Task, system: str | None) -> Frame:
    opening = f"{system}\n\n" if system else ""
    before, after = _split(opening + task.base.format(context=_CONTEXT, question=_QUESTION, prefix="@@PREFIX@@"))
    prefix = _specials_before(tokenizer) + encode(tokenizer, before)

    def suffix(question: Question) -> list[int]:
        text = after.replace(_QUESTION, question.question).replace("@@PREFIX@@", question.prefix)
        return encode_after(tokenizer, _ANCHOR, text.rstrip())

    return Frame("base", prefix, suffix)


def _chat(tokenizer: Any, task: Task, system: str | None) -> Frame:
    user = task.template.format(context=_CONTEXT, question=_QUESTION)
    rendered, note = _render(tokenizer, user, system)
    before, after = _split(rendered)

    def suffix(question: Question) -> list[int]:
        return encode_after(tokenizer, _ANCHOR, after.replace(_QUESTION, question.question))

    return Frame("chat", encode(tokenizer, before), suffix, note)


def _render(tokenizer: Any, user: str, system: str | None) -> tuple[str, str]:
    """The chat as text; a template without a system role gets the system prompt at the head of the user's turn."""
    from jinja2 import TemplateError

    turn = {"role": "user", "content": user}
    if not system:
        return _apply(tokenizer, [turn]), ""
    try:
        rendered = _apply(tokenizer, [{"role": "system", "content": system}, turn])
    except TemplateError:
        rendered = ""
    if system in rendered:
        return rendered, ""
    merged = {"role": "user", "content": f"{system}\n\n{user}"}
    return _apply(tokenizer, [merged]), "the chat template takes no system role; its text heads the user's turn"


def _apply(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text


def _split(rendered: str) -> tuple[str, str]:
    before, found, after = rendered.partition(_CONTEXT)
    if not found or _CONTEXT in after or _QUESTION not in after:
        raise UsageError("the chat template does not carry the user's text through once; use --prompt base")
    return before, after


def _specials_before(tokenizer: Any) -> list[int]:
    """Ids, such as a BOS, that the tokenizer itself puts before a text."""
    plain, full = encode(tokenizer, _ANCHOR), tokenizer.encode(_ANCHOR, add_special_tokens=True)
    for at in range(len(full) - len(plain) + 1):
        if full[at : at + len(plain)] == plain:
            return list(full[:at])
    return []
