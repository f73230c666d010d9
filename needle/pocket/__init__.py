"""The bundled checkpoints `pocket-4k` and `pocket-32k`, and the scripts that train and measure them.

`path("pocket-32k")` is the folder of a checkpoint; importing this package imports no torch.
"""

from __future__ import annotations

from pathlib import Path

CHECKPOINTS = Path(__file__).parent / "checkpoints"
NAMES = ("pocket-4k", "pocket-32k")


def path(name: str) -> Path | None:
    """The folder of the bundled checkpoint `name`, or None if there is none of that name."""
    folder = CHECKPOINTS / name
    return folder if name in NAMES and folder.is_dir() else None
