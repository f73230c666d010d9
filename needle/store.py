"""The only reader and writer of `runs/`: one folder a run, `run.json` and `results.jsonl`.

`run.json` is written whole before the first cell; `results.jsonl` gains one fsynced line a finished cell. A line that
a crash tore is cut off before the next append, so every finished cell is there once and no torn one counts.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock, Timeout

from needle.errors import StoreError
from needle.types import Cell, Grid, Outcome, Result, RunSpec

FORMAT = 1
_FIELDS = {f.name for f in fields(Result)}


def identity(spec: RunSpec, sources: Mapping[str, str]) -> str:
    """Hash of everything that decides the answers: the spec and the hashes of model, tokenizer and haystack."""
    return _digest({"format": FORMAT, "spec": asdict(spec), "sources": dict(sources)})


def key(run_identity: str, cell: Cell) -> str:
    """A cell's whole identity, in 16 hex digits."""
    return _digest([run_identity, cell.length, cell.depth, cell.repeat])[:16]


def folder_name(spec: RunSpec, run_identity: str) -> str:
    """A readable name that differs where the identity does."""
    parts = (Path(spec.model).name, spec.task, Path(spec.haystack).stem)
    return "_".join([*(re.sub(r"[^A-Za-z0-9.-]+", "-", p).strip("-.") or "x" for p in parts), run_identity[:8]])


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it lies on disk: its folder, spec, identity, provenance by session, and one result a cell."""

    folder: Path
    spec: RunSpec
    identity: str
    sources: dict[str, str]
    sessions: list[dict[str, Any]]
    results: list[Result]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def status(self) -> str:
        """"complete", "failed cells" or "partial"."""
        if len(self.results) < len(self.spec.grid.cells()):
            return "partial"
        return "failed cells" if any(r.status == "error" for r in self.results) else "complete"


def read(folder: Path) -> Run:
    """The run in `folder`, torn last line left out.

    Raises:
        StoreError: it is no run folder, or a file in it is damaged.
    """
    spec, run_identity, sources, sessions = _read_head(folder)
    rows, _ = _read_rows(folder / "results.jsonl")
    known = {key(run_identity, c): c for c in spec.grid.cells()}
    return Run(folder, spec, run_identity, sources, sessions, _latest(rows, known))


def find(root: Path, name: str) -> Path:
    """The folder of the run called `name` in `root`: a path, a whole name, or its unambiguous beginning or end.

    Raises:
        StoreError: there is none, there are several, or the name climbs out of `root`.
    """
    direct = Path(name)
    if (direct / "run.json").is_file():
        return direct
    if not name or "/" in name or name.startswith("."):
        raise StoreError(f"no run at '{name}'; `needle list` shows what there is")
    names = [r.name for r in folders(root)]
    fitting = [n for n in names if n == name] or [n for n in names if n.startswith(name) or n.endswith(name)]
    if len(fitting) != 1:
        what = f"{len(fitting)} runs fit '{name}': {', '.join(fitting)}" if fitting else f"no run '{name}' in '{root}'"
        raise StoreError(f"{what}; `needle list` shows what there is")
    return root / fitting[0]


def folders(root: Path) -> list[Path]:
    """Run folders in `root`, newest first."""
    if not root.is_dir():
        return []
    found = [p for p in root.iterdir() if (p / "run.json").is_file()]
    return sorted(found, key=lambda p: (p / "run.json").stat().st_mtime, reverse=True)


class Writer:
    """An open run: what was done before, and `append` for what is finished now."""

    def __init__(self, run: Run, descriptor: int) -> None:
        self.run = run
        self._file = descriptor

    def append(self, result: Result) -> None:
        """Write one result so that it outlives a power cut.

        Raises:
            StoreError: the disk would not take it; what was there before is unharmed.
        """
        line = json.dumps(asdict(result), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        size = os.lseek(self._file, 0, os.SEEK_END)
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, size)
            raise _refused(self.run.folder, error) from error


@contextmanager
def writing(
    root: Path, spec: RunSpec, sources: Mapping[str, str], session: Mapping[str, Any]
) -> Iterator[Writer]:
    """Open the run of `spec` in `root` for appending, made new or gone on with.

    Raises:
        StoreError: the folder cannot be written, is damaged, or another process is writing it.
    """
    run_identity = identity(spec, sources)
    folder = root / folder_name(spec, run_identity)
    with _locked(folder):
        if not (folder / "run.json").exists():
            _write_head(folder, spec, run_identity, sources, [])
        run = read(folder)
        if run.identity != run_identity:
            raise StoreError(f"'{folder}' holds another run; move it away or give another --output-dir")
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
    lock = FileLock(folder / ".lock", timeout=0)
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
        os.ftruncate(descriptor, _read_rows(path)[1])
    except OSError as error:
        raise _refused(folder, error) from error
    return descriptor


def finished(root: Path, spec: RunSpec, sources: Mapping[str, str]) -> Run | None:
    """The run of `spec` in `root` if it is there, else None."""
    folder = root / folder_name(spec, identity(spec, sources))
    return read(folder) if (folder / "run.json").is_file() else None


def _write_head(
    folder: Path, spec: RunSpec, run_identity: str, sources: Mapping[str, str], sessions: list[dict[str, Any]]
) -> None:
    head = {
        "format": FORMAT,
        "identity": run_identity,
        "spec": asdict(spec),
        "sources": dict(sources),
        "sessions": sessions,
    }
    try:
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".run-", delete=False, encoding="utf-8") as file:
            try:
                json.dump(head, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, folder / "run.json")
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise _refused(folder, error) from error


def _read_head(folder: Path) -> tuple[RunSpec, str, dict[str, str], list[dict[str, Any]]]:
    path = folder / "run.json"
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
        if head["format"] != FORMAT:
            raise StoreError(f"'{path}' has format {head['format']}, this version reads {FORMAT}; update needle")
        grid = head["spec"].pop("grid")
        spec = RunSpec(
            **head["spec"],
            grid=Grid(tuple(map(int, grid["lengths"])), tuple(map(float, grid["depths"])), int(grid["repeats"])),
        )
        run_identity, sources, sessions = head["identity"], head["sources"], head["sessions"]
    except OSError as error:
        raise StoreError(f"no run at '{folder}': {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"'{path}' is damaged ({error}); move the folder away and run again") from error
    if run_identity != identity(spec, sources):
        raise StoreError(f"'{path}' was changed by hand: its spec does not fit its identity; move the folder away")
    return spec, run_identity, sources, sessions


def _read_rows(path: Path) -> tuple[list[Result], int]:
    """Rows of whole lines, and the size in bytes of the part that is sound."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise StoreError(f"'{path}' cannot be read: {error.strerror}") from error
    sound = data.rfind(b"\n") + 1
    lines = data[:sound].split(b"\n")[:-1]
    return [_row(line, path, number) for number, line in enumerate(lines, 1)], sound


