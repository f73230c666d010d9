"""Any server that speaks the OpenAI protocol: vLLM, SGLang, llama.cpp, Ollama, `transformers serve`, hosted ones.

Prompts go out as token ids where the server takes them, so that lengths are exact; elsewhere as text or as a chat, and
the server's own count of their tokens is held against what was sent. They go out in the forest's order, in which
prompts that begin alike follow one another, for that is what a server's prefix cache lives on.
"""

from __future__ import annotations

import importlib.metadata
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from needle import forest, tasks, template
from needle.engines import _catalog, _crew, _secrets, _words
from needle.engines._asking import Ask, Said, Settings, Way
from needle.engines._catalog import Catalog
from needle.engines._probing import Prober
from needle.engines._purse import Purse
from needle.engines._server import Server, ServerError
from needle.engines._settings import flag, setting
from needle.errors import UsageError
from needle.types import Answer, Prompt, RunSpec

APIS = ("auto", "completions", "chat")
TOKEN_IDS = ("auto", "yes", "no")
SETTINGS = ("base_url", "tokenizer", "api", "concurrency", "timeout", "retries", "price_in", "price_out", "budget")
GRACE = 5.0
"""Seconds beyond its time after which a request that neither ends nor fails is left to itself."""
GIVE_UP = 5
"""Cells in a row without an answer after which the server counts as lost, and the run stops."""


def open(spec: RunSpec, say: Callable[[str], None]) -> OpenAI:
    """The engine for `spec`; `say` tells the user, on stderr, what was fallen back to.

    Nothing is sent before `sources` is read, so that a run's prompts can be rebuilt without its server.

    Raises:
        UsageError: an option makes no sense, or there is no such tokenizer.
    """
    return OpenAI(spec, say)


