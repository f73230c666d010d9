"""The one orchestrator: text → prompt → answer → score → store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from needle import adaptive, engines, forest, haystack, placing, provenance, scoring, store, tasks, template
from needle.cost import Cost
from needle.engines import Engine
from needle.errors import ScoreError, StoreError, one_line
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
    builder: Builder


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
    prompts = build(builder, [*spec.grid.cells(), *spec.grid.controls()])
    asked = hashlib.sha256("".join(p.sha256 for p in prompts).encode()).hexdigest()
    stated = tasks.source(spec.task)
    sources = {
        **engine.sources,
        **({"task": stated} if stated else {}),
        **scoring.sources(spec.scorer, spec.options),
        "haystack": text.sha256,
        "prompts": asked,
    }
    return Prepared(spec, engine, prompts, sources, builder)


TYPICAL = Cost(linear=16_384.0, attention=1.0)
"""A model whose attention costs as much as all else at 32K tokens. Needles are placed by its cost, not by that of the
model at hand, so that all models of one tokenizer are asked the same prompts and pair in a comparison; on grids of
10 × 11 to 20 × 20 to 32K this costs a 0.7M and a 7B model under 0.1 % more FLOPs than their own optimum."""


def build(builder: Builder, cells: Sequence[Cell], cost: Cost = TYPICAL) -> list[Prompt]:
    """The cells' prompts, their needles placed within the tolerance where all together cost the least.

    Only cells that are cut from the same straw can share what stands before a needle.
    """
    positions: dict[Cell, int] = {}
    for straw in sorted({builder.cut_from(c) for c in cells}):
        places = {c: builder.places(c) for c in cells if builder.cut_from(c) == straw}
        fixed = {c: p[0] for c, p in places.items() if p == [END] or c.control}
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
    if done and not left and not adaptive.further(done.results, spec.grid):
        return done
    session = provenance.session(prepared.engine)
    if session.get("way") == "forest":
        session |= _spared(left)
    watcher.loaded()
    with store.writing(root, spec, sources, session) as writer:
        for result in writer.run.all_results:
            if result.status == "ok":
                watcher.cell(result, fresh=False)
        _measure(prepared, _left(prepared, writer.run), writer, watcher)
        while more := adaptive.further(store.read(writer.run.folder).results, spec.grid):
            watcher.say(f"undecided at {_named(more)}: one repeat more")
            if not _measure(prepared, _repeated(prepared, more), writer, watcher):
                break
        return store.read(writer.run.folder)


def _spared(prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Tokens of prefill, one prompt at a time and each shared prefix once, of what a sitting is about to measure."""
    plan = forest.plan([p.ids for p in prompts])
    return {"plan": {"plain_tokens": plan.plain_tokens, "planned_tokens": plan.planned_tokens}}


def _measure(prepared: Prepared, prompts: Sequence[Prompt], writer: store.Writer, watcher: Watcher) -> int:
    """Ask, grade, keep and show each of the prompts; how many there were answers to."""
    score, count = scoring.get(prepared.spec.scorer, prepared.spec.options), 0
    for index, answer in prepared.engine.answers(prompts) if prompts else ():
        result = _result(writer.run.identity, prompts[index], answer, score)
        writer.append(result)
        watcher.cell(result)
        count += 1
    return count


def _left(prepared: Prepared, run: store.Run | None) -> list[Prompt]:
    """Prompts of cells that have no sound result, those of a further repeat that was begun among them."""
    if run is None:
        return prepared.prompts
    have = {r.cell for r in run.all_results if r.status == "ok"}
    begun = [c for c in run.wanted() if c.repeat >= run.spec.grid.repeats and c not in have]
    return [p for p in prepared.prompts if p.cell not in have] + _repeated(prepared, begun)


def _repeated(prepared: Prepared, cells: Sequence[Cell]) -> list[Prompt]:
    """Prompts of further repeats, placed as if all lengths were measured again: so they are the same in any run."""
    lengths = prepared.spec.grid.lengths
    whole = prepared.spec.grid.column(lengths, sorted({c.repeat for c in cells}))
    wanted = set(cells)
    return [p for p in build(prepared.builder, whole) if p.cell in wanted] if cells else []


def _named(cells: Sequence[Cell]) -> str:
    return ", ".join(f"{length:,}" for length in sorted({c.length for c in cells}))


def _result(identity: str, prompt: Prompt, answer: Answer, scorer: Scorer) -> Result:
    cell = prompt.cell
    score, error = None, answer.error
    if error is None:
        try:
            score = scorer(answer, prompt.question)
        except ScoreError as failure:
            error = one_line(failure)
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
        prompt_tokens=len(prompt.ids) if answer.prompt_tokens is None else answer.prompt_tokens,
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
        error=error,
        answer_logprob=answer.answer_logprob,
        answer_rank=answer.answer_rank,
        answer_logprobs=answer.answer_logprobs,
        control=cell.control,
    )


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
        prompt = builder.build(result.cell, result.position or 0)
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
