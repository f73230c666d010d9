"""`needle series`: checkpoints of one training, step by step. It loads no torch."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from needle.cli import _out
from needle.cli.show import Json, Root
from needle.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from needle.series import Series


def series(
    name: Annotated[
        str | None,
        typer.Argument(metavar="SERIES", help="A series' name, or its beginning or end; default: the only one."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Interactive page, self-contained.", metavar="FILE")] = None,
    output_dir: Root = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show how retrieval grows over the checkpoints of a training; without SERIES, list the series there are.

    Runs form a series when all but their model's step (checkpoint-500, step_500, revision step500) is the same.

    Examples:

        needle run 'out/checkpoint-*' --lengths 1k,4k,16k
        needle series
        needle series out --html progress.html
    """
    from needle import series as all_series

    found = all_series.of(_runs(output_dir))
    if name is None and len(found) != 1:
        if html:
            raise UsageError(f"{len(found)} series in '{output_dir}'; name the one to write to --html")
        _list(found, output_dir, as_json)
        return
    chosen = found[0] if name is None else all_series.find(found, name)
    if html:
        from needle import export, figures

        export.html(figures.progress(chosen), html)
    if as_json:
        print(_out.json_text(_told(chosen)))
        return
    _show(chosen, _out.console())
    if html:
        print(html)


def _runs(root: Path) -> list[Any]:
    """The runs that can be read; of the others it is said."""
    from needle import store
    from needle.analysis import printable
    from needle.errors import NeedleError, one_line

    runs = []
    for folder in store.folders(root):
        try:
            runs.append(store.read(folder))
        except NeedleError as error:
            print(f"needle: left out: {printable(one_line(error))}", file=sys.stderr)
    return runs


def _list(found: Sequence[Series], root: Path, as_json: bool) -> None:
    from needle import analysis, terminal
    from needle import series as all_series

    if as_json:
        print(_out.json_text([_told(each) for each in found]))
        return
    if not found:
        print(f"no checkpoint series in '{root}' yet; `needle run 'out/checkpoint-*'` or `needle watch out` makes one")
        return
    rows = []
    for each in found:
        last = all_series.totals(each).iloc[-1]
        reach = None if math.isnan(last["effective"]) else analysis.length_label(int(last["effective"]))
        rows.append(
            {
                "series": each.name,
                "steps": f"{each.steps[0]:,}–{each.steps[-1]:,}" if len(each.steps) > 1 else f"{each.steps[0]:,}",
                "checkpoints": len(each.steps),
                "last mean": None if math.isnan(last["mean"]) else f"{last['mean']:.3f}",
                "last effective": reach,
            }
        )
    _out.console().print(terminal.runs_table(rows))


def _told(chosen: Series) -> dict[str, Any]:
    from needle import series as all_series

    spec = chosen.runs[-1].spec
    return {
        "series": chosen.name,
        "task": spec.task,
        "haystack": spec.haystack,
        "models": [run.spec.model for run in chosen.runs],
        "steps": [_whole(row) for row in _records(all_series.totals(chosen))],
        "lengths": _records(all_series.table(chosen)),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    """An effective length is a number of tokens, or none."""
    return {**row, "effective": None if math.isnan(row["effective"]) else int(row["effective"])}


def _show(chosen: Series, console: Console) -> None:
    """Steps down, lengths across; in a narrow terminal some lengths are left out, and that is said."""
    from needle.analysis import printable

    spec = chosen.runs[-1].spec
    console.print(printable(chosen.name), style="bold", markup=False, highlight=False, soft_wrap=True)
    about = f"{spec.task} in {spec.haystack}, {len(chosen.steps)} checkpoints"
    console.print(printable(about), markup=False, highlight=False, soft_wrap=True)
    table, left_out = _picture(chosen, console.width)
    console.print(table)
    console.print("mean score in %   · not measured   × failed", style="dim", markup=False, highlight=False)
    if left_out:
        console.print(f"{left_out} lengths are left out; a wider terminal shows them", style="yellow", highlight=False)


_AROUND = 26
"""Columns that step, mean and effective length take."""


def _picture(chosen: Series, width: int) -> tuple[Table, int]:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from needle import series as all_series
    from needle.analysis import length_label

    lengths = all_series.lengths(chosen)
    wide = max(max(map(len, map(length_label, lengths))), 3) + 2
    shown = _evenly(lengths, max((width - _AROUND) // wide, 1))
    picture = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=0)
    picture.add_column("step", justify="right", no_wrap=True)
    for length in shown:
        picture.add_column(length_label(length), justify="center", min_width=wide, no_wrap=True)
    picture.add_column(" mean", justify="right", no_wrap=True)
    picture.add_column(" effective", justify="right", no_wrap=True)
    means = all_series.table(chosen).set_index(["step", "length"])["mean"]
    for run, total in zip(chosen.runs, all_series.totals(chosen).itertuples(index=False), strict=True):
        failed = {result.length for result in run.results if result.status == "error"}
        cells = [_cell(float(means[total.step, length]), length in failed, wide) for length in shown]
        mean = "–" if math.isnan(total.mean) else f"{total.mean:.3f}"
        reach = "–" if math.isnan(total.effective) else length_label(int(total.effective))
        picture.add_row(f"{total.step:,} ", *cells, Text(f" {mean}"), Text(f" {reach}"))
    return picture, len(lengths) - len(shown)


def _cell(mean: float, failed: bool, wide: int) -> Any:
    from rich.text import Text

    from needle.analysis import FAILED, INK, colour, score_label

    if not math.isnan(mean):
        return Text(score_label(mean).rjust(3).center(wide), f"{INK} on {colour(mean)}")
    return Text("×".center(wide), f"bold {INK} on {FAILED}") if failed else Text("·".center(wide), "dim")


def _evenly(lengths: list[int], most: int) -> list[int]:
    """At most `most` of the lengths, spread evenly, the longest among them."""
    count = len(lengths)
    if most >= count:
        return lengths
    return [lengths[count - 1 - at * (count - 1) // max(most - 1, 1)] for at in range(most)][::-1]
