"""How sure the numbers are: intervals, the confidence that a mean passes, effective length, paired tests.

Scores are 0–1. One that was not measured is NaN and is left out; where nothing was measured the answer is NaN, never 0.
Means of 0/1 scores follow Jeffreys' posterior, Beta(k + ½, n − k + ½). Means of graded scores follow the same thing for
any scores: the Bayesian bootstrap (Rubin, Annals of Statistics 9, 1981) with half an observation added at 0 and at 1,
which for 0/1 scores *is* Jeffreys' posterior, and which, unlike resampling, is not certain of three equal scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

EFFECTIVE_THRESHOLD = 0.856
"""RULER's pass mark for a context length: Llama-2-7B's score at 4K (Hsieh et al. 2024)."""
RELATIVE_THRESHOLD = 0.85
"""The pass mark as a share of a model's own score at the shortest length."""
DRAWS = 10_000
ROUNDING = 1e-9
"""How far rounding may leave a mean under its threshold and still pass."""

_ROOM = 2_000_000  # random numbers held at once


def measured(scores: ArrayLike) -> Floats:
    """The scores that are there, as one flat array."""
    flat = np.atleast_1d(np.asarray(scores, dtype=np.float64)).ravel()
    return flat[~np.isnan(flat)]


def mean(scores: ArrayLike) -> float:
    """Mean of the measured scores; NaN if none is."""
    seen = measured(scores)
    return float(seen.mean()) if len(seen) else math.nan


def binary(scores: ArrayLike) -> bool:
    """Whether every measured score is 0 or 1."""
    return bool(np.isin(measured(scores), (0.0, 1.0)).all())


