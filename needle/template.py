"""What stands around the document: the chat template, or a plain prompt, in the tokenizer's own ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from needle.errors import UsageError
from needle.tasks import Task
from needle.types import Question

_CONTEXT, _QUESTION, _PREFIX = "@@Context@@", "@@Question@@", "@@Prefix@@"
_ANCHOR = "a."

_DATE = {"%d": "26", "%-d": "26", "%b": "Jul", "%B": "July", "%m": "07", "%Y": "2024", "%y": "24"}
_DATE |= {"%a": "Fri", "%A": "Friday", "%H": "12", "%M": "00", "%S": "00"}
"""What a template that asks for today is told (the date that Llama 3's falls back to): prompts must not age."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Ids before the document, and a function from a question to the ids after it.

    `kind` is "chat" or "base"; `note` says, where it applies, what was done for the model's template. `prefill`: the
    answer's prefix stands at the head of the chat's answer, so that a reply goes on from it.
    """

    kind: str
    prefix: list[int]
    suffix: Callable[[Question], list[int]]
    note: str = ""
    prefill: bool = False


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

    A tokenizer that joins the two is asked for `text` after a letter, and if it joins these, for `text` alone.
    """
    for words in (before, "a"):
        head, whole = encode(tokenizer, words), encode(tokenizer, words + text)
        if whole[: len(head)] == head:
            return whole[len(head) :]
    return encode(tokenizer, text)


def _base(tokenizer: Any, task: Task, system: str | None) -> Frame:
    opening = f"{system}\n\n" if system else ""
    before, after = _split(opening + task.base.format(context=_CONTEXT, question=_QUESTION, prefix=_PREFIX))
    prefix = _specials_before(tokenizer) + encode(tokenizer, before)

    def suffix(question: Question) -> list[int]:
        text = after.replace(_QUESTION, question.question).replace(_PREFIX, question.prefix)
        return encode_after(tokenizer, _ANCHOR, text.rstrip())

    return Frame("base", prefix, suffix)


def _chat(tokenizer: Any, task: Task, system: str | None) -> Frame:
    user = task.template.format(context=_CONTEXT, question=_QUESTION)
    rendered, notes = _render(tokenizer, user, system)
    before, after = _split(rendered)

    # A header that ends in a bracket, as Mistral's, is parted from the answer by a space.
    gap = "" if after[-1].isspace() else " "

    def suffix(question: Question) -> list[int]:
        text = after.replace(_QUESTION, question.question)
        return encode_after(tokenizer, _ANCHOR, text + gap + question.prefix if task.prefill else text)

    return Frame("chat", encode(tokenizer, before), suffix, "; ".join(notes), task.prefill)


def _render(tokenizer: Any, user: str, system: str | None) -> tuple[str, list[str]]:
    """The chat as text, and what was done for it.

    A template without a system role gets the system prompt at the head of the user's turn.
    """
    template, notes = _still(_template(tokenizer))
    turn = {"role": "user", "content": user}
    if not system:
        return _apply(tokenizer, template, [turn]), notes
    try:
        rendered = _apply(tokenizer, template, [{"role": "system", "content": system}, turn])
    except UsageError:
        rendered = ""
    if system.strip() in rendered:
        return rendered, notes
    merged = {"role": "user", "content": f"{system}\n\n{user}"}
    note = "the chat template takes no system role; its text heads the user's turn"
    return _apply(tokenizer, template, [merged]), [*notes, note]


def _template(tokenizer: Any) -> str:
    try:
        template: str = tokenizer.get_chat_template()
    except ValueError as error:
        raise UsageError("this tokenizer has chat templates but no default one; use --prompt base") from error
    return template


def _still(template: str) -> tuple[str, list[str]]:
    """The template with its clock stopped, and a note of what it will be told."""
    notes = []
    if "enable_thinking" in template:
        notes.append("the chat template's thinking is switched off: the answer budget has no room for it")
    if "strftime_now" in template:
        notes.append("the chat template asks for today's date and is told 26 July 2024, so that prompts stay the same")
        steps = "".join(f"|replace('{code}', '{value}')" for code, value in _DATE.items())
        template = f"{{%- macro strftime_now(format) -%}}{{{{ format{steps} }}}}{{%- endmacro -%}}{template}"
    return template, notes


def _apply(tokenizer: Any, template: str, messages: list[dict[str, str]]) -> str:
    """The rendered chat with the header of the answer.

    Raises:
        UsageError: the template refuses, in its own words.
    """
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except (TemplateError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise UsageError(f"the chat template cannot be rendered ({why}); use --prompt base") from error
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


@dataclass(frozen=True, slots=True)
class Drafted:
    """A task's whole reply in tokens: their ids and texts, and which of them are the expected answer."""

    ids: list[int]
    texts: list[str]
    answer: tuple[int, ...]


def drafted(tokenizer: Any, question: Question, prompt: str) -> Drafted:
    """The expected reply as it stands at the end of a prompt of this form ("auto", "chat" or "base").

    It has no tokens where the task expects no single reply. A plain prompt has given its prefix away already.
    """
    if question.draft is None:
        return Drafted([], [], ())
    chat = prompt != "base" and getattr(tokenizer, "chat_template", None)
    text = question.draft if chat else question.draft.removeprefix(question.prefix)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    pairs = encoded["offset_mapping"]
    spans = [(text.find(a), text.find(a) + len(a)) for a in question.answers if a in text]
    answer = (i for i, (start, end) in enumerate(pairs) if any(start < e and s < end for s, e in spans))
    return Drafted(list(encoded["input_ids"]), [text[start:end] for start, end in pairs], tuple(answer))
