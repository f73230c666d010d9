"""A server that speaks the OpenAI protocol: requests with bounded time, bounded retries, and no secret in any error."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from needle.engines._secrets import Secrets
from needle.errors import UsageError, one_line

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

FIRST_WAIT = 1.0
"""Seconds before the second try; each further wait is twice as long, up to `LONGEST_WAIT`, and jittered."""
LONGEST_WAIT = 60.0
PASSING = {408, 409, 425, 429}
"""HTTP statuses, besides those from 500, after which the same request may well succeed."""
SHOWN = 300
"""Characters of a server's own words that an error repeats."""


class ServerError(Exception):
    """A request that failed, in one line without secrets.

    `status` is HTTP's where there was an answer, `again` whether to try again, after `wait` seconds if the server
    named them.
    """

    def __init__(self, message: str, status: int | None = None, again: bool = False, wait: float | None = None) -> None:
        super().__init__(message)
        self.status, self.again, self.wait = status, again, wait

    @property
    def unreachable(self) -> bool:
        """Whether it is the server that is in trouble, not this one request."""
        return self.status is None or self.status >= 500


class Server:
    """`address` has no credentials; `seconds` is what one request may take, its retries included."""

    def __init__(self, address: str, secrets: Secrets, seconds: float, retries: int) -> None:
        try:
            import openai
            import tenacity  # noqa: F401
        except ImportError as error:
            remedy = f"pip install {error.name}"
            raise UsageError(f"--engine openai needs the package '{error.name}'; {remedy}") from error
        self.address, self.secrets, self.seconds, self.retries = address, secrets, seconds, retries
        self.root = address.removesuffix("/v1")
        self._closed = threading.Event()
        self._client = openai.OpenAI(
            api_key=secrets.key, base_url=address, max_retries=0, default_headers=secrets.headers(), timeout=seconds
        )

    def close(self) -> None:
        """End waits between tries, and let go of the connections."""
        self._closed.set()
        self._client.close()

    def get(self, path: str, read: Callable[[Any], T], retries: int | None = None) -> T:
        """What `read` makes of the answer to a GET of `path`, which may be a whole address.

        Raises:
            ServerError: there is no answer, or none that `read` takes.
        """
        return self._tried(lambda seconds: read(self._once("get", path, {}, seconds)), retries)

    def post(self, path: str, body: dict[str, Any], read: Callable[[Any], T], retries: int | None = None) -> T:
        """What `read` makes of the answer to a POST of `body` to `path`, which may be a whole address.

        Raises:
            ServerError: there is no answer, or none that `read` takes.
        """
        return self._tried(lambda seconds: read(self._once("post", path, body, seconds)), retries)

    def _tried(self, attempt: Callable[[float], T], retries: int | None) -> T:
        """The outcome of `attempt`, given the seconds left, tried again while that is worth it and there is time."""
        import tenacity

        most = 1 + (self.retries if retries is None else retries)
        began, tries = time.monotonic(), 0
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, ServerError) and error.again),
            stop=tenacity.stop_any(tenacity.stop_after_attempt(most), tenacity.stop_before_delay(self.seconds)),
            wait=_wait,
            sleep=tenacity.sleep_using_event(self._closed),
            reraise=True,
        )
        try:
            for one in retrying:
                with one:
                    tries += 1
                    return attempt(max(0.1, self.seconds - (time.monotonic() - began)))
        except ServerError as error:
            left = self.seconds - (time.monotonic() - began)
            raise ServerError(f"{error}{_history(error, tries, left)}", error.status) from None
        raise AssertionError("a retry either returns or raises")

    def _once(self, method: str, path: str, body: dict[str, Any], seconds: float) -> Any:
        """The decoded answer, secrets hidden, to one request."""
        import openai

        more: Any = {"options": {"timeout": seconds}} | ({"body": body} if method == "post" else {})
        try:
            text: str = getattr(self._client, method)(path, cast_to=str, **more)
        except openai.APITimeoutError:
            raise ServerError(f"no answer within {seconds:.0f} s", again=True) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            why = self._words(f"{type(cause).__name__}: {cause}")
            raise ServerError(f"no connection to {self.address} ({why})", again=not self._closed.is_set()) from None
        except openai.APIStatusError as error:
            raise self._refusal(error.status_code, error.response.text, error.response.headers) from None
        except (openai.OpenAIError, RuntimeError) as error:
            raise ServerError(self._words(f"{type(error).__name__}: {error}")) from None
        try:
            return self.secrets.hide_in(json.loads(text))
        except ValueError:
            raise ServerError(f"an answer that is no JSON: '{self._words(text)[:80]}'", again=True) from None

    def _refusal(self, status: int, text: str, headers: Any) -> ServerError:
        """What an HTTP status other than success says."""
        message, code = _complaint(text)
        again = (status in PASSING or status >= 500) and code != "insufficient_quota"
        said = f"HTTP {status}: {self._words(message)}" if message else f"HTTP {status}"
        return ServerError(said, status, again, _retry_after(headers))

    def _words(self, text: str) -> str:
        # Hidden first, cut then: the beginning of a key is a secret, too.
        return one_line(self.secrets.hide(text))[:SHOWN]


def _history(error: ServerError, tries: int, left: float) -> str:
    """What was tried already, for the end of an error."""
    if error.wait is not None and error.wait > left:
        return f" (it asks to wait {error.wait:.0f} s, longer than --timeout leaves)"
    return f" (tried {tries} times)" if tries > 1 else ""


def _wait(state: RetryCallState) -> float:
    """Seconds until the next try: what the server asked for, else twice as long each time, with jitter."""
    from tenacity import wait_exponential_jitter, wait_random

    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ServerError) and error.wait is not None:
        return error.wait + wait_random(0, FIRST_WAIT / 4)(state)
    return wait_exponential_jitter(initial=FIRST_WAIT, max=LONGEST_WAIT, jitter=FIRST_WAIT)(state)


def _retry_after(headers: Any) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3: a number, or a date)."""
    value = str(headers.get("retry-after") or "").strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _complaint(text: str) -> tuple[str, str]:
    """The message and code of an error's body, whichever of the usual forms it has; else the body as it is."""
    try:
        data = json.loads(text)
    except ValueError:
        return text, ""
    error = data.get("error", data) if isinstance(data, dict) else data
    if not isinstance(error, dict):
        return str(error), ""
    message = error.get("message") or error.get("detail") or error
    return str(message), str(error.get("code") or error.get("type") or "")
