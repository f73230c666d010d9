"""The only reader and writer of `runs/`: one folder a run, `run.json` and `results.jsonl`.

`run.json` is written whole before the first cell; `results.jsonl` gains one fsynced line a finished cell. A line that
a crash tore is cut off before the next append, so every finished cell is there once and no torn one counts. Both files
are UTF-8 whatever a model says, so that other tools can read them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from needle import rows
from needle.errors import StoreError
from needle.types import Cell, Grid, Result, RunSpec

FORMAT = 1
_LONGEST_WORD = 60  # three of them and the hash fit the 255 bytes that file systems give a name
_PATIENCE = 0.5  # seconds; who only asks whether a run is being written holds its lock for an instant
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def identity(spec: RunSpec, sources: Mapping[str, str]) -> str:
    """Hash of everything that decides the answers: the spec and the hashes of model, tokenizer and haystack."""
    return _digest({"format": FORMAT, "spec": _plain(spec), "sources": dict(sources)})


def key(run_identity: str, cell: Cell) -> str:
    """A cell's whole identity, in 16 hex digits."""
    place = [run_identity, int(cell.length), float(cell.depth), int(cell.repeat)]
    return _digest([*place, "control"] if cell.control else place)[:16]


def folder_name(spec: RunSpec, run_identity: str) -> str:
    """A readable name that differs where the identity does."""
    parts = (Path(spec.model).name, spec.task, Path(spec.haystack).stem)
    words = (re.sub(r"[^A-Za-z0-9.-]+", "-", p).strip("-.")[:_LONGEST_WORD] or "x" for p in parts)
    return "_".join([*words, run_identity[:8]])


def _plain(spec: RunSpec) -> dict[str, Any]:
    """`spec` as it stands in JSON; a depth 0 is 0.0 there, so that what is read back has the same hash.

    A setting that came later is left out where it is at its default: runs from before keep their identity. So are the
    options of the service, such as its address or how many workers: they decide how answers come, not which.
    """
    grid = asdict(spec.grid)
    lengths, depths = [int(n) for n in spec.grid.lengths], [float(d) for d in spec.grid.depths]
    grid |= {"lengths": lengths, "depths": depths, "repeats": int(spec.grid.repeats)}
    options = {name: value for name, value in spec.options.items() if name != "service"}
    plain = {**asdict(spec), "grid": grid, "options": options}
    for settings, name, default in ((grid, "max_repeats", None), (grid, "control", False), (plain, "temperature", 0.0)):
        if settings[name] == default:
            del settings[name]
    return plain


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it lies on disk: its folder, spec, identity, provenance by session, and one result a cell.

    Results of control cells, which hold no needle, stand apart in `controls`.
    """

    folder: Path
    spec: RunSpec
    identity: str
    sources: dict[str, str]
    sessions: list[dict[str, Any]]
    results: list[Result]
    controls: list[Result] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def all_results(self) -> list[Result]:
        """Results of all cells, those of controls last."""
        return [*self.results, *self.controls]

    @property
    def status(self) -> str:
        """One of "complete", "failed cells" and "partial"."""
        # What another tool measured need not fill a grid.
        if self.spec.engine != "import" and self.missing:
            return "partial"
        failed = any(r.status == "error" for r in self.all_results)
        return "failed cells" if failed else "complete"

    @property
    def asked(self) -> int:
        """Cells that the run ought to have, without controls: the grid, and the further repeats that were begun."""
        return len(self.results) if self.spec.engine == "import" else len(self.wanted())

    @property
    def missing(self) -> int:
        """Cells, controls included, that the run ought to have and has no result of, not even an error."""
        absent = len(self.wanted()) - len(self.results)
        return absent + len(set(self.spec.grid.controls())) - len(self.controls)

    def wanted(self) -> set[Cell]:
        """The grid's cells, and those of each further repeat of a length that was begun; without controls."""
        grid = self.spec.grid
        begun = {(r.length, r.repeat) for r in self.results if r.repeat >= grid.repeats}
        more = [cell for length, repeat in begun for cell in grid.column((length,), (repeat,))]
        return {*grid.cells(), *more}


