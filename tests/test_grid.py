"""Sizes as people write them, depths as the field spaces them, and one line for whoever writes them otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from needle import grid
from needle.errors import UsageError
from needle.types import Cell, Grid


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("32768", 32768),
        ("32k", 32768),
        ("32K", 32768),
        (" 32 k ", 32768),
        ("0.5k", 512),
        ("1.5K", 1536),
        ("1M", 1048576),
        ("1m", 1048576),
        ("0.25M", 262144),
        ("1", 1),
        ("128.0", 128),
    ],
)
def test_sizes_that_people_write(text: str, tokens: int) -> None:
    assert grid.size(text) == tokens


@pytest.mark.parametrize(
    "text", ["", " ", "k", "32kb", "-4k", "+4k", "1e3", "4,096", "32 768", "nan", "inf", "9" * 400, "３２"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is no length; write tokens as 32768, 32k or 32K") as caught:
        grid.size(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["0", "0k", "0.0M", "1.5", "0.3", "0.0001k", "1.1k"])
def test_sizes_that_are_no_whole_number_of_tokens(text: str) -> None:
    with pytest.raises(UsageError, match="is not a whole number of tokens above zero"):
        grid.size(text)


def test_lists_of_sizes_are_sorted_and_said_once() -> None:
    assert grid.sizes("4k, 1k,1024,,32K") == (1024, 4096, 32768)
    assert grid.sizes(" , ") == ()
    with pytest.raises(UsageError, match="'4x' is no length"):
        grid.sizes("1k,4x")


def test_lists_of_depths() -> None:
    assert grid.depths("1, 0.5,0,0.5,") == (0.0, 0.5, 1.0)
    assert grid.depths("1e-2,.25") == (0.01, 0.25)
    assert str(grid.depths("-0")[0]) == "0.0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("50", "depth 50 lies outside 0–1 (write 0.5 for 50 %)"),
        ("0,25,0.5", "depth 25 lies outside 0–1 (write 0.25 for 25 %)"),
        ("100", "depth 100 lies outside 0–1 (write 1 for 100 %)"),
        ("-0.1", "depth -0.1 lies outside 0–1"),
        ("101", "depth 101 lies outside 0–1"),
        ("nan", "depth nan lies outside 0–1"),
        ("inf", "depth inf lies outside 0–1"),
        ("half", "'half' is no depth; write numbers from 0 to 1, as in 0,0.5,1"),
        ("50%", "'50%' is no depth; write numbers from 0 to 1, as in 0,0.5,1"),
        ("0;1", "'0;1' is no depth; write numbers from 0 to 1, as in 0,0.5,1"),
        ("", "no depths given; write numbers from 0 to 1, as in 0,0.5,1"),
        (" , ", "no depths given; write numbers from 0 to 1, as in 0,0.5,1"),
    ],
)
def test_depths_that_are_none_are_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        grid.depths(text)
    assert str(caught.value) == said


def test_even_lengths() -> None:
    assert grid.spaced_lengths(1024, 32768, 5) == (1024, 8960, 16896, 24832, 32768)
    assert grid.spaced_lengths(1024, 32768, 1) == (32768,)
    assert grid.spaced_lengths(1024, 1024, 5) == (1024,)
    assert grid.spaced_lengths(10, 12, 9) == (10, 11, 12)
    with pytest.raises(UsageError, match="--min-len 9 is greater than --max-len 8"):
        grid.spaced_lengths(9, 8, 2)
    with pytest.raises(UsageError, match="--length-count 0 is below 1"):
        grid.spaced_lengths(8, 9, 0)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(2, 60))
def test_lengths_rise_from_end_to_end_in_even_steps(low: int, more: int, count: int) -> None:
    lengths = grid.spaced_lengths(low, low + more, count)
    assert lengths[0] == low
    assert lengths[-1] == low + more
    assert list(lengths) == sorted(set(lengths))
    assert len(lengths) == count or more < count
    if more >= count:
        steps = np.diff(lengths)
        assert steps.max() - steps.min() <= 2


def kamradt(count: int) -> list[float]:
    """Depths in percent, in the arithmetic of LLMTest_NeedleInAHaystack."""

    def logistic(x: float, top: float = 100, middle: float = 50, slope: float = 0.1) -> float:
        if x in (0, 100):
            return x
        return float(np.round(top * (1 / (1 + np.exp(-slope * (x - middle)))), 3))

    return [logistic(x) for x in np.linspace(0, 100, count)]


@pytest.mark.parametrize("count", [1, 2, 3, 11, 15, 35, 100])
def test_sigmoid_depths_are_kamradts(count: int) -> None:
    want = [100.0] if count == 1 else kamradt(count)
    assert [100 * d for d in grid.spaced_depths(count, "sigmoid")] == pytest.approx(sorted(set(want)), abs=1e-9)


def test_sigmoid_depths_look_closer_at_both_ends() -> None:
    assert grid.spaced_depths(5, "sigmoid") == (0.0, 0.07586, 0.5, 0.92414, 1.0)


def test_even_depths() -> None:
    assert grid.spaced_depths(11) == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert grid.spaced_depths(4) == (0.0, 0.3333, 0.6667, 1.0)
    with pytest.raises(UsageError, match="depth spacing 'log' is unknown; use linear or sigmoid"):
        grid.spaced_depths(3, "log")
    with pytest.raises(UsageError, match="--depth-count -1 is below 1"):
        grid.spaced_depths(-1)


def test_a_grid_has_a_cell() -> None:
    assert grid.make((1024,), (0.0, 1.0), 2) == Grid((1024,), (0.0, 1.0), 2)
    with pytest.raises(UsageError, match="no lengths given; write them as in --lengths 1k,4k,32k"):
        grid.make((), (0.5,), 1)
    with pytest.raises(UsageError, match="--repeats 0 is below 1"):
        grid.make((1024,), (0.5,), 0)


def test_cells_come_by_repeat_then_length_then_depth() -> None:
    cells = grid.make((1, 2), (0.0, 1.0), 2).cells()
    assert cells[:3] == [Cell(1, 0.0, 0), Cell(1, 1.0, 0), Cell(2, 0.0, 0)]
    assert len(cells) == len(set(cells)) == 8
    assert [c.repeat for c in cells] == [0] * 4 + [1] * 4
