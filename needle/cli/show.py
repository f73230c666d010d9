"""`needle list`, `show`, `export` and `tasks`: what was measured. None of them loads torch to draw a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from needle.cli import _out
from needle.errors import NeedleError, UsageError, one_line

if TYPE_CHECKING:
    from needle.analysis import Summary
    from needle.store import Run
    from needle.types import Prompt, Result

Root = Annotated[Path, typer.Option("--output-dir", "-o", help="Folder that holds the runs.")]
Name = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="A run's folder, name, or the beginning or end of it; default: the newest."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON to stdout.")]


def list_runs(output_dir: Root = Path("runs"), as_json: Json = False) -> None:
    """List the runs, newest first."""
    from needle import store, terminal

    rows, damaged = [], []
    for folder in store.folders(output_dir):
        try:
            rows.append(_row(store.read(folder)))
        except NeedleError as error:
            rows.append({**dict.fromkeys(_COLUMNS), "run": folder.name, "status": "damaged"})
            damaged.append(one_line(error))
    if as_json:
        print(_out.json_text(rows))
    elif rows:
        usual = all(row["scorer"] in (None, "match") for row in rows)
        _out.console().print(terminal.runs_table([_brief(row, usual) for row in rows]))
    else:
        print(f"no runs in '{output_dir}' yet; `needle run` makes one")
    for why in damaged:
        print(f"needle: {why}", file=sys.stderr)


_COLUMNS = (
    *("run", "model", "task", "haystack", "asked", "measured", "failed", "mean", "effective_length", "status"),
    *("started", "scorer"),
)


def _row(run: Run) -> dict[str, Any]:
    summary, spec = _summary(run), run.spec
    values = (
        *(run.name, spec.model, spec.task, spec.haystack, summary.asked, summary.done, summary.failed),
        *(None if summary.mean is None else round(summary.mean, 4), summary.effective_length, run.status),
        *(run.sessions[0].get("started", "") if run.sessions else "", spec.scorer),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _brief(row: dict[str, Any], usual: bool) -> dict[str, str | None]:
    """A row for people. The run's name holds model, task and haystack, and stays in one piece to be copied.

    The scorer is left out where it is the `usual` one in every row.
    """
    from needle import analysis

    mean, reach, started = row["mean"], row["effective_length"], row["started"]
    return {
        "run": row["run"],
        "cells": None if row["asked"] is None else f"{row['measured']}/{row['asked']}",
        "mean": None if mean is None else f"{mean:.3f}",
        "effective": None if reach is None else analysis.length_label(reach),
        "status": row["status"],
        **({} if usual else {"scorer": row["scorer"]}),
        "started": started[:16].replace("T", " ") if started else None,
    }


def _summary(run: Run) -> Summary:
    from needle import analysis

    return analysis.of(run)


def _read(root: Path, name: str | None) -> Run:
    """The run of that name in `root`, or the newest one there."""
    from needle import store

    if name is not None:
        return store.read(store.find(root, name))
    newest = next(iter(store.folders(root)), None)
    if newest is None:
        raise UsageError(f"no runs in '{root}' yet; `needle run` makes one, --output-dir names another folder")
    return store.read(newest)


def show(
    run: Name = None,
    cell: Annotated[
        str | None, typer.Option(help="LENGTH:DEPTH[:REPEAT], as in 32k:0.5, or LENGTH:control.", metavar="CELL")
    ] = None,
    output_dir: Root = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show a run's heatmap and summary, or one cell's prompt, answer and score.

    Examples:

        needle show
        needle show pocket-4k
        needle show 1f3a9c02 --cell 32k:0.5
    """
    from needle import analysis, terminal

    found = _read(output_dir, run)
    if cell is not None:
        _show_cell(found, _cell(found, cell), as_json)
        return
    summary = _summary(found)
    if as_json:
        print(_out.json_text({"run": str(found.folder), **analysis.as_json(summary)}))
        return
    console, frame = _out.console(), analysis.frame(found.results)
    console.print(analysis.printable(found.name), style="bold", markup=False, highlight=False, soft_wrap=True)
    grid = found.spec.grid
    table = analysis.grid(frame, lengths=grid.lengths, depths=grid.depths)
    console.print(terminal.heatmap(table, analysis.failed(frame)))
    for line in [*_asked(found), *terminal.summary_lines(summary), *_provenance(found)]:
        console.print(analysis.printable(line), markup=False, highlight=False, soft_wrap=True)


