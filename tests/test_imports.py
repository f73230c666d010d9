"""What is light stays light: help at once, and no torch where nothing is computed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "tokenizers", "pandas", "numpy", "plotly", "streamlit", "huggingface_hub"}
REPOSITORY = Path(__file__).parents[1]
REPORT = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
"""


def imported_by(code: str) -> set[str]:
    """Top-level packages that are there after `code` has run in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT + code], capture_output=True, text=True, cwd=REPOSITORY, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


def command(*arguments: str) -> str:
    return f"import sys\nsys.argv = {['needle', *arguments]!r}\nfrom needle.cli import main\nmain()"


@pytest.mark.parametrize(
    "arguments", [(), ("--help",), ("run", "--help"), ("show", "-h"), ("--version",), ("version",)]
)
def test_help_and_version_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert not imported_by(command(*arguments)) & HEAVY


def test_help_takes_less_than_half_a_second_of_cpu() -> None:
    """User and system time of the process: how busy the machine is does not count; the best of three."""
    resource = pytest.importorskip("resource")

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "needle", "--help"], capture_output=True, text=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        assert "heatmap" in done.stdout
        return float(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)

    assert min(once() for _ in range(3)) < 0.5


@pytest.mark.parametrize("arguments", [("list", "-o", os.devnull), ("list", "-o", "/nowhere", "--json"), ("tasks",)])
def test_looking_at_runs_imports_no_torch(arguments: tuple[str, ...]) -> None:
    assert not imported_by(command(*arguments)) & {"torch", "transformers", "plotly", "streamlit"}


@pytest.mark.parametrize(
    "module", ["analysis", "figures", "store", "terminal", "export", "running", "pocket", "grid", "forest"]
)
def test_modules_that_compute_nothing_import_no_torch(module: str) -> None:
    assert not imported_by(f"import needle.{module}") & {"torch", "transformers"}


@pytest.mark.skipif(not (REPOSITORY / "app.py").is_file(), reason="the app stands in a checkout only")
def test_the_app_imports_no_torch() -> None:
    assert importlib.util.find_spec("streamlit") is not None
    assert not imported_by("import app") & {"torch", "transformers"}


def test_the_package_alone_imports_nothing_but_itself() -> None:
    assert not imported_by("import needle") & HEAVY
