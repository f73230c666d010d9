"""Requests side by side, begun in a given order, each with a time after which it is waited for no longer."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def run(
    order: Sequence[int], work: Callable[[int], T], workers: int, seconds: float, may: Callable[[int], bool]
) -> Iterator[tuple[int, T | None]]:
    """Each index of `order` and what `work` made of it, as they finish; None if that took longer than `seconds`.

    `may` is asked before an index is begun; once it says no while nothing is under way, the rest is left. Threads are
    daemons: a server that never ends its answer can neither hold up the run nor keep the process alive.
    """
    waiting, done = deque(order), queue.Queue[tuple[int, Future[T]]]()
    due: dict[int, float] = {}
    while waiting or due:
        while waiting and len(due) < workers and may(waiting[0]):
            index = waiting.popleft()
            due[index] = time.monotonic() + seconds
            threading.Thread(target=_do, args=(index, work, done), daemon=True).start()
        if not due:
            return
        try:
            index, future = done.get(timeout=max(0.0, min(due.values()) - time.monotonic()))
        except queue.Empty:
            late = min(due, key=due.__getitem__)
            del due[late]
            yield late, None
        else:
            # What comes after its time was given up already.
            if due.pop(index, None) is not None:
                yield index, future.result()


def _do(index: int, work: Callable[[int], T], done: queue.Queue[tuple[int, Future[T]]]) -> None:
    future: Future[T] = Future()
    try:
        future.set_result(work(index))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the caller's, in whose thread it is raised
        future.set_exception(error)
    done.put((index, future))
