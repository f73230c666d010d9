"""Checkpoints as a training job writes them: which are ready, and each measured once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from needle import engines, haystack, scoring, series, tasks
from needle.errors import NeedleError, UsageError, one_line
from needle.store import Run
from needle.types import RunSpec

_DECIDING = ("*.json", "*.safetensors", "*.bin", "*.model", "*.jinja", "*.py")
_SEAL = "trainer_state.json"
"""What transformers' Trainer writes into a checkpoint after all that a model is read from."""

Files = tuple[tuple[str, int, int], ...]
"""Name, size in bytes and time of change in nanoseconds of each file that decides what a model says."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a folder is watched; times are in seconds.

    A checkpoint is a folder that fits `pattern`. It is looked for `every` so often, and is ready when the Trainer has
    sealed it, or when it is whole and has not changed for `settle`. The watch ends with a checkpoint of step
    `until_step` or later, after `idle_exit` without any, or, `once`, when all that is there has been measured.
    """

    pattern: str = "checkpoint-*"
    every: float = 30.0
    settle: float = 20.0
    once: bool = False
    until_step: int | None = None
    idle_exit: float | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder as it is at one moment; `lacks` says what it cannot be measured without."""

    path: Path
    files: Files
    lacks: str | None
    sealed: bool

    @property
    def step(self) -> int | None:
        """Its training step, where its path names one."""
        return series.step_of(str(self.path))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a watch came to: checkpoints measured, and those that could not be or have failed cells."""

    measured: tuple[Path, ...]
    failed: tuple[Path, ...]


def check(spec: RunSpec) -> None:
    """Look at what holds for every checkpoint alike, before the first is there.

    Raises:
        UsageError: the task, scorer, haystack or engine is not to be had.
    """
    tasks.get(spec.task)
    scoring.get(spec.scorer, spec.options)
    haystack.load(spec.haystack)
    engines.get(spec.engine)


def watch(
    folder: Path,
    measure: Callable[[str], list[Run]],
    say: Callable[[str], None],
    asked: Asked,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Seen:
    """Measure each checkpoint of `folder` when it is ready; `measure` takes its path and gives its runs.

    One that is damaged, or is deleted while it is read, is said and counted, and the watch goes on. A checkpoint that
    is written anew is measured anew.

    Raises:
        UsageError: `asked.once`, and there is no such folder, or a time or the pattern has no meaning.
    """
    _check(folder, asked, say)
    measured: dict[Path, None] = {}
    failed: dict[Path, None] = {}
    for checkpoint in arrivals(folder, asked, say, clock, sleep):
        try:
            runs = measure(str(checkpoint.path))
            sound = all(run.status == "complete" for run in runs)
        except (NeedleError, OSError) as error:
            say(f"'{checkpoint.path}' is not measured: {one_line(error)}")
            sound = False
        (measured if sound else failed)[checkpoint.path] = None
        (failed if sound else measured).pop(checkpoint.path, None)
    return Seen(tuple(measured), tuple(failed))


def _check(folder: Path, asked: Asked, say: Callable[[str], None]) -> None:
    for name, value, least in (
        ("every", asked.every, 0.1),
        ("settle", asked.settle, 0),
        ("idle-exit", asked.idle_exit, 0),
    ):
        if value is not None and not least <= value < float("inf"):
            raise UsageError(f"--{name} {value:g} is below {least:g} or no number of seconds")
    if not asked.pattern or asked.pattern.startswith("/") or ".." in Path(asked.pattern).parts:
        raise UsageError(
            f"--checkpoints '{asked.pattern}' does not name folders within '{folder}', as checkpoint-* does"
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"'{folder}' is no folder; give the one that the training writes its checkpoints to")
    if not folder.exists():
        if asked.once:
            raise UsageError(f"no folder '{folder}'; give the one that the training writes its checkpoints to")
        say(f"'{folder}' is not there yet; waiting for it")


def arrivals(
    folder: Path,
    asked: Asked,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Checkpoint]:
    """The checkpoints, each as it is ready, by step; again when its files have changed. Ends as `asked` says."""
    given: dict[Path, Files] = {}
    since: dict[Path, tuple[Files, float]] = {}
    told: set[tuple[Path, str]] = set()
    active = clock()
    while True:
        there = [c for c in checkpoints(folder, asked.pattern) if given.get(c.path) != c.files]
        whole = [c for c in there if c.lacks is None]
        for each in whole:
            if each.path not in since or since[each.path][0] != each.files:
                since[each.path] = each.files, clock()
        ready = next((c for c in whole if c.sealed or clock() - since[c.path][1] >= asked.settle), None)
        if ready is not None:
            given[ready.path] = ready.files
            yield ready
            if asked.until_step is not None and (ready.step or 0) >= asked.until_step:
                return
            active = clock()
            continue
        for each in there:
            # One that is still being written will have it; of the others it is told once.
            if each.lacks and (each.sealed or asked.once) and (each.path, each.lacks) not in told:
                told.add((each.path, each.lacks))
                say(f"'{each.path}' is left out: {each.lacks}")
        active = clock() if whole else active
        if asked.once and not whole:
            return
        if asked.idle_exit is not None and clock() - active >= asked.idle_exit:
            return
        sleep(min(asked.every, max(asked.settle, 0.1)) if whole else asked.every)


def checkpoints(folder: Path, pattern: str) -> list[Checkpoint]:
    """The checkpoint folders there now, by step, those without one last; what vanishes meanwhile is left out."""
    found = []
    for path in folder.glob(pattern):
        try:
            if path.is_dir():
                found.append(look(path))
        except OSError:
            # The training deletes old checkpoints; the next look will tell.
            continue
    return sorted(found, key=lambda c: (c.step is None, c.step or 0, c.path))


def look(path: Path) -> Checkpoint:
    """A checkpoint folder as it is now.

    Raises:
        OSError: it vanishes, or cannot be read.
    """
    stats = {p.name: p.stat() for pattern in _DECIDING for p in path.glob(pattern)}
    files = tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()))
    weights = [stat.st_mtime_ns for name, stat in stats.items() if name.endswith((".safetensors", ".bin"))]
    # A seal older than the weights is that of a checkpoint that is being written over.
    sealed = _SEAL in stats and all(stats[_SEAL].st_mtime_ns >= at for at in weights)
    return Checkpoint(path, files, _lacks(path, set(stats)), sealed)


def _lacks(path: Path, names: set[str]) -> str | None:
    """What a folder has not that a model is read from."""
    if "config.json" not in names:
        adapter = "; merge the adapter into its model" if "adapter_config.json" in names else ""
        return f"it has no config.json{adapter}"
    for index in sorted(n for n in names if n.endswith((".safetensors.index.json", ".bin.index.json"))):
        try:
            shards = set(json.loads((path / index).read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, LookupError, TypeError, AttributeError):
            return f"its {index} is not whole"
        missing = sorted(str(shard) for shard in shards if shard not in names)
        return f"it has no {missing[0]}" if missing else None
    # Trainers keep other things in .bin files: arguments, optimizer, scheduler.
    if not any(n.endswith(".safetensors") or (n.startswith("pytorch_model") and n.endswith(".bin")) for n in names):
        return "it has no weights"
    return None
