"""The package from Python: measure, load as a table, compare. All of it is reached as `needle.run`, `needle.load`, …"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from needle.errors import UsageError
from needle.store import Run

if TYPE_CHECKING:
    import pandas as pd

    from needle.comparison import Comparison

Which = Run | str | Path
"""A run, its folder, or its name in the runs folder (or the beginning or end of that)."""


def run(
    model: str | Path = "pocket-32k",
    *,
    task: str = "number",
    lengths: Iterable[int] | int | str | None = None,
    depths: Iterable[float] | float | str | None = None,
    output_dir: str | Path = "runs",
    quiet: bool = True,
    **options: Any,
) -> Run:
    """Measure `model` as `needle run` does, or go on where that stopped, and return the run as it lies on disk.

    `lengths` are tokens and `depths` shares from 0 to 1; `options` are the command's others, underscored, as in
    `max_len="32k"`, `repeats=3`, `dtype="bfloat16"`. Unless `quiet`, progress is shown on stderr.

    Raises:
        UsageError: the request cannot be carried out.
    """
    from needle import running
    from needle.cli._request import one, request
    from needle.cli._screen import Screen

    unknown = options.keys() - inspect.signature(request).parameters.keys()
    if unknown or not isinstance(task, str):
        what = f"an option '{min(unknown)}'" if unknown else "several tasks at once"
        raise UsageError(f"needle.run does not take {what}; `needle run --help` lists the options")
    asked = request(models=[str(model)], task=[task], lengths=_listed(lengths), depths=_listed(depths), **options)
    screen = Screen(quiet)
    with screen:
        prepared = running.prepare(one(asked), screen.say)
        screen.prepared(prepared)
        return running.execute(prepared, Path(output_dir), screen)


def load(
    runs: Which | Iterable[Which] | None = None, output_dir: str | Path = "runs", controls: bool = False
) -> pd.DataFrame:
    """The results of `runs` (all in `output_dir` if None), a row a cell.

    The columns are the fields of `needle.types.Result`, and before them run (the folder's name), model, task and
    haystack. Cells that failed have no score (NaN). `controls` adds the cells without a needle; their `control` is
    true.

    Raises:
        StoreError: a run is not there or damaged.
    """
    import pandas as pd

    from needle import analysis, store

    which = store.folders(Path(output_dir)) if runs is None else [runs] if isinstance(runs, Run | str | Path) else runs
    frames = []
    for found in (_read(each, output_dir) for each in which):
        frame = analysis.frame(found.all_results if controls else found.results)
        about = {"run": found.name, "model": found.spec.model, "task": found.spec.task, "haystack": found.spec.haystack}
        for at, (name, value) in enumerate(about.items()):
            frame.insert(at, name, value)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else analysis.frame([])


def compare(*runs: Which, output_dir: str | Path = "runs", threshold: float | None = None) -> Comparison:
    """Compare two or more runs on identical prompts, the first as the baseline; see `needle.comparison`.

    Raises:
        UsageError: the runs have nothing that pairs.
    """
    from needle import comparison

    return comparison.compare([_read(each, output_dir) for each in runs], threshold=threshold)


def _read(which: Which, root: str | Path) -> Run:
    from needle import store

    return which if isinstance(which, Run) else store.read(store.find(Path(root), str(which)))


def _listed(values: Iterable[float] | float | str | None) -> str | None:
    if values is None or isinstance(values, str):
        return values
    return ",".join(map(str, values)) if isinstance(values, Iterable) else str(values)
