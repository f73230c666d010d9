"""How a prompt is put to a server: token ids, text, a chat, or Ollama's own API; and how its answer is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from needle.engines import _words
from needle.engines._server import ServerError
from needle.tasks import Task
from needle.types import Prompt

SLACK = 8
"""Tokens that a server may count less than was sent as text: words around the needle may join anew."""
ROUGH = 0.1
"""The same, as a share, where the tokenizer given is not quite the server's."""


@dataclass(frozen=True, slots=True)
class Said:
    """A server's answer; `read` is how many prompt tokens it counts, `wrote` how many of its own, `model` its name."""

    text: str
    finish: Literal["stop", "length"]
    read: int | None
    wrote: int | None
    model: str | None


@dataclass(frozen=True, slots=True)
class Ask:
    """One request's body, how many prompt tokens the server should count, and how many less may pass."""

    body: dict[str, Any]
    tokens: int
    slack: int = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """What a server counts for text that has `n` tokens here: `share * n + more`. (1, 0) is the same tokenizer."""

    more: float = 0.0
    share: float = 1.0

    @property
    def exact(self) -> bool:
        """Whether the two tokenizers agree, but for a template's own tokens."""
        return self.share == 1

    def expect(self, tokens: int) -> tuple[int, int]:
        """The server's count of text that has `tokens` here, and how far below it an honest count may lie."""
        return round(self.share * tokens + self.more), SLACK if self.exact else max(SLACK, round(ROUGH * tokens))


class Way(Protocol):
    """One kind of request."""

    @property
    def name(self) -> str:
        """What goes into the record."""

    @property
    def path(self) -> str:
        """Where the request goes."""

    def ask(self, prompt: Prompt) -> Ask:
        """The request for `prompt`."""

    def read(self, data: Any) -> Said:
        """What came back.

        Raises:
            ServerError: it is no answer.
        """


@dataclass(frozen=True, slots=True)
class Settings:
    """What every request carries: the model's name on the server, the temperature, and the seed if it is not 0."""

    model: str
    temperature: float = 0.0
    seed: int = 0
    limit: str = "max_tokens"
    more: Mapping[str, Any] = field(default_factory=dict)

    def body(self, budget: int, repeat: int = 0) -> dict[str, Any]:
        """The common part of a request for up to `budget` new tokens."""
        body = {"model": self.model, "temperature": self.temperature, self.limit: budget, **self.more}
        # A seed has no say in greedy decoding, and some servers refuse it.
        return body if self.temperature == 0 else {**body, "seed": self.seed + repeat}


@dataclass(frozen=True, slots=True)
class Ids:
    """The prompt's own ids through /completions: exact to the token."""

    settings: Settings
    name: str = "completions, token ids"
    path: str = "/completions"

    def ask(self, prompt: Prompt) -> Ask:
        """See `Way`."""
        body = self.settings.body(prompt.max_new_tokens, prompt.cell.repeat)
        return Ask({**body, "prompt": prompt.ids.tolist()}, len(prompt.ids))

    def read(self, data: Any) -> Said:
        """See `Way`."""
        return _completion(data)


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """The prompt as text through /completions; `opening` is a token that the server puts before it by itself."""

    settings: Settings
    tokenizer: Any
    opening: str = ""
    scale: Scale = Scale()
    name: str = "completions, text"
    path: str = "/completions"

    def ask(self, prompt: Prompt) -> Ask:
        """See `Way`."""
        text = _words.text_of(self.tokenizer, prompt.ids)
        text = text.removeprefix(self.opening) if self.opening else text
        body = self.settings.body(prompt.max_new_tokens, prompt.cell.repeat)
        return Ask({**body, "prompt": text}, *self.scale.expect(_words.count(self.tokenizer, text)))

    def read(self, data: Any) -> Said:
        """See `Way`."""
        return _completion(data)


