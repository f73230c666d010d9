"""Runs started in the background: `needle run` as a process of its own, which outlives whoever started it.

What is known of each lies in `runs/.launches/`: a record `<id>.json` and what the process wrote, `<id>.log`.
Processes are started without a shell, and what a user typed is the value of an option, never an option.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from needle import store
from needle.errors import StoreError, UsageError, one_line

PLACE = ".launches"
GRACE = 15.0
"""Seconds that an interrupted run gets to finish its cell before it is ended."""
_PLANNING = 300.0  # seconds; a hub model's tokenizer may have to be fetched first
_TAIL = 16_384  # bytes of a log that are looked at
_LOUD = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS")
_PROC = Path("/proc")

_children: dict[str, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a run: model, task, haystack, lengths (tokens), depths (0–1), repeats and seed."""

    model: str
    task: str
    haystack: str
    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    repeats: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Launch:
    """A run that was started: its process and when that began, in seconds since 1970 and as the system marks it.

    `stopped` is when it was asked to stop, in seconds since 1970.
    """

    id: str
    ask: Ask
    command: tuple[str, ...]
    pid: int
    mark: str
    started: float
    root: Path
    stopped: float | None = None

    @property
    def log(self) -> Path:
        """The file that holds what the process wrote."""
        return self.root / PLACE / f"{self.id}.log"


def options(ask: Ask) -> list[str]:
    """The options of `needle run` and `needle plan` that ask for this.

    Raises:
        UsageError: a text is empty, begins like an option or holds what no argument can.
    """
    texts = {"model": ask.model, "task": ask.task, "haystack": ask.haystack}
    for name, text in texts.items():
        if not text.strip():
            raise UsageError(f"no {name} given")
        if text.startswith("-"):
            raise UsageError(f"{name} '{text}' begins with a dash; write ./{text} if it is a path")
        if "\0" in text:
            raise UsageError(f"{name} {text!r} holds a NUL character")
    if not ask.lengths or not ask.depths:
        raise UsageError("a run needs at least one length and one depth")
    return [
        *(f"--{name}={text}" for name, text in texts.items()),
        f"--lengths={','.join(map(str, ask.lengths))}",
        f"--depths={','.join(f'{depth:.12g}' for depth in ask.depths)}",
        f"--repeats={ask.repeats}",
        f"--seed={ask.seed}",
    ]


def plan(ask: Ask) -> dict[str, Any]:
    """What the run would cost, as `needle plan --json` says it; a process of its own, since it imports torch.

    Raises:
        UsageError: the request cannot be carried out, or the answer took more than five minutes.
    """
    command = [sys.executable, "-m", "needle", "plan", "--json", *options(ask)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=_quiet(), timeout=_PLANNING, check=False
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"the plan took more than {_PLANNING:g} s; try `needle plan` in a terminal") from None
    except OSError as error:
        raise UsageError(f"`needle plan` cannot be started: {error.strerror}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise UsageError(one_line(said[-1]).removeprefix("needle: "))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def start(ask: Ask, root: Path) -> Launch:
    """Start the run in the background, its results in `root`, and return at once.

    Raises:
        UsageError: the request cannot be an argument, or the process cannot be started.
        StoreError: `root` cannot be written.
    """
    if os.name != "posix":
        raise UsageError("this system cannot start runs in the background; use `needle run` in a terminal")
    command = (sys.executable, "-m", "needle", "run", *options(ask), f"--output-dir={root}")
    name = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(3)
    try:
        (root / PLACE).mkdir(parents=True, exist_ok=True)
        with (root / PLACE / f"{name}.log").open("xb") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_quiet(), start_new_session=True
            )
    except OSError as error:
        raise StoreError(f"no run can be started in '{root}': {error.strerror}; mend that or use another") from error
    _children[name] = child
    launch = Launch(name, ask, command, child.pid, _mark(child.pid) or "", time.time(), root)
    try:
        _record(launch)
    except StoreError:
        child.terminate()
        raise
    return launch