def _asked(run: Run) -> list[str]:
    """What the run's name says only in part."""
    return [
        f"model              {run.spec.model}",
        f"task               {run.spec.task} in {run.spec.haystack}",
    ]


def _provenance(run: Run) -> list[str]:
    """What computed the answers, as far as the last session says."""
    last = run.sessions[-1] if run.sessions else {}
    known = [f"{what} {last[what]}" for what in ("device", "dtype", "way", "kernel") if what in last]
    return [f"computed           {', '.join(known)}"] if known else []


def _cell(run: Run, where: str) -> Result:
    from needle import grid

    parts = where.split(":")
    if len(parts) not in (2, 3) or (len(parts) == 3 and not parts[2].isdecimal()):
        raise UsageError(f"--cell '{where}' is not LENGTH:DEPTH, as in 32768:0.5, or LENGTH:control")
    control = parts[1] == "control"
    length, depth = grid.size(parts[0]), 0.0 if control else grid.depths(parts[1])[0]
    repeat = int(parts[2]) if len(parts) == 3 else 0
    for result in run.controls if control else run.results:
        if (result.length, result.repeat) == (length, repeat) and abs(result.depth - depth) < 1e-6:
            return result
    spec = run.spec.grid
    raise UsageError(
        f"run '{run.name}' has no result at {where}; lengths {', '.join(map(str, spec.lengths))}; "
        f"depths {', '.join(f'{d:g}' for d in spec.depths)}; repeats 0–{(spec.max_repeats or spec.repeats) - 1}"
        f"{'; and LENGTH:control' * spec.control}"
    )


def _show_cell(run: Run, result: Result, as_json: bool) -> None:
    from dataclasses import asdict

    from needle import terminal

    if run.spec.engine == "import":
        raise UsageError(f"run '{run.name}' was imported: no prompts to rebuild; `needle export --csv` has its rows")
    prompt, tokenizer = _rebuilt(run, result)
    # A control has no needle: it is shown around the end of its document.
    start, end = next(((s.start, s.end) for s in prompt.spans if s.kind == "needle"), prompt.document[1:] * 2)
    parts = (prompt.ids[:start], prompt.ids[start:end], prompt.ids[end:])
    before, needle, after = (tokenizer.decode(ids.tolist()) for ids in parts)
    if as_json:
        print(_out.json_text({**asdict(result), "before": before, "needle": needle, "after": after}))
    else:
        _out.console(width=_TEXT).print(terminal.cell_view(before, needle, after, result))


def _rebuilt(run: Run, result: Result) -> tuple[Prompt, Any]:
    """The cell's prompt and the tokenizer it was built with: the quick way where that reads the tokenizer alike."""
    from needle import rebuilding, running

    try:
        opened = rebuilding.opened(run)
        return opened.prompt(result), opened.tokenizer
    except NeedleError:
        if run.spec.engine == "openai":
            raise
    engine, (prompt,) = running.rebuild(run, [result])
    return prompt, engine.tokenizer


_TEXT = 100
"""Columns of prose in a file or a pipe."""


def export(
    run: Name = None,
    html: Annotated[Path | None, typer.Option(help="Interactive page, self-contained.", metavar="FILE")] = None,
    csv: Annotated[Path | None, typer.Option(help="One row a cell, also without a needle.", metavar="FILE")] = None,
    png: Annotated[Path | None, typer.Option(help="Picture; needs Chrome or Chromium.", metavar="FILE")] = None,
    output_dir: Root = Path("runs"),
) -> None:
    """Write a run's heatmap as a page or picture, and its cells as a table.

    Examples:

        needle export --html heatmap.html
        needle export pocket-4k --csv cells.csv --png heatmap.png
    """
    from needle import analysis, figures
    from needle import export as exports

    if not (html or csv or png):
        raise UsageError("nothing to export; give --html FILE, --csv FILE or --png FILE")
    found = _read(output_dir, run)
    frame = analysis.frame(found.all_results)
    if csv:
        exports.csv(frame, csv)
    if html or png:
        spec = found.spec
        figure = figures.heatmap(frame, figures.title(found), lengths=spec.grid.lengths, depths=spec.grid.depths)
        if html:
            exports.html(figure, html)
        if png:
            exports.png(figure, png)
    for path in (csv, html, png):
        if path:
            print(path)


def tasks(as_json: Json = False) -> None:
    """List the needle tasks."""
    from needle import tasks as all_tasks

    listed = {name: all_tasks.get(name).summary for name in all_tasks.names()}
    if as_json:
        print(_out.json_text(listed))
        return
    for name, summary in listed.items():
        print(f"{name:<10} {summary}")
