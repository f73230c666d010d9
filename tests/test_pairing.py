"""Which cells of two runs pair, and what is said of those that do not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic
from synthetic import GRID, contrast, two, up_to

from needle.comparison import compare
from needle.errors import UsageError
from needle.types import Grid


def test_other_tokenizers_pair_by_cell_and_it_is_said(tmp_path: Path) -> None:
    found = contrast(tmp_path, up_to(4096), up_to(16384), tokenizer="other")
    assert {p.by for p in found.pairs} == {"cell"}
    assert found.notes == ("55 of 55 pairs are by cell, not by identical prompt: tokenizers differ",)
    assert found.start == 8192


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"system": "Be brief."}, "settings differ: system"),
        ({"max_new_tokens": 32}, "settings differ: max_new_tokens"),
        ({"place": "elsewhere"}, "needles stand at other tokens"),
        ({"hashed": False}, "some prompts are not on record"),
    ],
)
def test_other_prompts_to_the_same_cells_are_flagged(tmp_path: Path, other: dict[str, Any], why: str) -> None:
    found = contrast(tmp_path, up_to(4096), up_to(16384), **other)
    assert found.notes == (f"55 of 55 pairs are by cell, not by identical prompt: {why}",)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"haystack": "noise"}, "haystacks differ: essays, noise"),
        ({"text": "edited"}, "haystacks differ in their text"),
        ({"task": "uuid"}, "tasks differ: number, uuid"),
        ({"seed": 1}, "seeds differ: 0, 1"),
        ({"grid": Grid((512, 768), GRID.depths)}, "lengths only in pocket-4k: 1K, 2K, 4K, 8K, 16K"),
        ({"grid": Grid(GRID.lengths, (0.05, 0.15))}, "depths only in pocket-32k: 5 %, 15 %"),
        ({"most": 0}, "nothing is measured in pocket-32k"),
        ({"scorer": "exact"}, "scorers match and exact"),
    ],
)
def test_runs_that_share_no_cell_are_refused_in_one_line(tmp_path: Path, other: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError) as caught:
        two(tmp_path, up_to(4096), up_to(4096), **other)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_only_one_grid_has_is_named_and_the_rest_compared(tmp_path: Path) -> None:
    grid = Grid((2048, 4096, 32768), (0.0, 0.1, 0.25), repeats=2)
    found = contrast(tmp_path, up_to(4096), up_to(4096), grid=grid)
    assert {(p.length, p.first.depth) for p in found.pairs} == {(n, d) for n in (2048, 4096) for d in (0.0, 0.1)}
    assert [band.length for band in found.bands] == [2048, 4096]
    assert found.notes[:5] == (
        "lengths only in pocket-4k: 1K, 8K, 16K",
        "depths only in pocket-4k: 20 %, 30 %, 40 %, 50 %, 60 %, 70 % and 3 more",
        "lengths only in pocket-32k: 32K",
        "depths only in pocket-32k: 25 %",
        "repeats differ: 1 in pocket-4k, 2 in pocket-32k",
    )


def test_failed_and_unmeasured_cells_are_left_out_and_counted(tmp_path: Path) -> None:
    found = contrast(tmp_path, up_to(4096), lambda cell: None if cell.length == 8192 else 1.0, {"most": 50}, grid=GRID)
    assert found.notes[:2] == (
        "of 55 cells, 5 are not measured in pocket-4k; they are left out",
        "of 55 cells, 11 failed in pocket-32k; they are left out",
    )
    empty = found.bands[3]
    assert (empty.length, empty.n, empty.gained) == (8192, 0, 0)
    assert all(map(math.isnan, (empty.first, empty.second, empty.difference, empty.low, empty.p, empty.adjusted)))
    assert (found.bands[4].n, found.overall.n) == (6, 39)
    assert math.isnan(found.effective[1].joint[3])
    assert found.effective[1].length == 4096
    assert "8K" not in found.verdict


def test_identical_prompts_pair_wherever_they_stand(tmp_path: Path) -> None:
    """Asked depths that differ, needles that do not: the prompt decides; each result is used once."""
    one = synthetic.write(tmp_path, "a", up_to(4096))
    other = synthetic.write(
        tmp_path, "b", up_to(4096), grid=Grid(GRID.lengths, tuple(d / 10 + 0.001 for d in range(10)))
    )
    hashes = {(r.length, round(r.depth, 2)): r.prompt_sha256 for r in one.results}
    moved = [replace(r, prompt_sha256=hashes[r.length, round(r.depth, 2)]) for r in other.results]
    (found,) = compare([one, replace(other, results=moved)]).contrasts
    assert len(found.pairs) == 50
    assert {p.by for p in found.pairs} == {"prompt"}
    assert all(abs(p.first.depth - p.second.depth) < 0.01 for p in found.pairs)
    assert len({id(p.second) for p in found.pairs}) == 50


def test_two_cells_of_one_prompt_pair_each_with_their_own_place(tmp_path: Path) -> None:
    runs = [synthetic.write(tmp_path, name, lambda cell: cell.depth) for name in "ab"]
    same = [replace(run, results=[replace(r, prompt_sha256="same") for r in run.results]) for run in runs]
    (found,) = compare(same).contrasts
    assert len(found.pairs) == 55
    assert found.changed == ()
    for dropped in ((1, 0), (0, 1)):
        (found,) = compare([replace(r, results=r.results[n:]) for r, n in zip(same, dropped, strict=True)]).contrasts
        assert len(found.pairs) == 54
        assert found.changed == ()


def test_prompts_that_neither_run_has_on_record_are_not_called_identical(tmp_path: Path) -> None:
    found = contrast(tmp_path, up_to(4096), up_to(4096), {"hashed": False}, hashed=False)
    assert {p.by for p in found.pairs} == {"cell"}
    assert found.notes == ("55 of 55 pairs are by cell, not by identical prompt: some prompts are not on record",)
