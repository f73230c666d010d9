"""Measure the bundled checkpoints for their model card: `python -m needle.pocket.measure [CHECKPOINT ...]`.

Prints a Markdown table: share of expected answers found, by task and context length, over 11 depths and two repeats.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from needle import analysis, grid, pocket, running, tasks
from needle.types import Result, RunSpec

LENGTHS = "1k,2k,4k,8k,16k,32k"
TASKS = ("number", "uuid", "word", "sentence")
DEPTHS, REPEATS = 11, 2


class _Quiet:
    """Watches nothing but failures."""

    def say(self, message: str) -> None:
        print(message, file=sys.stderr)

    def loaded(self) -> None:
        pass

    def cell(self, result: Result, fresh: bool = True) -> None:  # noqa: ARG002 - the watcher's interface
        if result.error:
            print(f"{result.length}:{result.depth:g} {result.error}", file=sys.stderr)


def measure(model: str, task: str, root: Path) -> list[analysis.LengthScore]:
    """Scores of one checkpoint (a bundled name or a folder) on one task, by length."""
    spec = RunSpec(
        model=model,
        task=task,
        haystack="essays",
        grid=grid.make(grid.sizes(LENGTHS), grid.spaced_depths(DEPTHS), REPEATS),
        max_new_tokens=tasks.get(task).max_new_tokens,
        options={"dtype": "float32"},
    )
    done = running.execute(running.prepare(spec, _Quiet().say), root, _Quiet())
    return list(analysis.summary(done.results, spec, {}).lengths)


def main() -> None:
    """Command line of the module."""
    models = sys.argv[1:] or list(pocket.NAMES)
    head = ["checkpoint", "task", *LENGTHS.upper().split(",")]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    with tempfile.TemporaryDirectory() as root:
        for model in models:
            for task in TASKS:
                scores = [f"{100 * row.mean:.1f}" for row in measure(model, task, Path(root))]
                print(f"| {' | '.join([Path(model).name, task, *scores])} |", flush=True)


if __name__ == "__main__":
    main()
