"""Results to tables: the grid behind the heatmap, what failed, the score of each length, a run's summary.

The last section holds how scores, lengths and depths are written and coloured, so that the terminal's picture and the
figure are the same picture.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from needle import certainty
from needle.certainty import EFFECTIVE_THRESHOLD, ROUNDING, Effective, wilson
from needle.types import Result, RunSpec

if TYPE_CHECKING:
    from needle.store import Run

# By annotation; whatever is not here stays an object, so that a missing text stays None: NaN would be true in an `if`.
_KINDS = {"float": "float64", "float | None": "float64", "int": "int64", "int | None": "Int64"}


@dataclass(frozen=True, slots=True)
class LengthScore:
    """One context length (tokens): mean score, cells measured, Wilson 95 % interval of the share of full scores."""

    length: int
    mean: float
    n: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in a few numbers. `done` cells have a score, `failed` ones only errors; the rest were not reached.

    `mean` and `effective_length` are None when nothing supports them; `effective_confidence` is the probability that
    the true means up to that length reach `EFFECTIVE_THRESHOLD`. `controls` are the outcomes of contexts without a
    needle, where anything found was made up or known beforehand. `tokens` are prompt and answer tokens of the measured
    cells, `seconds` the engine's time on them.
    """

    model: str
    task: str
    haystack: str
    asked: int
    done: int
    failed: int
    mean: float | None
    lengths: tuple[LengthScore, ...]
    effective_length: int | None
    outcomes: Mapping[str, int]
    tokens: int
    seconds: float
    provenance: Mapping[str, Any]
    effective_confidence: float | None = None
    controls: Mapping[str, int] = field(default_factory=dict)


def frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row a Result, columns named as its fields; the columns are there even when no result is.

    A missing number is NaN (NA in the whole-number columns), a missing text stays None.
    """
    columns = fields(Result)
    rows = [[getattr(result, column.name) for column in columns] for result in results]
    table = pd.DataFrame(rows, columns=[column.name for column in columns], dtype=object)
    return table.astype({column.name: _KINDS[str(column.type)] for column in columns if str(column.type) in _KINDS})


def grid(
    df: pd.DataFrame,
    value: str = "score",
    lengths: Iterable[int] | None = None,
    depths: Iterable[float] | None = None,
) -> pd.DataFrame:
    """Mean of `value` over a cell's repeats: depths (0–1) down, context lengths (tokens) across, both ascending.

    A cell that was not measured, or only failed, is NaN. The axes are those in `df`, or `lengths` and `depths` where
    they are given.
    """
    measured = df[df["status"] == "ok"]
    table = measured.groupby(["depth", "length"])[value].mean().unstack("length").astype("float64")
    rows = sorted(set(df["depth"] if depths is None else depths))
    columns = sorted(set(df["length"] if lengths is None else lengths))
    return table.reindex(
        index=pd.Index(rows, dtype="float64", name="depth"), columns=pd.Index(columns, dtype="int64", name="length")
    )


def mean(df: pd.DataFrame) -> float | None:
    """`cell_mean` of the frame's measured rows."""
    measured = df[df["status"] == "ok"]
    return cell_mean(zip(measured["length"], measured["depth"], measured["score"], strict=True))


def cell_mean(scores: Iterable[tuple[int, float, float]]) -> float | None:
    """Mean score of the cells, each counted once however often it was measured; None if none was.

    `scores` are (length, depth, score) of each measurement.
    """
    cells: dict[tuple[int, float], list[float]] = {}
    for length, depth, score in scores:
        cells.setdefault((length, depth), []).append(score)
    means = [math.fsum(each) / len(each) for each in cells.values()]
    return math.fsum(means) / len(means) if means else None


def failed(df: pd.DataFrame) -> set[tuple[int, float]]:
    """The (context length, asked depth) of the cells whose rows are all errors."""
    hopeless = (df["status"] == "error").groupby([df["length"], df["depth"]]).all()
    return {(int(length), float(depth)) for (length, depth), every in hopeless.items() if every}


def by_length(df: pd.DataFrame) -> pd.DataFrame:
    """One row a measured context length, ascending: length, mean, n, low, high (see `LengthScore`)."""
    rows = []
    for length, scores in df[df["status"] == "ok"].groupby("length")["score"]:
        low, high = wilson(int((scores >= 1).sum()), len(scores))
        rows.append(LengthScore(int(length), float(scores.mean()), len(scores), low, high))
    return pd.DataFrame(rows, columns=[field.name for field in fields(LengthScore)])


def effective_length(table: pd.DataFrame) -> int | None:
    """The longest length of `by_length`'s table that passes together with all shorter ones; None if the first fails."""
    longest = None
    for length, mean in zip(table["length"], table["mean"], strict=True):
        if mean < EFFECTIVE_THRESHOLD - ROUNDING:
            break
        longest = int(length)
    return longest


def bands(df: pd.DataFrame, lengths: Iterable[int] = ()) -> dict[int, certainty.Floats]:
    """Context length (tokens) → its measured scores; lengths asked for without any stand there with none."""
    measured = df[df["status"] == "ok"]
    asked = sorted({*map(int, lengths), *map(int, df["length"])})
    return {length: measured.loc[measured["length"] == length, "score"].to_numpy(dtype=float) for length in asked}


def effective(
    df: pd.DataFrame, lengths: Iterable[int] = (), threshold: float | None = None, relative: bool = False
) -> Effective:
    """`certainty.effective_length` of the frame's scores; a length of `lengths` without any ends it."""
    return certainty.effective_length(bands(df, lengths), threshold, relative)