def _quiet() -> dict[str, str]:
    """The environment, for a process that writes to a file."""
    return {k: v for k, v in os.environ.items() if k not in _LOUD} | {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def launches(root: Path) -> tuple[list[Launch], list[str]]:
    """The runs started in `root`, newest first, and a line for each record that cannot be read."""
    found, damaged = [], []
    for path in sorted((root / PLACE).glob("*.json"), reverse=True):
        try:
            found.append(_read(path, root))
        except FileNotFoundError:
            continue  # forgotten by another page since
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged.append(f"'{path}' is damaged ({one_line(error)}); delete it")
    return found, damaged


def _read(path: Path, root: Path) -> Launch:
    told = json.loads(path.read_text(encoding="utf-8"))
    ask = told["ask"]
    ask = Ask(**{**ask, "lengths": tuple(map(int, ask["lengths"])), "depths": tuple(map(float, ask["depths"]))})
    stopped = told["stopped"]
    return Launch(
        id=path.stem,
        ask=ask,
        command=tuple(map(str, told["command"])),
        pid=int(told["pid"]),
        mark=str(told["mark"]),
        started=float(told["started"]),
        root=root,
        stopped=None if stopped is None else float(stopped),
    )


def _record(launch: Launch) -> None:
    """Put the launch's record in its place, whole."""
    path = launch.root / PLACE / f"{launch.id}.json"
    beside = path.with_suffix(f".{secrets.token_hex(4)}")
    told = {k: v for k, v in asdict(launch).items() if k not in ("id", "root")}
    try:
        beside.write_text(json.dumps(told, indent=1), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StoreError(f"'{path}' cannot be written: {error.strerror}") from error


def running(launch: Launch) -> bool:
    """Whether the process still runs; one that has taken its number since is not it."""
    child = _children.get(launch.id)
    if child is not None:
        return child.poll() is None
    return bool(launch.mark) and _mark(launch.pid) == launch.mark


def exit_code(launch: Launch) -> int | None:
    """How the process ended; None while it runs, and where another process had started it."""
    child = _children.get(launch.id)
    return None if child is None else child.poll()


def _mark(pid: int) -> str | None:
    """What tells this process from all others that ever had its number; None if it has ended."""
    if pid < 2:
        return None
    return _mark_by_proc(pid) if (_PROC / "self" / "stat").exists() else _mark_by_ps(pid)


def _mark_by_proc(pid: int) -> str | None:
    """Linux: the start, in ticks since a boot that has a name (proc(5))."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        # The program's name, in parentheses, may hold anything.
        told = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if told[0] in (b"Z", b"X") else f"{boot} {int(told[19])}"


def _mark_by_ps(pid: int) -> str | None:
    """Other systems: the start as `ps` tells it, to the second."""
    ask = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    try:
        done = subprocess.run(ask, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False)
    except OSError:
        return None
    state, _, began = done.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else " ".join(began.split())


def stop(launch: Launch, grace: float = GRACE) -> Launch:
    """Interrupt the run as Ctrl-C does, and end it if it still runs `grace` seconds later; asked again, end it now.

    Finished cells are kept either way, and the same run goes on from them.

    Raises:
        StoreError: its record cannot be written; it is stopped all the same.
    """
    if not running(launch):
        return launch
    if launch.stopped is not None:
        _signal(launch, signal.SIGTERM)
        return launch
    _signal(launch, signal.SIGINT)
    later = threading.Timer(grace, _signal, (launch, signal.SIGTERM))
    later.daemon = True
    later.start()
    asked = replace(launch, stopped=time.time())
    _record(asked)
    return asked


def _signal(launch: Launch, what: signal.Signals) -> None:
    """Send `what` to the run and its helpers, if it still is the same process."""
    if running(launch):
        # It leads a session of its own, so its group's number is its own.
        with suppress(ProcessLookupError):
            os.killpg(launch.pid, what)


def tail(launch: Launch, lines: int = 8) -> list[str]:
    """The last lines that the process wrote, as they are: not fit for a screen before `analysis.printable`."""
    try:
        with launch.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
            text = log.read().decode("utf-8", "replace")
    except OSError as error:
        return [f"the log cannot be read: {error.strerror}"]
    # A progress bar returns to the start of its line: only where it got to is of interest.
    told = [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]
    return [line for line in told if line.strip()][-lines:]


def folder(launch: Launch) -> Path | None:
    """The run that this launch writes or wrote, or None if it has not begun to."""
    for line in reversed(tail(launch, lines=40)):
        if line.startswith("kept in "):
            kept = launch.root / Path(line.removeprefix("kept in ").strip()).name
            return kept if (kept / "run.json").is_file() else None
    for found in store.folders(launch.root):
        # `run.json` is written anew when a sitting begins; file systems may keep whole seconds only.
        if (found / "run.json").stat().st_mtime >= launch.started - 1 and _is_of(launch.ask, found):
            return found
    return None


def _is_of(ask: Ask, found: Path) -> bool:
    try:
        spec = store.read(found).spec
    except StoreError:
        return False
    grid = spec.grid
    same = (spec.task, spec.haystack, spec.seed, grid.lengths) == (ask.task, ask.haystack, ask.seed, ask.lengths)
    near = len(grid.depths) == len(ask.depths) and all(
        abs(one - other) < 1e-9 for one, other in zip(grid.depths, ask.depths, strict=True)
    )
    model = os.path.normpath(ask.model) if os.path.isdir(ask.model) else ask.model
    return same and near and spec.model == model and grid.repeats == ask.repeats


def forget(launch: Launch) -> None:
    """Delete the record and the log of a launch that has ended; its run stays.

    Raises:
        UsageError: it still runs.
        StoreError: they cannot be deleted.
    """
    if running(launch):
        raise UsageError(f"run {launch.id} still goes on; stop it first")
    try:
        launch.log.unlink(missing_ok=True)
        (launch.root / PLACE / f"{launch.id}.json").unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"'{launch.root / PLACE}' cannot be changed: {error.strerror}") from error
