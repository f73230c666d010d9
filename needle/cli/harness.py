"""`needle export-task`: the cells of a run as a task of another harness."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from needle.cli._request import taking_request
from needle.errors import UsageError, one_line

if TYPE_CHECKING:
    from needle.types import RunSpec

_FORMATS = ("lm-eval",)


@taking_request
def harness(
    spec: "RunSpec",
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder that the task is written to.")] = Path(
        "needle-task"
    ),
    form: Annotated[str, typer.Option("--format", help="The harness: lm-eval.", metavar="FORMAT")] = "lm-eval",
) -> None:
    """Write the cells that `needle run` would measure as a task of another harness.

    For inspect_ai nothing needs to be written: `inspect eval` takes needle/integrations/inspect_task.py.
    What the harness logs comes back by `needle import`.

    Examples:

        needle export-task Qwen/Qwen2.5-7B-Instruct --lengths 4k,16k -o qwen-task
        needle export-task ./my-model --task uuid --max-len 8k --format lm-eval
    """
    if form not in _FORMATS:
        raise UsageError(f"--format '{form}' is unknown; use {' or '.join(_FORMATS)}")
    from needle import running
    from needle.integrations import lm_eval

    prepared = running.prepare(spec, lambda message: print(f"needle: {one_line(message)}", file=sys.stderr))
    made = lm_eval.export(prepared, output_dir)
    print(one_line(f"{made.folder}: task {made.task}, {made.cells} cells"))
    if made.exact < made.cells:
        print(
            f"needle: {made.cells - made.exact} of {made.cells} prompts become other tokens when their text is "
            "tokenised again; their contexts are some tokens off",
            file=sys.stderr,
        )
    print(one_line(made.command))
