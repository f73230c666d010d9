"""`needle run`: the run under the user's eyes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from needle.cli._request import taking_request
from needle.cli._screen import Screen
from needle.errors import UsageError

if TYPE_CHECKING:
    from needle.types import RunSpec


@taking_request
def run(
    spec: "RunSpec",
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder that holds the runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON to stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
) -> None:
    """Search a model for needles over lengths and depths.

    The same command again goes on where it stopped, failed cells included.

    Exit code: 0 every cell is measured, 1 some failed, 2 the request is at fault.

    Examples:

        needle run
        needle run Qwen/Qwen2.5-0.5B-Instruct --max-len 16k --depth-count 5
        needle run ./checkpoints/step-2000 --lengths 4k,16k,64k --repeats 3
        needle run ./my-model --haystack book.txt --task uuid --json > out.json
    """
    from needle import running

    _check_folder(output_dir)
    screen = Screen(quiet)
    try:
        with screen:
            prepared = running.prepare(spec, screen.say)
            screen.prepared(prepared)
            measured = running.execute(prepared, output_dir, screen)
    except KeyboardInterrupt:
        screen.stopped()
        raise typer.Exit(130) from None
    screen.summary(measured, as_json)
    raise typer.Exit(0 if measured.status == "complete" else 1)


def _check_folder(root: Path) -> None:
    """Raise UsageError if no run can be kept in `root`: better now than after the weights are loaded."""
    there = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    if not there.is_dir():
        raise UsageError(f"--output-dir '{root}': '{there}' is not a folder; give another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"--output-dir '{root}': '{there}' cannot be written; give another one")
