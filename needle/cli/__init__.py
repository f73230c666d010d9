"""The `needle` command. Thin: options in, one call, what people see out.

Heavy imports stay inside the commands, so that `needle --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, cast

import typer

from needle import __version__
from needle.cli import compare as _compare
from needle.cli import harness as _harness
from needle.cli import imports as _imports
from needle.cli import plan as _plan
from needle.cli import run as _run
from needle.cli import score as _score
from needle.cli import series as _series
from needle.cli import show as _show
from needle.cli import ui as _ui
from needle.cli import watch as _watch
from needle.errors import NeedleError, one_line

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure where in a long context a language model still finds a fact, and show it as a heatmap.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_MISUSE = cast("type[Exception]", typer.BadParameter.__mro__[2])
"""What a misspelt command line raises (click's ClickException); releases of typer have it in different modules."""


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"needle {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), end="")


def version() -> None:
    """Print the versions that a report of a problem ought to name."""
    import platform
    from importlib import metadata

    print(f"needle {__version__}")
    print(f"python {platform.python_version()}")
    for package in ("torch", "transformers"):
        try:
            print(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            print(f"{package} is not installed")


_COMMANDS: dict[str, Callable[..., None]] = {
    "run": _run.run,
    "plan": _plan.plan,
    "list": _show.list_runs,
    "show": _show.show,
    "export": _show.export,
    "verify": _plan.verify,
    "compare": _compare.compare,
    "check": _compare.check,
    "score": _score.score,
    "watch": _watch.watch,
    "series": _series.series,
    "ui": _ui.ui,
    "import": _imports.import_runs,
    "export-task": _harness.harness,
    "tasks": _show.tasks,
    "version": version,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


def main() -> None:
    """Entry point: an error that the user can mend is one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a sign gets its escape, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except NeedleError as error:
        _refuse(one_line(error))
    except _MISUSE as error:
        message = getattr(error, "format_message", error.__str__)()
        command = getattr(getattr(error, "ctx", None), "command_path", "needle")
        _refuse(f"{one_line(message)} (see {command} --help)")
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has enough; Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    else:
        sys.exit(code or 0)


def _refuse(message: str) -> None:
    print(f"needle: {message}", file=sys.stderr)
    sys.exit(2)
