"""A checkpoint series: runs that are the same but for the training step of their model. Derived, never stored."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd

from needle import analysis, certainty
from needle.errors import UsageError
from needle.store import Run
from needle.types import RunSpec

_UNITS = "checkpoint|ckpt|global_?step|step|iteration|iter|epoch"
_PART = re.compile(rf"(?P<stem>(?:.*[-_.])?)(?P<unit>{_UNITS})[-_=]?0*(?P<step>\d+)$", re.IGNORECASE)
_REVISION = re.compile(rf"(?P<stem>(?:.*[-_.])?)(?P<unit>{_UNITS})[-_=]?0*(?P<step>\d+)(?:[-_].*)?$", re.IGNORECASE)
_PARTS = 2
"""How many parts of a path, from its end, may hold the step: `checkpoint-500`, `global_step500/hf`."""
# How answers are computed and where, not what is asked or of which model.
_PASSING = frozenset(
    (
        "revision",
        "device",
        "device_map",
        "attn",
        "plan",
        "prefill_chunk",
        "trust_remote_code",
        "allow_pickle",
        "service",
    )
)
COLUMNS = ("step", "length", "mean", "n", "low", "high")


@dataclass(frozen=True, slots=True)
class Series:
    """Runs of one training, one a step, by step; `steps[i]` is that of `runs[i]`. `name` differs between series."""

    name: str
    runs: tuple[Run, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a checkpoint comes from: the training's folder or hub id, what its steps count, and which it is."""

    place: str
    unit: str
    step: int


def step(run: Run) -> int | None:
    """The training step of a run's model, from its path or revision; None where neither names one.

    Read are the last two parts of a path, as `checkpoint-500`, `step_500`, `global_step500/hf`, `iter_0000500` or
    `epoch-3`, and a hub revision as `step1000` or `step1000-tokens4B`.
    """
    origin = _origin(run.spec)
    return None if origin is None else origin.step


def step_of(model: str) -> int | None:
    """The training step that a model's path names; None where it names none."""
    return next((int(found["step"]) for _, found in _named(PurePath(model).parts)), None)


def _named(parts: Sequence[str]) -> Iterator[tuple[int, re.Match[str]]]:
    """Where among the last parts of a path a step stands, the last first."""
    for at in range(len(parts) - 1, max(len(parts) - 1 - _PARTS, -1), -1):
        found = _PART.match(parts[at])
        if found:
            yield at, found


def _origin(spec: RunSpec) -> _Origin | None:
    revision = _REVISION.match(str(spec.options.get("revision") or ""))
    if revision:
        return _Origin(
            f"{spec.model}@{revision['stem']}".rstrip("@-_."), revision["unit"].lower(), int(revision["step"])
        )
    parts = PurePath(spec.model).parts
    for at, found in _named(parts):
        place = PurePath(*parts[:at], found["stem"].rstrip("-_."), *parts[at + 1 :])
        return _Origin(str(place), found["unit"].lower(), int(found["step"]))
    return None


def of(runs: Iterable[Run]) -> list[Series]:
    """The series among `runs`, by name: same place, task, haystack, grid, seed, scorer and prompt settings.

    A series may have one step only. Of several runs of a step the one that was measured last counts.
    """
    groups: dict[str, dict[int, Run]] = {}
    names: dict[str, str] = {}
    for run in runs:
        origin = _origin(run.spec)
        if origin is None:
            continue
        key = _key(run, origin)
        steps = groups.setdefault(key, {})
        if origin.step not in steps or _measured_at(run) > _measured_at(steps[origin.step]):
            steps[origin.step] = run
        names[key] = _name(run.spec, origin, key)
    found = [Series(names[key], tuple(g[n] for n in sorted(g)), tuple(sorted(g))) for key, g in groups.items()]
    return sorted(found, key=lambda series: series.name)


def _key(run: Run, origin: _Origin) -> str:
    """Hash of all that the runs of a series share."""
    shared = asdict(run.spec)
    del shared["model"]
    told = {k: v for k, v in run.spec.options.items() if k not in _PASSING}
    # Not to say a setting is to leave it at its default.
    shared["options"] = {k: v for k, v in told.items() if v not in (None, "auto", False)}
    parts = [origin.place, origin.unit, shared, run.sources.get("haystack"), run.sources.get("task")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _name(spec: RunSpec, origin: _Origin, key: str) -> str:
    """A readable name, as runs have them: place, task, haystack, and a part of the hash that tells series apart."""
    parts = (PurePath(origin.place).name or origin.unit, spec.task, PurePath(spec.haystack).stem)
    words = (re.sub(r"[^A-Za-z0-9.-]+", "-", part).strip("-.")[:60] or "x" for part in parts)
    return "_".join([*words, key[:8]])


def _measured_at(run: Run) -> str:
    return str(run.sessions[-1].get("started", "")) if run.sessions else ""


def find(found: Sequence[Series], name: str) -> Series:
    """The series of that name, or of its unambiguous beginning or end.

    Raises:
        UsageError: there is none, or there are several.
    """
    names = [each.name for each in found]
    fitting = [n for n in names if n == name] or [n for n in names if name and (n.startswith(name) or n.endswith(name))]
    if len(fitting) != 1:
        what = f"{len(fitting)} series fit '{name}': {', '.join(fitting)}" if fitting else f"no series '{name}'"
        raise UsageError(f"{what}; `needle series` lists what there is")
    return found[names.index(fitting[0])]


def place(series: Series) -> str:
    """The training's folder (its name alone) or hub id, for people to read."""
    origin = _origin(series.runs[-1].spec)
    assert origin is not None
    return "/".join(PurePath(origin.place).parts[-2:]) or origin.unit


def lengths(series: Series) -> list[int]:
    """The context lengths (tokens) that the series asks for, ascending."""
    return sorted({int(length) for run in series.runs for length in run.spec.grid.lengths})


def frame(run: Run) -> pd.DataFrame:
    """The run's results frame without its control cells, in which nothing was hidden."""
    table = analysis.frame(run.results)
    return table[~table["control"].astype(bool)]


def table(series: Series) -> pd.DataFrame:
    """One row a step and context length (tokens), both ascending: step, length, mean, n, low, high.

    `low` and `high` are the 95 % interval of the mean (`certainty.interval`); they and `mean` are NaN where `n` is 0.
    """
    rows: list[tuple[Any, ...]] = []
    for number, run in zip(series.steps, series.runs, strict=True):
        for length, scores in analysis.bands(frame(run), lengths(series)).items():
            rows.append((number, length, certainty.mean(scores), len(scores), *certainty.interval(scores)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def totals(series: Series) -> pd.DataFrame:
    """One row a step: step, run (its folder's name), mean, n, low, high, effective, confidence.

    `effective` is the effective length in tokens, NaN where not even the shortest passes, and `confidence` how sure
    it is.
    """
    rows: list[tuple[Any, ...]] = []
    for number, run in zip(series.steps, series.runs, strict=True):
        results = frame(run)
        scores = certainty.measured(results["score"])
        reach = analysis.effective(results, run.spec.grid.lengths)
        longest = math.nan if reach.length is None else float(reach.length)
        mean = analysis.mean(results)
        measured = math.nan if mean is None else mean, len(scores), *certainty.interval(scores)
        rows.append((number, run.name, *measured, longest, reach.confidence))
    return pd.DataFrame(rows, columns=["step", "run", "mean", "n", "low", "high", "effective", "confidence"])
