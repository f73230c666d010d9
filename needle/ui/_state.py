"""What the pages know: the runs folder, cached reads of it, and what is on screen as the address bar says it.

Nothing out of the address bar reaches the file system: a run's name counts only if the runs folder holds that name.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from filelock import FileLock, Timeout

from needle import analysis, certainty, store
from needle.analysis import Summary, printable
from needle.errors import NeedleError, StoreError, one_line
from needle.store import Run
from needle.ui import _text

Stamp = tuple[int, int, int, int]
"""Modification times (ns) and sizes (bytes) of a run's two files: another stamp, another content."""

_FILES = ("run.json", "results.jsonl")


def root() -> Path:
    """The runs folder: `-- --output-dir DIR` on Streamlit's command line, else NEEDLE_RUNS, else `runs`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output-dir", default=os.environ.get("NEEDLE_RUNS") or "runs")
    return Path(parser.parse_known_args(sys.argv[1:])[0].output_dir)


GALLERY = "gallery"
"""The folder in the runs folder that holds the examples that come with the project."""


def names() -> list[str]:
    """Names of all runs, newest first, and after one's own those of the gallery, by name; reads none of them.

    Raises:
        StoreError: the runs folder cannot be read.
    """
    return list(_folders())


def _folders() -> dict[str, Path]:
    """Each run's folder by its name; one's own run goes before an example of the same name."""
    # Examples were all written at once, by a checkout: they go by name.
    found = [*store.folders(root()), *sorted(store.folders(root() / GALLERY))]
    kept: dict[str, Path] = {}
    for each in found:
        kept.setdefault(each.name, each)
    return kept


def folder(name: str) -> Path:
    """The folder of the run that is called exactly `name`.

    Raises:
        StoreError: the runs folder has none of that name; a name that climbs out of it never is one.
    """
    shown = printable(name)[:120]
    if name in (".", "..") or any(sign in name for sign in "/\\\0") or name != Path(name).name:
        raise StoreError(f"'{shown}' is refused: a run's name does not lead out of '{root()}'; pick one from the list")
    found = _folders().get(name)
    if found is None:
        raise StoreError(f"no run '{shown}' in '{root()}'; pick one from the list")
    return found


def stamp(of: Path) -> Stamp:
    """What tells one state of a run's files from the next; zeros for a file that is not there."""
    found: list[int] = []
    for file in _FILES:
        try:
            told = (of / file).stat()
            found += [told.st_mtime_ns, told.st_size]
        except OSError:
            found += [0, 0]
    return found[0], found[1], found[2], found[3]


def run(name: str) -> Run:
    """The run called `name`, from the cache while its files stand still. Shared between readers: change nothing in it.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    where = folder(name)
    kept: Run = _read(str(where), stamp(where))
    return kept


def frame(name: str) -> pd.DataFrame:
    """`analysis.frame` of the run's results, cached; a copy of your own."""
    where = folder(name)
    table: pd.DataFrame = _frame(str(where), stamp(where))
    return table


def summary(name: str) -> Summary:
    """`analysis.summary` of the run, cached."""
    where = folder(name)
    kept: Summary = _summary(str(where), stamp(where))
    return kept


def _read_run(where: str, at: Stamp) -> Run:
    del at  # part of the cache's key
    return store.read(Path(where))


def _read_frame(where: str, at: Stamp) -> pd.DataFrame:
    return analysis.frame(_read(where, at).results)


def _read_summary(where: str, at: Stamp) -> Summary:
    found = _read(where, at)
    return analysis.of(found)


@dataclass(frozen=True, slots=True)
class Entry:
    """A run in a list. Of a damaged one only `name`, `status` "damaged" and `error` say something.

    `started` is UTC, as 2026-01-31T12:00:00Z, "" where unknown; `status` is "complete", "failed cells", "partial",
    "running" or "damaged"; `mean` and `effective` (tokens) are None where nothing supports them.
    """

    name: str
    model: str = ""
    task: str = ""
    haystack: str = ""
    started: str = ""
    asked: int = 0
    done: int = 0
    failed: int = 0
    mean: float | None = None
    effective: int | None = None
    confidence: float | None = None
    status: str = "damaged"
    error: str | None = None


def index() -> list[Entry]:
    """Every run, newest first, damaged ones included. Reads only what has changed.

    Raises:
        StoreError: the runs folder cannot be read.
    """
    return [_entry(str(where), stamp(where), being_written(where)) for where in _folders().values()]


