"""Whether a run is good enough to go on with: demands in, one line for each that is not met out.

A cell that failed or was not measured is itself a reason to fail; it is neither taken for 0 nor passed over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from needle import analysis, certainty, pairing
from needle.analysis import length_label
from needle.errors import UsageError
from needle.store import Run


@dataclass(frozen=True, slots=True)
class Demands:
    """What a run must reach; what is None is not asked.

    `min_effective_length` in tokens, with the `threshold` and `relative` of `certainty.effective_length`; `min_score`
    is for the mean of all cells, `min_band` for each context length's, `max_drop` for the mean's fall against a
    baseline. With `confidence` it is the bound at that (one-sided) confidence that must pass, not the estimate.
    """

    min_effective_length: int | None = None
    min_score: float | None = None
    min_band: float | None = None
    max_drop: float | None = None
    confidence: float | None = None
    threshold: float | None = None
    relative: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons` to fail, none for a pass, and `notes` on what else to know; a line each."""

    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the run."""
        return not self.reasons


def check(run: Run, demands: Demands, baseline: Run | None = None) -> Verdict:
    """Hold a run against demands, and against `baseline` where a largest drop is among them.

    Raises:
        UsageError: nothing is demanded, a demand makes no sense, or no cell of the baseline pairs with the run's.
    """
    _refuse_nonsense(demands, baseline)
    reasons = [*_holes(run), *_scores(run, demands), *_reach(run, demands)]
    if baseline is None:
        return Verdict(tuple(reasons))
    fallen, notes = _drop(run, baseline, demands)
    return Verdict((*reasons, *fallen), tuple(notes))


def _refuse_nonsense(demands: Demands, baseline: Run | None) -> None:
    asked = (demands.min_effective_length, demands.min_score, demands.min_band, demands.max_drop)
    if all(demand is None for demand in asked):
        raise UsageError("nothing to check; give --min-score, --min-band, --min-effective-length or --max-drop")
    for name in ("min_score", "min_band", "max_drop", "threshold"):
        value = getattr(demands, name)
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"--{name.replace('_', '-')} {value:g} lies outside 0–1; write 0.95 for 95 %")
    if demands.confidence is not None and not 0 < demands.confidence < 1:
        raise UsageError(f"--confidence {demands.confidence:g} lies not between 0 and 1; write 0.95 for 95 %")
    if (baseline is None) != (demands.max_drop is None):
        raise UsageError("--baseline and --max-drop go together; give both or neither")


def _holes(run: Run) -> Iterator[str]:
    """Cells without a score."""
    asked = run.wanted()
    bad = [r for r in run.results if r.status == "error"]
    if bad:
        why = " ".join((bad[0].error or "no reason given").split())[:120]
        yield f"{len(bad)} of {len(asked)} cells failed ({length_label(bad[0].length)}: {why})"
    missing = len(asked) - len(run.results)
    if missing:
        yield f"{missing} of {len(asked)} cells are not measured"


def _scores(run: Run, demands: Demands) -> Iterator[str]:
    frame = analysis.frame(run.results)
    if demands.min_score is not None:
        # Repeats that only undecided lengths were given would weigh these more.
        alike = frame[frame["repeat"] < run.spec.grid.repeats]
        yield from _mean("mean score", alike["score"].to_numpy(dtype=float), demands.min_score, demands.confidence)
    if demands.min_band is not None:
        for length, scores in analysis.bands(frame, run.spec.grid.lengths).items():
            yield from _mean(f"mean score at {length_label(length)}", scores, demands.min_band, demands.confidence)


def _mean(what: str, scores: certainty.Floats, least: float, confidence: float | None) -> Iterator[str]:
    """A reason, if the mean of the scores or its lower bound is under `least`."""
    mean = certainty.mean(scores)
    if math.isnan(mean):
        yield f"{what} is unknown: nothing is measured"
    elif mean < least - certainty.ROUNDING:
        yield f"{what} is {mean:.3f}, under {least:g}"
    elif confidence is not None:
        bound = certainty.lower_bound(scores, confidence)
        if bound < least - certainty.ROUNDING:
            n = len(certainty.measured(scores))
            yield (
                f"{what} is {mean:.3f}, but with {_percent(confidence)} confidence only at least {bound:.3f} "
                f"({n} cell{'s' if n > 1 else ''}), under {least:g}"
            )


def _reach(run: Run, demands: Demands) -> Iterator[str]:
    least, sure = demands.min_effective_length, demands.confidence
    if least is None:
        return
    frame = analysis.frame(run.results)
    reach = analysis.effective(frame, run.spec.grid.lengths, demands.threshold, demands.relative)
    if reach.length is None or reach.length < least:
        asked = max(run.spec.grid.lengths)
        short = f"; the run was asked for no more than {length_label(asked)}" if asked < least else ""
        yield f"effective length is {_length(reach.length)}, under {length_label(least)}{short}"
    elif sure is not None and (reach.sure(sure) or 0) < least:
        # The demand is met by the shortest passing length that is long enough, and that is the likeliest to hold.
        enough = next(p for n, p in zip(reach.lengths, reach.joint, strict=True) if n >= least)
        yield (
            f"effective length is {length_label(reach.length)}, but that it is at least {length_label(least)} is only "
            f"{math.floor(100 * enough)} % sure, not {_percent(sure)}; sure is {_length(reach.sure(sure))}"
        )


def _drop(run: Run, baseline: Run, demands: Demands) -> tuple[list[str], list[str]]:
    """Reasons and notes from the baseline's scores on the same cells."""
    assert demands.max_drop is not None
    scored = sum(r.status == "ok" for r in run.results)
    if not scored:
        return ["fall against the baseline is unknown: nothing is measured"], []
    names = pairing.names([baseline, run])
    pairs, notes = pairing.pair(baseline, run, *names)
    reasons = []
    if len(pairs) < scored:
        reasons.append(f"{scored - len(pairs)} of {scored} measured cells have no partner in baseline {names[0]}")
    differences = np.array([p.scores[1] - p.scores[0] for p in pairs])
    drop, most = -certainty.mean(differences), demands.max_drop
    against = f"against {names[0]} on {len(pairs)} pairs"
    if drop > most + certainty.ROUNDING:
        reasons.append(f"mean score fell by {drop:.3f} {against}, by more than {most:g}")
    elif demands.confidence is not None:
        drawn = certainty.posterior_means(differences, ends=(-1.0, 1.0))
        bound = -float(np.quantile(drawn, 1 - demands.confidence))
        if bound > most:
            sure = _percent(demands.confidence)
            reasons.append(f"mean score may have fallen by {bound:.3f} {against} ({sure} confidence), over {most:g}")
    return reasons, notes


def _length(length: int | None) -> str:
    return "none" if length is None else length_label(length)


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