def wilson(full: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a share seen `full` times in `n`; (0, 1) when nothing was seen.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, z2 = full / n, z * z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At none and at all the bound is 0 or 1 exactly; rounding must not push it outside.
    low = 0.0 if full == 0 else max(0.0, centre - reach)
    high = 1.0 if full == n else min(1.0, centre + reach)
    return low, high


def jeffreys(full: int, n: int, threshold: float) -> float:
    """Posterior probability, under Jeffreys' prior, that a share seen `full` times in `n` is at least `threshold`.

    NaN when nothing was seen.
    """
    if n == 0:
        return math.nan
    # The upper tail is the lower one of the share's complement; taken there, it keeps its digits.
    return _beta_below(1 - threshold, n - full + 0.5, full + 0.5)


def _beta_below(x: float, a: float, b: float) -> float:
    """P(Beta(a, b) ≤ x): the regularised incomplete beta function, DLMF 8.17.22 by Lentz's method."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_below(1 - x, b, a)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    fraction, c, d = 1.0, 1.0, 0.0
    for step in range(10_000):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + term * d)
        c = 1 + term / c
        fraction *= c * d
        if step and abs(c * d - 1) < 1e-14:
            break
    return math.exp(scale) * (fraction - 1) / a


def posterior_means(
    values: ArrayLike, seed: int = 0, ends: tuple[float, float] = (0.0, 1.0), draws: int = DRAWS
) -> Floats:
    """Draws of the true mean of `values`, which lie within `ends` (differences of scores: −1 and 1); see above.

    NaN throughout when nothing was measured.
    """
    seen = measured(values)
    if not len(seen):
        return np.full(draws, math.nan)
    points, counts = np.unique(np.append(seen, ends), return_counts=True)
    # Each value weighs Gamma(1), each end Gamma(½) on top of what was really seen there.
    shapes = counts - 0.5 * np.isin(points, ends)
    rng = np.random.default_rng(seed)
    parts = []
    for block in _blocks(draws, len(points)):
        weights = rng.standard_gamma(shapes, (block, len(points)))
        parts.append(weights @ points / weights.sum(axis=1))
    return np.concatenate(parts)


def _blocks(draws: int, width: int) -> Iterator[int]:
    """`draws` in blocks that need no more than so much room, at `width` numbers a draw."""
    most = max(_ROOM // max(width, 1), 1)
    while draws > 0:
        yield min(draws, most)
        draws -= most


def chance(scores: ArrayLike, threshold: float, seed: int = 0) -> float:
    """Posterior probability that the true mean is at least `threshold`; NaN when nothing was measured."""
    seen = measured(scores)
    if binary(seen):
        return jeffreys(int(seen.sum()), len(seen), threshold)
    return float((posterior_means(seen, seed) >= threshold).mean())


def lower_bound(scores: ArrayLike, confidence: float, seed: int = 0) -> float:
    """What the true mean of scores is at least, with this confidence; NaN when nothing was measured."""
    seen = measured(scores)
    if not len(seen):
        return math.nan
    if not binary(seen):
        return float(np.quantile(posterior_means(seen, seed), 1 - confidence))
    low, high, full = 0.0, 1.0, int(seen.sum())
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if jeffreys(full, len(seen), middle) >= confidence else (low, middle)
    return low


def interval(scores: ArrayLike, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Two-sided interval of the mean: Wilson's for 0/1 scores, the posterior's for graded ones; NaN without scores."""
    seen = measured(scores)
    if not len(seen):
        return math.nan, math.nan
    if binary(seen):
        return wilson(int(seen.sum()), len(seen), confidence)
    low, high = np.quantile(posterior_means(seen, seed), ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Effective:
    """An effective context length and how sure it is.

    `length` (tokens) is None when not even the shortest length passes, and `confidence` NaN then; else that is the
    probability that the true means of this and all shorter lengths reach `threshold`. `means` and `joint` hold, for
    each of `lengths`, its mean and that probability up to it; from a length without scores on, it is NaN.
    """

    length: int | None
    confidence: float
    threshold: float
    lengths: tuple[int, ...]
    means: tuple[float, ...]
    joint: tuple[float, ...]

    def sure(self, confidence: float) -> int | None:
        """The longest length, no longer than `length`, that is effective with at least this confidence."""
        fitting = [n for n, p in zip(self.lengths, self.joint, strict=True) if p >= confidence]
        return max((n for n in fitting if self.length is not None and n <= self.length), default=None)


def effective_length(
    bands: Mapping[int, ArrayLike], threshold: float | None = None, relative: bool = False, seed: int = 0
) -> Effective:
    """The longest of `bands` (context length in tokens → its scores) whose mean, and that of all shorter, passes.

    To pass is to reach `threshold` (default 0.856) or, if `relative`, that share (default 0.85) of the mean at the
    shortest length. A length without scores passes not, nor does any longer one. Lengths are taken as independent.
    """
    lengths = tuple(sorted(bands))
    scores = [measured(bands[length]) for length in lengths]
    means = tuple(mean(each) for each in scores)
    share = threshold if threshold is not None else RELATIVE_THRESHOLD if relative else EFFECTIVE_THRESHOLD
    limit = share * means[0] if relative and means else share
    # 0.85 of nothing found is no pass mark.
    hopeless = relative and not (means and means[0] > 0)
    passing = 0
    while passing < len(means) and means[passing] >= limit - ROUNDING and not hopeless:
        passing += 1
    joint = _joint_relative(scores, share, seed) if relative else _joint(scores, limit, seed)
    if hopeless:
        joint = [0.0 if p == p else math.nan for p in joint]
    return Effective(
        length=lengths[passing - 1] if passing else None,
        confidence=joint[passing - 1] if passing else math.nan,
        threshold=limit if means else math.nan,
        lengths=lengths,
        means=means,
        joint=tuple(joint),
    )


def _joint(scores: Sequence[Floats], threshold: float, seed: int) -> list[float]:
    """For each length, the probability that it and all shorter ones truly reach `threshold`."""
    chances = [chance(each, threshold, seed + at) for at, each in enumerate(scores)]
    return [float(p) for p in np.cumprod(chances)]


def _joint_relative(scores: Sequence[Floats], share: float, seed: int) -> list[float]:
    """The same where the threshold is itself uncertain: a share of the true mean at the shortest length."""
    if not scores:
        return []
    first = posterior_means(scores[0], seed)
    holds = np.ones(DRAWS, dtype=bool)
    joint: list[float] = []
    for at, each in enumerate(scores):
        drawn = first if at == 0 else posterior_means(each, seed + at)
        holds &= drawn >= share * first
        unknown = np.isnan(drawn).any() or (at > 0 and math.isnan(joint[-1]))
        joint.append(math.nan if unknown else float(holds.mean()))
    return joint


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test: p of so many pairs that only the first, and only the second, got right.

    1 where no pair differs. McNemar, Psychometrika 12 (1947); the exact form is the binomial test at ½.
    """
    n, few = only_first + only_second, min(only_first, only_second)
    ways, term = 0, 1
    for k in range(few + 1):
        ways += term
        term = term * (n - k) // (k + 1)
    return min(1.0, 2 * ways / (1 << n))


def paired_p(differences: ArrayLike, seed: int = 0, draws: int = DRAWS) -> float:
    """Two-sided p that paired scores differ on average, from their differences; NaN without pairs.

    Differences of 0/1 scores take the exact McNemar test. Graded ones take the test that it is a case of: how often
    random signs leave a sum as far from 0 (Fisher's sign-flip test; Monte Carlo, so never under 1 / (draws + 1)).
    """
    seen = measured(differences)
    if not len(seen):
        return math.nan
    if np.isin(seen, (-1.0, 0.0, 1.0)).all():
        return mcnemar(int((seen < 0).sum()), int((seen > 0).sum()))
    sizes, counts = np.unique(np.abs(seen[seen != 0]), return_counts=True)
    rng = np.random.default_rng(seed)
    observed = abs(float(seen.sum())) * (1 - 1e-12) - 1e-12
    hits = 0
    for block in _blocks(draws, len(sizes)):
        sums = (2 * rng.binomial(counts, 0.5, (block, len(sizes))) - counts) @ sizes
        hits += int((np.abs(sums) >= observed).sum())
    return (1 + hits) / (1 + draws)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values (Scandinavian Journal of Statistics 6, 1979), in their order.

    NaN stays NaN and does not count as a test.
    """
    order = sorted((p, at) for at, p in enumerate(ps) if not math.isnan(p))
    adjusted, worst = [math.nan] * len(ps), 0.0
    for rank, (p, at) in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p))
        adjusted[at] = worst
    return adjusted


def bootstrap(
    differences: ArrayLike, confidence: float = 0.95, seed: int = 0, draws: int = DRAWS
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of paired differences (pairs are resampled); NaN under two pairs."""
    seen = measured(differences)
    if len(seen) < 2:
        return math.nan, math.nan
    values, counts = np.unique(seen, return_counts=True)
    rng = np.random.default_rng(seed)
    means = [
        rng.multinomial(len(seen), counts / len(seen), block) @ values / len(seen)
        for block in _blocks(draws, len(values))
    ]
    low, high = np.quantile(np.concatenate(means), ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)
