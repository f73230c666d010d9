"""Is one run better than another, where, and how sure is that: runs compared on identical prompts.

The first run is the baseline. Cells are paired where their prompts are the same to the token; where they are not, but
task, haystack, seed and cell are, they are paired by cell, which is said. All statistics rest on pairs alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from needle import analysis, bands, certainty, pairing
from needle.bands import Band
from needle.certainty import Effective
from needle.errors import UsageError
from needle.pairing import Pair
from needle.store import Run

_PASSING = ("started",)  # facts of a sitting that say nothing of its answers


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of the runs compared: its short name, its results as a frame, and what it comes to by itself."""

    run: Run
    label: str
    frame: pd.DataFrame
    mean: float
    effective: Effective


@dataclass(frozen=True, slots=True)
class Contrast:
    """A run against the baseline. `effective` are both lengths as the pairs have them; `notes` what stands apart.

    `start` is the shortest length (tokens) at which a difference is shown, `verdict` one plain sentence.
    """

    first: str
    second: str
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    bands: tuple[Band, ...]
    overall: Band
    effective: tuple[Effective, Effective]
    start: int | None
    verdict: str

    @property
    def changed(self) -> tuple[Pair, ...]:
        """The pairs whose scores differ."""
        return tuple(p for p in self.pairs if p.first.score != p.second.score)

    @property
    def effective_difference(self) -> int | None:
        """By how many tokens the effective length differs, second − first; None where either has none."""
        first, second = (reach.length for reach in self.effective)
        return None if first is None or second is None else second - first


@dataclass(frozen=True, slots=True)
class Setting:
    """Something in which the runs differ: where it stands (spec, sources or session), its name, a value a run."""

    where: str
    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Several runs: each by itself, each but the first against the first, and in what their settings differ."""

    sides: tuple[Side, ...]
    contrasts: tuple[Contrast, ...]
    settings: tuple[Setting, ...]


def compare(runs: Sequence[Run], threshold: float | None = None, relative: bool = False) -> Comparison:
    """Compare runs with the first of them; `threshold` and `relative` are `certainty.effective_length`'s.

    Raises:
        UsageError: fewer than two runs, one run twice, two scorers, or a run that shares no cell with the first.
    """
    if len(runs) < 2:
        raise UsageError("a comparison takes at least two runs; `needle list` shows what there is")
    for one, other in combinations(runs, 2):
        if one.identity == other.identity:
            raise UsageError(f"run '{one.name}' cannot be compared with itself; give another one")
    sides = tuple(_side(run, label, threshold, relative) for run, label in zip(runs, pairing.names(runs), strict=True))
    first, *others = sides
    return Comparison(
        sides=sides,
        contrasts=tuple(_contrast(first, other, threshold, relative) for other in others),
        settings=tuple(_settings(runs)),
    )


def _side(run: Run, label: str, threshold: float | None, relative: bool) -> Side:
    frame = analysis.frame(run.results)
    reach = analysis.effective(frame, run.spec.grid.lengths, threshold, relative)
    return Side(run, label, frame, certainty.mean(frame["score"]), reach)


def _contrast(first: Side, second: Side, threshold: float | None, relative: bool) -> Contrast:
    pairs, notes = pairing.pair(first.run, second.run, first.label, second.label)
    lengths = sorted(set(first.run.spec.grid.lengths) & set(second.run.spec.grid.lengths))
    by_length = {length: [p for p in pairs if p.length == length] for length in lengths}
    measured, overall = bands.measure(by_length)
    one, other = (
        certainty.effective_length({n: bands.scores(each, at) for n, each in by_length.items()}, threshold, relative)
        for at in (0, 1)
    )
    shown = [band.length for band in measured if band.shown and band.length is not None]
    return Contrast(
        first=first.label,
        second=second.label,
        pairs=tuple(pairs),
        notes=(*notes, *bands.weakness(measured)),
        bands=measured,
        overall=overall,
        effective=(one, other),
        start=min(shown, default=None),
        verdict=bands.verdict(first.label, second.label, measured, overall),
    )


def _settings(runs: Sequence[Run]) -> list[Setting]:
    """The fields in which spec, sources or last session differ."""
    found = []
    for where in ("spec", "sources", "session"):
        told = [_flat(_part(run, where)) for run in runs]
        for name in dict.fromkeys(name for each in told for name in each):
            values = tuple(each.get(name) for each in told)
            if any(value != values[0] for value in values) and name not in _PASSING:
                found.append(Setting(where, name, values))
    return found


def _part(run: Run, where: str) -> Mapping[str, Any]:
    if where == "spec":
        return asdict(run.spec)
    return run.sources if where == "sources" else (run.sessions[-1] if run.sessions else {})


def _flat(told: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested fields under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in told.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return flat


def delta(contrast: Contrast) -> pd.DataFrame:
    """Mean difference of scores (−1–1) a cell: depths down, context lengths (tokens) across; NaN without a pair."""
    pairs = contrast.pairs
    rows = [(p.first.depth, p.length, p.scores[1] - p.scores[0]) for p in pairs]
    table = pd.DataFrame(rows, columns=["depth", "length", "difference"])
    return table.groupby(["depth", "length"])["difference"].mean().unstack("length").sort_index().sort_index(axis=1)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain dicts, lists, numbers and texts; what was not measured is NaN, which JSON calls null."""
    return {
        "runs": [
            {"run": str(s.run.folder), "label": s.label, "mean": s.mean, "effective": asdict(s.effective)}
            for s in comparison.sides
        ],
        "contrasts": [_plain(contrast) for contrast in comparison.contrasts],
        "settings": [asdict(setting) for setting in comparison.settings],
    }


def _plain(contrast: Contrast) -> dict[str, Any]:
    names = ("first", "second", "verdict", "start", "notes", "effective_difference")
    return {
        **{name: getattr(contrast, name) for name in names},
        "pairs": len(contrast.pairs),
        "pairs_by_cell": sum(p.by == "cell" for p in contrast.pairs),
        "effective": [asdict(reach) for reach in contrast.effective],
        "bands": [asdict(band) for band in contrast.bands],
        "overall": asdict(contrast.overall),
        "changed": [
            {
                "length": p.length,
                "depth": p.first.depth,
                "repeat": p.first.repeat,
                "scores": p.scores,
                "outcomes": (p.first.outcome, p.second.outcome),
                "answers": (p.first.answer, p.second.answer),
            }
            for p in contrast.changed
        ],
    }
