"""What a run looks like in a terminal: the heatmap, tables, one cell's text around the needle, the summary.

Everything that a model or a run folder says goes through `clean` or a rich `Text`, neither of which can act on the
terminal or on rich's markup.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from needle.analysis import FAILED, INK, Summary, colour, depth_label, length_label, printable, score_label, sure_label
from needle.types import Result

_NUMBER = 4  # the narrowest cell whose numbers stay apart: "100" and a space
_ROOMY = 8
_AROUND_NEEDLE = 400  # characters of the prompt shown on either side


def clean(text: str) -> str:
    """Untrusted text made safe to print, also within rich markup: unseen characters written out, brackets escaped."""
    shown = printable(text)
    stem = shown.rstrip("\\")
    # rich reads backslashes before a bracket in pairs: an empty tag gives those at the end a bracket of their own, so
    # that they neither vanish nor undo the caller's next tag.
    ending = "\\" * 2 * (len(shown) - len(stem)) + "[b][/b]" if stem != shown else ""
    return escape(stem) + ending


def heatmap(
    grid: pd.DataFrame,
    failed: Collection[tuple[int, float]] = (),
    running: tuple[int, float] | None = None,
    max_rows: int | None = None,
) -> RenderableType:
    """The picture of `analysis.grid`'s table, as wide as the terminal allows.

    A cell is its score in per cent on its colour, "·" while unmeasured, "×" where it failed and "»" where it is
    `running`, given as (context length, depth). In a narrow terminal cells become bare colours, then some lengths are
    left out and that is said; where there is no colour the numbers stay. `max_rows` leaves out depths likewise.
    """
    return _Heatmap(grid, failed, running, max_rows)


class _Heatmap:
    """Chooses its layout when it is drawn, since only then is the terminal known."""

    def __init__(
        self,
        grid: pd.DataFrame,
        failed: Collection[tuple[int, float]],
        running: tuple[int, float] | None,
        max_rows: int | None,
    ) -> None:
        self.grid, self.failed, self.running, self.max_rows = grid, failed, running, max_rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lengths = [int(length) for length in self.grid.columns]
        depths = [float(depth) for depth in self.grid.index]
        labels = [length_label(length) for length in lengths]
        margin = max((len(depth_label(depth)) for depth in depths), default=0) + 1
        bare = console.color_system is None or console.no_color
        room = max(options.max_width - margin, 1)
        wide, columns = _fit(room, len(lengths), max(map(len, labels), default=1), bare)
        rows = _evenly(len(depths), min(len(depths), self.max_rows or len(depths)))

        yield self._line(_header([labels[c] for c in columns], wide, margin))
        values = self.grid.to_numpy(dtype=float)
        for r in rows:
            line = self._line(f"{depth_label(depths[r]):>{margin - 1}} ")
            for c in columns:
                sign, style = self._cell(lengths[c], depths[r], float(values[r, c]), bare)
                # A number too wide for its cell leaves the bare colour; a sign of one character always fits.
                fits = len(sign) == 1 or wide >= _NUMBER
                line.append(sign.center(wide) if fits else " " * wide, style)
            yield line
        yield self._line("score in %   · not measured   × failed", "dim")
        for shown, there, what, way in (
            (len(columns), len(lengths), "lengths", "wider"),
            (len(rows), len(depths), "depths", "taller"),
        ):
            if shown < there:
                yield Text(f"{there - shown} of {there} {what} are left out; a {way} terminal shows them", "yellow")

    def _cell(self, length: int, depth: float, score: float, bare: bool) -> tuple[str, str]:
        """The sign on a cell and its style."""
        if self.running == (length, depth):
            return "»", "bold"
        if not math.isnan(score):
            return score_label(score).rjust(3), "" if bare else f"{INK} on {colour(score)}"
        if (length, depth) in self.failed:
            return "×", "bold" if bare else f"bold {INK} on {FAILED}"
        return "·", "dim"

    @staticmethod
    def _line(text: str, style: str = "") -> Text:
        return Text(text, style, no_wrap=True, overflow="crop", end="\n")


def _fit(room: int, count: int, longest: int, bare: bool) -> tuple[int, list[int]]:
    """The widest cell, in characters, that lets `count` columns into `room`, and the columns that are drawn."""
    widest = max(_NUMBER + 1, min(longest + 1, _ROOMY))
    least = _NUMBER if bare else 1
    for wide in range(widest, least - 1, -1):
        if wide * count <= room:
            return wide, list(range(count))
    return least, _evenly(count, max(room // least, 1))


def _evenly(count: int, shown: int) -> list[int]:
    """`shown` of `count` places, spread evenly, the first and the last among them."""
    if shown <= 1:
        return list(range(count))[-shown:] if shown else []
    return [place * (count - 1) // (shown - 1) for place in range(shown)]


def _header(labels: list[str], wide: int, margin: int) -> str:
    """Labels over their columns; over narrow columns as many as stay apart, the last and the first before others."""
    if max(map(len, labels), default=0) < wide:
        return " " * margin + "".join(label.center(wide) for label in labels).rstrip()
    line = [" "] * (margin + wide * len(labels))
    for place in (-1, *range(len(labels))):
        end = margin + wide * (place % len(labels) + 1)
        start = end - len(labels[place])
        if start >= 0 and set(line[max(start - 1, 0) : end + 1]) == {" "}:
            line[start:end] = labels[place]
    return "".join(line)


def runs_table(rows: Iterable[Mapping[str, object]]) -> Table:
    """A table of one row a run, its columns the first row's keys; numbers stand right, None is a dash."""
    listed = list(rows)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for name in listed[0] if listed else ("no runs yet",):
        numbers = any(isinstance(row.get(name), int | float) for row in listed)
        table.add_column(Text(printable(name)), justify="right" if numbers else "left", overflow="fold")
    for row in listed:
        table.add_row(*(Text(_shown(row.get(name))) for name in listed[0]))
    return table


