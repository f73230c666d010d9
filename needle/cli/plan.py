"""`needle plan` and `needle verify`: what a run will cost, and whether a run holds."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from needle.cli import _out
from needle.cli._request import taking_requests
from needle.errors import one_line

if TYPE_CHECKING:
    from needle.types import RunSpec
    from needle.verify import Check


@taking_requests
def plan(
    specs: "list[RunSpec]", as_json: Annotated[bool, typer.Option("--json", help="JSON to stdout.")] = False
) -> None:
    """Say what a run with these options would cost; no weight is read and nothing is written.

    Examples:

        needle plan
        needle plan ./my-model --max-len 64k --repeats 3
    """
    show(specs, as_json)


def show(specs: "list[RunSpec]", as_json: bool) -> None:
    """The cost of each of the runs, a line a fact or as JSON."""
    from needle import planning, running

    told = []
    for spec in specs:
        notes: list[str] = []
        prepared = running.prepare(spec, notes.append)
        found = planning.estimate(prepared.prompts, prepared.engine.cost, prepared.engine.chunk)
        for note in notes:
            print(one_line(note), file=sys.stderr)
        told.append({**asdict(found), "speedup": found.speedup})
        if not as_json:
            print(*[f"── {spec.model} · {spec.task}"] * (len(specs) > 1), *planning.lines(found), sep="\n")
    if as_json:
        print(_out.json_text(told[0] if len(specs) == 1 else told))


def verify(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, name, or the beginning or end of it.")],
    sample: Annotated[int, typer.Option(help="Cells to compute anew.")] = 10,
    seed: Annotated[int, typer.Option(help="Which cells.")] = 0,
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder that holds the runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON to stdout.")] = False,
) -> None:
    """Compute random cells anew, one prefill each, and report agreement; exit code 1 if float32 differs at all."""
    from needle import store
    from needle import verify as verifying

    found = store.read(store.find(output_dir, run))
    dtype, checks = verifying.verify(found, sample, seed, lambda note: print(one_line(note), file=sys.stderr))
    tokens, scores = sum(c.same_tokens for c in checks), sum(c.same_score for c in checks)
    if as_json:
        counts = {"cells": len(checks), "same_tokens": tokens, "same_scores": scores, "dtype": dtype}
        print(_out.json_text(counts))
    else:
        for check in (c for c in checks if not (c.same_tokens and c.same_score)):
            print(one_line(_difference(check)))
        print(f"{tokens} of {len(checks)} cells say the same tokens, {scores} score the same ({dtype})")
    if dtype == "float32" and min(tokens, scores) < len(checks):
        raise typer.Exit(1)


def _difference(check: "Check") -> str:
    was, now = check.result, check.answer
    said = now.error or now.text
    return f"{was.length}:{was.depth:g}:{was.repeat} said '{was.answer}' ({was.score}), plain '{said}' ({check.score})"
