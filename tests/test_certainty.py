"""How sure the numbers are: against scipy and statsmodels, against published figures, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from needle import certainty

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
confidences = st.sampled_from([0.8, 0.9, 0.95, 0.99])
NAN = math.nan


# Against others' code.


@given(counts, confidences)
def test_wilson_is_statsmodels(seen: tuple[int, int], confidence: float) -> None:
    expected = proportion_confint(*seen, alpha=1 - confidence, method="wilson")
    assert certainty.wilson(*seen, confidence) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=300)
@given(counts, st.floats(0, 1))
def test_jeffreys_is_scipys_beta(seen: tuple[int, int], threshold: float) -> None:
    full, n = seen
    expected = stats.beta.sf(threshold, full + 0.5, n - full + 0.5)
    assert certainty.jeffreys(full, n, threshold) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_a_far_tail_keeps_its_digits() -> None:
    expected = stats.beta.sf(0.856, 3.5, 97.5)
    assert 0 < expected < 1e-60
    assert certainty.jeffreys(3, 100, 0.856) == pytest.approx(expected, rel=1e-9, abs=0)


@given(counts, st.sampled_from([0.5, 0.9, 0.95]))
def test_lower_bound_of_full_and_none_is_jeffreys_one_sided(seen: tuple[int, int], confidence: float) -> None:
    full, n = seen
    scores = [1.0] * full + [0.0] * (n - full)
    expected = stats.beta.ppf(1 - confidence, full + 0.5, n - full + 0.5)
    assert certainty.lower_bound(scores, confidence) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_statsmodels_and_scipys_binomial(only_first: int, only_second: int) -> None:
    assume(only_first + only_second)
    ours = certainty.mcnemar(only_first, only_second)
    table = [[7, only_first], [only_second, 3]]
    assert ours == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9, abs=0)
    assert ours == pytest.approx(stats.binomtest(only_first, only_first + only_second).pvalue, rel=1e-7, abs=0)


def test_mcnemar_of_no_difference_and_of_thousands() -> None:
    assert certainty.mcnemar(0, 0) == 1
    assert certainty.mcnemar(4000, 4400) == pytest.approx(stats.binomtest(4000, 8400).pvalue, rel=1e-7)
    assert certainty.mcnemar(0, 20_000) == 0


def test_holm_is_statsmodels() -> None:
    rng = np.random.default_rng(10)
    for _ in range(20):
        # Some of them very small, some equal.
        ps = np.round(rng.uniform(size=rng.integers(1, 20)) ** 3, 3)
        assert certainty.holm(list(ps)) == pytest.approx(multipletests(ps, method="holm")[1])


def test_holm_leaves_out_what_was_not_tested() -> None:
    assert certainty.holm([NAN, 0.01, NAN, 0.04]) == pytest.approx([NAN, 0.02, NAN, 0.04], nan_ok=True)
    assert certainty.holm([]) == []


def test_graded_p_is_scipys_permutation_test() -> None:
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.05, 0.15):
        differences = np.clip(rng.normal(shift, 0.2, 25), -1, 1)
        expected = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(5)
        ).pvalue
        assert certainty.paired_p(differences) == pytest.approx(expected, abs=0.015)


def test_graded_p_tends_to_the_exact_test_that_it_generalises() -> None:
    halves = [0.5] * 14 + [-0.5] * 4 + [0.0] * 20
    assert certainty.paired_p([2 * each for each in halves]) == certainty.mcnemar(4, 14)
    assert certainty.paired_p(halves) == pytest.approx(certainty.mcnemar(4, 14), abs=0.01)


def test_bootstrap_is_scipys_percentile_interval() -> None:
    differences = np.clip(np.random.default_rng(4).normal(0.1, 0.3, 60), -1, 1)
    expected = stats.bootstrap(
        (differences,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(6)
    ).confidence_interval
    assert certainty.bootstrap(differences) == pytest.approx(tuple(expected), abs=0.005)


# By simulation.


def test_bootstrap_covers_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    truth, hits, rounds = 0.15, 0, 600
    for at in range(rounds):
        first = rng.beta(4, 2, 50)
        second = first + rng.choice([-0.25, 0.0, 0.25, 0.5], 50, p=[0.2, 0.3, 0.3, 0.2])
        low, high = certainty.bootstrap(second - first - 0.125 + truth, seed=at, draws=800)
        hits += low <= truth <= high
    assert 0.915 < hits / rounds < 0.975


@pytest.mark.parametrize("share", [0.7, 0.9])
def test_intervals_of_graded_scores_cover_as_often_as_they_say(share: float) -> None:
    """Scores 0, ½ and 1 with mean `share`."""
    rng, hits, rounds = np.random.default_rng(8), 0, 400
    for at in range(rounds):
        scores = rng.choice([0.0, 0.5, 1.0], 30, p=[(1 - share) / 2, 1 - share, (3 * share - 1) / 2])
        low, high = certainty.interval(scores, seed=at)
        hits += low <= share <= high
    assert 0.92 < hits / rounds < 0.985


def test_confidence_is_as_often_right_as_it_says() -> None:
    """True shares from the prior, then scores: among all that is said with a confidence, that part holds."""
    rng = np.random.default_rng(9)
    truths = rng.beta(0.5, 0.5, (20_000, 2))
    seen = rng.binomial(20, truths)
    said, held = [], []
    for truth, full in zip(truths, seen, strict=True):
        bands = {at: [1.0] * int(k) + [0.0] * (20 - int(k)) for at, k in enumerate(full, 1)}
        if full[0] < 18 or full[1] < 18:
            continue
        said.append(certainty.effective_length(bands).confidence)
        held.append((truth >= 0.856).all())
    assert len(said) > 1000
    assert np.mean(held) == pytest.approx(np.mean(said), abs=0.035)


# Posterior of the mean.


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60), st.floats(0.05, 0.95))
@settings(max_examples=30)
def test_the_graded_posterior_is_jeffreys_where_scores_are_full_or_none(scores: list[float], threshold: float) -> None:
    drawn = float((certainty.posterior_means(scores) >= threshold).mean())
    assert drawn == pytest.approx(certainty.chance(scores, threshold), abs=0.025)


def test_equal_graded_scores_are_not_certainty() -> None:
    assert certainty.chance([0.9] * 3, 0.856) < 0.7
    assert certainty.chance([0.9] * 300, 0.856) > 0.99
    assert certainty.lower_bound([0.9] * 3, 0.95) < 0.8


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=30)
def test_bounds_and_intervals_lie_within_the_scale_and_about_the_mean(scores: list[float]) -> None:
    low, high = certainty.interval(scores)
    assert 0 <= low < high <= 1
    assert 0 <= certainty.lower_bound(scores, 0.99) <= certainty.lower_bound(scores, 0.8) < 1
    if certainty.binary(scores):
        assert low <= certainty.mean(scores) <= high


def test_many_distinct_scores_need_no_more_room_than_few(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(1).uniform(size=3000)
    monkeypatch.setattr(certainty, "_ROOM", 100_000)
    low, high = certainty.interval(scores)
    assert low < scores.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * scores.std() / 3000**0.5, rel=0.1)
    assert len(certainty.posterior_means(scores, draws=99)) == 99


def test_what_is_random_is_the_same_every_time() -> None:
    scores = np.random.default_rng(2).uniform(size=40)
    for call, values in (
        (certainty.posterior_means, scores),
        (certainty.bootstrap, scores),
        (certainty.paired_p, scores - 0.45),
    ):
        assert np.array_equal(call(values), call(values))
        assert not np.array_equal(call(values, seed=1), call(values, seed=2))


def test_nothing_measured_is_unknown_and_never_0() -> None:
    for nothing in ([], [NAN, NAN]):
        assert math.isnan(certainty.mean(nothing))
        assert math.isnan(certainty.chance(nothing, 0.5))
        assert math.isnan(certainty.lower_bound(nothing, 0.95))
        assert math.isnan(certainty.paired_p(nothing))
        assert all(map(math.isnan, (*certainty.interval(nothing), *certainty.bootstrap(nothing))))
    assert certainty.wilson(0, 0) == (0, 1)
    assert certainty.mean([1.0, NAN, 0.0]) == 0.5
    assert certainty.chance([1.0, NAN], 0.5) == certainty.chance([1.0], 0.5)
    assert certainty.interval([1.0, NAN, 0.0]) == certainty.interval([1.0, 0.0])


# Effective length.

RULER = {
    "Llama2-7B-chat": ([85.6], 4),
    "GPT-4-1106": ([96.6, 96.3, 95.2, 93.2, 87.0, 81.2], 64),
    "Llama3.1-70B": ([96.5, 95.8, 95.4, 94.8, 88.4, 66.6], 64),
    "Qwen2-72B": ([96.9, 96.1, 94.9, 94.1, 79.8, 53.7], 32),
    "GLM4-9B": ([94.7, 92.8, 92.1, 89.9, 86.7, 83.1], 64),
    "GradientAI-Llama3-70B": ([95.1, 94.4, 90.8, 85.4, 80.9, 72.1], 16),
    "Mixtral-8x7B": ([94.9, 92.1, 92.5, 85.9, 72.4, 44.5], 32),
    "Mistral-7B": ([93.6, 91.2, 87.2, 75.4, 49.0, 13.8], 16),
    "ChatGLM-6B": ([87.8, 83.4, 78.6, 69.9, 56.0, 42.0], 4),
    "Gemini-1.5-pro": ([96.7, 95.8, 96.0, 95.9, 95.9, 94.4], 128),
}


@pytest.mark.parametrize("model", RULER)
def test_effective_lengths_that_ruler_published(model: str) -> None:
    """Its repository's table of results: scores at 4K, 8K … and the effective length."""
    scores, reach = RULER[model]
    bands = {4096 << at: score / 100 for at, score in enumerate(scores)}
    assert certainty.effective_length(bands).length == reach * 1024


