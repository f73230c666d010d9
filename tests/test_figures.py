"""The Plotly heatmap: what each cell's bar shows and says."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pandas as pd
import pictured
import pytest
import synthetic
from pictured import DEPTHS, LENGTHS
from synthetic import row

from needle import analysis, figures


@pytest.fixture
def df() -> pd.DataFrame:
    return pictured.table()


def test_depths_go_down_from_0_and_lengths_across_on_equal_steps(df: pd.DataFrame) -> None:
    figure = figures.heatmap(df, "t", lengths=reversed(LENGTHS), depths=DEPTHS)
    assert figure.layout.xaxis.type == "category"
    assert list(figure.layout.xaxis.categoryarray) == ["1K", "4,608", "32K"]
    assert list(figure.layout.xaxis.range) == [-0.5, 2.5]
    assert list(figure.layout.yaxis.range) == [3, 0]
    assert dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True)) == {
        "0 %": 0.5,
        "50 %": 1.5,
        "100 %": 2.5,
    }
    for at, bar in enumerate(figure.data[:3]):
        assert at < bar.base < bar.base + bar.y[0 if at < 2 else 1] < at + 1


def test_measured_failed_and_empty_cells_look_different(df: pd.DataFrame) -> None:
    top, middle, bottom = figures.heatmap(df, "t", lengths=LENGTHS, depths=DEPTHS).data[:3]
    assert top.marker.color[0] == "#0CD79F"
    assert middle.marker.color[0] == "#F0496E"
    assert bottom.marker.color[1] == "#EBB839"
    assert (top.text[0], middle.text[0], bottom.text[1]) == ("100", "0", "50")
    assert (top.text[1], top.marker.color[1]) == ("×", analysis.FAILED)
    assert top.y[1] is not None
    assert [height is None for bar in (top, middle, bottom) for height in bar.y] == [
        *(False, False, True),
        *(False, True, True),
        *(True, False, True),
    ]


def test_the_scale_is_fixed_whatever_the_scores(df: pd.DataFrame) -> None:
    scale = figures.heatmap(df[df["score"] == 1], "t").data[-1].marker
    assert (scale.cmin, scale.cmax) == (0, 1)
    assert [colour for _, colour in scale.colorscale][::5] == ["#F0496E", "#EBB839", "#0CD79F"]


def test_each_point_says_which_cell_it_is(df: pd.DataFrame) -> None:
    figure = figures.heatmap(df, "t", lengths=LENGTHS, depths=DEPTHS)
    places = [[tuple(point) for point in bar.customdata] for bar in figure.data[:3]]
    assert places == [[(length, depth) for length in LENGTHS] for depth in DEPTHS]


def test_hover_tells_the_cell_and_escapes_the_answer(df: pd.DataFrame) -> None:
    top, _, bottom = figures.heatmap(df, "t").data[:3]
    assert top.hoverinfo == "text"
    for part in (
        "1K",
        "depth 0 %",
        "1,024 tokens",
        "0.42 %",
        "score 100 %",
        "found",
        "&lt;b&gt;4821&lt;/b&gt; &amp; more",
    ):
        assert part in top.hovertext[0]
    assert "out of memory" in top.hovertext[1]
    assert "failed" in top.hovertext[1]
    assert "mean of 2 of 2 repeats" in bottom.hovertext[1]


@pytest.mark.parametrize("answer", ["x" * 5000, "<a href='javascript:1'>" * 300, "</script>\x1b[0m\ud800" * 90])
def test_hover_is_short_and_inert_whatever_the_model_wrote(answer: str) -> None:
    hover = figures.heatmap(analysis.frame([row(1024, 0.5, 0.0, answer=answer)]), "t").data[0].hovertext[0]
    lines = hover.split("<br>")
    assert len(html.unescape("".join(lines))) < 300
    assert max(len(html.unescape(line)) for line in lines) < 80
    assert set(re.findall("<[^>]*>", hover)) == {"<b>", "</b>", "<br>"}
    assert hover.encode().isascii() or "…" in hover
    assert "\x1b" not in hover


def test_many_repeats_are_counted_rather_than_listed() -> None:
    rows = [row(1024, 0.5, 1.0, repeat, answer=f"answer {repeat}") for repeat in range(9)]
    hover = figures.heatmap(analysis.frame(rows), "t").data[0].hovertext[0]
    assert hover.count("answer") == 3
    assert "6 more" in hover


def test_a_grid_draws_as_its_results_do(df: pd.DataFrame) -> None:
    from_rows = figures.heatmap(df, "t", lengths=LENGTHS, depths=DEPTHS)
    table = analysis.grid(df)
    from_grid = figures.heatmap(table, "t", analysis.failed(df), lengths=LENGTHS, depths=DEPTHS)
    for one, other in zip(from_rows.data[:3], from_grid.data[:3], strict=True):
        assert (one.y, one.text, one.marker.color) == (other.y, other.text, other.marker.color)


def test_a_title_is_text() -> None:
    figure = figures.heatmap(analysis.frame([]), "a<b>\x1b & c")
    assert html.unescape(figure.layout.title.text) == "a<b>\\x1b & c"


@pytest.mark.parametrize("asked", [{}, {"lengths": LENGTHS, "depths": DEPTHS}])
def test_a_run_with_nothing_measured_still_draws(asked: dict[str, tuple[float, ...]]) -> None:
    figure = figures.heatmap(analysis.frame([]), "t", **asked)  # type: ignore[arg-type]
    assert all(height is None for bar in figure.data[:-1] for height in bar.y)
    assert json.loads(figure.to_json())["data"]


# Titles.


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        ("pocket-32k", {}, "pocket-32k"),
        ("Qwen/Qwen2.5-0.5B", {"revision": "main-2"}, "Qwen/Qwen2.5-0.5B@main-2"),
        ("/data/me/out/checkpoint-500", {}, "out/checkpoint-500"),
    ],
)
def test_title_states_model_task_haystack_and_cells(
    tmp_path: Path, model: str, options: dict[str, str], named: str
) -> None:
    run = synthetic.write(tmp_path, model, lambda cell: 1.0, options=options, haystack="/texts/book.txt")
    assert figures.title(run) == f"{named} · number in book.txt · n = 55"
    summary = analysis.summary(run.results, run.spec, {})
    assert figures.title(summary) == figures.title(run).replace("@main-2", "")


def test_title_says_how_much_is_there(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path, "m", lambda cell: None if cell.length == 1024 else 1.0, most=20)
    for told in (run, analysis.summary(run.results, run.spec, {})):
        assert figures.title(told) == "m · number in essays · n = 9 of 55"


# Parts of comparisons.


def test_parts_of_a_comparison_stand_alone_too(tmp_path: Path) -> None:
    found = synthetic.two(tmp_path, synthetic.up_to(4096), synthetic.up_to(16384))
    (contrast_,) = found.contrasts
    lengths, depths = synthetic.GRID.lengths, synthetic.GRID.depths
    figure = figures.difference(contrast_, lengths, depths, "a & b")
    assert list(figure.data[0].text) == ["0", "0", "0", "+100", "+100"]
    assert tuple(figure.data[3].customdata[1]) == (2048, 0.3)
    by_length, by_depth = (figures.curves(found.sides, by) for by in ("length", "depth"))
    assert [list(curve.y) for curve in by_length.data] == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert [list(curve.y) for curve in by_depth.data] == [[pytest.approx(0.6)] * 11, [1] * 11]
    assert list(by_depth.layout.xaxis.ticktext)[:2] == ["0 %", "10 %"]
    assert (len(by_length.layout.shapes), len(by_depth.layout.shapes)) == (1, 0)
    traffic, safe = (figures.compared(found, "t", palette=palette).data[0] for palette in figures.PALETTES)
    assert traffic.marker.color != safe.marker.color
