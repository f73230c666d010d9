"""What a cell of a heatmap can show: score, probability, outcome, interval, in either palette."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, get_args

import pandas as pd
import pictured
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictured import DEPTHS, LENGTHS
from synthetic import row

from needle import analysis, certainty, figures
from needle.figures import _colour
from needle.types import Outcome, Result


@pytest.fixture
def df() -> pd.DataFrame:
    return pictured.table()


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
