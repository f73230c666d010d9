"""The Plotly heatmap: what each cell's bar shows and says."""

from __future__ import annotations

import html
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from needle import analysis, certainty, figures
from needle.figures import _colour
from needle.types import Outcome, Result

LENGTHS, DEPTHS = (1024, 4608, 32768), (0.0, 0.5, 1.0)


def row(length: int, depth: float, score: float | None, repeat: int = 0, **more: object) -> Result:
    status, outcome = ("error", "error") if score is None else ("ok", "found" if score == 1 else "wrong")
    return Result(f"{length}/{depth}/{repeat}", length, depth, repeat, status, score, outcome, **more)  # type: ignore[arg-type]


@pytest.fixture
def df() -> pd.DataFrame:
    return analysis.frame(
        [
            row(1024, 0.0, 1.0, answer="It is <b>4821</b> & more", depth_used=0.0042),
            row(1024, 0.5, 0.0),
            row(4608, 0.0, None, error="out of memory"),
            row(4608, 1.0, 1.0),
            row(4608, 1.0, 0.0, 1),
        ]
    )


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


# What a cell can show.


def shown(table: pd.DataFrame, **more: Any) -> dict[tuple[int, float], tuple[str, str]]:
    """(length, depth) → sign and colour of the cells that are drawn."""
    figure = figures.heatmap(table, "t", **more)
    return {
        (length, depth): (sign, colour)
        for bar in figure.data
        if bar.type == "bar"
        for (length, depth), sign, colour, height in zip(bar.customdata, bar.text, bar.marker.color, bar.y, strict=True)
        if height is not None
    }


@pytest.mark.parametrize("palette", figures.PALETTES)
@pytest.mark.parametrize("value", figures.VALUES)
def test_every_view_keeps_rows_columns_range_and_legible_ink(
    df: pd.DataFrame, value: figures.Value, palette: figures.Palette
) -> None:
    figure = figures.heatmap(df, "t", lengths=LENGTHS, depths=DEPTHS, value=value, palette=palette)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [[tuple(place) for place in bar.customdata] for bar in bars] == [[(n, d) for n in LENGTHS] for d in DEPTHS]
    assert figure.data[:3] == tuple(bars)
    for bar in bars:
        for colour, ink in zip(bar.marker.color, bar.insidetextfont.color, strict=True):
            assert contrast(colour, ink) >= 4.5
    scales = [trace.marker for trace in figure.data[3:] if trace.marker.showscale]
    assert [(scale.cmin, scale.cmax) for scale in scales] == ([] if value == "outcome" else [(0, 1)])
    assert json.loads(figure.to_json())


