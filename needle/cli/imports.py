"""`needle import`: results of other tools as runs of this one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from needle.cli import _out
from needle.errors import one_line

if TYPE_CHECKING:
    from needle.importing import Found, Unread
    from needle.store import Run

# Found without importing any of them, for the help.
_FORMATS = sorted(p.stem.replace("_", "-") for p in (Path(__file__).parents[1] / "importing").glob("[!_]*.py"))
_NAMED = 20
"""Unreadable rows that are named on a screen; --json names all."""


def import_runs(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file of results, or a folder of them.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder that holds the runs.")] = Path("runs"),
    form: Annotated[str, typer.Option("--format", help=f"auto, {', '.join(_FORMATS)}.", metavar="FORMAT")] = "auto",
    data: Annotated[
        Path | None,
        typer.Option(help="RULER's data, a file or a folder, for lengths and depths.", metavar="FILE"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Its name, for files that do not say it.", metavar="NAME")] = None,
    scale: Annotated[str, typer.Option(help="Grades of kamradt and kamradt-list: 1-10, 0-10 or 0-1.")] = "1-10",
    as_json: Annotated[bool, typer.Option("--json", help="JSON to stdout.")] = False,
) -> None:
    """Read the results of other tools into runs that list, show, export and compare take.

    Rows that cannot be read are counted and named. The same import again adds nothing.

    Exit code: 0 something was read, 2 nothing could be.

    Examples:

        needle import LLMTest_NeedleInAHaystack/results
        needle import ruler/llama-3/synthetic --data ruler/llama-3/synthetic/4096/data
        needle import outputs/20240501/results --format needlebench --json
    """
    from needle import importing

    found = importing.read(path, form, data, importing.Asked(model, scale))
    written = importing.write(output_dir, found)
    if as_json:
        print(_out.json_text(_report(found, written)))
        return
    for (run, new), draft in zip(written, found.drafts, strict=True):
        print(_line(run, new, draft.notes))
    for line in _unread(found.unread):
        print(line, file=sys.stderr)


def _line(run: Run, new: int, notes: tuple[str, ...]) -> str:
    """A run in one line."""
    grid = run.spec.grid
    what = [
        f"{new} rows" if new else "was imported before",
        f"{len(grid.lengths)} lengths × {len(grid.depths)} depths",
        f"graded by {run.spec.scorer}",
        *notes,
    ]
    return one_line(f"{run.folder}: {'; '.join(what)}")


def _unread(unread: list[Unread]) -> list[str]:
    """What could not be read, as it is told on stderr."""
    if not unread:
        return []
    lines = [f"needle: {len(unread)} could not be read:", *(f"  {one_line(row)}" for row in unread[:_NAMED])]
    rest = len(unread) - _NAMED
    return [*lines, f"  and {rest} more; --json names them all"] if rest > 0 else lines


def _report(found: Found, written: list[tuple[Run, int]]) -> dict[str, Any]:
    runs = [
        {
            "run": str(run.folder),
            "model": run.spec.model,
            "task": run.spec.task,
            "format": draft.spec.options["format"],
            "scorer": run.spec.scorer,
            "rows": len(draft.cells),
            "new": new,
            "sha256": draft.sources["source"],
            "notes": list(draft.notes),
        }
        for (run, new), draft in zip(written, found.drafts, strict=True)
    ]
    unread = [{"file": str(row.file), "place": row.place, "reason": row.reason} for row in found.unread]
    return {"runs": runs, "unread": len(unread), "unreadable": unread}
