"""What people see of a comparison: in the terminal, in the figure, from the command."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import synthetic
import terminals
import typer
from synthetic import GRID, two, up_to

from needle import analysis, certainty, figures, terminal_compare
from needle.cli import compare as command
from needle.comparison import Comparison, compare
from needle.errors import UsageError
from needle.types import Cell, Grid

ALL = "pocket-4k", "pocket-32k"


def shown(found: Comparison, width: int = 160, colour: bool = False) -> str:
    return terminals.shown(terminal_compare.comparison(found), width, colour)


def test_terminal_shows_both_pictures_the_difference_and_the_verdict(tmp_path: Path) -> None:
    lines = shown(two(tmp_path, up_to(4096), up_to(8192), tokenizer="other")).splitlines()
    assert re.fullmatch(r"pocket-4k +pocket-32k *", lines[0])
    assert lines[2].split() == [*"0 % 100 100 100 0 0".split(), *"0 % 100 100 100 100 0".split()]
    at = lines.index("pocket-32k − pocket-4k")
    assert lines[at + 1].split() == ["1K", "2K", "4K", "8K", "16K"]
    assert lines[at + 2].split() == "0 % 0 0 0 +100 0".split()
    assert any(line.split()[:4] == ["8K", "11", "0.000", "1.000"] for line in lines)
    assert lines[-2] == "note: 55 of 55 pairs are by cell, not by identical prompt: tokenizers differ"
    assert lines[-1].startswith("pocket-32k is better than pocket-4k at 8K (p < 0.001)")


@pytest.mark.parametrize("width", [40, 79, 100])
def test_terminal_fits_and_stacks_where_it_is_narrow(tmp_path: Path, width: int) -> None:
    text = shown(two(tmp_path, up_to(4096), up_to(8192)), width)
    assert max(map(len, text.splitlines())) <= width
    beside = any(re.fullmatch(r"pocket-4k +pocket-32k *", line) for line in text.splitlines())
    assert beside == (width >= 80)


def test_terminal_marks_what_has_no_pair_and_colours_worse_and_better_apart(tmp_path: Path) -> None:
    found = two(tmp_path, up_to(1024), lambda cell: None if cell.depth == 0.5 else float(cell.length == 2048))
    text = shown(found, colour=True)
    orange, blue = (
        "48;2;" + ";".join(str(int(analysis.delta_colour(at)[i : i + 2], 16)) for i in (1, 3, 5)) for at in (-1, 1)
    )
    assert orange in text
    assert blue in text
    plain = shown(found).splitlines()
    row = next(line for line in plain[plain.index("pocket-32k − pocket-4k") :] if line.startswith(" 50 %"))
    assert row.split() == ["50", "%", *"·····"]
    assert "−100 +100" in " ".join(" ".join(plain).split())


def test_a_run_folder_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    found = two(tmp_path, up_to(1), up_to(4096), {"system": "[/]"}, system="[red]\x1b[2J")
    assert "\x1b" not in shown(found)
    assert "[red]\\x1b[2J" in shown(found)


def test_figure_has_one_scale_a_fixed_difference_scale_and_curves(tmp_path: Path) -> None:
    def better(cell: Cell) -> float | None:
        return None if cell.depth == 0.5 else float(cell.depth != 0.2 and cell.length < 9000)

    found = two(tmp_path, up_to(4096), better)
    figure = figures.compared(found, "a <b> & c")
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert len(bars) == 3 * 11
    first, second, difference = bars[0], bars[11], bars[22]
    assert list(first.x) == list(second.x) == list(difference.x) == ["1K", "2K", "4K", "8K", "16K"]
    assert list(difference.text) == ["0", "0", "0", "+100", "0"]
    assert difference.marker.color[3] == analysis.delta_colour(1) != analysis.delta_colour(-1)
    assert "wrong → found" in difference.hovertext[3]
    assert list(bars[27].y) == [None] * 5
    assert list(bars[16].text) == ["×"] * 5
    scales = [trace.marker for trace in figure.data if trace.type == "scatter" and trace.mode == "markers"]
    assert [(scale.cmin, scale.cmax) for scale in scales] == [(0, 1), (-1, 1)]
    curves = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "lines+markers"]
    assert [curve.name for curve in curves] == list(ALL)
    assert list(curves[0].y) == [1, 1, 1, 0, 0]
    assert list(curves[1].y) == [0.9, 0.9, 0.9, 0.9, 0]
    around = curves[1].y[0] - curves[1].error_y.arrayminus[0], curves[1].y[0] + curves[1].error_y.array[0]
    assert around == pytest.approx(certainty.wilson(9, 10))
    assert {annotation.text for annotation in figure.layout.annotations} >= {*ALL, "pocket-32k − pocket-4k"}
    assert json.loads(figure.to_json())


def test_figure_of_three_runs_and_other_grids(tmp_path: Path) -> None:
    runs = [
        synthetic.write(tmp_path, f"s{n}", up_to(4096), grid=Grid((1024, 1024 << n), (0.0, 0.5, 1.0)))
        for n in (1, 2, 3)
    ]
    figure = figures.compared(compare(runs), "t")
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert len(bars) == 5 * 3
    assert {tuple(bar.x) for bar in bars} == {("1K", "2K", "4K", "8K")}
    assert [math.isnan(y) for y in next(t for t in figure.data if t.name == "s2").y] == [False, True, False, True]


def test_difference_labels_and_colours() -> None:
    assert [analysis.delta_label(d) for d in (-1, -0.001, 0, 0.5, 1)] == ["−100", "−1", "0", "+50", "+100"]
    assert [analysis.delta_colour(d) for d in (-1, 0, 1)] == ["#EF8A62", "#E3E4E8", "#67A9CF"]


# The command.


def needle(*arguments: object) -> int:
    """`compare` as the command line calls it; its exit code."""
    app = typer.Typer()
    app.command()(command.compare)
    code = app([str(a) for a in arguments], standalone_mode=False)
    return int(code or 0)


def written(tmp_path: Path, models: Sequence[str] = ALL) -> Path:
    for at, model in enumerate(models):
        synthetic.write(tmp_path / "runs", f"x/{model}", up_to(4096 << 2 * at))
    return tmp_path / "runs"


def test_command_prints_and_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert needle(*ALL, "-o", written(tmp_path), "--html", page) == 0
    out = capsys.readouterr().out
    assert "pocket-32k is better than pocket-4k from 8K on (p = 0.002); no difference shown up to 4K" in out
    assert out.splitlines()[-1] == str(page)
    assert "plotly" in page.read_text(encoding="utf-8")


def test_command_says_it_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert needle(*ALL, "-o", written(tmp_path), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    (found,) = told["contrasts"]
    assert (found["start"], found["effective_difference"], found["pairs"]) == (8192, 12288, 55)
    assert [band["length"] for band in found["bands"]] == list(GRID.lengths)
    assert found["bands"][3]["adjusted"] == pytest.approx(2 * 2 * 0.5**11)
    assert len(found["changed"]) == 22
    assert found["changed"][0]["answers"] == ["scored 0.0", "scored 1.0"]
    assert [run["effective"]["length"] for run in told["runs"]] == [4096, 16384]
    assert {setting["name"] for setting in told["settings"]} == {"model"}


@pytest.mark.parametrize("names", [("pocket-4k",), ("pocket-4k", "pocket-4k"), ("pocket-4k", "zzz"), ("pocket", "zzz")])
def test_command_refuses_what_cannot_be_compared(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        needle(*names, "-o", written(tmp_path))
