"""What is drawn, as the text that reaches a terminal."""

from __future__ import annotations

import io
import re

from rich.console import Console, RenderableType

from needle.types import Grid, RunSpec

LENGTHS, DEPTHS = (1024, 2048, 4096), (0.0, 0.5, 1.0)
SPEC = RunSpec("pocket", "niah_single_1", "essays", Grid(LENGTHS, DEPTHS))
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(what: RenderableType, width: int = 80, colour: bool = False) -> str:
    system = "truecolor" if colour else None
    console = Console(file=io.StringIO(), width=width, force_terminal=colour, color_system=system, no_color=not colour)  # type: ignore[arg-type]
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]