def _shown(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def cell_view(before: str, needle: str, after: str, result: Result) -> RenderableType:
    """One measured cell: the prompt around the needle, which stands out also without colour, and what came of it."""
    head = before if len(before) <= _AROUND_NEEDLE else "… " + before[-_AROUND_NEEDLE:]
    tail = after if len(after) <= _AROUND_NEEDLE else after[:_AROUND_NEEDLE] + " …"
    text = Text(printable(head, keep="\n\t"), "dim")
    marked = printable(needle, keep="\n\t")
    shown = f">>>{marked}<<<" if needle else " (no needle) "
    text.append(shown, f"not dim bold {INK} on {colour(0.5)}")
    text.append(printable(tail, keep="\n\t"))

    used = "" if result.depth_used is None else f", really {100 * result.depth_used:.2f} %"
    depth = "no needle" if result.control else f"depth {depth_label(result.depth)}{used}"
    where = f"{length_label(result.length)}   {depth}   repeat {result.repeat}"
    score = "–" if result.score is None else f"{result.score:.2f}"
    facts = {
        "question": result.question,
        "hidden elsewhere" if result.control else "expected": " | ".join(result.expected),
        "answer": result.answer,
        "score": f"{score} {result.outcome}",
        "because": result.explanation,
        "error": result.error or "",
    }
    table = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        if fact or name == "answer":
            table.add_row(Text(name, "bold"), Text(printable(fact, keep="\n\t") or "(empty)", overflow="fold"))
    return Group(Text(where, "bold"), Text(), text, Text(), table)


def _reach(summary: Summary) -> str:
    """The effective length with the confidence that it is: "16K (97 % sure)"."""
    if summary.effective_length is None:
        return "none"
    label, sure = length_label(summary.effective_length), summary.effective_confidence
    if summary.done < summary.asked:
        # What is missing is no random sample: the walk comes to some depths last.
        return f"{label} so far"
    if sure is None or math.isnan(sure):
        return label
    return f"{label} ({sure_label(sure)})"


def summary_lines(summary: Summary) -> list[str]:
    """The summary for a terminal, a line a fact; per length, the interval is that of the share of full scores."""
    missing = summary.asked - summary.done - summary.failed
    rest = "".join(f", {n} {what}" for n, what in ((summary.failed, "failed"), (missing, "not reached")) if n)
    lines = [f"cells              {summary.done} of {summary.asked} measured{rest}"]
    lines.append("mean score         " + ("nothing measured" if summary.mean is None else f"{summary.mean:.3f}"))
    lines.append(f"effective length   {_reach(summary)}")
    outcomes = ", ".join(f"{printable(name)} {count}" for name, count in summary.outcomes.items())
    lines.append(f"outcomes           {outcomes or 'none'}")
    if summary.controls:
        told = ", ".join(f"{printable(name)} {count}" for name, count in sorted(summary.controls.items()))
        lines.append(f"without a needle   {told}")
    lines.append(f"read and answered  {summary.tokens:,} tokens, in {summary.seconds:,.1f} s")
    plan = summary.provenance.get("plan")
    if plan:
        fed, plain = plan["planned_tokens"], plan["plain_tokens"]
        lines.append(f"prefilled          {fed:,} tokens, where one prefill a cell takes {plain:,}")
    for row in summary.lengths:
        cells = f"{row.n} cell{'s' if row.n > 1 else ''}"
        lines.append(f"{length_label(row.length):>9}   {row.mean:.3f}   {cells}, full {row.low:.2f}–{row.high:.2f}")
    return lines
