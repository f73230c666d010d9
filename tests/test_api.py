"""The package from Python: the same runs as the command's, as tables, figures and comparisons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Done

import needle
from needle import store
from needle.errors import StoreError, UsageError

Checkpoint = Callable[..., Path]
ASKED = {"lengths": [256, 384], "depths": (0, 0.5, 1), "haystack": "noise", "max_new_tokens": 8}


@pytest.fixture
def runs(checkpoint: Checkpoint, tmp_path: Path) -> list[store.Run]:
    return [needle.run(checkpoint(family), output_dir=tmp_path, **ASKED) for family in ("llama", "qwen2")]


def test_a_run_from_python_is_the_command_s(
    checkpoint: Checkpoint, tmp_path: Path, needle: Callable[..., Done], runs: list[store.Run]
) -> None:
    same = ("--lengths", "256,384", "--depths", "0,0.5,1", "--haystack", "noise", "--max-new-tokens", 8)
    done = needle("run", checkpoint("llama"), *same, "-o", tmp_path)
    assert "nothing to do" in done.err
    assert runs[0].name in done.err.replace("\n", "")
    assert (runs[0].status, len(runs[0].results)) == ("complete", 6)


def test_runs_as_a_table(tmp_path: Path, runs: list[store.Run]) -> None:
    table = needle.load(output_dir=tmp_path)
    assert len(table) == 12
    assert set(table["run"]) == {run.name for run in runs}
    assert set(table["model"]) == {run.spec.model for run in runs}
    alone = needle.load(runs[0].name[:9], output_dir=tmp_path)
    assert len(needle.load(runs)) == 12
    assert alone["run"].unique().tolist() == [runs[0].name]
    assert needle.load([], output_dir=tmp_path).empty
    with pytest.raises(StoreError, match="no run 'nothing'"):
        needle.load("nothing", output_dir=tmp_path)


def test_controls_come_only_where_they_are_asked_for(checkpoint: Checkpoint, tmp_path: Path) -> None:
    run = needle.run(checkpoint("llama"), output_dir=tmp_path, control=True, **ASKED)
    assert len(needle.load(run)) == 6
    assert needle.load(run, controls=True)["control"].sum() == 2


def test_figures_and_comparisons(runs: list[store.Run]) -> None:
    figure = needle.figures.heatmap(needle.load(runs[0]))
    assert sum(trace.type == "bar" for trace in figure.data) == 3
    (contrast,) = needle.compare(*runs).contrasts
    assert len(contrast.pairs) == 6


def test_bad_requests_are_told_as_the_command_tells_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lies outside"):
        needle.run(depth_tolerance=2.0, output_dir=tmp_path)
    with pytest.raises(UsageError, match="option 'nonsense'"):
        needle.run(nonsense=1)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = needle.nothing