class OpenAI:
    """See `needle.engines.Engine`."""

    def __init__(self, spec: RunSpec, say: Callable[[str], None]) -> None:
        self.spec, self.say, options = spec, say, spec.options
        self.workers = int(_number(options, "concurrency", 4, 1))
        self.seconds = _number(options, "timeout", 600.0, 0.1)
        self.retries = int(_number(options, "retries", 5, 0))
        prices = [_optional(options, name) for name in ("price_in", "price_out", "budget")]
        self.purse = Purse(*prices)
        self.api = _one_of(options, "api", APIS)
        self.token_ids = _one_of(options, "token_ids", TOKEN_IDS)
        self.tokenizer_name = str(setting(options, "tokenizer") or spec.model)
        self.tokenizer = _words.read(self.tokenizer_name, options)
        self.cost = _words.cost_of(self.tokenizer_name, options)
        self.chunk = max(spec.grid.lengths)
        self._way: Way
        self._model: str | None = None
        self._uncounted = False
        # Tokenizers may not be used by two threads at once.
        self._turn = threading.Lock()

    @cached_property
    def server(self) -> Server:
        """The connection; opened when it is first needed."""
        url, login = _where(self.spec.options)
        return Server(url, _secrets.read(login), self.seconds, self.retries)

    @cached_property
    def catalog(self) -> Catalog:
        """What the server says of the model."""
        return _catalog.read(self.server, self.spec.model)

    @cached_property
    def sources(self) -> dict[str, str]:
        """What tells this run's answers from another's: server, model there, tokenizer. Asks the server."""
        return {
            "server": self.server.address,
            "model": self.catalog.served,
            "tokenizer": _words.sha256(self.tokenizer),
        }

    def load(self) -> dict[str, Any]:
        """Find out how the server takes prompts; returns that, and what it says of itself.

        Raises:
            UsageError: the server is out of reach, has not the model, splits text differently, or cannot hold the
                longest context.
        """
        self._fits()
        task = tasks.get(self.spec.task)
        system = task.system if self.spec.system is None else self.spec.system
        prober = Prober(
            server=self.server,
            catalog=self.catalog,
            settings=Settings(self.spec.model, self.spec.temperature, self.spec.seed),
            tokenizer=self.tokenizer,
            tokenizer_name=self.tokenizer_name,
            task=task,
            frame=template.frame(self.tokenizer, task, self.spec.prompt, self.spec.system),
            system=system,
            longest=max(self.spec.grid.lengths),
            api=self.api,
            token_ids=self.token_ids,
            say=self.say,
        )
        self._way, self._model = prober.find()
        self._named()
        versions = {"openai": importlib.metadata.version("openai")}
        if self.catalog.ollama is not None:
            versions["ollama"] = self.catalog.ollama
        return {
            "device": f"server {self.server.address}",
            "way": self._way.name,
            "model": self._model or self.catalog.served,
            "concurrency": self.workers,
            "versions": versions,
        }

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Answer]]:
        """One answer a prompt as they come in. Stops early, and says so, at the budget or when the server is lost."""
        plan = forest.plan([p.ids for p in prompts])
        order = [fork.index for trunk in plan.trunks for fork in trunk.forks]
        self._announce(prompts)
        lost, left, whole = 0, len(prompts), False
        began: dict[int, float] = {}

        def may(index: int) -> bool:
            began[index] = time.perf_counter()
            return lost < GIVE_UP and self.purse.hold(index, prompts[index])

        try:
            work = _crew.run(order, lambda i: self._one(prompts[i]), self.workers, self.seconds + GRACE, may)
            for index, done in work:
                said, error = done or (None, ServerError(f"no end of an answer within {self.seconds:.0f} s"))
                lost = lost + 1 if error is not None and error.unreachable else 0
                left -= 1
                billed = error is None or error.status in (None, 200)
                self.purse.settle(index, said.read if said else None, said.wrote if said else None, billed)
                yield index, self._answer(said, error, time.perf_counter() - began[index])
            self._report(left, lost)
            whole = True
        finally:
            if not whole:
                self.server.close()

    def _one(self, prompt: Prompt) -> tuple[Said | None, ServerError | None]:
        """What the server says to `prompt`, or why not; both where it cut the prompt short."""
        with self._turn:
            ask = self._way.ask(prompt)
        try:
            said = self.server.post(self._way.path, ask.body, self._way.read)
        except ServerError as error:
            return None, error
        return said, self._flaw(ask, said)

    def _flaw(self, ask: Ask, said: Said) -> ServerError | None:
        """Why an answer does not count: not the whole prompt was read, or not by the same model."""
        if said.read is not None and said.read < ask.tokens - ask.slack:
            return ServerError(
                f"the server read {said.read} of {ask.tokens} prompt tokens: it cuts prompts short; "
                "raise the context length that it was started with",
                status=200,
            )
        if said.model != self._model and None not in (said.model, self._model):
            return ServerError(f"model '{said.model}' answered, not '{self._model}' as before", status=200)
        return None

    def _answer(self, said: Said | None, error: ServerError | None, seconds: float) -> Answer:
        way, read = self._way.name, None if said is None else said.read
        if said is not None and read is None and not self._uncounted:
            self._uncounted = True
            self.say("the server sends no token counts: whether it cuts a prompt short cannot be seen")
        if error is not None or said is None:
            return Answer(finish="error", error=str(error), way=way, seconds=seconds, prompt_tokens=read)
        with self._turn:
            # The ids that the text has here: the server sends none.
            ids = tuple(template.encode(self.tokenizer, said.text))
        return Answer(
            text=said.text.strip(),
            ids=ids,
            finish=said.finish,
            seconds=seconds,
            way=way,
            prompt_tokens=read,
        )

    def _fits(self) -> None:
        """Raise UsageError if the server says that it cannot hold the longest context."""
        longest, most = max(self.spec.grid.lengths), self.catalog.longest
        if most is not None and longest > most:
            raise UsageError(
                f"a context of {longest} tokens is longer than the server's {most}; lower --max-len, or start the "
                "server with a longer context"
            )

    def _named(self) -> None:
        """Say, or refuse, that another model answers than the one asked for."""
        asked, names = self.spec.model, self.catalog.names
        if not names or asked in names or self.catalog.ollama is not None:
            return
        if self._model in names:
            raise UsageError(f"server {self.server.address} serves '{self._model}', not '{asked}'; give that --model")
        self.say(f"the server lists {', '.join(names[:4])}, not '{asked}', but answers to that name")

    def _announce(self, prompts: Sequence[Prompt]) -> None:
        if self.purse.counts:
            most = sum(self.purse.most(p) for p in prompts)
            self.say(f"{len(prompts)} cells cost at most ${most:,.2f} if none is asked twice")

    def _report(self, left: int, lost: int) -> None:
        """What it cost, and why cells are left."""
        if self.purse.counts:
            self.say(f"spent about ${self.purse.spent:,.4f}")
        if not left:
            return
        again = f"{left} cells are left unmeasured; the same command goes on from here"
        if lost >= GIVE_UP:
            self.say(f"no answer to {lost} cells in a row, so the server is taken for lost: {again}")
        else:
            self.say(f"the budget of ${self.purse.budget:g} does not pay for another cell: {again}")


def _optional(options: Mapping[str, Any], name: str) -> float | None:
    return None if setting(options, name) is None else _number(options, name, 0.0, 0.0)


def _number(options: Mapping[str, Any], name: str, default: float, least: float) -> float:
    value = setting(options, name, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = least - 1
    if not least <= number < float("inf"):
        raise UsageError(f"{flag(name)} '{value}' is no number from {least:g}")
    return number


def _one_of(options: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = str(setting(options, name, known[0]))
    if value not in known:
        raise UsageError(f"{flag(name)} '{value}' is unknown; use {', '.join(known)}")
    return value


def _where(options: Mapping[str, Any]) -> tuple[str, tuple[str, str] | None]:
    """The server's address, and credentials that came with it.

    Raises:
        UsageError: none is given, or its credentials would end up in the run's record.
    """
    recorded = options.get("base_url")
    if recorded and _secrets.address(str(recorded))[1] is not None:
        raise UsageError(
            "--base-url has credentials, which are not kept; set NEEDLE_BASE_URL in the environment instead"
        )
    hidden = (options.get("service") or {}).get("base_url") or os.environ.get("NEEDLE_BASE_URL")
    given = recorded or hidden or os.environ.get("OPENAI_BASE_URL")
    if not given:
        raise UsageError("--engine openai needs --base-url, such as http://localhost:8000/v1")
    return _secrets.address(str(given))
