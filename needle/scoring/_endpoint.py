"""The judge's endpoint: one question, one reply, in the strictest form that the endpoint takes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from needle.errors import ScoreError, UsageError

if TYPE_CHECKING:
    from needle.engines._secrets import Secrets

KEYS = ("NEEDLE_JUDGE_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the judge's API key; the first that is set is sent."""
SECONDS = 120.0
"""What one verdict may take, all tries included."""
RETRIES = 4
REFUSED_FORM = {400, 422}
"""HTTP statuses by which endpoints refuse a request that has a field they do not know."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The judge's words, the model that said them by its own account, and a note where the form was a looser one."""

    text: str
    model: str
    note: str


class Endpoint:
    """`model` at `address`, asked for replies of `schema` at temperature 0 as far as it takes such requests."""

    def __init__(self, model: str, address: str, schema: dict[str, Any]) -> None:
        from needle.engines._server import Server

        self.model = model
        self._server = Server(address, _secrets(), SECONDS, RETRIES)
        asked = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}
        # Reasoning models take no temperature, some servers no schema.
        self._forms: list[tuple[dict[str, Any], str]] = [
            ({"temperature": 0, "response_format": asked}, ""),
            ({"response_format": asked}, " (at its own temperature)"),
            ({"temperature": 0}, " (without a schema)"),
            ({}, " (without a schema, at its own temperature)"),
        ]
        self._taken: int | None = None
        self._down = False

    def ask(self, system: str, user: str) -> Reply:
        """The reply to `user` under the instructions `system`.

        Raises:
            ScoreError: there is none; the message holds no secret.
        """
        from needle.engines._server import ServerError

        # Half a surrogate pair, which a model's bytes may give, cannot be sent.
        messages = [
            {"role": r, "content": c.encode(errors="replace").decode()} for r, c in (("system", system), ("user", user))
        ]
        first: ServerError | None = None
        for at, (form, note) in enumerate(self._forms):
            if self._taken not in (None, at):
                continue
            try:
                text, model = self._post({"model": self.model, "messages": messages, **form})
            except ServerError as error:
                first = first or error
                if self._taken is None and error.status in REFUSED_FORM:
                    continue
                break
            self._taken = at
            return Reply(text, model or self.model, note)
        raise ScoreError(f"the judge '{self.model}' gave no verdict: {first}")

    def _post(self, body: dict[str, Any]) -> tuple[str, str]:
        """The reply's text and model. After a server was out of reach it gets one try a cell until it answers."""
        from needle.engines._server import ServerError

        try:
            found = self._server.post("/chat/completions", body, _read, 0 if self._down else None)
        except ServerError as error:
            self._down = error.unreachable
            raise
        self._down = False
        return found


def _read(data: Any) -> tuple[str, str]:
    """The text and the model's name in a chat completion."""
    from needle.engines._server import ServerError

    try:
        choice = data["choices"][0]
        text, model = choice["message"]["content"], data.get("model")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ServerError("an answer that is no chat completion") from None
    if not isinstance(text, str) or choice.get("finish_reason") == "length":
        raise ServerError("a reply without text" if not isinstance(text, str) else "a reply that was cut off")
    return text, model if isinstance(model, str) else ""


def _secrets() -> Secrets:
    """The judge's key from the environment, to be sent and to be hidden."""
    from needle.engines import _secrets as secrets

    key = next((os.environ[name] for name in KEYS if os.environ.get(name, "").strip()), "")
    try:
        return secrets.read(None, {secrets.KEYS[0]: key})
    except UsageError:
        raise UsageError(
            f"the API key in {' or '.join(KEYS)} has characters that no header can carry; set it anew"
        ) from None