def test_less_than_the_threshold_at_the_shortest_length_has_none() -> None:
    found = certainty.effective_length({4096: 0.855, 8192: 0.9})
    assert found.length is None
    assert math.isnan(found.confidence)
    assert found.sure(0.01) is None


def test_lengths_are_taken_in_order_and_every_shorter_one_must_pass() -> None:
    assert certainty.effective_length({2048: [0.0] * 5, 1024: [1.0] * 5, 4096: [1.0] * 5}).length == 1024


def test_confidence_is_the_product_over_independent_lengths() -> None:
    bands = {1024: [1.0] * 30, 2048: [1.0] * 29 + [0.0], 4096: [1.0] * 15 + [0.0] * 15}
    found = certainty.effective_length(bands)
    chances = stats.beta.sf(0.856, [30.5, 29.5, 15.5], [0.5, 1.5, 15.5])
    assert found.length == 2048
    assert found.confidence == pytest.approx(chances[0] * chances[1])
    assert found.joint == pytest.approx(np.cumprod(chances))
    assert found.means == pytest.approx((1, 29 / 30, 0.5))
    assert (found.sure(0.99), found.sure(0.8), found.sure(0.9999)) == (1024, 2048, None)


@pytest.mark.parametrize("hole", [[], [NAN, NAN]])
@pytest.mark.parametrize("relative", [False, True])
def test_a_length_not_measured_ends_it(hole: list[float], relative: bool) -> None:
    found = certainty.effective_length({1024: [1.0] * 20, 2048: hole, 4096: [1.0] * 20}, relative=relative)
    assert found.length == 1024
    assert [math.isnan(p) for p in found.joint] == [False, True, True]
    assert [math.isnan(mean) for mean in found.means] == [False, True, False]


