"""A run as it goes, in a terminal: the heatmap filling in, or a line a cell."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from types import TracebackType

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.live import Live as Display
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from needle.analysis import colour, depth_label, length_label, printable
from needle.terminal import heatmap
from needle.types import Result, RunSpec


class Live:
    """A run as it goes, on stderr: progress above the filling heatmap in a terminal, a line a cell elsewhere.

    `total_tokens` are the prompt tokens of all cells asked for, those of earlier runs included. On leaving, the
    heatmap of all that was measured stays behind. With `quiet` nothing is ever printed.
    """

    def __init__(self, spec: RunSpec, total_tokens: int, quiet: bool = False, console: Console | None = None) -> None:
        self.spec, self.total_tokens, self.quiet = spec, total_tokens, quiet
        self.console = console or Console(stderr=True)
        self.asked = len(spec.grid.cells()) + len(spec.grid.controls())
        self.done = self.resumed = self.tokens = self.fresh_tokens = 0
        depths = pd.Index(sorted(set(spec.grid.depths)), dtype="float64", name="depth")
        lengths = pd.Index(sorted(set(spec.grid.lengths)), dtype="int64", name="length")
        self.grid = pd.DataFrame(float("nan"), index=depths, columns=lengths)
        self.failed: set[tuple[int, float]] = set()
        self._scores: dict[tuple[int, float], list[float]] = {}
        self._errors: set[str] = set()
        self._since = time.monotonic()
        self._display: Display | None = None

    def __enter__(self) -> Live:
        if not self.quiet and self.console.is_terminal and not self.console.is_dumb_terminal:
            self._display = Display(
                get_renderable=self._picture,
                console=self.console,
                transient=True,
                refresh_per_second=4,
                # What is piped away is not for this terminal.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None
        if self.done and not self.quiet:
            self.console.print(self._title(), heatmap(self.grid, self.failed), sep="\n")

    def say(self, message: str) -> None:
        """Tell the user one thing, above the picture."""
        if not self.quiet:
            self.console.print(Text(printable(message, keep="\n")), soft_wrap=True)
        self._wait_for_first()

    def cell(self, result: Result, fresh: bool = True) -> None:
        """Take in a finished cell; one that an earlier run had measured is not `fresh` and does not count as speed."""
        tokens = result.prompt_tokens or result.length
        self.done += 1
        self.tokens += tokens
        if result.repeat >= self.spec.grid.repeats:
            # Decided on as the run went: nobody had asked for it at the start.
            self.asked += 1
            self.total_tokens += tokens
        if not result.control:
            self._paint(result)
        if not fresh:
            self.resumed += 1
            self._wait_for_first()
            return
        first, self.fresh_tokens = not self.fresh_tokens, self.fresh_tokens + tokens
        if self._display is None:
            if first and self.resumed:
                self.say(f"{self.resumed} of {self.asked} cells were measured before")
            self.say(self._told(result))
        elif result.error is not None and result.error not in self._errors:
            # A failed cell is only a cross in the picture; each cause is told once.
            self._errors.add(result.error)
            self.say(self._told(result))

    def _paint(self, result: Result) -> None:
        """The same means and failures as `analysis.grid` and `analysis.failed`, kept up cell by cell."""
        place = (result.length, result.depth)
        scores = self._scores.setdefault(place, [])
        if result.status == "ok" and result.score is not None:
            scores.append(result.score)
            self.grid.loc[result.depth, result.length] = sum(scores) / len(scores)
            self.failed.discard(place)
        elif not scores:
            self.failed.add(place)

    def _wait_for_first(self) -> None:
        """Loading a model is not measuring: the clock starts at the last thing told before the first new cell."""
        if not self.fresh_tokens:
            self._since = time.monotonic()

    def _told(self, result: Result) -> str:
        """One finished cell in one line."""
        depth = "no needle" if result.control else f"depth {depth_label(result.depth)}"
        where = f"{length_label(result.length)} {depth}"
        again = f" repeat {result.repeat}" if result.repeat or self.spec.grid.repeats > 1 else ""
        count = f"[{self.done:>{len(str(self.asked))}}/{self.asked}]"
        if result.status == "error" or result.score is None:
            why = " ".join((result.error or "no reason given").split())
            return printable(f"{count} {where}{again}: error: {why[:200]}")
        return printable(f"{count} {where}{again}: {result.score:.2f} {result.outcome}  {result.seconds:.1f} s")

    def _title(self) -> Text:
        return Text(printable(f"{self.spec.model} · {self.spec.task}"), "bold")

    def _picture(self) -> RenderableType:
        """Progress above the heatmap; the rows that the terminal's height cannot hold are left out."""
        rate = self.fresh_tokens / max(time.monotonic() - self._since, 1e-3)
        facts = f"{self.done}/{self.asked} cells"
        if self.fresh_tokens:
            left = timedelta(seconds=round(max(self.total_tokens - self.tokens, 0) / rate))
            facts += f"   {rate:,.0f} tokens/s   {left} left"
        bar = ProgressBar(
            self.asked, self.done, min(30, self.console.width // 4), complete_style=colour(1), finished_style=colour(1)
        )
        progress = Table.grid(padding=(0, 1))
        progress.add_row(bar, Text(facts))
        rows = max(self.console.height - 7, 3)
        return Group(self._title(), progress, heatmap(self.grid, self.failed, max_rows=rows))
