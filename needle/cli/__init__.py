"""The `needle` command. Thin: options in, one call, what people see out.

Heavy imports stay inside the commands, so that `needle --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from needle import __version__
from needle.cli import run as _run
from needle.cli import show as _show
from needle.errors import NeedleError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure where in a long context a language model still finds a fact, and show it as a heatmap.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"needle {__version__}")
        raise typer.Exit


for _command in (_run.run, _show.list_runs, _show.show, _show.export, _show.tasks):
    app.command(_command.__name__.removesuffix("_runs"))(_command)


def main() -> None:
    """Entry point: an error that the user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except NeedleError as error:
        print(f"needle: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("needle: stopped; finished cells are kept, the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
