"""The web app's list of runs: what is in it, what is found in it, and what deleting takes away."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import synthetic
from pages import GRID, everything, opened, page, words
from streamlit.testing.v1 import AppTest

from needle import analysis, figures, store, ui
from needle.errors import StoreError
from needle.store import Run
from needle.types import Grid
from needle.ui import _pictures, _state, runs


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("NEEDLE_RUNS", str(folder))
    return folder


def written(root: Path, model: str, age: int, **more: Any) -> Run:
    """A run whose files are `age` seconds old."""
    run = synthetic.write(root, model, more.pop("scores", everything), more.pop("grid", GRID), **more)
    when = 1_700_000_000 - age
    os.utime(run.folder / "run.json", (when, when))
    return run


def table(at: AppTest, which: int = 0) -> Any:
    return at.dataframe[which].value


def choose(at: AppTest, *rows: int) -> AppTest:
    at.session_state["runs-table"] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    return at.run()


def test_a_folder_without_runs_says_so(root: Path) -> None:
    assert "no runs here yet" in words(page("runs"))


def test_the_table_says_of_each_run_what_its_summary_says(root: Path) -> None:
    graded = written(root, "x/graded", 1, scores=lambda c: 0.9 if c.length < 2000 else 0.3)
    partial = written(root, "x/partial", 2, most=2)
    failing = written(root, "x/failing", 3, scores=lambda c: None if c.depth == 0.5 else 1.0)
    shown = table(page("runs"))
    assert list(shown["Run"]) == [graded.name, partial.name, failing.name]
    assert list(shown["Status"]) == ["complete", "partial", "failed cells"]
    for run, (_, row) in zip((graded, partial, failing), shown.iterrows(), strict=True):
        summary = analysis.summary(run.results, run.spec, {})
        assert (row["Measured"], row["Asked"]) == (summary.done, summary.asked)
        assert row["Mean score"] == pytest.approx(summary.mean)
        entry = next(e for e in _state.index() if e.name == run.name)
        assert entry.effective == summary.effective_length
        assert entry.confidence == summary.effective_confidence
        assert entry.failed == summary.failed


def test_damaged_runs_are_listed_with_the_reason(root: Path) -> None:
    good, bad = written(root, "x/good", 1), written(root, "x/bad", 2)
    (bad.folder / "run.json").write_text("{")
    at = page("runs")
    assert dict(zip(table(at)["Run"], table(at)["Status"], strict=True)) == {good.name: "complete", bad.name: "damaged"}
    assert "is damaged" in words(at)
    assert list(table(at, 1)["Run"]) == [good.name]


def test_a_run_being_written_is_running(root: Path) -> None:
    run = written(root, "x/y", 1, most=2)
    with store.writing(root, run.spec, run.sources, run.sessions[-1]):
        assert list(table(page("runs"))["Status"]) == ["running"]
    assert list(table(page("runs"))["Status"]) == ["partial"]


def test_search_and_boxes_narrow_the_table(root: Path) -> None:
    written(root, "x/alpha", 1)
    written(root, "x/beta", 2, task="uuid")
    written(root, "x/gamma", 3, task="uuid", haystack="noise", most=1)
    at = page("runs")
    at.text_input(key="runs-search").input("AL num").run()
    assert list(table(at)["Model"]) == ["x/alpha"]
    at.text_input(key="runs-search").input("").run()
    at.selectbox(key="runs-task").select("uuid").run()
    assert list(table(at)["Model"]) == ["x/beta", "x/gamma"]
    at.selectbox(key="runs-status").select("partial").run()
    assert list(table(at)["Model"]) == ["x/gamma"]
    assert "1 of 3 runs" in at.caption[0].value
    assert dict(at.query_params) == {"task": "uuid", "status": "partial"}
    again = page("runs", search="x/", **at.query_params)
    assert list(table(again)["Model"]) == ["x/gamma"]
    assert again.text_input(key="runs-search").value == "x/"
    assert len(table(page("runs", status="<b>"))) == 3


def test_the_leaderboard_ranks_by_effective_length_then_mean(root: Path) -> None:
    written(root, "x/short", 1, scores=synthetic.up_to(1024))
    written(root, "x/none", 2, scores=synthetic.up_to(0))
    written(root, "x/better", 3)
    written(root, "x/good", 4, scores=lambda c: 0.9)
    written(root, "x/empty", 5, most=0)
    ranked = table(page("runs"), 1)
    assert list(ranked["Model"]) == ["x/better", "x/good", "x/short", "x/none"]
    assert list(ranked["Effective length"]) == ["2K", "2K", "1K", "none"]
    assert list(ranked.index) == [1, 2, 3, 4]


def test_a_chosen_run_opens(root: Path) -> None:
    run = written(root, "x/y", 1)
    at = choose(page("runs"), 0)
    at.button(key="runs-open").click().run()
    assert at.query_params["run"] == run.name


def test_two_chosen_runs_can_be_compared_and_seven_cannot(root: Path) -> None:
    for age in range(7):
        written(root, f"x/m{age}", age)
    at = choose(page("runs"), 0, 1)
    names = list(table(at)["Run"])
    assert at.button(key="runs-compare")
    at.button(key="runs-compare").click().run()
    assert at.query_params["runs"] == names[:2]
    at = choose(page("runs"), *range(7))
    assert "runs-compare" not in [b.key for b in at.button]


def test_deleting_takes_two_clicks(root: Path) -> None:
    doomed, kept = written(root, "x/doomed", 1), written(root, "x/kept", 2)
    (doomed.folder / "more").mkdir()
    (doomed.folder / "more" / "notes.txt").write_text("")
    at = choose(page("runs"), 0)
    at.button(key="runs-delete").click().run()
    assert doomed.folder.is_dir()
    assert str(doomed.folder) in words(at)
    assert str(kept.folder) not in words(at)
    at.button(key="runs-delete-sure").click().run()
    assert not doomed.folder.exists()
    assert kept.folder.is_dir()


def test_thinking_better_of_it_deletes_nothing(root: Path) -> None:
    written(root, "x/a", 1)
    written(root, "x/b", 2)
    at = choose(page("runs"), 0)
    at.button(key="runs-delete").click().run()
    choose(at, 1)
    assert "runs-delete-sure" not in [b.key for b in at.button], "the question was about another run"
    at.button(key="runs-delete").click().run()
    at.button(key="runs-keep").click().run()
    assert "runs-delete-sure" not in [b.key for b in at.button]
    assert len(store.folders(root)) == 2


def test_a_damaged_run_can_be_deleted(root: Path) -> None:
    run = written(root, "x/y", 1)
    (run.folder / "run.json").write_text("{")
    runs.delete(run.name)
    assert not run.folder.exists()


def test_a_run_being_written_is_not_deleted(root: Path) -> None:
    run = written(root, "x/y", 1, most=2)
    with (
        store.writing(root, run.spec, run.sources, run.sessions[-1]),
        pytest.raises(StoreError, match="being written"),
    ):
        runs.delete(run.name)
    assert store.read(run.folder).results == run.results


def test_nothing_outside_the_runs_folder_is_deleted(root: Path) -> None:
    outside = written(root.parent / "elsewhere", "x/y", 1)
    (root / "link").symlink_to(outside.folder)
    for name in ("../elsewhere", f"../elsewhere/{outside.name}", str(outside.folder), ".", "..", "", "link"):
        with pytest.raises(StoreError):
            runs.delete(name)
    assert store.read(outside.folder).results == outside.results
    run = written(root, "x/y", 1, grid=Grid((1024,), (0.5,)))
    (run.folder / "away").symlink_to(outside.folder)
    runs.delete(run.name)
    assert not run.folder.exists()
    assert store.read(outside.folder).results == outside.results


def test_a_list_of_runs_reads_only_what_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(root, "x/y", 1, most=2)
    written(root, "x/z", 2)
    _state.index()
    read: list[str] = []
    really = store.read
    monkeypatch.setattr(store, "read", lambda folder: (read.append(folder.name), really(folder))[1])
    _state.index()
    assert read == []
    synthetic.write(root, "x/y", everything, GRID)
    assert next(e for e in _state.index() if e.name == run.name).done == 6
    assert read == [run.name] * (1 + read[:-1].count(run.name))


def test_what_is_downloaded_is_the_figure_and_the_cells(root: Path) -> None:
    run = written(root, "x/y", 1)
    frame = analysis.frame(run.results)
    drawn = figures.heatmap(frame, "a title")
    page_of_it = _pictures._html(drawn).decode()
    assert "a title" in page_of_it
    assert "src=" not in page_of_it.partition("<body")[0], "nothing is fetched"
    assert _pictures._csv(frame).decode().splitlines()[0].startswith("key,length,depth")
    assert len(_pictures._csv(frame).decode().splitlines()) == 7


def test_pictures_are_offered_only_where_they_can_be_drawn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(root, "x/y", 1)
    assert not any(b.proto.disabled for b in opened().get("download_button"))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "kaleido" else find(name, *more)
    )
    at = opened()
    assert [b.proto.disabled for b in at.get("download_button")] == [False, False, True, True]
    assert any("kaleido" in caption.value for caption in at.caption)


def test_the_whole_app_has_every_page(root: Path) -> None:
    assert opened()
    assert all(callable(importlib.import_module(f"needle.ui.{module}").page) for module in ui.PAGES)
