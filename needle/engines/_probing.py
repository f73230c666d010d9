"""Which way a server takes prompts, found out with a few tiny requests before the first cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from needle.engines import _catalog, _words
from needle.engines._asking import Chat, Ids, Ollama, Said, Scale, Settings, Text, Way
from needle.engines._catalog import Catalog
from needle.engines._server import Server, ServerError
from needle.errors import UsageError
from needle.tasks import Task
from needle.template import Frame

SHORT = "Hi."
LONG = (
    "On 17 March 1869 the steamer Esperanza left Valparaíso with 4,218 sacks of wheat, a cracked propeller and no "
    'physician; "we shall manage," the captain wrote, though quinine, lamp-oil & patience ran out by the 39th day.'
)
"""Plain text on which two tokenizers hardly agree by chance: figures, names, punctuation, an accent."""
APART = 2
"""Tokens, such as a BOS, that a server may add to a text of its own accord."""
SHOWN = 80
"""Characters of a refusal that are repeated: servers like to send the ids back."""
REFUSED = {400, 404, 405, 415, 422, 500, 501}
"""Statuses with which servers answer a kind of prompt that they do not take."""


@dataclass(frozen=True, slots=True)
class Prober:
    """`tokenizer_name` is for messages, `api` and `token_ids` are what the user asked for, `longest` in tokens."""

    server: Server
    catalog: Catalog
    settings: Settings
    tokenizer: Any
    tokenizer_name: str
    task: Task
    frame: Frame
    system: str | None
    longest: int
    api: str
    token_ids: str
    say: Callable[[str], None]

    def find(self) -> tuple[Way, str | None]:
        """The way that fits, and the name under which the server answers.

        Raises:
            UsageError: there is none, or not as it was asked for.
        """
        if self.catalog.ollama is not None:
            return self._ollama()
        if self.api != "chat" and self.token_ids != "no":
            found = self._ids()
            if found:
                return found
            if self.token_ids == "yes":
                raise UsageError(f"server {self.server.address} takes no token ids; leave --api and token ids to auto")
        # A plain prompt, and the beginning of an answer, have no place in a chat.
        if self.api == "completions" or self.frame.kind == "base" or self.frame.prefill:
            return self._text()
        return self._chat()

    def _ids(self) -> tuple[Way, str | None] | None:
        """Token ids, if the server counts exactly those that it is sent."""
        way = Ids(self.settings)
        ids = self.tokenizer(LONG, add_special_tokens=False)["input_ids"]
        try:
            said = self._post(way, {**self.settings.body(1), "prompt": ids}, retries=2)
        except ServerError as error:
            if error.status not in REFUSED:
                raise _catalog.unusable(self.server, error) from None
            why = str(error)[:SHOWN]
            self.say(f"the server takes no token ids ({why}); prompts are sent as text, which it splits itself")
            return None
        if said.read != len(ids):
            counted = "no tokens" if said.read is None else f"{said.read} tokens"
            self.say(f"the server counts {counted} for {len(ids)} token ids; prompts are sent as text")
            return None
        self._same_words(way, len(ids))
        return way, said.model

    def _same_words(self, way: Ids, count: int) -> None:
        """Raise UsageError if the server splits text otherwise: ids of another vocabulary would be noise to it."""
        try:
            said = self._post(way, {**self.settings.body(1), "prompt": LONG}, retries=1)
        except ServerError as error:
            self.say(f"whether tokenizer and server agree could not be checked ({error})")
            return
        if said.read is not None and abs(said.read - count) > APART:
            raise self._other_words(said.read, count)

    def _other_words(self, server: int, here: int) -> UsageError:
        return UsageError(
            f"the server counts {server} tokens where tokenizer '{self.tokenizer_name}' counts {here}: it is another "
            "model's, or control tokens are plain words to the server; give the served model's as --tokenizer"
        )

    def _text(self) -> tuple[Way, str | None]:
        """Text through /completions."""
        way = Text(self.settings, self.tokenizer)
        scale, model = self._scale(way, lambda text: {**self.settings.body(1), "prompt": text}, self._bare())
        return replace(way, scale=scale, opening=self._opening(scale)), model

    def _ollama(self) -> tuple[Way, str | None]:
        """Text through Ollama's own API, with the context that the longest cell needs."""
        if self.api == "chat":
            raise UsageError("Ollama's chat endpoint cuts prompts without a word; leave --api auto, which does not")
        way = Ollama(self.settings, self.tokenizer, self.server.root, self.longest)
        scale, model = self._scale(way, lambda text: way.body(text, 1), self._bare())
        return replace(way, scale=scale, opening=self._opening(scale)), model

    def _bare(self) -> Mapping[str, str]:
        """Texts to send as they are; one has the control tokens that open a prompt."""
        opening = _words.text_of(self.tokenizer, self.frame.prefix)
        bos = getattr(self.tokenizer, "bos_token", None)
        return {SHORT: SHORT, LONG: (opening.removeprefix(bos) if bos else opening) + LONG}

    def _opening(self, scale: Scale) -> str:
        """The BOS, if the server puts one before every text: two would be one too many."""
        return (getattr(self.tokenizer, "bos_token", None) or "") if scale.more >= 1 else ""

    def _chat(self) -> tuple[Way, str | None]:
        """A chat, with thinking switched off where the template has the switch."""
        thinking = {"chat_template_kwargs": {"enable_thinking": False}} if _words.thinks(self.tokenizer) else {}
        way = Chat(replace(self.settings, more=thinking), self.tokenizer, self.task, self.system)
        way = self._accepted(way)
        texts = {text: _words.chat_text(self.tokenizer, way.messages(text)) for text in (SHORT, LONG)}
        scale, model = self._scale(way, lambda text: _chat_body(way, text), texts, rough=True)
        return replace(way, scale=scale), model

    def _accepted(self, way: Chat) -> Chat:
        """`way` with the settings that the server takes."""
        for _ in range(2):
            try:
                self._post(way, _chat_body(way, SHORT))
            except ServerError as error:
                if error.status not in (400, 422):
                    raise self._no_answer(error) from None
                if "max_completion_tokens" in str(error) and way.settings.limit == "max_tokens":
                    way = replace(way, settings=replace(way.settings, limit="max_completion_tokens"))
                elif way.settings.more:
                    self.say(
                        f"the server takes no chat_template_kwargs ({error}); its model may think before it answers"
                    )
                    way = replace(way, settings=replace(way.settings, more={}))
                else:
                    raise self._no_answer(error) from None
            else:
                break
        return way

    def _scale(
        self, way: Way, body: Callable[[str], dict[str, Any]], texts: Mapping[str, str], rough: bool = False
    ) -> tuple[Scale, str | None]:
        """How the server's count follows from ours: `texts` gives, for each thing to send, what is counted here.

        Raises:
            UsageError: the two split text differently, and `rough` does not allow for it.
        """
        sent = list(texts) if rough else list(texts.values())
        try:
            short, long = (self._post(way, body(text)) for text in sent)
        except ServerError as error:
            raise self._no_answer(error) from None
        here = [_words.count(self.tokenizer, text) for text in texts.values()]
        if short.read is None or long.read is None:
            return Scale(), long.model
        if long.read - short.read == here[1] - here[0]:
            return Scale(short.read - here[0]), long.model
        if not rough:
            raise self._other_words(long.read, here[1])
        share = (long.read - short.read) / (here[1] - here[0])
        self.say(
            f"tokenizer '{self.tokenizer_name}' is not the server's, which counts {share:.2f} tokens for each of its: "
            "lengths are by the tokenizer, the server's own counts are in the rows"
        )
        return Scale(short.read - share * here[0], share), long.model

    def _post(self, way: Way, body: dict[str, Any], retries: int | None = None) -> Said:
        return self.server.post(way.path, body, way.read, retries)

    def _no_answer(self, error: ServerError) -> UsageError:
        if error.status == 404:
            names = ", ".join(self.catalog.names[:8]) or "none"
            return UsageError(
                f"server {self.server.address}: {error}; models that it lists: {names}; see --model and --base-url"
            )
        return _catalog.unusable(self.server, error)


def _chat_body(way: Chat, text: str) -> dict[str, Any]:
    return {**way.settings.body(1), "messages": way.messages(text)}
