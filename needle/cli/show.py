"""`needle list`, `show`, `export` and `tasks`: what was measured. None of them loads torch to draw a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from needle.errors import NeedleError, UsageError

if TYPE_CHECKING:
    from needle.analysis import Summary
    from needle.store import Run
    from needle.types import Result

Root = Annotated[Path, typer.Option("--output-dir", "-o", help="Folder that holds the runs.")]
Name = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, name, or the beginning or end of it.")]
Json = Annotated[bool, typer.Option("--json", help="JSON to stdout.")]


def list_runs(output_dir: Root = Path("runs"), as_json: Json = False) -> None:
    """List the runs, newest first."""
    from rich.console import Console

    from needle import store, terminal

    rows = []
    for folder in store.folders(output_dir):
        try:
            rows.append(_row(store.read(folder)))
        except NeedleError as error:
            rows.append({**dict.fromkeys(_COLUMNS), "run": folder.name, "status": f"damaged: {error}"})
    if as_json:
        print(json.dumps(rows, indent=1))
    elif rows:
        Console().print(terminal.runs_table(rows))
    else:
        print(f"no runs in '{output_dir}' yet; `needle run` makes one")


_COLUMNS = ("run", "model", "task", "haystack", "cells", "mean", "effective length", "status", "started")


def _row(run: Run) -> dict[str, Any]:
    summary = _summary(run)
    started = run.sessions[0].get("started", "") if run.sessions else ""
    values = (
        run.name,
        run.spec.model,
        run.spec.task,
        run.spec.haystack,
        f"{summary.done}/{summary.asked}",
        None if summary.mean is None else round(summary.mean, 4),
        summary.effective_length,
        run.status,
        started,
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _summary(run: Run) -> Summary:
    from needle import analysis

    return analysis.summary(run.results, run.spec, run.sessions[-1] if run.sessions else {})


def show(
    run: Name,
    cell: Annotated[str | None, typer.Option(help="LENGTH:DEPTH[:REPEAT], as in 32768:0.5.")] = None,
    output_dir: Root = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show a run's heatmap and summary, or one cell's prompt, answer and score."""
    from rich.console import Console

    from needle import analysis, store, terminal

    found = store.read(store.find(output_dir, run))
    if cell is not None:
        _show_cell(found, _cell(found, cell), as_json)
        return
    summary = _summary(found)
    if as_json:
        print(json.dumps({"run": str(found.folder), **analysis.as_json(summary)}, indent=1))
        return
    console, frame = Console(), analysis.frame(found.results)
    console.print(found.name, style="bold", markup=False, highlight=False)
    grid = found.spec.grid
    table = analysis.grid(frame, lengths=grid.lengths, depths=grid.depths)
    console.print(terminal.heatmap(table, analysis.failed(frame)))
    for line in [*terminal.summary_lines(summary), *_provenance(found)]:
        console.print(analysis.printable(line), markup=False, highlight=False)


def _provenance(run: Run) -> list[str]:
    last = run.sessions[-1] if run.sessions else {}
    what = ("device", "dtype", "way", "kernel")
    return [f"computed           {', '.join(f'{k} {last[k]}' for k in what if k in last)}"]


def _cell(run: Run, where: str) -> Result:
    from needle import grid

    parts = where.split(":")
    if len(parts) not in (2, 3) or (len(parts) == 3 and not parts[2].isdigit()):
        raise UsageError(f"--cell '{where}' is not LENGTH:DEPTH, as in 32768:0.5")
    length, depth = grid.size(parts[0]), grid.depths(parts[1])[0]
    repeat = int(parts[2]) if len(parts) == 3 else 0
    for result in run.results:
        if (result.length, result.repeat) == (length, repeat) and abs(result.depth - depth) < 1e-6:
            return result
    spec = run.spec.grid
    raise UsageError(
        f"run '{run.name}' has no result at {where}; lengths {', '.join(map(str, spec.lengths))}; "
        f"depths {', '.join(f'{d:g}' for d in spec.depths)}; repeats 0–{spec.repeats - 1}"
    )


def _show_cell(run: Run, result: Result, as_json: bool) -> None:
    from dataclasses import asdict

    from rich.console import Console

    from needle import run as runs
    from needle import terminal

    tokenizer, (prompt,) = runs.rebuild(run, [result])
    span = next(s for s in prompt.spans if s.kind == "needle")
    parts = (prompt.ids[: span.start], prompt.ids[span.start : span.end], prompt.ids[span.end :])
    before, needle, after = (tokenizer.decode(ids.tolist()) for ids in parts)
    if as_json:
        print(json.dumps({**asdict(result), "before": before, "needle": needle, "after": after}, indent=1))
    else:
        Console().print(terminal.cell_view(before, needle, after, result))


def export(
    run: Name,
    html: Annotated[Path | None, typer.Option(help="Interactive page, self-contained.")] = None,
    csv: Annotated[Path | None, typer.Option(help="One row a cell.")] = None,
    png: Annotated[Path | None, typer.Option(help="Picture; needs Chrome or Chromium.")] = None,
    output_dir: Root = Path("runs"),
) -> None:
    """Write a run's heatmap as a page or picture, and its cells as a table."""
    from needle import analysis, figures, store
    from needle import export as exports

    if not (html or csv or png):
        raise UsageError("nothing to export; give --html FILE, --csv FILE or --png FILE")
    found = store.read(store.find(output_dir, run))
    frame = analysis.frame(found.results)
    if csv:
        exports.csv(frame, csv)
    if html or png:
        spec = found.spec
        title = f"{spec.model} · {spec.task} in {spec.haystack} · n = {spec.grid.repeats} a cell"
        figure = figures.heatmap(frame, title, lengths=spec.grid.lengths, depths=spec.grid.depths)
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
        print(json.dumps(listed, indent=1))
    for name, summary in () if as_json else listed.items():
        print(f"{name:<10} {summary}")