def read(folder: Path) -> Run:
    """The run in `folder`, torn last line left out.

    Raises:
        StoreError: it is no run folder, or a file in it is damaged.
    """
    spec, run_identity, sources, sessions = _read_head(folder)
    lines, _ = rows.read(folder / "results.jsonl")
    grid = spec.grid
    measured = rows.latest(lines, [key(run_identity, c) for c in (*grid.cells(), *grid.extra())])
    controls = rows.latest(lines, [key(run_identity, c) for c in grid.controls()])
    return Run(folder, spec, run_identity, sources, sessions, measured, controls)


def find(root: Path, name: str) -> Path:
    """The folder of the run called `name` in `root`: a path, a whole name, or its unambiguous beginning or end.

    Runs that are another one scored again do not make that one's name ambiguous.

    Raises:
        StoreError: there is none, there are several, or the name climbs out of `root`.
    """
    if name and _is_run(Path(name)):
        return Path(name)
    if not name or "/" in name or name.startswith("."):
        raise StoreError(f"no run at '{name}'; `needle list` shows what there is")
    names = [r.name for r in folders(root)]
    fitting = [n for n in names if n == name] or [n for n in names if n.startswith(name) or n.endswith(name)]
    if len(fitting) > 1:
        fitting = _first(root, fitting)
    if len(fitting) != 1:
        what = f"{len(fitting)} runs fit '{name}': {', '.join(fitting)}" if fitting else f"no run '{name}' in '{root}'"
        raise StoreError(f"{what}; `needle list` shows what there is")
    return root / fitting[0]


def _first(root: Path, names: list[str]) -> list[str]:
    """Of the runs called so those that are not one of the others scored again: the first measurement is meant."""
    try:
        heads = [_read_head(root / name) for name in names]
    except StoreError:
        return names
    identities = {identity for _, identity, _, _ in heads}
    origins = [(sessions[0].get("rescored") or {}).get("identity") if sessions else None for *_, sessions in heads]
    return [name for name, origin in zip(names, origins, strict=True) if origin not in identities]


def folders(root: Path) -> list[Path]:
    """Run folders in `root`, newest first.

    Raises:
        StoreError: `root` is there but cannot be read.
    """
    if not os.path.isdir(root):
        return []
    try:
        found = [p for p in root.iterdir() if _is_run(p)]
        return sorted(found, key=lambda p: (p / "run.json").stat().st_mtime, reverse=True)
    except OSError as error:
        raise StoreError(f"'{root}' cannot be read ({error.strerror}); give another --output-dir") from error


def _is_run(folder: Path) -> bool:
    # os.path says no where pathlib raises: a name too long, a folder of somebody else's.
    return os.path.isfile(folder / "run.json")


class Writer:
    """An open run: what was done before, and `append` for what is finished now."""

    def __init__(self, run: Run, descriptor: int) -> None:
        self.run = run
        self._file = descriptor

    def append(self, result: Result) -> None:
        """Write one result so that it outlives a power cut.

        Raises:
            StoreError: the disk would not take it, or its score is none; what was there before is unharmed.
        """
        flaw = rows.flaw(result)
        if flaw:
            raise StoreError(f"cell {result.length}:{result.depth:g} is not kept: {flaw}; mend the scorer")
        line = rows.line(result)
        size = os.lseek(self._file, 0, os.SEEK_END)
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError as error:
            # A disk that refuses this as well keeps a torn line, which the next opening cuts off.
            with suppress(OSError):
                os.ftruncate(self._file, size)
            raise _refused(self.run.folder, error) from error


