"""Is one run better than another, where, how sure is that: numbers and the sentence that sums them up."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from synthetic import GRID, Scores, contrast, two, up_to

from needle import bands, comparison, store
from needle.comparison import compare
from needle.errors import UsageError
from needle.types import Cell, Grid


def noisy(share: float, seed: int) -> Scores:
    """Hits of about so many cells, the same ones each time."""
    return lambda cell: float(np.random.default_rng([seed, cell.length, int(cell.depth * 1000)]).random() < share)


# Numbers.


def test_finds_the_difference_where_it_starts_and_its_certainty(tmp_path: Path) -> None:
    found = contrast(tmp_path, up_to(4096), up_to(16384))
    assert found.start == 8192
    assert found.verdict == "pocket-32k is better than pocket-4k from 8K on (p = 0.002); no difference shown up to 4K"
    assert [reach.length for reach in found.effective] == [4096, 16384]
    assert found.effective_difference == 12288
    assert found.notes == ()
    assert {p.by for p in found.pairs} == {"prompt"}
    assert {(p.length, p.scores) for p in found.changed} == {(8192, (0.0, 1.0)), (16384, (0.0, 1.0))}


def test_numbers_are_statsmodels_on_what_was_measured(tmp_path: Path) -> None:
    first, second = noisy(0.4, 1), noisy(0.9, 2)
    found = contrast(tmp_path, first, second)
    raw = []
    for band in found.bands:
        assert band.length
        cells = [Cell(band.length, depth, 0) for depth in GRID.depths]
        pairs = [(int(first(cell) or 0), int(second(cell) or 0)) for cell in cells]
        table = [[pairs.count((a, b)) for b in (0, 1)] for a in (0, 1)]
        raw.append(float(mcnemar(table, exact=True).pvalue))
        assert (band.n, band.gained, band.lost) == (11, table[0][1], table[1][0])
        assert (band.first, band.second) == tuple(pytest.approx(mean) for mean in np.mean(pairs, axis=0))
        assert band.difference == pytest.approx(band.second - band.first)
        assert band.low <= band.difference <= band.high
    assert [band.p for band in found.bands] == pytest.approx(raw)
    assert [band.adjusted for band in found.bands] == pytest.approx(multipletests(raw, method="holm")[1])
    whole = found.overall
    assert (whole.length, whole.n, whole.gained) == (None, 55, sum(band.gained for band in found.bands))
    assert whole.p == pytest.approx(mcnemar([[0, whole.gained], [whole.lost, 0]], exact=True).pvalue)


def test_lengths_at_which_nothing_differs_cost_the_others_nothing(tmp_path: Path) -> None:
    found = contrast(tmp_path, up_to(8192), lambda cell: float(cell.length <= 8192 or cell.depth > 0.35))
    assert [band.adjusted for band in found.bands] == [1, 1, 1, 1, 2 * 0.5**7]


def test_graded_scores_have_an_interval_and_a_p(tmp_path: Path) -> None:
    found = contrast(tmp_path, lambda cell: 0.5 + cell.depth / 10, lambda cell: 0.6 + cell.depth / 20)
    for band in found.bands:
        assert band.difference == pytest.approx(0.075)
        assert 0 < band.low < 0.075 < band.high < 0.1
        assert band.adjusted < 0.05
    assert found.verdict.startswith("pocket-32k is better than pocket-4k at every length (p = 0.0")


def test_repeats_are_pairs_of_their_own(tmp_path: Path) -> None:
    grid = replace(GRID, repeats=2)
    found = contrast(tmp_path, up_to(4096), lambda cell: float(cell.repeat), {"grid": grid}, grid=grid)
    assert found.overall.n == 110
    assert comparison.delta(found).loc[0.5, 8192] == 0.5
    assert comparison.delta(found).loc[0.5, 1024] == -0.5


@pytest.mark.parametrize(
    ("ps", "signs", "expected"),
    [
        ([0.5, 0.5, 0.5], [1, 1, 1], "no difference shown between A and B (p = 0.4, 30 pairs)"),
        ([0.01, 0.02, 0.0001], [1, 1, 1], "B is better than A at every length (p = 0.02)"),
        ([0.5, 0.02, 0.0001], [1, 1, 1], "B is better than A from 2K on (p = 0.02); no difference shown at 1K"),
        ([0.0001, 0.5, 0.5], [1, 1, 1], "B is better than A at 1K (p < 0.001); no difference shown from 2K on"),
        ([0.0001, 0.0001, 0.5], [-1, -1, 1], "B is worse than A up to 2K (p < 0.001); no difference shown at 4K"),
        ([0.5, 0.01, 0.5], [1, 1, 1], "B is better than A at 2K (p = 0.01); no difference shown at 1K and at 4K"),
        (
            [0.01, 0.5, 0.02],
            [-1, 1, 1],
            "B is better than A at 4K (p = 0.02) and worse than A at 1K (p = 0.01); no difference shown at 2K",
        ),
    ],
)
def test_the_verdict_is_one_plain_sentence(ps: list[float], signs: list[int], expected: str) -> None:
    each = [
        bands.Band(1024 << at, 10, 0.5, 0.5, sign * 0.1, 0, 0, 3, 2, p / 100, p)
        for at, (p, sign) in enumerate(zip(ps, signs, strict=True))
    ]
    whole = bands.Band(None, 30, 0.5, 0.5, 0.1, 0, 0, 9, 6, 0.4, 0.4)
    assert bands.verdict("A", "B", each, whole) == expected
    each.append(bands.Band(8192, 0, *[math.nan] * 5, 0, 0, math.nan, math.nan))
    assert bands.verdict("A", "B", each, whole) == expected


def test_a_difference_that_only_all_lengths_together_show(tmp_path: Path) -> None:
    found = contrast(tmp_path, lambda cell: float(cell.depth > 0.15), lambda cell: 1.0)
    assert found.start is None
    assert (
        found.verdict
        == "pocket-32k is better than pocket-4k over all lengths (p = 0.002); no single length shows where"
    )


def test_runs_alike_show_no_difference(tmp_path: Path) -> None:
    found = contrast(tmp_path, up_to(4096), up_to(4096))
    assert found.verdict == "no difference shown between pocket-4k and pocket-32k: all 55 pairs score the same"
    assert found.changed == ()
    assert found.effective_difference == 0


def test_effective_lengths_rest_on_pairs_alone(tmp_path: Path) -> None:
    short = Grid(GRID.lengths[:3], GRID.depths)
    (both,) = two(tmp_path, up_to(1 << 20), up_to(1 << 20), {"grid": short}).contrasts
    assert [reach.length for reach in both.effective] == [4096, 4096]


def test_a_run_without_effective_length_has_no_difference_of_them(tmp_path: Path) -> None:
    found = contrast(tmp_path, up_to(0), up_to(4096))
    assert found.effective[0].length is None
    assert found.effective_difference is None


def test_too_few_pairs_to_ever_show_anything_is_said(tmp_path: Path) -> None:
    few = Grid(GRID.lengths, (0.0, 0.25, 0.5, 0.75, 1.0))
    found = contrast(tmp_path, up_to(0), up_to(1 << 20), {"grid": few}, grid=few)
    (note,) = found.notes
    assert "too few pairs" in note
    assert "at least 8 a length" in note
    enough = Grid(GRID.lengths, tuple(d / 7 for d in range(8)))
    assert contrast(tmp_path, up_to(0), up_to(1 << 20), {"grid": enough}, grid=enough).notes == ()


# Which runs.


def test_too_few_runs_or_one_twice_is_refused(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path, "a", up_to(4096))
    with pytest.raises(UsageError, match="two runs"):
        compare([run])
    with pytest.raises(UsageError, match="itself"):
        compare([run, store.read(run.folder)])


def test_the_first_of_several_is_the_baseline(tmp_path: Path) -> None:
    runs = [synthetic.write(tmp_path, f"out/step-{n}", up_to(n)) for n in (4096, 1024, 16384)]
    found = compare(runs)
    assert [(c.first, c.second, c.start) for c in found.contrasts] == [
        ("step-4096", "step-1024", 2048),
        ("step-4096", "step-16384", 8192),
    ]
    assert "step-1024 is worse than step-4096 from 2K to 4K" in found.contrasts[0].verdict


def test_runs_of_one_model_go_by_their_folders(tmp_path: Path) -> None:
    runs = [synthetic.write(tmp_path, "x/pocket", up_to(4096), system=text) for text in (None, "Be brief.")]
    assert [side.label for side in compare(runs).sides] == [run.name for run in runs]


def test_only_settings_that_differ_are_told(tmp_path: Path) -> None:
    session = {"started": "later", "dtype": "bfloat16"}
    found = two(tmp_path, up_to(1), up_to(1), options={"attn": "sdpa"}, session=session, max_new_tokens=32)
    told = {f"{s.where}.{s.name}": s.values for s in found.settings}
    assert told == {
        "spec.model": ("x/pocket-4k", "x/pocket-32k"),
        "spec.max_new_tokens": (64, 32),
        "spec.options.attn": (None, "sdpa"),
        "sources.model": ("x/pocket-4k", "x/pocket-32k"),
        "session.dtype": ("float32", "bfloat16"),
    }
