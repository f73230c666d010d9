"""A prompt cut into pieces to be looked at: windows around needles and distractors, gaps in between."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from needle.types import Prompt, Span

AROUND = 150
"""Tokens shown on either side of a needle."""
BESIDE = 12
"""Tokens shown on either side of a distractor, and of the document's two ends."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of `tokens` tokens: "needle", "distractor", "text" of the haystack, "frame" around it, or a "gap"."""

    kind: Literal["needle", "distractor", "text", "frame", "gap"]
    text: str
    tokens: int


def pieces(prompt: Prompt, tokenizer: Any, whole: bool = False) -> list[Piece]:
    """The prompt in order, cut to windows unless it is wanted `whole`. The template around it is always there."""
    shown = [(0, len(prompt.ids))] if whole else _windows(prompt)
    found: list[Piece] = []
    last = 0
    for start, end in shown:
        if start > last:
            found.append(Piece("gap", "", start - last))
        found += _cut(prompt, tokenizer, start, end)
        last = end
    return found


def _windows(prompt: Prompt) -> list[tuple[int, int]]:
    """The [start, end) of tokens to show, ascending and apart."""
    begin, end, total = *prompt.document, len(prompt.ids)
    wanted = [(0, begin + BESIDE), (end - BESIDE, total)]
    for span in prompt.spans:
        margin = AROUND if span.kind == "needle" else BESIDE
        wanted.append((max(begin, span.start - margin), min(end, span.end + margin)))
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(wanted):
        # A gap of a few tokens is longer than they are.
        if merged and start <= merged[-1][1] + BESIDE:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((max(start, 0), stop))
    return merged


def _cut(prompt: Prompt, tokenizer: Any, start: int, end: int) -> Iterator[Piece]:
    """The tokens [start, end) by kind."""
    first, last = prompt.document
    edges: list[tuple[int, int, Literal["needle", "distractor", "text", "frame"]]] = []
    at = 0
    for span in [*sorted(prompt.spans, key=lambda s: s.start), Span(len(prompt.ids), len(prompt.ids), "needle")]:
        for low, high, kind in ((0, first, "frame"), (first, last, "text"), (last, len(prompt.ids), "frame")):
            between = max(at, low), min(span.start, high)
            if between[0] < between[1]:
                edges.append((*between, "frame" if kind == "frame" else "text"))
        edges.append((span.start, span.end, span.kind))
        at = span.end
    for low, high, kind in edges:
        low, high = max(low, start), min(high, end)
        if low < high:
            yield Piece(kind, decoded(tokenizer, prompt.ids.tolist(), low, high), high - low)


def decoded(tokenizer: Any, ids: list[int], start: int, end: int) -> str:
    """The text of tokens [start, end) as it stands behind the token before: some tokenizers drop a space otherwise."""
    alone: str = tokenizer.decode(ids[start:end])
    if not start:
        return alone
    before: str = tokenizer.decode(ids[start - 1 : start])
    whole: str = tokenizer.decode(ids[start - 1 : end])
    return whole[len(before) :] if before and whole.startswith(before) else alone


def places(text: str, wanted: Iterable[str]) -> list[tuple[int, int]]:
    """Where `text` holds any of `wanted`, whatever case and white space: [start, end), ascending, none overlapping."""
    found: list[tuple[int, int]] = []
    for words in (w.split() for w in wanted):
        if words:
            pattern = r"\s+".join(map(re.escape, words))
            found += [m.span() for m in re.finditer(pattern, text, re.IGNORECASE)]
    apart: list[tuple[int, int]] = []
    for start, end in sorted(found, key=lambda span: (span[0], -span[1])):
        if not apart or start >= apart[-1][1]:
            apart.append((start, end))
    return apart
