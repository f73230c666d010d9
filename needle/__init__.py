"""Needle-in-a-haystack evaluation and visualisation for long-context language models.

import needle

run = needle.run("pocket-4k", max_len="16k")
table = needle.load(run)
needle.figures.heatmap(table).show()
print(needle.compare("pocket-4k", "pocket-32k").contrasts[0].verdict)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from needle import figures
    from needle.api import compare, load, run

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "figures", "load", "run"]


def __getattr__(name: str) -> Any:
    """The functions of `needle.api`, and `needle.figures`, once they are asked for: the command starts without them."""
    if name == "figures":
        return import_module("needle.figures")
    if name in ("compare", "load", "run"):
        return getattr(import_module("needle.api"), name)
    raise AttributeError(f"module 'needle' has no attribute '{name}'")
