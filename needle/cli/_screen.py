"""What the user of `needle run` sees: a spinner while files are read, the picture while cells come in, the summary."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from needle.cli import _out

if TYPE_CHECKING:
    from needle.running import Prepared
    from needle.store import Run
    from needle.terminal_live import Live
    from needle.types import Result, RunSpec


class Screen:
    """The run's `Watcher`, on stderr. Notes wait until the request is known to be sound: an error stands alone."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.console = _out.console(stderr=True, quiet=quiet)
        self._live: Live | None = None
        self._notes: list[str] = []
        self._shown = ExitStack()
        self._painted = False

    def __enter__(self) -> Screen:
        self._spin("reading model and haystack …")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.__exit__(kind, error, trace)

    def prepared(self, run: Prepared) -> None:
        """The request is sound: say what is asked, and what there is to know about it."""
        from needle.terminal_live import Live

        self._shown.close()
        tokens = sum(len(p.ids) for p in run.prompts)
        self._line(f"{len(run.prompts)} cells, {tokens:,} prompt tokens")
        self._live = Live(run.spec, tokens, self.quiet, self.console)
        for note in self._notes:
            self._live.say(note)
        self._spin("reading weights …")

    def say(self, message: str) -> None:
        """Something the user ought to know."""
        if self._live is None:
            self._notes.append(message)
        else:
            self._live.say(message)

    def loaded(self) -> None:
        """The weights are there: the picture opens, and the clock starts."""
        assert self._live is not None
        self._shown.close()
        self._shown.enter_context(self._live)
        self._painted = True

    def cell(self, result: Result, fresh: bool = True) -> None:
        """A cell is finished."""
        assert self._live is not None
        self._live.cell(result, fresh)

    def stopped(self) -> None:
        """Ctrl-C."""
        self._line("needle: stopped; finished cells are kept, the same command goes on from here")

    def head(self, spec: RunSpec) -> None:
        """Which of several runs begins."""
        self._line(f"── {spec.model} · {spec.task}")

    def summary(self, run: Run) -> None:
        """What came out, on stderr."""
        from needle import analysis, terminal

        summary = analysis.of(run)
        if not self._painted:
            self._line(f"already measured: all {summary.done} cells of this run; nothing to do")
        for line in terminal.summary_lines(summary):
            self._line(line)
        self._line(f"kept in            {run.folder}")

    def told(self, run: Run) -> dict[str, Any]:
        """The same, for --json."""
        from needle import analysis

        return {"run": str(run.folder), **analysis.as_json(analysis.of(run))}

    def _spin(self, text: str) -> None:
        if self.console.is_terminal and not self.quiet:
            self._shown.enter_context(self.console.status(text))

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
