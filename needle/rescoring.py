"""Re-scoring: a stored run's answers graded anew, into a run of its own, without its model.

What an answer is held against is drawn again from the task by seed, repeat and place, and taken only if it asks and
expects what the row says; else, and for imported runs, the row's own expected answers stand alone. The new run has the
identity that `needle run` with that scorer would give it.
"""

from __future__ import annotations

import platform
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from needle import __version__, scoring, store, tasks
from needle.errors import ScoreError, UsageError, one_line
from needle.prompt import place_name
from needle.scoring import Scorer
from needle.store import Run
from needle.tasks import Task
from needle.types import Answer, Question, Result, RunSpec


@dataclass(frozen=True, slots=True)
class Change:
    """A cell whose grade or outcome class is another one than before."""

    before: Result
    after: Result


def rescore(
    run: Run,
    scorer: str,
    options: Mapping[str, Any],
    root: Path,
    tell: Callable[[Result], None] = lambda _: None,
) -> Run:
    """The run of `run`'s answers as `scorer` with its settings `options` grades them, kept in `root`.

    What was graded so before is kept; what could not be is tried again. `tell` hears of each cell that is graded now.

    Raises:
        UsageError: the scorer, or a setting of it, is at fault, or `run` is scored so already or holds no answers.
        StoreError: the new run cannot be written.
    """
    scoring.check_settings(scorer, options)
    if not run.all_results:
        raise UsageError(f"run '{run.name}' holds no answers yet; finish it with the command that began it")
    spec = _spec(run.spec, scorer, options)
    score = scoring.get(scorer, spec.options)
    sources = {**_own(run), **scoring.sources(scorer, spec.options)}
    identity = store.identity(spec, sources)
    if identity == run.identity:
        raise UsageError(f"run '{run.name}' is scored by '{scorer}' already; choose another --scorer")
    done = store.finished(root, spec, sources)
    if done and not _left(run, done):
        return done
    task = _task(run)
    unknown = sum(not _question(run, task, r).needle for r in run.all_results)
    with store.writing(root, spec, sources, _session(run, scorer, unknown)) as writer:
        have = writer.run.all_results
        for result in _left(run, writer.run):
            key = store.key(identity, result.cell)
            graded = replace(_graded(result, _question(run, task, result), score), key=key)
            if graded not in have:  # the same error once more
                writer.append(graded)
            tell(graded)
        return store.read(writer.run.folder)


def changes(before: Run, after: Run) -> list[Change]:
    """The cells graded in both runs, but otherwise (to three decimals, or by outcome class), in the grid's order."""
    graded = [pair for pair in _pairs(before, after) if pair.before.status == pair.after.status == "ok"]
    return [pair for pair in graded if _grade(pair.before) != _grade(pair.after)]


def _grade(result: Result) -> tuple[float, str]:
    return round(result.score or 0.0, 3), result.outcome


def ungraded(before: Run, after: Run) -> Counter[str]:
    """Why answers of `before` have no grade in `after`: each reason with the number of its cells."""
    pairs = [p for p in _pairs(before, after) if _answered(p.before) and p.after.status == "error"]
    # One cause is one, however often it was tried.
    return Counter(re.sub(r" \(tried \d+ times\)", "", pair.after.error or "no reason given") for pair in pairs)


def _pairs(before: Run, after: Run) -> list[Change]:
    was = {r.cell: r for r in before.all_results}
    return [Change(was[r.cell], r) for r in after.all_results if r.cell in was]


def _spec(spec: RunSpec, scorer: str, options: Mapping[str, Any]) -> RunSpec:
    """The run's spec with another scorer; the settings of the one before go with it."""
    settings = {key for name in scoring.names() for key in scoring.settings(name)}
    kept = {key: value for key, value in spec.options.items() if key not in settings}
    return replace(spec, scorer=scorer, options={**kept, **_given(options)})


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _own(run: Run) -> dict[str, str]:
    """The run's sources without what its scorer added to them."""
    try:
        added = scoring.sources(run.spec.scorer, run.spec.options)
    except UsageError:  # the scorer of an imported run is none of ours
        added = {}
    return {name: value for name, value in run.sources.items() if name not in added}


def _left(run: Run, done: Run) -> list[Result]:
    """Rows of `run` that `done` has no grade for; of those that the model failed, the ones that it does not know."""
    have = {r.cell: r for r in done.all_results}
    return [
        r
        for r in run.all_results
        if (there := have.get(r.cell)) is None
        or (there.status == "error" and (_answered(r) or (r.status, r.error) != (there.status, there.error)))
    ]


def _answered(result: Result) -> bool:
    """Whether the model answered: an error row may also be one that only its scorer could not grade."""
    return result.status == "ok" or result.finish in ("stop", "length")


def _graded(result: Result, question: Question, score: Scorer) -> Result:
    """The row with a new grade, or an error row; a cell that the model failed stays as it is."""
    if not _answered(result):
        return result
    try:
        found = score(_answer(result), question)
    except ScoreError as error:
        lost: dict[str, Any] = {"status": "error", "score": None, "outcome": "error", "error": one_line(error)}
        return replace(result, **lost, extracted="", explanation="")
    return replace(
        result,
        status="ok",
        score=found.value,
        outcome=found.outcome,
        extracted=found.extracted,
        explanation=found.explanation,
        error=None,
    )


def _answer(result: Result) -> Answer:
    return Answer(
        text=result.answer,
        ids=result.answer_ids,
        finish="length" if result.finish == "length" else "stop",
        seconds=result.seconds,
        way=result.way,
        answer_logprob=result.answer_logprob,
        answer_rank=result.answer_rank,
        answer_logprobs=result.answer_logprobs,
    )


def _task(run: Run) -> Task | None:
    """The task that the run's questions are drawn from; None where it is not at hand, or another one by now."""
    if run.spec.engine == "import":
        return None
    try:
        task, source = tasks.get(run.spec.task), tasks.source(run.spec.task)
    except UsageError:
        return None
    return task if source is None or source in run.sources.values() else None


def _question(run: Run, task: Task | None, result: Result) -> Question:
    """What was asked and expected, with distractors and needle where the task still draws the same question."""
    stored = Question(needle="", question=result.question, answers=result.expected)
    if task is None or result.position is None:
        return stored
    drawn = task.question(run.spec.seed, result.repeat, place_name(task, result.length, result.position))
    return drawn if (drawn.question, drawn.answers) == (result.question, result.expected) else stored


def _session(run: Run, scorer: str, unknown: int) -> dict[str, Any]:
    """Provenance: when the answers were graded here, and what had computed them as the run says."""
    answered = dict(run.sessions[-1]) if run.sessions else {}
    computed = {name: value for name, value in answered.items() if name not in ("git_commit", "rescored")}
    return {
        **computed,
        "needle": __version__,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "rescored": {
            "run": run.name,
            "identity": run.identity,
            "scorer": {"before": run.spec.scorer, "now": scorer},
            "distractors_unknown": unknown,
            "session": answered,
        },
    }