@contextmanager
def writing(root: Path, spec: RunSpec, sources: Mapping[str, str], session: Mapping[str, Any]) -> Iterator[Writer]:
    """Open the run of `spec` in `root` for appending, made new or gone on with.

    Raises:
        StoreError: the folder cannot be written, is damaged, or another process is writing it.
    """
    run_identity = identity(spec, sources)
    folder = root / folder_name(spec, run_identity)
    with _locked(folder):
        if not _is_run(folder):
            _write_head(folder, spec, run_identity, sources, [])
        run = _own(folder, run_identity)
        if not run.sessions or run.sessions[-1] != dict(session):
            _write_head(folder, spec, run_identity, sources, [*run.sessions, dict(session)])
        descriptor = _open_rows(folder)
        try:
            yield Writer(run, descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the run folder, made if need be, against other writers; the system lets go if the process dies."""
    lock = FileLock(folder / ".lock", timeout=_PATIENCE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise StoreError(f"'{folder}' is being written by another needle run; wait for it") from None
    except OSError as error:
        raise _refused(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _open_rows(folder: Path) -> int:
    """A descriptor that appends to the results, a torn last line cut off."""
    path = folder / "results.jsonl"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(descriptor, rows.read(path)[1])
        _sync_names(folder)
    except OSError as error:
        raise _refused(folder, error) from error
    return descriptor


def finished(root: Path, spec: RunSpec, sources: Mapping[str, str]) -> Run | None:
    """The run of `spec` in `root` if it is there, else None."""
    run_identity = identity(spec, sources)
    folder = root / folder_name(spec, run_identity)
    return _own(folder, run_identity) if _is_run(folder) else None


def _own(folder: Path, run_identity: str) -> Run:
    """The run in `folder`, which must be that of `run_identity`: names end in a part of it only."""
    run = read(folder)
    if run.identity != run_identity:
        raise StoreError(f"'{folder}' holds another run; move it away or give another --output-dir")
    return run


def _write_head(
    folder: Path, spec: RunSpec, run_identity: str, sources: Mapping[str, str], sessions: list[dict[str, Any]]
) -> None:
    """Put `run.json` in its place, whole. Only the lock's holder comes here, so one name beside it is enough."""
    head = {"format": FORMAT, "identity": run_identity, "spec": _plain(spec)}
    text = json.dumps({**head, "sources": dict(sources), "sessions": sessions}, indent=1)
    beside = folder / ".run.json.new"
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, folder / "run.json")
        _sync_names(folder)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise _refused(folder, error) from error


def _sync_names(folder: Path) -> None:
    """Make new names in `folder` outlive a power cut; not every system and file system lets a folder be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read_head(folder: Path) -> tuple[RunSpec, str, dict[str, str], list[dict[str, Any]]]:
    path = folder / "run.json"
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
        if head["format"] != FORMAT:
            raise StoreError(f"'{path}' has format {head['format']}, this version reads {FORMAT}; update needle")
        grid = head["spec"].pop("grid")
        lengths, depths = tuple(map(int, grid["lengths"])), tuple(map(float, grid["depths"]))
        more = {name: grid[name] for name in ("max_repeats", "control") if name in grid}
        spec = RunSpec(**head["spec"], grid=Grid(lengths, depths, int(grid["repeats"]), **more))
        run_identity, sources, sessions = head["identity"], head["sources"], head["sessions"]
        fits = run_identity == identity(spec, sources)
        sessions = [dict(session) for session in sessions]
    except OSError as error:
        raise StoreError(f"no run at '{folder}' ({error.strerror}); `needle list` shows what there is") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise StoreError(f"'{path}' is damaged ({what}); move the folder away and run again") from error
    if not fits:
        raise StoreError(
            f"'{path}' was changed by hand: its spec does not fit its identity; move the folder away and run again"
        )
    return spec, run_identity, sources, sessions


def _refused(folder: Path, error: OSError) -> StoreError:
    remedy = "free some space" if error.errno in _NO_SPACE else "give another --output-dir"
    return StoreError(f"'{folder}' cannot be written: {error.strerror}; {remedy}. What is finished is kept")
