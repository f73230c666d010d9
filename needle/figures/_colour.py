"""Colours of figures: two palettes on a range 0–1, one colour an outcome, and ink that can be read on any of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

from plotly.colors import sequential

from needle import analysis
from needle.types import Outcome

Palette = Literal["traffic", "safe"]
PALETTES: tuple[Palette, ...] = get_args(Palette)
"""`traffic`: the field's red, amber, green. `safe`: viridis, whose steps all eyes and greyscale print keep apart."""

READABLE = 4.5
"""Least contrast of text and ground (WCAG 2.2, level AA)."""
BLANK = "#E9EAEE"
"""The ground of a cell that was measured, but for which there is no such value."""
CURVES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, told apart by all eyes."""
MARKS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
OUTCOMES: dict[Outcome, tuple[str, str]] = {
    "found": ("F", "#009E73"),
    "partial": ("P", "#F0E442"),
    "refusal": ("R", "#CC79A7"),
    "truncated": ("T", "#56B4E9"),
    "empty": ("E", "#0072B2"),
    "wrong": ("W", "#4D5160"),
    "number": ("N", "#E69F00"),
    "distractor": ("D", "#D55E00"),
    "error": ("×", analysis.FAILED),
}
"""Outcome → its sign and colour, from best to worst; Okabe and Ito's colours and two greys."""

_INKS = (analysis.INK, "#FFFFFF", "#000000")


def shade(share: float, palette: Palette) -> str:
    """`#rrggbb` of a share 0–1: low is dark in `safe`, red in `traffic`."""
    if palette == "traffic":
        return analysis.colour(share)
    stops = _channels(tuple(sequential.Viridis))
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    start = min(int(place), len(stops) - 2)
    ends = zip(stops[start], stops[start + 1], strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (place - start)):02X}" for a, b in ends)


@lru_cache
def _channels(colours: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    return tuple((int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16)) for c in colours)


@lru_cache(maxsize=4096)
def ink(ground: str) -> str:
    """The first of dark, white and black that can be read on `ground` (`#rrggbb`); one of them always can."""
    return next(each for each in _INKS if contrast(each, ground) >= READABLE)


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1–21, as WCAG 2.2 defines it."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    ((red, green, blue),) = _channels((colour,))
    linear = (c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in (red, green, blue))
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