def asked(spec: RunSpec, rows: int) -> int:
    """Cells that the run ought to have: its whole grid, or what there was of more repeats or an imported run."""
    return rows if spec.engine == "import" else max(rows, len(spec.grid.cells()))


def summary(
    results: Iterable[Result], spec: RunSpec, provenance: Mapping[str, Any], controls: Iterable[Result] = ()
) -> Summary:
    """What became of the cells that `spec` asked for; of a cell with several rows, the last one counts."""
    df = frame(results).drop_duplicates(["length", "depth", "repeat"], keep="last")
    measured = df[df["status"] == "ok"]
    table = by_length(df)
    reach = effective(df, spec.grid.lengths)
    return Summary(
        model=spec.model,
        task=spec.task,
        haystack=spec.haystack,
        asked=asked(spec, len(df)),
        done=len(measured),
        failed=len(df) - len(measured),
        mean=mean(df),
        lengths=tuple(LengthScore(*row) for row in table.itertuples(index=False, name=None)),
        effective_length=reach.length,
        outcomes={str(outcome): int(count) for outcome, count in df["outcome"].value_counts().items()},
        tokens=int(measured["prompt_tokens"].sum() + measured["new_tokens"].sum()),
        seconds=float(measured["seconds"].sum()),
        provenance=dict(provenance),
        effective_confidence=None if reach.length is None else reach.confidence,
        controls=Counter(result.outcome for result in controls),
    )


def of(run: Run) -> Summary:
    """The summary of a run as it lies on disk, its provenance that of the last sitting."""
    told = summary(run.results, run.spec, run.sessions[-1] if run.sessions else {}, run.controls)
    return replace(told, asked=run.asked)


def as_json(run: Summary) -> dict[str, Any]:
    """The summary as plain dicts, lists, numbers and texts, ready for `json.dumps`."""
    plain = {field.name: getattr(run, field.name) for field in fields(Summary)}
    plain["lengths"] = [{field.name: getattr(row, field.name) for field in fields(row)} for row in run.lengths]
    plain["outcomes"], plain["controls"] = dict(run.outcomes), dict(run.controls)
    plain["provenance"] = dict(run.provenance)
    plain["effective_threshold"] = EFFECTIVE_THRESHOLD
    return plain


# How things are written and coloured.

PALETTE = ((0xF0, 0x49, 0x6E), (0xEB, 0xB8, 0x39), (0x0C, 0xD7, 0x9F))
"""Scores 0, ½ and 1: the red, amber and green that the field's heatmaps use."""
INK = "#16181D"
"""Text on any colour of the palette; its contrast there is at least 5 : 1, where white's is under 3.5 : 1."""
FAILED = "#C9CCD3"
"""The ground of a failed cell."""
DELTA_PALETTE = ((0xEF, 0x8A, 0x62), (0xE3, 0xE4, 0xE8), (0x67, 0xA9, 0xCF))
"""Differences −1, 0 and 1: the ends of ColorBrewer's RdBu, which colour-blind eyes tell apart, about a grey."""


def colour(score: float) -> str:
    """`#rrggbb` of a score on the fixed range 0–1; the same score is the same colour in every picture."""
    return _between(PALETTE, score)


def delta_colour(difference: float) -> str:
    """`#rrggbb` of a difference of scores on the fixed range −1–1: orange worse, blue better."""
    return _between(DELTA_PALETTE, (difference + 1) / 2)


def _between(palette: tuple[tuple[int, int, int], ...], share: float) -> str:
    """The colour at `share` (0–1, cut to it) of the way through a palette of three."""
    place = min(max(share, 0.0), 1.0) * 2
    start = min(int(place), 1)
    ends = zip(palette[start], palette[start + 1], strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (place - start)):02X}" for a, b in ends)


def score_label(score: float) -> str:
    """A score 0–1 in whole per cent; 100 and 0 are kept for exactly full and exactly none."""
    if 0 < score < 1:
        return str(min(max(round(100 * score), 1), 99))
    return str(round(100 * score))


def sure_label(confidence: float) -> str:
    """A confidence 0–1 in whole per cent, rounded down; no number of cells makes it 100 % or 0 %."""
    percent = "over 99" if confidence > 0.99 else "under 1" if confidence < 0.01 else math.floor(100 * confidence)
    return f"{percent} % sure"


def delta_label(difference: float) -> str:
    """A difference −1–1 in signed points of a hundred; 0 and ±100 are kept for exactly none and all."""
    sign = "+" if difference > 0 else "−" if difference < 0 else ""
    return sign + score_label(abs(difference))


def length_label(length: int) -> str:
    """Tokens as 4K or 1M where that is exact in steps of 1024, else in full: 4,500. No two lengths share a label."""
    for unit, size in (("M", 1 << 20), ("K", 1 << 10)):
        if length >= size and length % size == 0:
            return f"{length // size}{unit}"
    return f"{length:,}"


def depth_label(depth: float) -> str:
    """A depth 0–1 in per cent, with a decimal only where it has one: 40 %, 7.1 %."""
    return f"{100 * depth:.1f}".removesuffix(".0") + " %"


def printable(text: str, keep: str = "") -> str:
    r"""Untrusted text with every control, direction and other unseen character written out, ESC as `\x1b`.

    Characters in `keep` stay. So do the two joiners that scripts and emoji need.
    """
    if text.isprintable():
        return text
    spared = keep + "\u200c\u200d"
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in spared
        else c
        for c in text
    )
