"""What a comparison looks like in a terminal: heatmaps side by side, what changed in colour, a table, the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from needle import analysis
from needle.analysis import INK, delta_colour, delta_label, depth_label, length_label, printable, sure_label
from needle.bands import Band
from needle.certainty import Effective
from needle.comparison import Comparison, Contrast, Side, delta
from needle.terminal import _Heatmap, heatmap

_NARROW = 40  # columns under which a picture is drawn below its neighbour instead of beside it
_CHANGED = 10
_VALUE = 40


def comparison(found: Comparison) -> RenderableType:
    """The whole comparison, as wide as the terminal allows; the verdict stands last, where the eye is."""
    lengths = sorted({n for side in found.sides for n in side.run.spec.grid.lengths})
    depths = sorted({d for side in found.sides for d in side.run.spec.grid.depths})
    pictures = [_picture(side, lengths, depths) for side in found.sides]
    parts: list[RenderableType] = [_Beside(pictures)]
    for contrast in found.contrasts:
        parts += [Text(), *_contrast(contrast, lengths, depths)]
    if found.settings:
        parts += [Text(), _settings(found)]
    parts.append(Text())
    parts += [_text(f"note: {note}", "yellow") for contrast in found.contrasts for note in _told(contrast, found)]
    parts += [_text(contrast.verdict, "bold") for contrast in found.contrasts]
    return Group(*parts)


def _told(contrast: Contrast, found: Comparison) -> list[str]:
    """A contrast's notes, saying of which one they are where there are several."""
    several = len(found.contrasts) > 1
    return [f"{contrast.second}: {note}" if several else note for note in contrast.notes]


def _picture(side: Side, lengths: Sequence[int], depths: Sequence[float]) -> RenderableType:
    table = analysis.grid(side.frame, lengths=lengths, depths=depths)
    return Group(_text(side.label, "bold"), heatmap(table, analysis.failed(side.frame)))


def _contrast(contrast: Contrast, lengths: Sequence[int], depths: Sequence[float]) -> Iterator[RenderableType]:
    table = delta(contrast).reindex(
        index=pd.Index(depths, dtype="float64", name="depth"), columns=pd.Index(lengths, dtype="int64", name="length")
    )
    yield _text(f"{contrast.second} − {contrast.first}", "bold")
    yield _Delta(table, (), None, None)
    yield _bands(contrast)
    for label, reach in zip((contrast.first, contrast.second), contrast.effective, strict=True):
        yield _text(f"effective length of {label}: {_reach(reach)}")
    if contrast.effective_difference is not None:
        yield _text(f"effective length differs by {contrast.effective_difference:+,} tokens")
    yield from _changed(contrast)


class _Beside:
    """Pictures in one row where each has room, else one below the other."""

    def __init__(self, pictures: Sequence[RenderableType]) -> None:
        self.pictures = pictures

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width // len(self.pictures) < _NARROW:
            yield from self.pictures
            return
        table = Table.grid(expand=True, padding=(0, 2, 0, 0))
        for _ in self.pictures:
            table.add_column(ratio=1)
        table.add_row(*self.pictures)
        yield table


class _Delta(_Heatmap):
    """The heatmap of differences, −1–1, laid out as that of scores."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in super().__rich_console__(console, options):
            legend = isinstance(line, Text) and line.plain.startswith("score in %")
            yield self._line("difference of scores in %   · no pair", "dim") if legend else line

    def _cell(self, length: int, depth: float, score: float, bare: bool) -> tuple[str, str]:  # noqa: ARG002
        if math.isnan(score):
            return "·", "dim"
        return delta_label(score).rjust(3), "" if bare else f"{INK} on {delta_colour(score)}"


def _bands(contrast: Contrast) -> Table:
    """One row a length, and one for all; p is Holm's over the lengths."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    means = contrast.first, contrast.second, "difference", "95 % interval"
    for name in ("length", "pairs", *means, "won", "lost", "p (Holm)"):
        table.add_column(_text(name), justify="right")
    for band in (*contrast.bands, contrast.overall):
        table.add_row(*_row(band), style="bold" if band.shown else "")
    return table


def _row(band: Band) -> list[str]:
    name = "all" if band.length is None else length_label(band.length)
    if not band.n:
        return [name, "0", *["–"] * 7]
    between = "–" if math.isnan(band.low) else f"{band.low:+.2f} to {band.high:+.2f}"
    p = "< 0.001" if band.adjusted < 0.001 else f"{band.adjusted:.3f}"
    means = f"{band.first:.3f}", f"{band.second:.3f}", f"{band.difference:+.3f}"
    return [name, str(band.n), *means, between, str(band.gained), str(band.lost), p]


def _reach(reach: Effective) -> str:
    passing = "not measured" if math.isnan(reach.threshold) else f"threshold {reach.threshold:.3f}"
    if reach.length is None:
        return f"none ({passing})"
    return f"{length_label(reach.length)} ({sure_label(reach.confidence)}; {passing})"


def _changed(contrast: Contrast) -> Iterator[RenderableType]:
    changed = contrast.changed
    if not changed:
        return
    yield _text(f"{len(changed)} of {len(contrast.pairs)} cells score differently:")
    for pair in changed[:_CHANGED]:
        where = f"{length_label(pair.length)} depth {depth_label(pair.first.depth)} repeat {pair.first.repeat}"
        first, second = pair.scores
        yield _text(f"  {where}: {first:.2f} {pair.first.outcome} → {second:.2f} {pair.second.outcome}")
    if len(changed) > _CHANGED:
        yield _text(f"  and {len(changed) - _CHANGED} more; --json has them all", "dim")


def _settings(found: Comparison) -> Table:
    """What the runs were measured with, where that differs."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for name in ("differs", *(side.label for side in found.sides)):
        table.add_column(_text(name), overflow="fold")
    for setting in found.settings:
        table.add_row(_text(f"{setting.where}.{setting.name}"), *(_text(_value(value)) for value in setting.values))
    return table


def _value(value: Any) -> str:
    text = "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= _VALUE else text[: _VALUE - 1] + "…"


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style)
