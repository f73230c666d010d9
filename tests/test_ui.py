"""The web app's page of one run, in every state that a runs folder can be in."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
from pages import APP, GRID, boxes, chart, click, everything, metrics, opened, progress, sheets, words

from needle import store
from needle.errors import StoreError
from needle.types import Cell, Grid, Result, RunSpec
from needle.ui import _state, runs


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty runs folder that the app looks into."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("NEEDLE_RUNS", str(folder))
    return folder


def test_a_folder_without_runs_says_how_to_make_one(root: Path) -> None:
    at = opened()
    assert "no runs here yet" in words(at)
    assert "needle run" in words(at)
    assert str(root) in words(at)
    root.rmdir()
    assert "no runs here yet" in words(opened())


def test_the_newest_run_opens_with_its_heatmap_and_numbers(root: Path) -> None:
    old = synthetic.write(root, "x/old", everything, GRID)
    os.utime(old.folder / "run.json", (1, 1))
    new = synthetic.write(root, "x/new", synthetic.up_to(1024), GRID)
    at = opened()
    assert at.selectbox(key="run").value == new.name
    assert at.selectbox(key="run").options == [new.name, old.name]
    assert "x/new · number in essays · n = 1 a cell" in words(at)
    shown = metrics(at)
    assert (shown["Mean score"], shown["Effective length"], shown["Worst length"]) == ("50 %", "1K", "2K: 0 %")
    assert shown["Cells"] == "6/6"
    figure = chart(at)
    bars = [trace for trace in figure["data"] if trace["type"] == "bar"]
    assert [trace["name"] for trace in bars] == ["0 %", "50 %", "100 %"]
    assert at.query_params["run"] == new.name


def test_failed_and_unmeasured_cells_are_told_apart(root: Path) -> None:
    run = synthetic.write(root, "x/y", lambda c: None if c.depth == 0.5 else 1.0, GRID, most=4)
    at = opened(run=run.name)
    assert metrics(at)["Cells"] == "3/6"
    assert at.metric[3].delta == "1 failed"
    assert "not complete" in words(at)
    rows = [trace for trace in chart(at)["data"] if trace["type"] == "bar"]
    failed, unmeasured = rows[1], rows[2]
    assert failed["y"][0] is not None
    assert failed["y"] != rows[0]["y"] or failed["text"][0] != rows[0]["text"][0]
    assert unmeasured["y"][1] is None
    click(at, 1024, 0.5)
    assert boxes(at) == (1024, 0.5)
    assert "out of memory" in sheets(at)[0]
    click(at, 2048, 1.0)
    assert "has not been measured" in words(at)


def test_a_damaged_run_is_said_and_the_others_stay_open(root: Path) -> None:
    bad, good = (synthetic.write(root, name, everything, GRID) for name in ("x/bad", "x/good"))
    rows = bad.folder / "results.jsonl"
    rows.write_bytes(b"{}\n" + rows.read_bytes())
    at = opened(run=bad.name)
    assert "damaged" in words(at)
    assert "line 1" in words(at)
    at.selectbox(key="run").select(good.name).run()
    assert "damaged" not in words(at)
    assert metrics(at)["Mean score"] == "100 %"


def test_a_run_in_progress_fills_in(root: Path) -> None:
    run = synthetic.write(root, "x/y", everything, GRID, most=2)
    with store.writing(root, run.spec, run.sources, {"started": "now"}) as writer:
        at = opened(run=run.name)
        assert "Running: 2 of 6 cells" in progress(at)
        cell = run.spec.grid.cells()[2]
        writer.append(replace(run.results[0], key=store.key(run.identity, cell), length=cell.length, depth=cell.depth))
        at.run()
        assert "Running: 3 of 6 cells" in progress(at)
        assert "cells a second" in progress(at)
        assert metrics(at)["Cells"] == "3/6"
    at.run()
    assert not at.get("progress")
    assert "not complete" in words(at)


def test_a_cell_of_a_run_in_progress_opens_by_a_click(root: Path) -> None:
    run = synthetic.write(root, "x/y", everything, GRID, most=4)
    with store.writing(root, run.spec, run.sources, {"started": "now"}):
        at = click(opened(run=run.name), 1024, 0.5)
        assert not at.exception
        assert boxes(at) == (1024, 0.5)
        assert at.get("plotly_chart")
        assert "scored 1.0" in sheets(at)[0]


def test_clicks_boxes_and_address_agree(root: Path) -> None:
    run = synthetic.write(root, "x/y", everything, Grid((1024, 2048), (0.0, 0.5, 1.0), 2))
    at = opened(run=run.name)
    assert boxes(at) == (None, None)
    click(at, 2048, 0.5)
    assert boxes(at) == (2048, 0.5)
    assert at.query_params["cell"] == "2048:0.5:0"
    at.selectbox(key="cell-depth").select(1.0).run()
    assert boxes(at) == (2048, 1.0), "a click of before must not come back"
    at.selectbox(key="cell-repeat").select(1).run()
    assert at.query_params["cell"] == "2048:1:1"
    assert len(chart(at)["layout"]["shapes"]) == 2
    click(at, 1024, 0.0)
    assert boxes(at) == (1024, 0.0)
    assert at.query_params["cell"] == "1024:0:1"


def test_what_is_on_screen_comes_back_from_its_address(root: Path) -> None:
    run = synthetic.write(root, "x/first", everything, GRID)
    synthetic.write(root, "x/second", everything, GRID)
    at = opened(run=run.name, metric="interval", palette="safe", cell="2048:0.5:0")
    assert at.selectbox(key="run").value == run.name
    assert boxes(at) == (2048, 0.5)
    assert at.query_params["metric"] == "interval"
    assert at.query_params["palette"] == "safe"
    again = opened(**at.query_params)
    assert chart(again) == chart(at)
    assert sheets(again) == sheets(at)
    assert chart(again) != chart(opened(run=run.name, palette="safe", cell="2048:0.5:0"))


def test_another_run_closes_the_cell_only_if_it_has_none_there(root: Path) -> None:
    one = synthetic.write(root, "x/one", everything, GRID)
    two = synthetic.write(root, "x/two", everything, Grid((1024,), (0.0, 0.5)))
    at = opened(run=one.name, cell="2048:0.5:0")
    at.selectbox(key="run").select(two.name).run()
    assert boxes(at) == (None, 0.5)
    assert "cell" not in at.query_params


@pytest.mark.parametrize("name", ["../outside", "..", "outside/..", "/etc", "a\0b", "..\\x", "", "nothing", "*" * 400])
def test_names_that_are_no_runs_are_refused_in_one_line(root: Path, name: str) -> None:
    run = synthetic.write(root, "x/y", everything, GRID)
    synthetic.write(root.parent / "elsewhere", "x/y", everything, GRID).folder.rename(root.parent / "outside")
    at = opened(run=name)
    (line,) = [t.value for t in at.text]
    assert "\n" not in line
    assert "pick one from the list" in line
    assert not at.get("plotly_chart")
    at.selectbox(key="run-instead").select(run.name).run()
    assert at.query_params["run"] == run.name
    assert at.get("plotly_chart")


def test_a_path_that_is_a_run_is_no_name(root: Path) -> None:
    outside = synthetic.write(root.parent / "elsewhere", "x/y", everything, GRID)
    for name in (str(outside.folder), os.path.relpath(outside.folder, root)):
        with pytest.raises(store.StoreError, match="refused"):
            _state.folder(name)


@pytest.mark.parametrize("cell", ["4096:0:0", "x", "1024:0.5:9", "<b>"])
def test_a_cell_that_is_not_there_is_said(root: Path, cell: str) -> None:
    run = synthetic.write(root, "x/y", everything, GRID)
    at = opened(run=run.name, cell=cell)
    assert f"no result at {cell}" in words(at)
    assert boxes(at) == (None, None)
    assert "cell" not in at.query_params


def test_settings_that_mean_nothing_fall_to_the_first(root: Path) -> None:
    run = synthetic.write(root, "x/y", everything, GRID)
    odd = opened(run=run.name, metric="probability", palette="<i>")
    assert chart(odd) == chart(opened(run=run.name))


def test_a_run_without_a_result_shows_its_empty_grid(root: Path) -> None:
    run = synthetic.write(root, "x/y", everything, GRID, most=0)
    at = opened(run=run.name)
    assert metrics(at)["Cells"] == "0/6"
    assert metrics(at)["Mean score"] == "–"
    assert at.get("plotly_chart")
    assert len(at.selectbox) == 1


def test_an_unmeasured_length_does_not_hide(root: Path) -> None:
    """Results of a run lie in its own folder only; the spec is that of the run, not of what came back."""
    spec = RunSpec("m", "number", "essays", GRID)
    sources = {"model": "m"}
    known = store.identity(spec, sources)
    with store.writing(root, spec, sources, {}) as writer:
        cell = Cell(1024, 0.0, 0)
        writer.append(Result(store.key(known, cell), 1024, 0.0, 0, "ok", 1.0, "found"))
    labels = chart(opened())["layout"]["xaxis"]["categoryarray"]
    assert labels == ["1K", "2K"]


def test_the_app_never_loads_torch(root: Path) -> None:
    run = synthetic.write(root, "pocket-4k", everything, GRID)
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
at = AppTest.from_file({str(APP)!r}, default_timeout=100)
at.query_params["run"], at.query_params["cell"] = {run.name!r}, "1024:0.5:0"
at.run()
assert not at.exception, at.exception
assert len(at.get("iframe")), at
for page in ("runs", "compare", "series", "start"):
    other = AppTest.from_string(f"from needle.ui import {{page}}\\n{{page}}.page()", default_timeout=100).run()
    assert not other.exception, (page, other.exception)
assert "needle.rebuilding" in sys.modules
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_gallery_stands_behind_ones_own_runs_and_is_not_deleted(root: Path) -> None:
    example = synthetic.write(root / _state.GALLERY, "x/example", everything, GRID)
    assert opened().selectbox(key="run").options == [example.name]
    own = synthetic.write(root, "x/own", everything, GRID)
    at = opened()
    assert at.selectbox(key="run").options == [own.name, example.name]
    assert at.selectbox(key="run").value == own.name
    assert "--output-dir" in words(click(opened(run=example.name), 1024, 0.5))
    with pytest.raises(StoreError, match="comes with needle"):
        runs.delete(example.name)
    assert example.folder.is_dir()