def test_of_nothing_at_all() -> None:
    for relative in (False, True):
        assert certainty.effective_length({}, relative=relative).length is None
        assert certainty.effective_length({1024: []}, relative=relative).length is None


def test_the_relative_form_measures_against_the_shortest_length() -> None:
    bands = {1024: [0.6] * 40, 2048: [0.51] * 40, 4096: [0.5] * 40}
    assert certainty.effective_length(bands).length is None
    found = certainty.effective_length(bands, relative=True)
    assert (found.length, found.threshold) == (2048, pytest.approx(0.51))
    assert found.joint[0] == 1
    assert certainty.effective_length(bands, 0.8, relative=True).length == 4096


def test_relative_confidence_counts_that_the_threshold_is_uncertain() -> None:
    """Against sampling from scipy's two posteriors."""
    bands = {1024: [1.0] * 12 + [0.0] * 8, 2048: [1.0] * 12 + [0.0] * 8}
    first, second = stats.beta.rvs(12.5, 8.5, size=(2, 200_000), random_state=1)
    found = certainty.effective_length(bands, relative=True)
    assert found.confidence == pytest.approx((second >= 0.85 * first).mean(), abs=0.02)


def test_nothing_found_is_not_relatively_effective() -> None:
    found = certainty.effective_length({1024: [0.0] * 9, 2048: [0.0] * 9}, relative=True)
    assert found.length is None
    assert found.joint == (0, 0)


@given(st.lists(st.lists(st.floats(0, 1), max_size=6), max_size=5), st.booleans())
@settings(max_examples=40)
def test_confidence_never_grows_with_length(bands: list[list[float]], relative: bool) -> None:
    found = certainty.effective_length({1024 << at: scores for at, scores in enumerate(bands)}, relative=relative)
    known = [p for p in found.joint if not math.isnan(p)]
    assert known == sorted(known, reverse=True)
    assert all(0 <= p <= 1 for p in known)
    assert all(map(math.isnan, found.joint[len(known) :]))
