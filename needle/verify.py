"""Recompute some cells of a run the plain way, and say how well the two agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from needle import engines, running, scoring
from needle.errors import UsageError
from needle.store import Run
from needle.types import Answer, Result


@dataclass(frozen=True, slots=True)
class Check:
    """A recorded result beside the answer and score that one prefill of its own gives."""

    result: Result
    answer: Answer
    score: float | None

    @property
    def same_tokens(self) -> bool:
        """Whether both ways said the same ids."""
        return self.answer.error is None and self.answer.ids == self.result.answer_ids

    @property
    def same_score(self) -> bool:
        """Whether both ways scored alike."""
        return self.score == self.result.score


def verify(measured: Run, sample: int, seed: int, say: Callable[[str], None]) -> tuple[str, list[Check]]:
    """The dtype, and `sample` random sound cells (all, if there are fewer), computed anew with `--plan cells`.

    Raises:
        UsageError: nothing was measured, or the model is no longer the one that was.
        StoreError: a prompt cannot be rebuilt.
    """
    sound = [r for r in measured.results if r.status == "ok"]
    if not sound or sample < 1:
        raise UsageError(
            f"run '{measured.name}' has {len(sound)} measured cells and --sample is {sample}; nothing to do"
        )
    picked = Random(seed).sample(sound, min(sample, len(sound)))
    spec = replace(measured.spec, options={**measured.spec.options, **_dtype(measured), "plan": "cells"})
    engine: engines.Engine = engines.get(spec.engine).open(spec, say)
    changed = [k for k, v in engine.sources.items() if measured.sources.get(k) != v]
    if changed:
        raise UsageError(f"the {' and '.join(changed)} of '{spec.model}' changed since run '{measured.name}'")
    engine, prompts = running.rebuild(measured, picked, engine)
    about = engine.load()
    score = scoring.get(spec.scorer, spec.options)
    checks = []
    for index, answer in engine.answers(prompts):
        value = None if answer.error else score(answer, prompts[index].question).value
        checks.append(Check(picked[index], answer, value))
    return str(about.get("dtype", "")), checks


def _dtype(measured: Run) -> dict[str, str]:
    """The option that asks for the dtype that the run had: "auto" may be another one on this machine."""
    return {"dtype": measured.sources["dtype"]} if "dtype" in measured.sources else {}
