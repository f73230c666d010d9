"""Tables from results: what is measured, what failed, what is not there yet, and what that adds up to."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from needle import analysis
from needle.types import Grid, Result, RunSpec

SPEC = RunSpec("pocket", "niah", "essays", Grid((1024, 2048, 4096), (0.0, 0.5, 1.0), repeats=2))


def row(length: int, depth: float, score: float | None, repeat: int = 0, **more: object) -> Result:
    facts = {"prompt_tokens": length - 64, "new_tokens": 8, "seconds": 0.5} | more
    return synthetic.row(length, depth, score, repeat, **facts)


def test_frame_has_a_column_for_each_field_even_when_empty() -> None:
    empty, full = analysis.frame([]), analysis.frame([row(1024, 0.5, 1.0)])
    assert list(empty.columns) == list(full.columns) == list(Result.__slots__)
    assert len(empty) == 0
    assert dict(empty.dtypes) == dict(full.dtypes)


def test_frame_keeps_a_missing_text_none_and_a_missing_number_missing() -> None:
    df = analysis.frame([row(1024, 0.5, None, prompt_tokens=None), row(1024, 0.5, 1.0, error="full")])
    assert df["error"].tolist() == [None, "full"]
    assert math.isnan(df["score"][0])
    assert pd.isna(df["prompt_tokens"][0])
    assert df["prompt_tokens"][1] == 960
    assert {str(df[name].dtype) for name in ("score", "depth", "answer_logprob")} == {"float64"}


def test_grid_means_repeats_and_never_calls_a_failure_zero() -> None:
    rows = [row(2048, 1.0, 1.0), row(2048, 1.0, 0.5, 1), row(1024, 0.0, 0.0), row(1024, 0.0, None, 1)]
    rows += [row(2048, 0.0, None)]
    table = analysis.grid(analysis.frame(rows))
    assert list(table.index) == [0.0, 1.0]
    assert list(table.columns) == [1024, 2048]
    assert table.loc[1.0, 2048] == 0.75
    assert table.loc[0.0, 1024] == 0.0
    assert math.isnan(table.loc[0.0, 2048])
    assert math.isnan(table.loc[1.0, 1024])


@pytest.mark.parametrize("rows", [[], [row(1024, 0.5, None)], [row(1024, 0.5, 1.0)]])
def test_grid_shows_all_that_was_asked(rows: list[Result]) -> None:
    table = analysis.grid(analysis.frame(rows), lengths=(4096, 1024), depths=(1.0, 0.5, 0.0))
    assert list(table.columns) == [1024, 4096]
    assert list(table.index) == [0.0, 0.5, 1.0]
    assert table.notna().sum().sum() == sum(r.status == "ok" for r in rows)


def test_grid_of_another_value() -> None:
    df = analysis.frame([row(1024, 0.5, 1.0, seconds=2.0), row(1024, 0.5, 1.0, 1, seconds=4.0)])
    assert analysis.grid(df, "seconds").loc[0.5, 1024] == 3.0
    assert analysis.grid(df, "prompt_tokens").loc[0.5, 1024] == 960.0


def test_a_cell_failed_only_when_every_row_of_it_did() -> None:
    rows = [row(1024, 0.0, None), row(1024, 0.0, None, 1), row(2048, 0.5, None), row(2048, 0.5, 0.0, 1)]
    assert analysis.failed(analysis.frame(rows)) == {(1024, 0.0)}
    assert analysis.failed(analysis.frame([])) == set()


@pytest.mark.parametrize(
    ("full", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_against_published_intervals(full: int, n: int, low: float, high: float) -> None:
    assert list(analysis.wilson(full, n)) == pytest.approx([low, high], abs=5e-5)


@given(st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_brackets_the_share_and_mirrors(counts: tuple[int, int]) -> None:
    full, n = counts
    low, high = analysis.wilson(full, n)
    assert 0 <= low < high <= 1
    assert n == 0 or low <= full / n <= high
    assert list(analysis.wilson(n - full, n)) == pytest.approx([1 - high, 1 - low])


def test_by_length_counts_full_scores_and_leaves_out_what_only_failed() -> None:
    rows = [row(2048, d, s) for d, s in ((0.0, 1.0), (0.5, 0.9), (1.0, 1.0))] + [row(1024, 0.0, None)]
    table = analysis.by_length(analysis.frame(rows))
    assert list(table.columns) == ["length", "mean", "n", "low", "high"]
    assert table["length"].tolist() == [2048]
    assert table["mean"][0] == pytest.approx(2.9 / 3)
    assert (table["low"][0], table["high"][0]) == analysis.wilson(2, 3)


@pytest.mark.parametrize(
    ("means", "longest"),
    [
        ([], None),
        ([0.855], None),
        ([0.856], 1024),
        ([1.0, 0.9, 0.8], 2048),
        ([1.0, 0.8, 1.0], 1024),
        ([0.8, 1.0], None),
    ],
)
def test_effective_length_stops_at_the_first_length_that_fails(means: list[float], longest: int | None) -> None:
    rows = [row(1024 << at, 0.0, mean) for at, mean in enumerate(means)]
    assert analysis.effective_length(analysis.by_length(analysis.frame(rows))) == longest


def test_effective_length_passes_a_mean_that_is_the_threshold_but_for_rounding() -> None:
    scores = [0.8, 1.0, 0.8, 0.7, 0.98]
    assert sum(scores) / 5 < 0.856
    df = analysis.frame([row(1024, 0.0, score, at) for at, score in enumerate(scores)])
    assert analysis.effective_length(analysis.by_length(df)) == 1024


def test_summary_adds_up() -> None:
    rows = [row(1024, 0.0, None), row(1024, 0.0, 1.0), row(1024, 0.5, 0.5), row(2048, 0.0, None)]
    summary = analysis.summary(rows, SPEC, {"device": "cpu"})
    assert (summary.asked, summary.done, summary.failed) == (18, 2, 1)
    assert summary.mean == 0.75
    assert summary.outcomes == {"found": 1, "wrong": 1, "error": 1}
    assert summary.tokens == 2 * (960 + 8)
    assert summary.seconds == 1.0
    assert [(each.length, each.n) for each in summary.lengths] == [(1024, 2)]
    assert json.loads(json.dumps(analysis.as_json(summary), allow_nan=False))["provenance"] == {"device": "cpu"}


@pytest.mark.parametrize("rows", [[], [row(1024, 0.0, None)]])
def test_summary_of_nothing_measured_has_no_mean(rows: list[Result]) -> None:
    summary = analysis.summary(rows, SPEC, {})
    assert (summary.mean, summary.effective_length, summary.lengths) == (None, None, ())
    plain = json.loads(json.dumps(analysis.as_json(summary), allow_nan=False))
    assert plain["mean"] is None
    assert plain["effective_threshold"] == 0.856


def test_palette_ends_and_middle_are_the_fields() -> None:
    assert [analysis.colour(score) for score in (0, 0.5, 1)] == ["#F0496E", "#EBB839", "#0CD79F"]
    assert analysis.colour(-1) == analysis.colour(0)
    assert analysis.colour(2) == analysis.colour(1)


@given(st.floats(0, 1))
def test_ink_is_readable_on_every_score(score: float) -> None:
    assert _contrast(analysis.INK, analysis.colour(score)) >= 4.9
    assert _contrast(analysis.INK, analysis.FAILED) >= 4.9


def _contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio."""

    def luminance(hexadecimal: str) -> float:
        parts = [int(hexadecimal[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@given(st.floats(0, 1))
def test_only_a_full_score_is_called_100(score: float) -> None:
    label = analysis.score_label(score)
    assert (label == "100") == (score == 1)
    assert (label == "0") == (score == 0)
    assert abs(int(label) - 100 * score) <= 1


@given(st.sets(st.integers(1, 1 << 21) | st.sampled_from([1024, 4096, 4608, 1 << 20, 3 << 20]), min_size=2))
def test_no_two_lengths_share_a_label(lengths: set[int]) -> None:
    assert len({analysis.length_label(length) for length in lengths}) == len(lengths)


def test_labels_as_people_write_them() -> None:
    lengths = {
        512: "512",
        1000: "1,000",
        1024: "1K",
        4608: "4,608",
        32768: "32K",
        1 << 20: "1M",
        2_000_000: "2,000,000",
    }
    assert {length: analysis.length_label(length) for length in lengths} == lengths
    depths = {0.0: "0 %", 0.4: "40 %", 1 / 14: "7.1 %", 1.0: "100 %"}
    assert {depth: analysis.depth_label(depth) for depth in depths} == depths


def test_printable_writes_out_what_would_act_and_keeps_what_reads() -> None:
    assert analysis.printable("a\x1b[2J\x9b\u202eb\r\n\ud800") == "a\\x1b[2J\\x9b\\u202eb\\r\\n\\ud800"
    assert analysis.printable("a\nb\tc", keep="\n") == "a\nb\\tc"
    plain = "Zürich 東京 👩\u200d🚀 [b]"
    assert analysis.printable(plain) == plain
