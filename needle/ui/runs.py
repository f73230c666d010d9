"""The page of all runs: a table to sort and filter, the leaderboard, and deletion behind a second click."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st
from filelock import FileLock, Timeout

from needle.analysis import length_label
from needle.errors import NeedleError, StoreError
from needle.ui import _state, _text
from needle.ui._state import Entry

ANY = "all"
MOST_COMPARED = 6

_LOCK = ".lock"


def page() -> None:
    """Draw the page."""
    try:
        entries = _state.index()
    except NeedleError as error:
        _state.refuse(error)
        return
    if not entries:
        st.info("There are no runs here yet. Start one on the page “Start a run”.", icon=":material/grid_on:")
        _text.plain(f"runs folder: {_state.root().absolute()}")
        return
    shown = _filtered(entries)
    every, best = st.tabs(["All runs", "Leaderboard"])
    with every:
        _table(shown)
    with best:
        _leaderboard(shown)


def _filtered(entries: Sequence[Entry]) -> list[Entry]:
    """The runs that fit the boxes above the table."""
    words, *boxes = st.columns([2, 1, 1, 1])
    if "runs-search" not in st.session_state:
        st.session_state["runs-search"] = _state.told("search") or ""
    text = words.text_input("Search", key="runs-search", placeholder="part of a name, model, task or haystack")
    _state.tell(search=text)
    shown = list(entries)
    for box, field in zip(boxes, ("task", "haystack", "status"), strict=True):
        known = sorted({str(getattr(e, field)) for e in entries} - {""})
        _state.start(field, [ANY, *known], ANY, widget=f"runs-{field}")
        wanted = box.selectbox(field.capitalize(), [ANY, *known], key=f"runs-{field}", format_func=_text.line)
        _state.tell(**{field: None if wanted == ANY else wanted})
        shown = [e for e in shown if wanted in (ANY, getattr(e, field))]
    for word in text.casefold().split():
        shown = [e for e in shown if word in f"{e.name} {e.model} {e.task} {e.haystack}".casefold()]
    st.caption(f"{len(shown)} of {len(entries)} runs")
    return shown


def _table(shown: list[Entry]) -> None:
    """All runs. Chosen rows can be opened, compared or deleted."""
    table = pd.DataFrame(
        {
            "Model": [_text.line(e.model or e.name) for e in shown],
            "Task": [_text.line(e.task) for e in shown],
            "Haystack": [_text.line(e.haystack) for e in shown],
            "Started (UTC)": pd.to_datetime(
                [e.started or None for e in shown], format="ISO8601", errors="coerce", utc=True
            ),
            "Effective length": _reaches(shown),
            "Mean score": _means(shown),
            "Measured": [e.done for e in shown],
            "Asked": [e.asked for e in shown],
            "Status": [e.status for e in shown],
            "Run": [_text.line(e.name) for e in shown],
        }
    )
    event = st.dataframe(
        table,
        hide_index=True,
        key="runs-table",
        on_select="rerun",
        selection_mode="multi-row",
        column_config=_COLUMNS,
        height="content" if len(shown) < 12 else 460,
    )
    chosen = [shown[row] for row in event["selection"]["rows"] if row < len(shown)]
    if chosen:
        _actions(chosen)
    else:
        st.caption("Choose rows by the boxes on their left to open, compare or delete them.")
    for entry in shown:
        if entry.error and (not chosen or entry in chosen):
            _text.error(entry.error, "A run is damaged")


_COLUMNS = {
    "Started (UTC)": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC"),
    "Effective length": st.column_config.NumberColumn(
        help="Tokens: the longest length whose mean, and that of all shorter ones, reaches 85.6 %", format="localized"
    ),
    "Mean score": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
}

_RANKING = {
    "Mean score": _COLUMNS["Mean score"],
    "How sure": st.column_config.NumberColumn(
        format="percent", help="Probability that the true means up to the effective length reach 85.6 %"
    ),
}


def _reaches(shown: Sequence[Entry]) -> pd.Series:
    return pd.Series([e.effective for e in shown], dtype="Int64")


def _means(shown: Sequence[Entry]) -> pd.Series:
    return pd.Series([e.mean for e in shown], dtype="float64")


def _leaderboard(shown: list[Entry]) -> None:
    """Runs that measured something, by effective length, then by mean."""
    ranked = [e for e in shown if e.done]
    ranked.sort(key=lambda e: (e.effective or 0, e.mean or 0.0), reverse=True)
    table = pd.DataFrame(
        {
            "Model": [_text.line(e.model) for e in ranked],
            "Task": [_text.line(e.task) for e in ranked],
            "Effective length": ["none" if e.effective is None else length_label(e.effective) for e in ranked],
            "How sure": pd.Series([e.confidence for e in ranked], dtype="float64"),
            "Mean score": _means(ranked),
            "Measured": [f"{e.done}/{e.asked}" for e in ranked],
            "Run": [_text.line(e.name) for e in ranked],
        },
        index=pd.RangeIndex(1, len(ranked) + 1, name="Rank"),
    )
    st.dataframe(table, key="runs-best", column_config=_RANKING)


def _actions(chosen: list[Entry]) -> None:
    """What can be done with the chosen rows. The first click on Delete only asks."""
    sound = [e.name for e in chosen if e.error is None]
    with st.container(horizontal=True):
        if len(chosen) == 1 and sound and st.button("Open", icon=":material/grid_on:", key="runs-open"):
            _state.go("heatmap", run=sound[0])
        if 2 <= len(sound) <= MOST_COMPARED and st.button("Compare", icon=":material/compare:", key="runs-compare"):
            _state.go("compare", runs=sound)
        if st.button("Delete …", icon=":material/delete:", key="runs-delete"):
            st.session_state["runs-doomed"] = [e.name for e in chosen]
    # Another choice of rows takes the question back.
    if st.session_state.get("runs-doomed") == [e.name for e in chosen]:
        _confirm([e.name for e in chosen])


def _confirm(doomed: list[str]) -> None:
    st.warning("Delete for good what is listed here?", icon=":material/delete:")
    _text.plain("\n".join(str(_state.folder(name).parent / _text.line(name)) for name in doomed))
    with st.container(horizontal=True):
        sure = st.button("Yes, delete", type="primary", key="runs-delete-sure")
        if st.button("Keep", key="runs-keep"):
            del st.session_state["runs-doomed"]
            st.rerun()
    if not sure:
        return
    del st.session_state["runs-doomed"]
    for name in doomed:
        try:
            delete(name)
        except NeedleError as error:
            _state.refuse(error)
            return
    del st.session_state["runs-table"]
    st.rerun()


def delete(name: str) -> None:
    """Delete the run called exactly `name`, and nothing that lies outside the runs folder.

    Raises:
        StoreError: there is none of that name, it is being written, its folder is a link, or it cannot be deleted.
    """
    where = _state.folder(name)
    if where.parent == _state.root() / _state.GALLERY:
        raise StoreError(f"'{name}' is an example that comes with needle, and stays")
    if where.is_symlink() or where.resolve().parent != _state.root().resolve():
        raise StoreError(f"'{name}' is a link to another folder and is not deleted; remove the link by hand")
    try:
        with FileLock(where / _LOCK, timeout=0):
            # Without its head it is no run any more, should the rest not go.
            (where / "run.json").unlink()
            _empty(where)
        shutil.rmtree(where)
    except Timeout:
        raise StoreError(f"'{name}' is being written by a needle run; stop that first") from None
    except OSError as error:
        raise StoreError(f"'{name}' cannot be deleted ({error.strerror}); mend its permissions") from error


def _empty(where: Path) -> None:
    """Delete what is in a folder, save the lock that is held meanwhile."""
    for path in where.iterdir():
        if path.name == _LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