def _read_entry(where: str, at: Stamp, writing: bool) -> Entry:
    """Means and lengths without pandas: a folder of hundreds of runs is listed at once."""
    del at
    name = Path(where).name
    try:
        # Not through `_read`: a list of hundreds would push the open runs out of its cache.
        found = store.read(Path(where))
    except NeedleError as error:
        return Entry(name, error=one_line(error))
    scores: dict[int, list[float]] = {length: [] for length in found.spec.grid.lengths}
    for result in found.results:
        if result.status == "ok" and result.score is not None:
            scores.setdefault(result.length, []).append(result.score)
    done = sum(map(len, scores.values()))
    sound = ((r.length, r.depth, r.score) for r in found.results if r.status == "ok" and r.score is not None)
    reach = certainty.effective_length(scores)
    return Entry(
        name=name,
        model=found.spec.model,
        task=found.spec.task,
        haystack=found.spec.haystack,
        started=str(found.sessions[0].get("started", "")) if found.sessions else "",
        asked=found.asked,
        done=done,
        failed=len(found.results) - done,
        mean=analysis.cell_mean(sound),
        effective=reach.length,
        confidence=None if reach.length is None else reach.confidence,
        status="running" if writing else found.status,
    )


_read = st.cache_resource(_read_run, show_spinner=False, max_entries=64)
_frame = st.cache_data(_read_frame, show_spinner=False, max_entries=32)
_summary = st.cache_data(_read_summary, show_spinner=False, max_entries=64)
_entry = st.cache_data(_read_entry, show_spinner=False, max_entries=2000)


def being_written(where: Path) -> bool:
    """Whether a process holds the run's lock now."""
    lock = where / ".lock"
    if not lock.exists():
        return False
    try:
        # Held for an instant, and only where a writer has been before.
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        # A folder that we may only read is not one that we would see written.
        return False


def told(key: str) -> str | None:
    """What the address bar says of `key`, or None."""
    value: str | None = st.query_params.get(key)
    return value


def told_all(key: str) -> list[str]:
    """All that the address bar says of `key`, which may stand there several times."""
    values: list[str] = st.query_params.get_all(key)
    return values


def tell(**values: str | Sequence[str] | None) -> None:
    """Put what is on screen into the address bar: `tell(run=…, cell=…)`; None or nothing takes a key away."""
    for key, value in values.items():
        _seen()[key] = value
        if not value:
            if key in st.query_params:
                del st.query_params[key]
        elif (told_all(key) if not isinstance(value, str) else [told(key)]) != (
            list(value) if not isinstance(value, str) else [value]
        ):
            st.query_params[key] = value if isinstance(value, str) else list(value)


def changed(key: str) -> str | None:
    """What the address bar says of `key`, if that is not what `tell` put there: a link was followed."""
    said = told(key)
    return said if said != _seen().get(key) else None


def start(key: str, options: Sequence[Any], default: Any, widget: str | None = None) -> str | None:
    """Before a widget is drawn: let its state (`session_state[widget or key]`) begin at what the address bar says.

    The address wins when it was changed from outside; else what the widget holds, else what it last held in this
    session (also on another page), else `default`. Texts of `options` count. Returns what the address said if that
    is none of them, so that the page can refuse it in words. After the widget, call `tell`.
    """
    widget, by_text = widget or key, {str(option): option for option in options}
    said, last = told(key), _seen().get(key)
    if said is not None and (said != last or widget not in st.session_state):
        if said in by_text:
            st.session_state[widget] = by_text[said]
            return None
        st.session_state[widget] = default
        return said
    if st.session_state.get(widget) not in options:
        st.session_state[widget] = by_text.get(str(last), default)
    return None


def start_many(key: str, options: Sequence[str], default: Sequence[str], widget: str | None = None) -> list[str]:
    """`start` for a widget that holds several options; returns those that the address named and that are none."""
    widget, said, last = widget or key, told_all(key), _seen().get(key)
    if said and (said != last or widget not in st.session_state):
        st.session_state[widget] = list(dict.fromkeys(name for name in said if name in options))
        return [name for name in said if name not in options]
    if widget not in st.session_state or not set(st.session_state[widget]) <= set(options):
        kept = last if isinstance(last, list | tuple) else default
        st.session_state[widget] = [name for name in kept if name in options]
    return []


def _seen() -> defaultdict[str, Any]:
    """What was last put into the address bar, by key."""
    kept: defaultdict[str, Any] = st.session_state.setdefault("_seen", defaultdict(lambda: None))
    return kept


def go(module: str, **params: str | Sequence[str]) -> None:
    """Open another page of the app (a key of `needle.ui.PAGES`) with `params` in the address bar."""
    pages = st.session_state.get("_pages", {})
    for key, value in params.items():
        _seen()[key] = None
        st.session_state.pop(key, None)
        st.query_params[key] = value if isinstance(value, str) else list(value)
    if module in pages:
        st.switch_page(pages[module], query_params=params)


def refuse(error: object) -> None:
    """One plain line of red: what is wrong and what to do. Nothing in it is Markdown."""
    _text.error(one_line(error))
