"""Checkpoint series: the step that a path names, which runs belong together, and their numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from synthetic import SMALL, training, up_to

from needle import analysis, certainty, series, store
from needle.errors import UsageError
from needle.types import Grid


@pytest.mark.parametrize(
    ("model", "revision", "step"),
    [
        ("out/checkpoint-500", None, 500),
        ("/data/run 7/checkpoint-0", None, 0),
        ("a/step_500", None, 500),
        ("a/step-500", "main", 500),
        ("a/global_step500", None, 500),
        ("a/global_step500/hf", None, 500),
        ("a/iter_0000500", None, 500),
        ("a/epoch-3", None, 3),
        ("checkpoint-5", None, 5),
        ("me/model-checkpoint-12", None, 12),
        ("EleutherAI/pythia-70m", "step1000", 1000),
        ("allenai/OLMo-2", "stage1-step1000-tokens4B", 1000),
        ("out/checkpoint-500", "step7", 7),
        ("pocket-32k", None, None),
        ("Qwen/Qwen2.5-0.5B", None, None),
        ("Qwen/Qwen2.5-0.5B", "v1.2", None),
        ("a/lockstep5", None, None),
        ("a/checkpoint-500/x/y", None, None),
        ("a/checkpoint-last", None, None),
    ],
)
def test_the_step_is_read_from_path_or_revision(
    tmp_path: Path, model: str, revision: str | None, step: int | None
) -> None:
    run = synthetic.write(tmp_path, model, up_to(1024), grid=SMALL, options={"revision": revision})
    assert series.step(run) == step
    found = series.of([run])
    assert [each.steps for each in found] == ([] if step is None else [(step,)])


@given(st.sampled_from(["checkpoint-", "step_", "global_step", "iter_0", "epoch-"]), st.integers(0, 10**9))
def test_any_step_is_read(unit: str, step: int) -> None:
    assert series.step_of(f"some/where/{unit}{step}") == step


def test_runs_of_one_training_are_one_series_by_step(tmp_path: Path) -> None:
    found = training(tmp_path, (1000, 20, 300))
    assert found.steps == (20, 300, 1000)
    assert [series.step(run) for run in found.runs] == [20, 300, 1000]
    assert found.name.startswith("out_number_essays_")


def test_the_hub_id_of_revisions_is_their_place(tmp_path: Path) -> None:
    for step in (1, 512):
        synthetic.write(tmp_path, "me/pythia", up_to(1024), grid=SMALL, options={"revision": f"step{step}"})
    (found,) = series.of(map(store.read, store.folders(tmp_path)))
    assert (found.steps, series.place(found)) == ((1, 512), "me/pythia")


@pytest.mark.parametrize(
    "other",
    [
        {"task": "uuid"},
        {"haystack": "noise"},
        {"text": "another hash"},
        {"seed": 1},
        {"grid": Grid((1024,), (0.5,))},
        {"scorer": "exact"},
        {"system": "Be brief."},
        {"prompt": "base"},
        {"max_new_tokens": 5},
        {"options": {"rope_scaling": {"factor": 2.0}}},
        {"options": {"dtype": "float32"}},
    ],
)
def test_what_is_asked_otherwise_is_another_series(tmp_path: Path, other: dict[str, Any]) -> None:
    one = synthetic.write(tmp_path, "out/checkpoint-1", up_to(1024), grid=SMALL)
    two = synthetic.write(tmp_path, "out/checkpoint-2", up_to(1024), **{"grid": SMALL, **other})
    found = series.of([one, two])
    assert sorted(each.steps for each in found) == [(1,), (2,)]
    assert len({each.name for each in found}) == 2


@pytest.mark.parametrize(
    "model", ["elsewhere/checkpoint-2", "out/step-2", "out/other-checkpoint-2", "out/checkpoint-2/hf"]
)
def test_another_training_is_another_series(tmp_path: Path, model: str) -> None:
    runs = [synthetic.write(tmp_path, each, up_to(1024), grid=SMALL) for each in ("out/checkpoint-1", model)]
    assert len(series.of(runs)) == 2


@pytest.mark.parametrize(
    "options", [{"device": "cuda"}, {"attn": "eager", "plan": "cells"}, {"dtype": "auto", "allow_pickle": False}]
)
def test_how_it_was_computed_does_not_part_a_series(tmp_path: Path, options: dict[str, Any]) -> None:
    one = synthetic.write(tmp_path, "out/checkpoint-1", up_to(1024), grid=SMALL)
    two = synthetic.write(tmp_path, "out/checkpoint-2", up_to(1024), grid=SMALL, options=options)
    (found,) = series.of([one, two])
    assert found.steps == (1, 2)


def test_of_several_runs_of_a_step_the_newest_counts(tmp_path: Path) -> None:
    runs = [
        synthetic.write(tmp_path, "out/checkpoint-1", up_to(1024), grid=SMALL, tokenizer=day, session={"started": day})
        for day in ("2026-01-02", "2026-01-03", "2026-01-01")
    ]
    for order in (runs, runs[::-1]):
        (found,) = series.of(order)
        assert found.runs[0].sessions[-1]["started"] == "2026-01-03"


def test_the_table_has_every_step_and_length_with_its_interval(tmp_path: Path) -> None:
    table = series.table(training(tmp_path))
    assert list(table.columns) == ["step", "length", "mean", "n", "low", "high"]
    assert list(zip(table["step"], table["length"], strict=True)) == [
        (step, length) for step in (100, 200, 1000) for length in SMALL.lengths
    ]
    assert table["mean"].tolist() == [1, 0, 0, 1, 1, 0, 1, 1, 1]
    assert set(table["n"]) == {6}
    assert (table["low"][0], table["high"][0]) == certainty.wilson(6, 6)


def test_what_was_not_measured_is_nan_never_0(tmp_path: Path) -> None:
    found = training(tmp_path, (1, 2), most=3)
    table = series.table(found)
    missing = table[table["length"] > 1024]
    assert (missing["n"] == 0).all()
    assert missing[["mean", "low", "high"]].isna().all(axis=None)
    totals = series.totals(found)
    assert totals["n"].tolist() == [3, 3]
    assert totals["mean"].tolist() == [1, 1]
    assert totals["effective"].tolist() == [1024, 1024]


def test_control_cells_do_not_count(tmp_path: Path) -> None:
    from dataclasses import replace

    found = training(tmp_path, (1,))
    run = found.runs[0]
    wrong = [replace(result, control=True, score=0.0) for result in run.results]
    mixed = series.Series(found.name, (replace(run, results=[*run.results, *wrong]),), (1,))
    assert series.table(mixed).equals(series.table(found))


def test_totals_agree_with_the_runs_own_summary(tmp_path: Path) -> None:
    found = training(tmp_path)
    totals = series.totals(found)
    for run, row in zip(found.runs, totals.itertuples(index=False), strict=True):
        summary = analysis.summary(run.results, run.spec, {})
        assert (row.run, row.mean, row.effective) == (run.name, summary.mean, summary.effective_length)
        assert row.confidence == pytest.approx(summary.effective_confidence)


def test_a_series_is_found_by_name_or_part_of_it(tmp_path: Path) -> None:
    training(tmp_path)
    synthetic.write(tmp_path, "outer/checkpoint-1", up_to(1024), grid=SMALL)
    found = series.of(map(store.read, store.folders(tmp_path)))
    for each in found:
        assert series.find(found, each.name) is each
        assert series.find(found, each.name[-8:]) is each
    assert series.find(found, "outer").steps == (1,)
    for wrong in ("out", "", "nothing"):
        with pytest.raises(UsageError, match="needle series"):
            series.find(found, wrong)


def test_looking_at_series_and_watching_for_checkpoints_loads_no_torch() -> None:
    code = "import sys, needle.series, needle.figures, needle.watching, needle.cli.series, needle.cli.watch"
    check = "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"{code}; {check}"], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