@dataclass(frozen=True, slots=True, eq=False)
class Chat:
    """The user's message, and the system's, through /chat/completions; the server renders its own template."""

    settings: Settings
    tokenizer: Any
    task: Task
    system: str | None
    scale: Scale = Scale()
    name: str = "chat"
    path: str = "/chat/completions"

    def ask(self, prompt: Prompt) -> Ask:
        """See `Way`."""
        start, end = prompt.document
        context = _words.text_of(self.tokenizer, prompt.ids[start:end])
        user = self.task.template.format(context=context, question=prompt.question.question)
        tokens = _words.count(self.tokenizer, _words.text_of(self.tokenizer, prompt.ids))
        body = self.settings.body(prompt.max_new_tokens, prompt.cell.repeat)
        return Ask({**body, "messages": self.messages(user)}, *self.scale.expect(tokens))

    def messages(self, user: str) -> list[dict[str, str]]:
        """The turns; a template without a system role has its text at the head of the user's turn."""
        if not self.system:
            return [{"role": "user", "content": user}]
        if _words.takes_system(self.tokenizer, self.system):
            return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]
        return [{"role": "user", "content": f"{self.system}\n\n{user}"}]

    def read(self, data: Any) -> Said:
        """See `Way`."""
        choice = _choice(data)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise ServerError("an answer without a message", again=True)
        return _said(message.get("content"), choice.get("finish_reason"), data)


@dataclass(frozen=True, slots=True, eq=False)
class Ollama:
    """The prompt as text through Ollama's /api/generate, which alone lets the context length be set.

    Its OpenAI endpoint cuts every prompt to the server's default context, of a few thousand tokens, without a word.
    """

    settings: Settings
    tokenizer: Any
    root: str
    context: int
    opening: str = ""
    scale: Scale = Scale()
    name: str = "ollama generate, text"

    @property
    def path(self) -> str:
        """See `Way`."""
        return f"{self.root}/api/generate"

    def ask(self, prompt: Prompt) -> Ask:
        """See `Way`."""
        text = _words.text_of(self.tokenizer, prompt.ids)
        text = text.removeprefix(self.opening) if self.opening else text
        body = self.body(text, prompt.max_new_tokens, prompt.cell.repeat)
        return Ask(body, *self.scale.expect(_words.count(self.tokenizer, text)))

    def body(self, text: str, budget: int, repeat: int = 0) -> dict[str, Any]:
        """The request for `text`; every one names the same context, for the model is loaded anew where it changes."""
        options = {"num_ctx": self.context, "num_predict": budget, "temperature": self.settings.temperature}
        if self.settings.temperature:
            options["seed"] = self.settings.seed + repeat
        # Releases that know the two refuse a prompt that is too long, where others cut it.
        whole = {"truncate": False, "shift": False}
        return {"model": self.settings.model, "prompt": text, "raw": True, "stream": False, "options": options, **whole}

    def read(self, data: Any) -> Said:
        """See `Way`."""
        if not isinstance(data, dict) or not isinstance(data.get("response"), str):
            raise ServerError("an answer without a response", again=True)
        usage = {"prompt_tokens": data.get("prompt_eval_count"), "completion_tokens": data.get("eval_count")}
        return _said(data["response"], data.get("done_reason"), {"usage": usage, "model": data.get("model")})


def _completion(data: Any) -> Said:
    choice = _choice(data)
    return _said(choice.get("text"), choice.get("finish_reason"), data)


def _choice(data: Any) -> dict[str, Any]:
    """The one choice of an answer; some gateways send an error with status 200."""
    if isinstance(data, dict) and data.get("error"):
        error = data["error"]
        why = error.get("message") if isinstance(error, dict) else error
        raise ServerError(f"an error in place of an answer: {str(why)[:300]}", again=True)
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ServerError("an answer without choices", again=True)
    return choices[0]


def _said(text: Any, finish: Any, data: Mapping[str, Any]) -> Said:
    """The answer's parts, of which only a text, or an end for which there is none, must be there."""
    if finish in ("content_filter", "error", "abort"):
        raise ServerError(f"the server ended the answer with '{finish}'")
    if text is None and finish not in ("length", "stop"):
        raise ServerError("an answer without text", again=True)
    if not isinstance(text, str | None):
        raise ServerError("an answer whose text is none", again=True)
    usage = data.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    model = data.get("model")
    return Said(
        text=text or "",
        finish="length" if finish == "length" else "stop",
        read=_number(counts.get("prompt_tokens")),
        wrote=_number(counts.get("completion_tokens")),
        model=model if isinstance(model, str) and model else None,
    )


def _number(value: Any) -> int | None:
    """A count; some servers say 0, or -1, for "not counted"."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
