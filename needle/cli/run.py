"""`needle run`: the run under the user's eyes."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from needle.cli import _out, plan
from needle.cli._request import taking_requests
from needle.cli._screen import Screen
from needle.errors import UsageError, one_line

if TYPE_CHECKING:
    from needle.store import Run
    from needle.types import RunSpec


@taking_requests
def run(
    specs: "list[RunSpec]",
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder that holds the runs.")] = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, as `needle plan`.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON to stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
) -> None:
    """Search models for needles over lengths and depths.

    The same command again goes on where it stopped, failed cells included. Several models or tasks are measured one
    after the other, on identical prompts where models share their tokenizer.

    Exit code: 0 every cell is measured, 1 some failed, 2 the request is at fault.

    Examples:

        needle run
        needle run Qwen/Qwen2.5-0.5B-Instruct --max-len 16k --depth-count 5
        needle run 'out/checkpoint-*' --lengths 4k,16k,64k --repeats 3
        needle run ./my-model --haystack book.txt --task uuid --task ruler --json > out.json
    """
    if dry_run:
        return plan.show(specs, as_json)
    check_folder(output_dir)
    if len(specs) > 1:
        _check_models(specs)
    done, refused = [], 0
    for spec in specs:
        screen = Screen(quiet)
        try:
            if len(specs) > 1:
                screen.head(spec)
            done.append((measure(spec, output_dir, screen), screen))
        except UsageError as error:
            if len(specs) == 1:
                raise
            refused += 1
            print(f"needle: {one_line(spec.model)}, task {one_line(spec.task)}: {one_line(error)}", file=sys.stderr)
    if as_json:
        told = [screen.told(measured) for measured, screen in done]
        print(_out.json_text(told[0] if len(specs) == 1 else told))
    if refused == len(specs):
        raise typer.Exit(2)
    raise typer.Exit(0 if not refused and all(measured.status == "complete" for measured, _ in done) else 1)


def measure(spec: "RunSpec", root: Path, screen: Screen) -> "Run":
    """Carry the run out under the user's eyes.

    Raises:
        typer.Exit: code 130, the user stopped it.
    """
    from needle import running

    try:
        with screen:
            prepared = running.prepare(spec, screen.say)
            screen.prepared(prepared)
            measured = running.execute(prepared, root, screen)
    except KeyboardInterrupt:
        screen.stopped()
        raise typer.Exit(130) from None
    screen.summary(measured)
    return measured


def _check_models(specs: "list[RunSpec]") -> None:
    """Raise UsageError if one of several models cannot be opened: better now than hours into the others."""
    from needle import engines

    for spec in specs:
        engines.get(spec.engine).open(spec, lambda _: None)


def check_folder(root: Path) -> None:
    """Raise UsageError if no run can be kept in `root`: better now than after the weights are loaded."""
    there = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    if not there.is_dir():
        raise UsageError(f"--output-dir '{root}': '{there}' is not a folder; give another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"--output-dir '{root}': '{there}' cannot be written; give another one")
