"""What must never be written down: API keys and the credentials of an address."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from needle.errors import UsageError

KEYS = ("NEEDLE_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the API key; the first that is set is sent."""

NO_KEY = "none"
"""What is sent where there is no key: the client insists on one, a local server does not look at it."""

SHORTEST = 6
"""Characters; what is shorter is a placeholder, and hiding it would blacken words of the model's answers."""

HIDDEN = "[hidden]"


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """The key that is sent, the user and password of the address, and every form in which a server may echo them."""

    key: str
    login: tuple[str, str] | None = None
    known: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "Secrets(…)"

    def headers(self) -> dict[str, str]:
        """The header that carries the address's credentials, if it has any."""
        return {"Authorization": f"Basic {_basic(*self.login)}"} if self.login else {}

    def hide(self, text: str) -> str:
        """`text` without any secret."""
        for word in self.known:
            text = text.replace(word, HIDDEN)
        return text

    def hide_in(self, data: Any) -> Any:
        """The same for every string of decoded JSON, names included."""
        if isinstance(data, str):
            return self.hide(data)
        if isinstance(data, list):
            return [self.hide_in(item) for item in data]
        if isinstance(data, dict):
            return {self.hide(name): self.hide_in(value) for name, value in data.items()}
        return data


def read(login: tuple[str, str] | None, environment: Mapping[str, str] = os.environ) -> Secrets:
    """The secrets of this process, from its environment and the address's `login`.

    Raises:
        UsageError: a key cannot be sent as it is; it is not repeated.
    """
    keys = [environment[name].strip() for name in KEYS if environment.get(name, "").strip()]
    if any(not key.isascii() or not key.isprintable() for key in keys):
        raise UsageError(f"the API key in {' or '.join(KEYS)} has characters that no header can carry; set it anew")
    words = {*keys, *(login or ())} - {""}
    words |= {_basic(*login)} if login else set()
    forms = {form for word in words for form in (word, quote(word, safe="")) if len(word) >= SHORTEST}
    # A longer form may hold a shorter one, which would leave its rest readable.
    return Secrets(keys[0] if keys else NO_KEY, login, tuple(sorted(forms, key=len, reverse=True)))


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def address(url: str) -> tuple[str, tuple[str, str] | None]:
    """A server's address without credentials, `/v1` added where it has no path, and the credentials it had.

    Raises:
        UsageError: it is none; what might be secret in it is not repeated.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise UsageError("--base-url is no plain http(s) address; give one such as http://localhost:8000/v1")
    name = f"[{host}]" if ":" in host else host
    where = name if port is None else f"{name}:{port}"
    clean = urlunsplit((parts.scheme, where, parts.path.rstrip("/") or "/v1", "", ""))
    if parts.username is None and parts.password is None:
        return clean, None
    return clean, (unquote(parts.username or ""), unquote(parts.password or ""))
