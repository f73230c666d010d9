"""Prompts of a finished run, rebuilt from their recipes without loading torch: for looking at, not for answering.

The tokenizer is read from where the run's model is at hand: the bundled checkpoints, a local folder or the hub's
cache. Nothing is fetched. Whatever is rebuilt has the recorded hash, or is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from needle import haystack, pocket, running, template
from needle.engines import Engine
from needle.errors import StoreError, UsageError, one_line
from needle.prompt import Builder
from needle.store import Run
from needle.types import Prompt, Result

_FILES = ("*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True, slots=True, eq=False)
class Rebuilder:
    """What the prompts of `run` are made of, read once."""

    run: Run
    builder: Builder

    @property
    def tokenizer(self) -> Any:
        """The run's tokenizer, a `PreTrainedTokenizerFast`."""
        return self.builder.tokenizer

    def prompt(self, result: Result) -> Prompt:
        """The prompt of `result`, identical to the token.

        Raises:
            StoreError: it cannot be rebuilt here; the message says what differs.
        """
        where = f"{result.length}:{result.depth:g}"
        try:
            prompt = self.builder.build(result.cell, result.position or 0)
        except UsageError as error:
            raise StoreError(f"the prompt of {where} cannot be rebuilt here: {one_line(error)}") from error
        if prompt.sha256 != result.prompt_sha256:
            raise StoreError(
                f"the prompt of {where} cannot be rebuilt here: its tokens are not those that were measured; the "
                f"tokenizer of '{self.run.spec.model}' or the version of needle is another"
            )
        return prompt

    def expected_tokens(self, prompt: Prompt) -> list[str]:
        """Texts of the tokens of the expected answers, as they stand in the task's whole reply; [] if it has none."""
        drafted = template.drafted(self.tokenizer, prompt.question, self.run.spec.prompt)
        return [drafted.texts[i] for i in drafted.answer]


def opened(run: Run) -> Rebuilder:
    """The haystack and tokenizer of `run`, from this machine; one or two seconds the first time.

    Raises:
        StoreError: one of them is not to be had here, or is another than the run's; the message says which.
    """
    spec = run.spec
    if spec.engine == "import":
        raise StoreError("the prompt cannot be rebuilt here: an imported run keeps none")
    try:
        text = haystack.load(spec.haystack)
        kept = run.sources.get("haystack", text.sha256)
        if text.sha256 != kept:
            raise UsageError(f"haystack '{spec.haystack}' has changed since the run")
        reader = _Reader(tokenizer(run))
        return Rebuilder(run, running._builder(spec, cast(Engine, reader), text))
    except UsageError as error:
        raise StoreError(f"the prompt cannot be rebuilt here: {one_line(error)}") from error


@dataclass(frozen=True, slots=True)
class _Reader:
    """All of an engine that prompts need."""

    tokenizer: Any


def prompts(run: Run, results: Iterable[Result]) -> list[tuple[Prompt, Any]]:
    """The prompts of `results`, each with the tokenizer that its ids are decoded with.

    Raises:
        StoreError: one of them cannot be rebuilt here.
    """
    maker = opened(run)
    return [(maker.prompt(result), maker.tokenizer) for result in results]


def tokenizer(run: Run) -> Any:
    """The tokenizer of the run's model, without torch and without a network.

    Raises:
        UsageError: this machine has it not, or it does not load.
    """
    where = _folder(run)
    # AutoTokenizer would bring torch along.
    from transformers import PreTrainedTokenizerFast

    if not (where / "tokenizer.json").is_file():
        raise UsageError(f"the tokenizer of '{run.spec.model}' has no tokenizer.json; `needle show --cell` may read it")
    try:
        return PreTrainedTokenizerFast.from_pretrained(str(where), local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"the tokenizer of '{run.spec.model}' cannot be loaded ({one_line(error)[:200]})") from error


def _folder(run: Run) -> Path:
    """Where the files of the run's tokenizer lie."""
    model = str(run.spec.options.get("tokenizer") or run.spec.model)
    bundled = pocket.path(model)
    if bundled:
        return bundled
    try:
        path = Path(model).expanduser()
        if path.is_dir():
            return path
    except (OSError, RuntimeError, ValueError):
        raise UsageError(f"no model at '{model[:200]}'") from None
    return _cached(model, run)


def _cached(model: str, run: Run) -> Path:
    """The folder of a hub model in the cache, at the commit that was measured."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    commit = run.sources.get("model", "")
    revision = commit if len(commit) == 40 else run.spec.options.get("revision")
    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True, allow_patterns=list(_FILES)))
    except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError) as error:
        raise UsageError(f"model '{model}' is no folder here and not in the hub's cache") from error
