"""Pictures of a training: over its steps, as curves, as a film."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import synthetic
from synthetic import SMALL, training

from needle import certainty, figures, series, store
from needle.types import Cell, Grid


def falling(cell: Cell) -> float | None:
    return None if cell.length == 4096 else float(cell.depth < 0.7)


def test_the_picture_has_steps_across_and_lengths_down(tmp_path: Path) -> None:
    found = training(tmp_path)
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
    synthetic.write(tmp_path, "out/checkpoint-1", falling, grid=SMALL)
    synthetic.write(tmp_path, "out/checkpoint-2", falling, grid=SMALL, most=6)
    (found,) = series.of(map(store.read, store.folders(tmp_path)))
    last = figures.over_steps(found).data[2]
    assert list(last.text) == ["×", ""]
    assert [height is None for height in last.y] == [False, True]


def test_curves_go_over_true_steps_with_intervals(tmp_path: Path) -> None:
    figure = figures.steps_by_length(training(tmp_path))
    assert [curve.name for curve in figure.data] == ["1K", "2K", "4K"]
    curve = figure.data[1]
    assert (list(curve.x), list(curve.y)) == ([100, 200, 1000], [0, 1, 1])
    assert curve.y[0] + curve.error_y.array[0] == pytest.approx(certainty.wilson(0, 6)[1])


def test_many_lengths_share_curves_and_none_is_lost(tmp_path: Path) -> None:
    lengths = tuple(1024 * n for n in range(1, 21))
    found = training(tmp_path, (1, 2), grid=Grid(lengths, (0.5,)))
    figure = figures.steps_by_length(found)
    assert len(figure.data) == 6
    assert figure.data[0].name == "1K–4K"
    assert sum(point[1] for curve in figure.data for point in curve.customdata) == 2 * len(lengths)


def test_progress_is_both_and_played_has_a_frame_a_step(tmp_path: Path) -> None:
    found = training(tmp_path)
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
    film = figures.played(training(tmp_path), value="outcome")
    assert {trace.name for trace in film.data if trace.type == "scatter"} == {"F found", "W wrong"}
