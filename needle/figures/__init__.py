"""Tables to Plotly figures: the heatmap of a run, runs compared, a checkpoint series over its steps.

Ranges are fixed, so that a colour means the same in every picture; what a model wrote is escaped. Cells are drawn with
one bar trace a row. In a figure of one heatmap, trace number and point number are the cell's row and column, and each
point's `customdata` is [length, depth].
"""

from __future__ import annotations

from needle.figures._colour import PALETTES, Palette
from needle.figures._compared import compared, difference
from needle.figures._curves import curves
from needle.figures._heatmap import heatmap, title
from needle.figures._played import played
from needle.figures._steps import over_steps, progress, steps_by_length
from needle.figures._views import VALUES, Value

__all__ = [
    "PALETTES",
    "VALUES",
    "Palette",
    "Value",
    "compared",
    "curves",
    "difference",
    "heatmap",
    "over_steps",
    "played",
    "progress",
    "steps_by_length",
    "title",
]
