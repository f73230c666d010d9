"""What really computed a sitting's answers, for the record."""

from __future__ import annotations

import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from needle import __version__
from needle.engines import Engine


def session(engine: Engine) -> dict[str, Any]:
    """Load the engine, and say with what, where and when it computes."""
    return {
        "needle": __version__,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": _commit(),
        **engine.load(),
    }


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, if it is one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "-q", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
