"""Which lengths are measured again, and that a run which does so stays whole, resumable and fair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from needle import adaptive, analysis, running, store
from needle.types import Cell, Grid, Result, RunSpec

Checkpoint = Callable[..., Path]
GRID = Grid((1024, 2048, 4096), (0.0, 0.25, 0.5, 0.75, 1.0), 2, max_repeats=5)


def row(cell: Cell, score: float | None) -> Result:
    status = "error" if score is None else "ok"
    outcome = "error" if score is None else "found" if score == 1 else "wrong"
    return Result("", cell.length, cell.depth, cell.repeat, status, score, outcome)


def rows(scores: dict[int, float | None], repeats: int = 2) -> list[Result]:
    return [row(c, scores[c.length]) for c in GRID.column(scores, range(repeats))]


def test_only_lengths_whose_interval_holds_the_threshold_are_measured_again() -> None:
    many = [row(c, 1.0) for c in GRID.column((1024,), range(5))] + [row(c, 0.0) for c in GRID.column((4096,), range(2))]
    mixed = [row(c, float(c.depth > 0)) for c in GRID.column((2048,), range(2))]
    cells = adaptive.further([*many, *mixed], GRID)
    assert cells == GRID.column((2048,), [2])


def test_ten_of_ten_does_not_show_yet_that_a_length_passes() -> None:
    cells = adaptive.further(rows({1024: 1.0, 2048: 0.0, 4096: 0.0}), GRID)
    assert {(c.length, c.repeat) for c in cells} == {(1024, 2)}


def test_a_single_odd_cell_is_looked_at_again() -> None:
    """A length may be decided and one of its needles still be lost half of the time."""
    sure = [row(Cell(1024, at / 20, r), 1.0) for at in range(20) for r in range(8)]
    odd = [row(Cell(1024, 1.0, r), float(r % 2)) for r in range(8)]
    never = [row(Cell(1024, 1.0, r), 0.0) for r in range(8)]
    assert not adaptive.undecided(sure)
    assert adaptive.undecided([*sure, *odd])
    assert not adaptive.undecided([*sure, *never])


def test_lengths_that_failed_or_have_nothing_are_left_alone() -> None:
    assert adaptive.further(rows({1024: None}), GRID) == []
    assert adaptive.further([], GRID) == []


@given(
    st.dictionaries(st.sampled_from(GRID.lengths), st.sampled_from([0.0, 0.5, 1.0, None]), min_size=1),
    st.integers(1, 5),
)
def test_further_cells_are_whole_columns_never_beyond_the_bound(scores: dict[int, float | None], repeats: int) -> None:
    cells = adaptive.further(rows(scores, repeats), GRID)
    assert set(cells) <= {*GRID.cells(), *GRID.extra()}
    for length in {c.length for c in cells}:
        assert [c.depth for c in cells if c.length == length] == list(GRID.depths)
        assert {c.repeat for c in cells if c.length == length} == {max(repeats, GRID.repeats)}


# Real runs.


class Quiet:
    def __init__(self) -> None:
        self.fresh: list[Result] = []
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def loaded(self) -> None: ...

    def cell(self, result: Result, fresh: bool = True) -> None:
        if fresh:
            self.fresh.append(result)


def spec_of(model: Path, grid: Grid) -> RunSpec:
    return RunSpec(str(model), "number", "noise", grid, max_new_tokens=8)


def test_a_run_that_is_decided_repeats_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    grid = Grid((320, 448), (0.0, 1.0), 1, max_repeats=3)
    spec, seen = spec_of(checkpoint("llama"), grid), Quiet()
    run = running.execute(running.prepare(spec, seen.say), tmp_path, seen)
    # Two misses of two leave an interval that ends at 0.66: decided.
    assert (run.status, len(run.results), run.asked) == ("complete", 4, 4)
    assert not any("undecided" in said for said in seen.said)


def test_an_interrupted_repeat_is_partial_and_finished_by_the_same_command(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid((320, 448), (0.0, 1.0), 1, max_repeats=2)
    spec = spec_of(checkpoint("llama"), grid)
    monkeypatch.setattr(adaptive, "undecided", lambda rows, threshold: rows[0].length == 448)

    class Stop(Quiet):
        def cell(self, result: Result, fresh: bool = True) -> None:
            super().cell(result, fresh)
            if len(self.fresh) == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        running.execute(running.prepare(spec, print), tmp_path, Stop())
    (folder,) = store.folders(tmp_path)
    torn = store.read(folder)
    assert (torn.status, len(torn.results), torn.asked, torn.missing) == ("partial", 5, 6, 1)
    assert (analysis.of(torn).done, analysis.of(torn).asked) == (5, 6)
    again = Quiet()
    whole = running.execute(running.prepare(spec, print), tmp_path, again)
    assert (whole.status, len(whole.results), len(again.fresh)) == ("complete", 6, 1)
    assert {(r.length, r.repeat) for r in whole.results} == {(320, 0), (448, 0), (448, 1)}
    assert running.execute(running.prepare(spec, print), tmp_path, Quiet()).results == whole.results
    running.rebuild(whole, whole.results)


def test_repeats_stand_where_they_would_in_any_other_run(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that checkpoints of which different lengths were undecided still pair by identical prompts."""
    grid = Grid((320, 448, 576), (0.0, 0.5, 1.0), 1, max_repeats=2)
    spec = spec_of(checkpoint("llama"), grid)
    found = []
    for name, lengths in (("one", {448}), ("other", {320, 448, 576})):
        monkeypatch.setattr(adaptive, "undecided", lambda rows, _, lengths=lengths: rows[0].length in lengths)
        run = running.execute(running.prepare(spec, print), tmp_path / name, Quiet())
        found.append({r.prompt_sha256 for r in run.results if r.repeat == 1 and r.length == 448})
    assert found[0] == found[1] != set()


def test_means_count_each_cell_once_however_often_it_was_measured() -> None:
    easy = [row(Cell(1024, d, 0), 1.0) for d in (0.0, 1.0)]
    hard = [row(Cell(2048, d, r), 0.0) for d in (0.0, 1.0) for r in range(3)]
    spec = replace(spec_of(Path("m"), Grid((1024, 2048), (0.0, 1.0), 1, max_repeats=3)))
    summary = analysis.summary([*easy, *hard], spec, {})
    assert (summary.mean, summary.done, summary.asked) == (0.5, 8, 8)
