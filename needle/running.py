"""The one orchestrator: text → prompt → answer → score → store."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from needle import __version__, engines, haystack, placing, scoring, store, tasks, template
from needle.cost import Cost
from needle.engines import Engine
from needle.errors import StoreError
from needle.haystack import Haystack
from needle.placing import Want
from needle.prompt import END, Builder
from needle.scoring import Scorer
from needle.types import Answer, Cell, Prompt, Result, RunSpec


class Watcher(Protocol):
    """Who is told what happens while it happens."""

    def say(self, message: str) -> None:
        """Something the user ought to know."""

    def loaded(self) -> None:
        """The weights are there; measuring begins."""

    def cell(self, result: Result, fresh: bool = True) -> None:
        """A cell is finished; not `fresh` if an earlier run had finished it."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A run whose every prompt fits, before any weight is read."""

    spec: RunSpec
    engine: Engine
    prompts: list[Prompt]
    sources: dict[str, str]


def prepare(spec: RunSpec, say: Callable[[str], None]) -> Prepared:
    """Check the whole request and build its prompts; nothing is written and no weight is read.

    Raises:
        UsageError: the request cannot be carried out; the message says which part.
    """
    tasks.get(spec.task)
    scoring.get(spec.scorer, spec.options)
    text = haystack.load(spec.haystack)
    engine: Engine = engines.get(spec.engine).open(spec, say)
    builder = _builder(spec, engine, text)
    hay, longest = builder.hay, builder.longest
    if builder.frame.note:
        say(builder.frame.note)
    if longest > len(hay):
        say(f"haystack '{text.name}' has {len(hay)} tokens; it repeats to fill contexts of up to {longest}")
    if hay.kind != "sentence":
        say(f"haystack '{text.name}' has no sentence ends; needles stand at {hay.kind} boundaries")
    prompts = build(builder, spec.grid.cells(), engine.cost)
    asked = hashlib.sha256("".join(p.sha256 for p in prompts).encode()).hexdigest()
    return Prepared(spec, engine, prompts, {**engine.sources, "haystack": text.sha256, "prompts": asked})


def build(builder: Builder, cells: Sequence[Cell], cost: Cost) -> list[Prompt]:
    """The cells' prompts, their needles placed within the tolerance where all together cost the least."""
    positions: dict[Cell, int] = {}
    for repeat in sorted({c.repeat for c in cells}):
        places = {c: builder.places(c) for c in cells if c.repeat == repeat}
        fixed = {c: p[0] for c, p in places.items() if p == [END]}
        free = [c for c in places if c not in fixed]
        wants = [Want(places[c], c.length, c.depth * c.length) for c in free]
        positions |= fixed | dict(zip(free, placing.choose(wants, cost.feed), strict=True))
    return [builder.build(c, positions[c]) for c in cells]


def execute(prepared: Prepared, root: Path, watcher: Watcher) -> store.Run:
    """Measure what is not measured yet and return the run as it then lies on disk.

    Raises:
        StoreError: the run cannot be written. What was finished before is kept.
    """
    spec, sources = prepared.spec, prepared.sources
    done = store.finished(root, spec, sources)
    left = _left(prepared, done)
    if not left and done:
        return done
    session = _session(prepared.engine)
    watcher.loaded()
    score = scoring.get(spec.scorer, spec.options)
    with store.writing(root, spec, sources, session) as writer:
        kept = [r for r in writer.run.results if r.status == "ok"]
        for result in kept:
            watcher.cell(result, fresh=False)
        left = _left(prepared, writer.run)
        for index, answer in prepared.engine.answers(left):
            result = _result(writer.run.identity, left[index], answer, score)
            writer.append(result)
            watcher.cell(result)
        return store.read(writer.run.folder)


def _left(prepared: Prepared, run: store.Run | None) -> list[Prompt]:
    """Prompts of cells that have no sound result."""
    have = {(r.length, r.depth, r.repeat) for r in run.results if r.status == "ok"} if run else set()
    return [p for p in prepared.prompts if (p.cell.length, p.cell.depth, p.cell.repeat) not in have]


def _result(identity: str, prompt: Prompt, answer: Answer, scorer: Scorer) -> Result:
    cell = prompt.cell
    score = None if answer.error else scorer(answer, prompt.question)
    return Result(
        key=store.key(identity, cell),
        length=cell.length,
        depth=cell.depth,
        repeat=cell.repeat,
        status="error" if score is None else "ok",
        score=None if score is None else score.value,
        outcome="error" if score is None else score.outcome,
        depth_used=round(prompt.depth, 6),
        position=prompt.position,
        offset=prompt.offset,
        prompt_tokens=len(prompt.ids),
        prompt_sha256=prompt.sha256,
        question=prompt.question.question,
        expected=prompt.question.answers,
        answer=answer.text,
        answer_ids=answer.ids,
        extracted=score.extracted if score else "",
        explanation=score.explanation if score else "",
        finish=answer.finish,
        new_tokens=len(answer.ids),
        seconds=round(answer.seconds, 4),
        way=answer.way,
        error=answer.error,
        answer_logprob=answer.answer_logprob,
        answer_rank=answer.answer_rank,
        answer_logprobs=answer.answer_logprobs,
        control=cell.control,
    )


def _session(engine: Engine) -> dict[str, Any]:
    """Provenance of this sitting: what really computed the answers."""
    return {
        "needle": __version__,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": _commit(),
        **engine.load(),
    }


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, if it is one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "-q", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def rebuild(run: store.Run, results: Iterable[Result], engine: Engine | None = None) -> tuple[Engine, list[Prompt]]:
    """The engine (opened, without weights), and the prompts of `results` from their recipes, identical to the token.

    Raises:
        StoreError: a rebuilt prompt's hash is not the one that was recorded.
    """
    spec = run.spec
    if engine is None:
        # Prompts need no device: a run of a GPU is read on a laptop.
        anywhere = {**spec.options, "device": "cpu", "device_map": None, "attn": "auto", "dtype": "auto"}
        engine = engines.get(spec.engine).open(replace(spec, options=anywhere), lambda _: None)
    builder = _builder(spec, engine, haystack.load(spec.haystack))
    prompts = []
    for result in results:
        cell = Cell(result.length, result.depth, result.repeat)
        prompt = builder.build(cell, result.position or 0)
        if prompt.sha256 != result.prompt_sha256:
            raise StoreError(
                f"the prompt of {result.length}:{result.depth:g} cannot be rebuilt: haystack, tokenizer or needle "
                f"version differ from those of run '{run.name}'"
            )
        prompts.append(prompt)
    return engine, prompts


def _builder(spec: RunSpec, engine: Engine, text: Haystack) -> Builder:
    task = tasks.get(spec.task)
    return Builder(
        engine.tokenizer,
        haystack.tokenize(text, engine.tokenizer),
        task,
        template.frame(engine.tokenizer, task, spec.prompt, spec.system),
        spec.seed,
        spec.max_new_tokens,
        max(spec.grid.lengths),
        spec.depth_tolerance,
    )
