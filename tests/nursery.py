"""A nursery of `needle run`: it imports torch once and forks each run from there.

So dozens of processes can be killed in the time that one import takes. Run as a script this file is the nursery itself;
`opened` starts one.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import needle

LENGTHS, DEPTH_COUNT = (256, 384, 512), 5
CELLS = len(LENGTHS) * DEPTH_COUNT
HANGING = 45
"""Seconds after which a run that takes half a second is given up."""
NO_RUN, BEGUN = -2, -1
"""What `progress` counts before the first row: nothing at all, then a run without results."""


def build(folder: Path) -> None:
    """A haystack of a few hundred sentences, and a tiny Qwen2 that was never trained."""
    import models

    draw = random.Random(0)
    words = ("the", "boat", "river", "garden", "keeper", "light", "rain", "crossed", "found", "carried", "old", "quiet")
    sentences = [" ".join(draw.choices(words, k=draw.randint(4, 9))).capitalize() + "." for _ in range(300)]
    (folder / "haystack.txt").write_text(" ".join(sentences))
    models.build(folder / "tiny", "qwen2", chat=False, positions=1024, num_hidden_layers=1)


def arguments(folder: Path, root: Path, *more: str) -> list[str]:
    """The command line of a run, into `root`, of what `build` made in `folder`."""
    given = ["run", str(folder / "tiny"), "--haystack", str(folder / "haystack.txt"), "-o", str(root)]
    grid = ["--lengths", ",".join(map(str, LENGTHS)), "--depth-count", str(DEPTH_COUNT)]
    return [*given, *grid, "--plan", "cells", "--max-new-tokens", "4", *more]


def progress(root: Path) -> int:
    """Rows of the run in `root`, or how far it is from its first."""
    if not any(root.glob("*/run.json")):
        return NO_RUN
    files = list(root.glob("*/results.jsonl"))
    return sum(f.read_bytes().count(b"\n") for f in files) if files else BEGUN


def serve(folder: Path) -> None:
    """Answer each line on stdin, an order, with one on stdout: the exit code and the seconds that the run took."""
    from tqdm import tqdm

    talk = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Its own lock is one for all forks: whoever is killed with it would leave the others waiting.
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0
    build(folder)
    # A first run, here, so that all is imported before anything is forked.
    needle_run(arguments(folder, folder / "first"))
    # What is there already would be copied if a child's collector touched it.
    gc.freeze()
    print("ready", file=talk, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        began, child = time.monotonic(), os.fork()
        if not child:
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = needle_run(order["arguments"])
            sys.stdout.flush()
            # Without the interpreter's own end, which takes longer than the run.
            os._exit(code)
        code = watch(child, order, began)
        print(json.dumps([code, time.monotonic() - began]), file=talk, flush=True)


def needle_run(arguments: list[str]) -> int:
    """What the console script does, and its exit code."""
    from needle.cli import main

    sys.argv = ["needle", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def watch(child: int, order: Mapping[str, Any], began: float) -> int:
    """Wait for a child, and send it the ordered signal once the ordered seconds have gone by or rows are there."""
    pending = order["signal"]
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        late = order["seconds"] is not None and time.monotonic() - began >= order["seconds"]
        far = order["rows"] is not None and progress(Path(order["root"])) >= order["rows"]
        if pending and (late or far):
            os.kill(child, pending)
            pending = None
        if time.monotonic() - began > HANGING:
            # Prints where it hangs, and dies.
            os.kill(child, signal.SIGABRT)
        time.sleep(0.0005)


@dataclass
class Nursery:
    """`needle run` on the tiny model, as often as you like."""

    folder: Path
    process: subprocess.Popen[str]

    def run(
        self, root: Path, *more: str, seconds: float | None = None, rows: int | None = None, signum: int | None = None
    ) -> tuple[int, float]:
        """Exit code and seconds of one run, which gets the signal after so many seconds or with so many rows there."""
        given = arguments(self.folder, root, *more)
        (self.folder / "log").write_text("")
        order = {"arguments": given, "root": str(root), "log": str(self.folder / "log")}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({**order, "seconds": seconds, "rows": rows, "signal": signum}) + "\n")
        self.process.stdin.flush()
        code, took = json.loads(self.process.stdout.readline())
        return code, took

    def said(self) -> str:
        """What the last run printed, stdout and stderr."""
        return " ".join((self.folder / "log").read_text().split())


def environment() -> dict[str, str]:
    one_thread = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **one_thread, "PYTHONPATH": str(Path(needle.__file__).parents[1])}


@contextmanager
def opened(folder: Path) -> Iterator[Nursery]:
    """A nursery that works in `folder`."""
    command = [sys.executable, __file__, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment(), **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "ready\n"
        yield Nursery(folder, process)
        process.stdin.close()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