def _row(line: bytes, path: Path, number: int) -> Result:
    try:
        row = {k: v for k, v in json.loads(line.decode("utf-8", "surrogatepass")).items() if k in _FIELDS}
        result = Result(**{**row, "expected": tuple(row.get("expected", ()))})
        if result.status not in ("ok", "error") or result.outcome not in get_args(Outcome):
            raise ValueError(f"status '{result.status}', outcome '{result.outcome}'")
        if result.status == "ok" and not 0 <= float(result.score or 0) <= 1:
            raise ValueError(f"score {result.score}")
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"'{path}' line {number} is damaged ({error}); delete that line and run again") from error
    return result


def _latest(rows: list[Result], known: Mapping[str, Cell]) -> list[Result]:
    """One result a cell, in grid order: the last that is ok, else the last error; rows of other cells are left out."""
    best: dict[str, Result] = {}
    for row in rows:
        if row.key in known and (row.key not in best or best[row.key].status == "error" or row.status == "ok"):
            best[row.key] = row
    return [best[k] for k in known if k in best]


def _refused(folder: Path, error: OSError) -> StoreError:
    remedy = "free some space" if error.errno == errno.ENOSPC else "give another --output-dir"
    return StoreError(f"'{folder}' cannot be written: {error.strerror}; {remedy}. What is finished is kept")
