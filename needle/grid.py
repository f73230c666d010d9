"""Lengths × depths: sizes as people write them, spacing as the field draws it."""

from __future__ import annotations

import math
import re

from needle.errors import UsageError
from needle.types import Grid

_SIZE = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]+)?)\s*([kKmM]?)\s*$")
MOST = 1_000_000
"""Cells of a run; a figure beyond is a slip of the finger."""


def size(text: str) -> int:
    """Tokens in "32768", "32k", "32K", "0.5k" or "1M" (k = 1,024, M = 1,048,576).

    Raises:
        UsageError: it is no size, or not at least one token.
    """
    match = _SIZE.match(text)
    if not match:
        raise UsageError(f"'{text}' is no length; write tokens as 32768, 32k or 32K")
    tokens = float(match[1]) * {"": 1, "k": 1024, "m": 1024**2}[match[2].lower()]
    if tokens < 1 or tokens != int(tokens):
        raise UsageError(f"length '{text}' is not a whole number of tokens above zero")
    return int(tokens)


def sizes(text: str) -> tuple[int, ...]:
    """Lengths in a comma-separated list, ascending, each once."""
    return tuple(sorted({size(part) for part in text.split(",") if part.strip()}))


def depths(text: str) -> tuple[float, ...]:
    """Depths 0–1 in a comma-separated list, ascending, each once.

    Raises:
        UsageError: one is no number or lies outside 0–1.
    """
    found = set()
    for part in (p for p in text.split(",") if p.strip()):
        try:
            depth = float(part)
        except ValueError:
            raise UsageError(f"'{part.strip()}' is no depth; write numbers from 0 to 1, as in 0,0.5,1") from None
        if not 0 <= depth <= 1:
            hint = f" (write {depth / 100:g} for {depth:g} %)" if 1 < depth <= 100 else ""
            raise UsageError(f"depth {depth:g} lies outside 0–1{hint}")
        found.add(abs(depth))  # -0 is 0
    if not found:
        raise UsageError("no depths given; write numbers from 0 to 1, as in 0,0.5,1")
    return tuple(sorted(found))


def spaced_lengths(shortest: int, longest: int, count: int) -> tuple[int, ...]:
    """`count` lengths from `shortest` to `longest`, evenly spaced, both ends included."""
    if shortest > longest:
        raise UsageError(f"--min-len {shortest} is greater than --max-len {longest}")
    return tuple(sorted({round(n) for n in _linear(shortest, longest, _positive(count, "--length-count"))}))


def spaced_depths(count: int, spacing: str = "linear") -> tuple[float, ...]:
    """`count` depths from 0 to 1: evenly, or by Kamradt's sigmoid, which looks closer at both ends.

    Source of the sigmoid: 100 / (1 + exp(-0.1 (x - 50))) over x = 0 … 100, rounded to three digits, ends set to 0
    and 100 (LLMTest_NeedleInAHaystack).
    """
    even = _linear(0.0, 1.0, _positive(count, "--depth-count"))
    if spacing == "linear":
        return tuple(round(d, 4) for d in even)
    if spacing != "sigmoid":
        raise UsageError(f"depth spacing '{spacing}' is unknown; use linear or sigmoid")
    curve = {d: 1 / (1 + math.exp(-10 * (d - 0.5))) for d in even}
    return tuple(sorted({round(d if d in (0.0, 1.0) else curve[d], 5) for d in even}))


def make(lengths: tuple[int, ...], depths: tuple[float, ...], repeats: int) -> Grid:
    """A grid of at least one cell.

    Raises:
        UsageError: it would be empty, or of more than `MOST` cells.
    """
    if not lengths:
        raise UsageError("no lengths given; write them as in --lengths 1k,4k,32k")
    cells = len(lengths) * len(depths) * _positive(repeats, "--repeats")
    if cells > MOST:
        raise UsageError(f"{cells:,} cells are more than {MOST:,}; ask for fewer lengths, depths or repeats")
    return Grid(lengths, depths, repeats)


def _positive(count: int, option: str) -> int:
    if not 1 <= count <= MOST:
        raise UsageError(f"{option} {count} is below 1" if count < 1 else f"{option} {count} is above {MOST:,}")
    return count


def _linear(low: float, high: float, count: int) -> list[float]:
    if count == 1:
        return [high]
    return [low + (high - low) * i / (count - 1) for i in range(count)]
