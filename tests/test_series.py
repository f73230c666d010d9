"""Checkpoint series: the step that a path names, which runs belong together, their numbers, pictures and command."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic
import typer
from hypothesis import given
from hypothesis import strategies as st
from synthetic import up_to

from needle import analysis, certainty, figures, series, store
from needle.cli import series as command
from needle.errors import UsageError
from needle.types import Cell, Grid

GRID = Grid((1024, 2048, 4096), (0.0, 0.5, 1.0), 2)


def written(root: Path, steps: tuple[int, ...] = (100, 200, 1000), **more: Any) -> series.Series:
    """A training whose checkpoints find more and more; the only series in `root`."""
    for at, step in enumerate(steps):
        reach = up_to(1024 << at)
        synthetic.write(root, f"out/checkpoint-{step}", reach, **{"grid": GRID, **more})
    (found,) = series.of(map(store.read, store.folders(root)))
    return found


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
    run = synthetic.write(tmp_path, model, up_to(1024), grid=GRID, options={"revision": revision})
    assert series.step(run) == step
    found = series.of([run])
    assert [each.steps for each in found] == ([] if step is None else [(step,)])


@given(st.sampled_from(["checkpoint-", "step_", "global_step", "iter_0", "epoch-"]), st.integers(0, 10**9))
def test_any_step_is_read(unit: str, step: int) -> None:
    assert series.step_of(f"some/where/{unit}{step}") == step


def test_runs_of_one_training_are_one_series_by_step(tmp_path: Path) -> None:
    found = written(tmp_path, (1000, 20, 300))
    assert found.steps == (20, 300, 1000)
    assert [series.step(run) for run in found.runs] == [20, 300, 1000]
    assert found.name.startswith("out_number_essays_")


def test_the_hub_id_of_revisions_is_their_place(tmp_path: Path) -> None:
    for step in (1, 512):
        synthetic.write(tmp_path, "me/pythia", up_to(1024), grid=GRID, options={"revision": f"step{step}"})
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
    one = synthetic.write(tmp_path, "out/checkpoint-1", up_to(1024), grid=GRID)
    two = synthetic.write(tmp_path, "out/checkpoint-2", up_to(1024), **{"grid": GRID, **other})
    found = series.of([one, two])
    assert sorted(each.steps for each in found) == [(1,), (2,)]
    assert len({each.name for each in found}) == 2


@pytest.mark.parametrize(
    "model", ["elsewhere/checkpoint-2", "out/step-2", "out/other-checkpoint-2", "out/checkpoint-2/hf"]
)
def test_another_training_is_another_series(tmp_path: Path, model: str) -> None:
    runs = [synthetic.write(tmp_path, each, up_to(1024), grid=GRID) for each in ("out/checkpoint-1", model)]
    assert len(series.of(runs)) == 2


@pytest.mark.parametrize(
    "options", [{"device": "cuda"}, {"attn": "eager", "plan": "cells"}, {"dtype": "auto", "allow_pickle": False}]
)
def test_how_it_was_computed_does_not_part_a_series(tmp_path: Path, options: dict[str, Any]) -> None:
    one = synthetic.write(tmp_path, "out/checkpoint-1", up_to(1024), grid=GRID)
    two = synthetic.write(tmp_path, "out/checkpoint-2", up_to(1024), grid=GRID, options=options)
    (found,) = series.of([one, two])
    assert found.steps == (1, 2)


def test_of_several_runs_of_a_step_the_newest_counts(tmp_path: Path) -> None:
    runs = [
        synthetic.write(tmp_path, "out/checkpoint-1", up_to(1024), grid=GRID, tokenizer=day, session={"started": day})
        for day in ("2026-01-02", "2026-01-03", "2026-01-01")
    ]
    for order in (runs, runs[::-1]):
        (found,) = series.of(order)
        assert found.runs[0].sessions[-1]["started"] == "2026-01-03"


def test_the_table_has_every_step_and_length_with_its_interval(tmp_path: Path) -> None:
    table = series.table(written(tmp_path))
    assert list(table.columns) == ["step", "length", "mean", "n", "low", "high"]
    assert list(zip(table["step"], table["length"], strict=True)) == [
        (step, length) for step in (100, 200, 1000) for length in GRID.lengths
    ]
    assert table["mean"].tolist() == [1, 0, 0, 1, 1, 0, 1, 1, 1]
    assert set(table["n"]) == {6}
    assert (table["low"][0], table["high"][0]) == certainty.wilson(6, 6)


def test_what_was_not_measured_is_nan_never_0(tmp_path: Path) -> None:
    found = written(tmp_path, (1, 2), most=3)
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

    found = written(tmp_path, (1,))
    run = found.runs[0]
    wrong = [replace(result, control=True, score=0.0) for result in run.results]
    mixed = series.Series(found.name, (replace(run, results=[*run.results, *wrong]),), (1,))
    assert series.table(mixed).equals(series.table(found))


def test_totals_agree_with_the_runs_own_summary(tmp_path: Path) -> None:
    found = written(tmp_path)
    totals = series.totals(found)
    for run, row in zip(found.runs, totals.itertuples(index=False), strict=True):
        summary = analysis.summary(run.results, run.spec, {})
        assert (row.run, row.mean, row.effective) == (run.name, summary.mean, summary.effective_length)
        assert row.confidence == pytest.approx(summary.effective_confidence)


def test_a_series_is_found_by_name_or_part_of_it(tmp_path: Path) -> None:
    written(tmp_path)
    synthetic.write(tmp_path, "outer/checkpoint-1", up_to(1024), grid=GRID)
    found = series.of(map(store.read, store.folders(tmp_path)))
    for each in found:
        assert series.find(found, each.name) is each
        assert series.find(found, each.name[-8:]) is each
    assert series.find(found, "outer").steps == (1,)
    for wrong in ("out", "", "nothing"):
        with pytest.raises(UsageError, match="needle series"):
            series.find(found, wrong)


# Figures.


def falling(cell: Cell) -> float | None:
    return None if cell.length == 4096 else float(cell.depth < 0.7)


def test_the_picture_has_steps_across_and_lengths_down(tmp_path: Path) -> None:
    found = written(tmp_path)
    figure = figures.over_steps(found)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [bar.name for bar in bars] == ["1K", "2K", "4K"]
    assert [list(bar.x) for bar in bars] == [["100", "200", "1,000"]] * 3
    assert [list(bar.text) for bar in bars] == [["100"] * 3, ["0", "100", "100"], ["0", "0", "100"]]
    assert [tuple(place) for place in bars[1].customdata] == [(100, 2048), (200, 2048), (1000, 2048)]
    assert list(figure.layout.yaxis.range) == [3, 0]
    assert "95 % interval" in bars[0].hovertext[0]
    assert "6 cells" in bars[0].hovertext[0]
    assert "100–1,000" in figure.layout.title.text
    assert figures.over_steps(found, palette="safe").data[0].marker.color != bars[0].marker.color


def test_failed_and_unmeasured_lengths_are_told_apart(tmp_path: Path) -> None:
    synthetic.write(tmp_path, "out/checkpoint-1", falling, grid=GRID)
    synthetic.write(tmp_path, "out/checkpoint-2", falling, grid=GRID, most=6)
    (found,) = series.of(map(store.read, store.folders(tmp_path)))
    last = figures.over_steps(found).data[2]
    assert list(last.text) == ["×", ""]
    assert [height is None for height in last.y] == [False, True]


def test_curves_go_over_true_steps_with_intervals(tmp_path: Path) -> None:
    figure = figures.steps_by_length(written(tmp_path))
    assert [curve.name for curve in figure.data] == ["1K", "2K", "4K"]
    curve = figure.data[1]
    assert (list(curve.x), list(curve.y)) == ([100, 200, 1000], [0, 1, 1])
    assert curve.y[0] + curve.error_y.array[0] == pytest.approx(certainty.wilson(0, 6)[1])


def test_many_lengths_share_curves_and_none_is_lost(tmp_path: Path) -> None:
    lengths = tuple(1024 * n for n in range(1, 21))
    found = written(tmp_path, (1, 2), grid=Grid(lengths, (0.5,)))
    figure = figures.steps_by_length(found)
    assert len(figure.data) == 6
    assert figure.data[0].name == "1K–4K"
    assert sum(point[1] for curve in figure.data for point in curve.customdata) == 2 * len(lengths)


def test_progress_is_both_and_played_has_a_frame_a_step(tmp_path: Path) -> None:
    found = written(tmp_path)
    both = figures.progress(found, title="a <b>")
    assert both.layout.title.text == "a &lt;b&gt;"
    assert [trace.type for trace in both.data] == ["bar"] * 3 + ["scatter"] * 4
    film = figures.played(found)
    assert [frame.name for frame in film.frames] == ["100", "200", "1000"]
    assert [list(frame.data[0].text) for frame in film.frames] == [
        ["100", "0", "0"],
        ["100", "100", "0"],
        ["100", "100", "100"],
    ]
    assert list(film.data[0].text) == ["100", "100", "100"]
    (slider,) = film.layout.sliders
    assert [list(step.args[0]) for step in slider.steps] == [["100"], ["200"], ["1000"]]
    assert slider.active == 2
    assert [button.label for button in film.layout.updatemenus[0].buttons] == ["▶ play", "❚❚"]
    assert json.loads(film.to_json())


def test_a_film_of_outcomes_has_every_class_in_its_legend(tmp_path: Path) -> None:
    film = figures.played(written(tmp_path), value="outcome")
    assert {trace.name for trace in film.data if trace.type == "scatter"} == {"F found", "W wrong"}


# The command.


def needle(*arguments: object) -> int:
    """`series` as the command line calls it; its exit code."""
    app = typer.Typer()
    app.command()(command.series)
    return int(app([str(a) for a in arguments], standalone_mode=False) or 0)


Out = Callable[[], Any]


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Out:
    return capsys.readouterr


def test_command_shows_the_only_series(tmp_path: Path, out: Out) -> None:
    written(tmp_path)
    assert needle("-o", tmp_path) == 0
    lines = out().out.splitlines()
    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert rows == [
        ["100", "100", "0", "0", "0.333", "1K"],
        ["200", "100", "100", "0", "0.667", "2K"],
        ["1,000", "100", "100", "100", "1.000", "4K"],
    ]
    assert ["step", "1K", "2K", "4K", "mean", "effective"] in [line.split() for line in lines]


def test_command_colours_in_a_terminal_and_heeds_no_color(
    tmp_path: Path, out: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    needle("-o", tmp_path)
    assert "\x1b[38;2;22;24;29;48;2;12;215;159m" in out().out
    monkeypatch.setenv("NO_COLOR", "1")
    needle("-o", tmp_path)
    assert "48;2" not in out().out


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_command_fits_the_terminal_and_says_what_it_leaves_out(
    tmp_path: Path, out: Out, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    lengths = tuple(1024 * n for n in range(1, 21))
    written(tmp_path, (1, 2), grid=Grid(lengths, (0.5,)))
    monkeypatch.setenv("COLUMNS", str(columns))
    needle("-o", tmp_path)
    text = out().out
    assert max(map(len, text.splitlines())) <= columns
    assert "20K" in text
    assert ("left out" in text) == (columns < 200)
    assert "…" not in text


def test_command_lists_several_and_shows_the_one_named(tmp_path: Path, out: Out) -> None:
    written(tmp_path)
    synthetic.write(tmp_path, "other/step_7", up_to(0), grid=GRID)
    synthetic.write(tmp_path, "pocket-32k", up_to(0), grid=GRID)
    assert needle("-o", tmp_path) == 0
    listed = out().out
    assert "other_number_essays_" in listed
    assert "100–1,000" in listed
    assert "pocket" not in listed
    assert needle("other", "-o", tmp_path) == 0
    assert ["7", "0", "0", "0", "0.000", "–"] in [line.split() for line in out().out.splitlines()]
    with pytest.raises(UsageError, match="name the one"):
        needle("-o", tmp_path, "--html", tmp_path / "x.html")
    with pytest.raises(UsageError, match="no series"):
        needle("nothing", "-o", tmp_path)


def test_command_says_it_in_json(tmp_path: Path, out: Out) -> None:
    written(tmp_path, most=3)
    needle("-o", tmp_path, "--json")
    told = json.loads(out().out)
    assert [row["step"] for row in told["steps"]] == [100, 200, 1000]
    assert [row["effective"] for row in told["steps"]] == [1024] * 3
    assert told["lengths"][1]["mean"] is None
    assert told["models"][0] == "out/checkpoint-100"


def test_command_writes_the_page(tmp_path: Path, out: Out) -> None:
    written(tmp_path / "runs")
    page = tmp_path / "page.html"
    needle("-o", tmp_path / "runs", "--html", page)
    assert out().out.splitlines()[-1] == str(page)
    assert "training step" in page.read_text(encoding="utf-8")


def test_no_series_and_damaged_runs_are_said(tmp_path: Path, out: Out) -> None:
    needle("-o", tmp_path)
    assert "no checkpoint series" in out().out
    found = written(tmp_path)
    (found.runs[0].folder / "run.json").write_text("{")
    needle("-o", tmp_path, "--json")
    told = out()
    assert [row["step"] for row in json.loads(told.out)["steps"]] == [200, 1000]
    assert told.err.startswith("needle: left out: ")


def test_what_a_run_is_called_cannot_act_on_the_terminal(tmp_path: Path, out: Out) -> None:
    synthetic.write(tmp_path, "ou\x1b[2Jt/checkpoint-1", up_to(0), grid=GRID, task="[red]\x1b[2J")
    needle("-o", tmp_path)
    text = out().out
    assert "\x1b" not in text
    assert "[red]\\x1b[2J" in text


def test_nothing_measured_yet_still_shows(tmp_path: Path, out: Out) -> None:
    synthetic.write(tmp_path, "out/checkpoint-1", up_to(0), grid=GRID, most=0)
    needle("-o", tmp_path)
    assert "·" in out().out
    (found,) = series.of(map(store.read, store.folders(tmp_path)))
    assert math.isnan(series.totals(found)["mean"][0])
    for draw in (figures.over_steps, figures.steps_by_length, figures.progress, figures.played):
        assert json.loads(draw(found).to_json())


def test_looking_at_series_and_watching_for_checkpoints_loads_no_torch() -> None:
    code = "import sys, needle.series, needle.figures, needle.watching, needle.cli.series, needle.cli.watch"
    check = "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"{code}; {check}"], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