def contrast(one: str, other: str) -> float:
    """WCAG's, written down a second time, from its text."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@given(st.floats(0, 1), st.sampled_from(figures.PALETTES))
def test_ink_can_be_read_on_every_shade(share: float, palette: figures.Palette) -> None:
    ground = _colour.shade(share, palette)
    assert contrast(ground, _colour.ink(ground)) >= 4.5


@given(st.integers(0, 0xFFFFFF))
def test_ink_can_be_read_on_any_colour(colour: int) -> None:
    assert contrast(f"#{colour:06X}", _colour.ink(f"#{colour:06X}")) >= 4.5


def test_the_safe_palette_tells_more_by_lightness_alone() -> None:
    greys = [contrast(_colour.shade(at / 20, "safe"), "#000000") for at in range(21)]
    assert greys == sorted(greys)
    assert greys[-1] / greys[0] > 5


def test_every_outcome_has_its_own_sign_and_colour_and_the_failed_one_is_last() -> None:
    assert set(_colour.OUTCOMES) == set(get_args(Outcome))
    assert len(set(_colour.OUTCOMES.values())) == len({sign for sign, _ in _colour.OUTCOMES.values()})
    assert (next(iter(_colour.OUTCOMES)), list(_colour.OUTCOMES)[-1]) == ("found", "error")


def test_probability_is_the_mean_of_the_answers_and_its_lack_is_no_zero() -> None:
    table = analysis.frame(
        [
            row(1024, 0.0, 0.0, answer_logprob=math.log(0.9)),
            row(1024, 0.0, 0.0, 1, answer_logprob=math.log(0.5)),
            row(1024, 0.5, 1.0, answer_logprob=math.log(0.25)),
            row(1024, 0.5, 1.0, 1),
            row(1024, 1.0, 1.0),
        ]
    )
    signs = {place: sign for place, (sign, _) in shown(table, value="probability").items()}
    assert signs == {(1024, 0.0): "70", (1024, 0.5): "25", (1024, 1.0): "–"}
    hover = figures.heatmap(table, "t").data[0].hovertext[0]
    assert "70 %" in hover
    assert "score 0 %" in hover


def test_outcomes_are_the_most_frequent_and_of_equals_the_worst() -> None:
    def repeats(depth: float, *outcomes: str) -> list[Result]:
        return [
            replace(row(1024, depth, float(each == "found"), at), outcome=each)  # type: ignore[arg-type]
            for at, each in enumerate(outcomes)
        ]

    failing = row(1024, 0.3, None, 2, error="out of memory")
    table = analysis.frame(
        [
            *repeats(0.0, "found", "found", "distractor"),
            *repeats(0.1, "found", "refusal"),
            *repeats(0.2, "distractor", "number", "empty", "empty"),
            *repeats(0.3, "found", "found"),
            failing,
            row(1024, 0.4, None, error="out of memory"),
        ]
    )
    signs = {depth: sign for (_, depth), (sign, _) in shown(table, value="outcome").items()}
    assert signs == {0.0: "F", 0.1: "R", 0.2: "E", 0.3: "F", 0.4: "×"}
    figure = figures.heatmap(table, "t", value="outcome")
    assert [trace.name for trace in figure.data if trace.type == "scatter"] == [
        *("F found", "R refusal", "E empty", "× error")
    ]
    assert figure.layout.legend.itemclick is False


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=9))
def test_interval_is_the_width_of_wilsons(scores: list[float]) -> None:
    table = analysis.frame([row(1024, 0.5, score, at) for at, score in enumerate(scores)])
    ((sign, _),) = shown(table, value="interval").values()
    if 0.5 not in scores:
        low, high = certainty.wilson(scores.count(1.0), len(scores))
        assert sign == analysis.score_label(high - low)
    low, high = certainty.interval(scores)
    assert int(sign) / 100 >= high - low - 0.02  # for graded scores no narrower than their own interval


def test_a_wide_interval_is_as_bad_as_a_low_score() -> None:
    one = analysis.frame([row(1024, 0.5, 1.0)])
    many = analysis.frame([row(1024, 0.5, 1.0, at) for at in range(200)])
    ((_, wide),), ((_, narrow),) = (shown(table, value="interval").values() for table in (one, many))
    assert int(narrow[1:3], 16) < 0x30 < 0xD0 < int(wide[1:3], 16)


def test_hover_holds_the_interval(df: pd.DataFrame) -> None:
    top, _, bottom = figures.heatmap(df, "t").data[:3]
    assert "95 % interval 21–100 %" in top.hovertext[0]
    assert "95 % interval 9–91 %" in bottom.hovertext[1]
    assert "interval" not in top.hovertext[1]


def test_failed_cells_are_hatched_in_every_view(df: pd.DataFrame) -> None:
    for value in figures.VALUES:
        top, middle, _ = figures.heatmap(df, "t", value=value, lengths=LENGTHS, depths=DEPTHS).data[:3]
        assert list(top.marker.pattern.shape) == ["", "/", ""]
        assert (top.text[1], top.marker.color[1]) == ("×", analysis.FAILED)
        assert set(middle.marker.pattern.shape) == {""}


@pytest.mark.parametrize("value", figures.VALUES)
def test_control_cells_are_not_in_the_picture(df: pd.DataFrame, value: figures.Value) -> None:
    control = replace(row(1024, 0.0, 0.0, 5), control=True)
    with_control = pd.concat([df, analysis.frame([control, replace(control, length=512)])])
    assert shown(with_control, value=value) == shown(df, value=value)


@pytest.mark.parametrize("value", ["score", "probability", "interval"])
def test_a_grid_of_numbers_draws_in_every_numeric_view(value: figures.Value) -> None:
    table = pd.DataFrame([[0.25, math.nan]], index=[0.5], columns=[1024, 2048])
    assert [sign for sign, _ in shown(table, value=value).values()] == ["25"]
    assert value in figures.heatmap(table, "t", value=value).data[0].hovertext[0]


def test_what_is_unknown_is_refused(df: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="results frame"):
        figures.heatmap(analysis.grid(df), "t", value="outcome")
    with pytest.raises(ValueError, match="score, probability"):
        figures.heatmap(df, "t", value="colour")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="traffic, safe"):
        figures.heatmap(df, "t", palette="grey")  # type: ignore[arg-type]


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
