"""The statistics of pairs, length by length: means, differences, corrected p, and one sentence on what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from needle import analysis, certainty
from needle.pairing import Pair

ALPHA = 0.05
"""The corrected p under which a difference counts as shown."""


@dataclass(frozen=True, slots=True)
class Band:
    """The pairs of one context length (tokens), or of all (`length` None); NaN where there are no pairs.

    `first` and `second` are mean scores, `difference` second − first with its 95 % bootstrap interval; `gained` and
    `lost` pairs score higher and lower in the second run. `adjusted` is p after Holm's correction over the lengths.
    """

    length: int | None
    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    gained: int
    lost: int
    p: float
    adjusted: float

    @property
    def shown(self) -> bool:
        """Whether there is a difference beyond reasonable doubt."""
        return self.adjusted < ALPHA


def measure(by_length: Mapping[int, Sequence[Pair]]) -> tuple[tuple[Band, ...], Band]:
    """A band for each length (tokens) of pairs, ascending, p corrected over them; and the band of all pairs.

    A length at which all pairs score the same has p = 1 whatever the others say, so the correction leaves it out.
    """
    raw = [_band(length, pairs) for length, pairs in sorted(by_length.items())]
    holm = certainty.holm([band["p"] if band["gained"] + band["lost"] else math.nan for band in raw])
    adjusted = [band["p"] if math.isnan(p) else p for band, p in zip(raw, holm, strict=True)]
    total = _band(None, [p for pairs in by_length.values() for p in pairs])
    bands = tuple(Band(**band, adjusted=p) for band, p in zip(raw, adjusted, strict=True))
    return bands, Band(**total, adjusted=total["p"])


def scores(pairs: Sequence[Pair], at: int) -> list[float]:
    """The pairs' scores in the first (0) or second (1) run."""
    return [p.scores[at] for p in pairs]


def _band(length: int | None, pairs: Sequence[Pair]) -> dict[str, Any]:
    """A `Band`, but for the p that depends on the other bands."""
    first, second = scores(pairs, 0), scores(pairs, 1)
    differences = np.subtract(second, first)
    low, high = certainty.bootstrap(differences)
    return {
        "length": length,
        "n": len(pairs),
        "first": certainty.mean(first),
        "second": certainty.mean(second),
        "difference": certainty.mean(differences),
        "low": low,
        "high": high,
        "gained": int((differences > 0).sum()),
        "lost": int((differences < 0).sum()),
        "p": certainty.paired_p(differences),
    }


def weakness(bands: Sequence[Band]) -> list[str]:
    """A warning where so few pairs could not show even that every one of them changed."""
    tested = sum(band.n > 0 for band in bands)
    weak = [band for band in bands if band.n and min(1.0, tested * 2.0 ** (1 - band.n)) >= ALPHA]
    if not weak:
        return []
    least = math.ceil(1 - math.log2(ALPHA / tested))
    return [
        f"too few pairs to show a difference at {_lengths(weak)}: at least {least} a length are needed; "
        "measure more depths, or more often with --repeats"
    ]


def verdict(first: str, second: str, bands: Sequence[Band], overall: Band) -> str:
    """Which run is better, where and how sure, in one sentence."""
    tested = [band for band in bands if band.n]
    shown = [band for band in tested if band.shown]
    if not shown:
        if overall.shown:
            which = "better" if overall.difference > 0 else "worse"
            return f"{second} is {which} than {first} over all lengths ({_p(overall.p)}); no single length shows where"
        if not overall.gained + overall.lost:
            return f"no difference shown between {first} and {second}: all {overall.n} pairs score the same"
        return f"no difference shown between {first} and {second} ({_p(overall.p)}, {overall.n} pairs)"
    clauses = []
    for which, sign in (("better", 1), ("worse", -1)):
        there = [band for band in shown if band.difference * sign > 0]
        if there:
            worst = max(band.adjusted for band in there)
            clauses.append(f"{which} than {first} {_where(there, tested)} ({_p(worst)})")
    told = f"{second} is {' and '.join(clauses)}"
    rest = [band for band in tested if not band.shown]
    return f"{told}; no difference shown {_where(rest, tested)}" if rest else told


def _where(some: Sequence[Band], every: Sequence[Band]) -> str:
    """The lengths of `some` of the bands as one says it: "up to 4K", "from 8K to 16K and at 64K"."""
    last = len(every) - 1
    places = [at for at, band in enumerate(every) if band in some]
    starts = [at for at in places if at - 1 not in places]
    ends = [at for at in places if at + 1 not in places]
    parts = []
    for start, end in zip(starts, ends, strict=True):
        low, high = (analysis.length_label(every[at].length or 0) for at in (start, end))
        if start == end:
            parts.append(f"at {low}")
        elif (start, end) == (0, last):
            parts.append("at every length")
        elif start == 0:
            parts.append(f"up to {high}")
        else:
            parts.append(f"from {low} on" if end == last else f"from {low} to {high}")
    return " and ".join(parts)


def _lengths(bands: Sequence[Band]) -> str:
    return ", ".join(analysis.length_label(band.length) for band in bands if band.length is not None)


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
