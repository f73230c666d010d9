"""`needle compare` and `needle check`: is this checkpoint better, and is it good enough. Neither loads torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from needle.cli import _out
from needle.cli.show import Json, Root

if TYPE_CHECKING:
    from needle.gate import Verdict

FAILED = 3
"""Exit code of `needle check` where a demand is not met."""

_RUN = "A run's folder, name, or the beginning or end of it."
Threshold = Annotated[
    float | None,
    typer.Option(help="Score 0–1 that makes a length effective; default 0.856, or 0.85 with --relative."),
]
Relative = Annotated[
    bool, typer.Option("--relative", help="The threshold is a share of the run's own score at its shortest length.")
]


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN…", help=f"{_RUN} The first is the baseline.")],
    threshold: Threshold = None,
    relative: Relative = False,
    html: Annotated[Path | None, typer.Option(help="Interactive page, self-contained.", metavar="FILE")] = None,
    output_dir: Root = Path("runs"),
    as_json: Json = False,
) -> None:
    """Compare runs on identical prompts: where they differ, from which length on, and how sure that is.

    p-values are exact McNemar tests (sign-flip tests for graded scores), corrected over the lengths after Holm.

    Examples:

        needle compare pocket-4k pocket-32k
        needle compare step-1000 step-2000 step-3000 --html compared.html
    """
    from needle import comparison, store

    found = comparison.compare([store.read(store.find(output_dir, name)) for name in runs], threshold, relative)
    if html:
        from needle import export, figures

        title = " and ".join(side.label for side in found.sides)
        export.html(figures.compared(found, f"{title} · {found.sides[0].run.spec.task}"), html)
    if as_json:
        print(_out.json_text(comparison.as_json(found)))
        return
    from needle import terminal_compare

    _out.console().print(terminal_compare.comparison(found))
    if html:
        print(html)


def check(
    run: Annotated[str, typer.Argument(metavar="RUN", help=_RUN)],
    min_effective_length: Annotated[
        str | None, typer.Option(help="Least effective length, as 16k.", metavar="LENGTH")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Least mean score, 0–1.")] = None,
    min_band: Annotated[float | None, typer.Option(help="Least mean score at each length, 0–1.")] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Demand that the bounds at this confidence pass, as 0.95.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="A run to hold this one against.", metavar="RUN")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Largest fall of the mean score against it, 0–1.")] = None,
    threshold: Threshold = None,
    relative: Relative = False,
    output_dir: Root = Path("runs"),
    as_json: Json = False,
) -> None:
    """Pass or fail a run, for CI: one line for each reason to fail. Cells that failed or are missing are reasons.

    Exit code: 0 passed, 2 the request is at fault, 3 failed.

    Examples:

        needle check pocket-32k --min-effective-length 16k --min-band 0.9
        needle check step-3000 --min-score 0.95 --confidence 0.95
        needle check step-3000 --baseline step-2000 --max-drop 0.02
    """
    from needle import gate, grid, store

    length = None if min_effective_length is None else grid.size(min_effective_length)
    demands = gate.Demands(length, min_score, min_band, max_drop, confidence, threshold, relative)
    found = store.read(store.find(output_dir, run))
    against = None if baseline is None else store.read(store.find(output_dir, baseline))
    _tell(found.name, gate.check(found, demands, against), as_json)


def _tell(name: str, verdict: Verdict, as_json: bool) -> None:
    """The verdict on stdout, notes on stderr; ends the command with its exit code."""
    from needle.analysis import printable

    if as_json:
        told = {"run": name, "passed": verdict.passed, "reasons": verdict.reasons, "notes": verdict.notes}
        print(_out.json_text(told))
    else:
        for note in verdict.notes:
            print(f"needle: {printable(note)}", file=sys.stderr)
        for reason in verdict.reasons:
            print(printable(f"failed: {reason}"))
        if verdict.passed:
            print(printable(f"passed: {name}"))
    if not verdict.passed:
        raise typer.Exit(FAILED)
