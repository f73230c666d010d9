"""The page that compares runs: side by side on one scale, what changed, how sure that is, and cell by cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import streamlit as st

from needle import analysis, figures
from needle import comparison as comparing
from needle.analysis import length_label
from needle.bands import Band
from needle.certainty import Effective
from needle.comparison import Comparison, Contrast, Side
from needle.errors import NeedleError
from needle.store import Run
from needle.ui import _compare_cells, _pictures, _state, _text

MOST = 6
"""Runs that are compared at once; more would be too small to read."""
_ACROSS = 3  # pictures beside each other where there is room
_VALUE = 120


def page() -> None:
    """Draw the page."""
    try:
        names = _state.names()
    except NeedleError as error:
        _state.refuse(error)
        return
    if len(names) < 2:
        st.info("A comparison takes two runs; there are not as many here yet.", icon=":material/compare:")
        if st.button("Start a run", icon=":material/play_arrow:"):
            _state.go("start")
        return
    picked = _picked(names)
    if len(picked) < 2:
        st.info("Pick two to six runs. The first is the baseline that the others are held against.")
        return
    try:
        runs = [_state.run(name) for name in picked]
        found = _compared(tuple((name, _state.stamp(run.folder)) for name, run in zip(picked, runs, strict=True)), runs)
    except NeedleError as error:
        _text.error(str(error), "These cannot be compared")
        return
    _verdicts(found)
    lengths = sorted({n for side in found.sides for n in side.run.spec.grid.lengths})
    depths = sorted({d for side in found.sides for d in side.run.spec.grid.depths})
    _small_multiples(found.sides, lengths, depths)
    _differences(found, lengths, depths)
    _curves(found.sides)
    _tables(found)
    _compare_cells.section(found)
    title = f"{' and '.join(side.label for side in found.sides)} · {found.sides[0].run.spec.task}"
    _pictures.downloads(
        "compared", lambda: figures.compared(found, title), lambda: _compare_cells.table(found), "compare"
    )


def _compare(key: tuple[Any, ...], _runs: Sequence[Run]) -> Comparison:
    del key  # the runs' names and the state of their files, which the cache goes by
    return comparing.compare(_runs)


_compared = st.cache_resource(_compare, show_spinner="comparing …", max_entries=16)


def _picked(names: list[str]) -> list[str]:
    """The runs that are compared, as the address or the reader says; at first, two that can be."""
    default = [] if _state.told_all("runs") or "compare-runs" in st.session_state else _likely()
    for name in _state.start_many("runs", names, default, widget="compare-runs"):
        _refuse(name)
    st.session_state["compare-runs"] = st.session_state["compare-runs"][:MOST]
    picked: list[str] = st.multiselect(
        "Runs, the baseline first",
        names,
        key="compare-runs",
        format_func=_text.line,
        max_selections=MOST,
        placeholder="Pick runs",
    )
    if picked != st.session_state.get("_compare-shown", picked):
        _state.tell(cell=None)
    st.session_state["_compare-shown"] = list(picked)
    _state.tell(runs=picked)
    return picked


def _refuse(name: str) -> None:
    try:
        _state.folder(name)
    except NeedleError as error:
        _state.refuse(error)


def _likely() -> list[str]:
    """The newest run and the newest one before it that asks the same of another model; none if there is no such two."""
    sound = [entry for entry in _state.index() if entry.done]
    for at, newer in enumerate(sound):
        for older in sound[at + 1 :]:
            if (older.task, older.haystack) == (newer.task, newer.haystack) and older.model != newer.model:
                return [older.name, newer.name]
    return []


def _verdicts(found: Comparison) -> None:
    """What the tests say of each run against the baseline, and what stands in their way."""
    for contrast in found.contrasts:
        overall = contrast.overall
        icon = ":material/equal:"
        if overall.shown or any(band.shown for band in contrast.bands):
            icon = ":material/trending_up:" if overall.difference > 0 else ":material/trending_down:"
        with st.container(border=True):
            st.markdown(f"{icon} **What the paired test says** ({len(contrast.pairs)} pairs)")
            told = [contrast.verdict, *(f"note: {note}" for note in contrast.notes)]
            if contrast.effective_difference:
                told.insert(1, f"effective length differs by {contrast.effective_difference:+,} tokens")
            _text.plain("\n".join(map(_text.line, told)))


def _small_multiples(sides: Sequence[Side], lengths: list[int], depths: list[float]) -> None:
    st.subheader("Side by side")
    for at, (side, place) in enumerate(zip(sides, _places(len(sides)), strict=True)):
        with place:
            name = _text.line(side.label) + (" (baseline)" if at == 0 else "")
            _text.plain(f"{name}\nmean {_share(side.mean)} · effective length {_reach(side.effective)}")
            figure = figures.heatmap(side.frame, side.label, lengths=lengths, depths=depths)
            _fit(figure)
            key = f"compare-{side.run.name}"
            _compare_cells.clicked(_pictures.show(figure, key, select=True), key)


def _differences(found: Comparison, lengths: list[int], depths: list[float]) -> None:
    st.subheader("Difference from the baseline")
    places = _places(len(found.contrasts))
    for contrast, side, place in zip(found.contrasts, found.sides[1:], places, strict=True):
        with place:
            _text.plain(f"{contrast.second} − {contrast.first}")
            figure = figures.difference(contrast, lengths, depths)
            _fit(figure)
            key = f"compare-delta-{side.run.name}"
            _compare_cells.clicked(_pictures.show(figure, key, select=True), key)


def _places(count: int) -> list[Any]:
    """A place for each of so many pictures: rows of up to three, on a phone one below the other."""
    found: list[Any] = []
    while len(found) < count:
        found += st.columns(min(count, _ACROSS))
    return found[:count]


def _fit(figure: Any) -> None:
    """A figure among several: no title of its own, its scale below."""
    figure.update_layout(title=None, margin={"t": 10, "l": 60, "r": 10, "b": 40})
    bar = {"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0.5, "len": 0.9, "title": {"text": ""}}
    figure.update_traces(marker={"colorbar": bar}, selector={"type": "scatter"})
    figure.update_layout(height=figure.layout.height + 40)


def _curves(sides: Sequence[Side]) -> None:
    left, right = st.columns(2)
    with left:
        st.subheader("By context length")
        _pictures.show(figures.curves(sides, "length"), "compare-by-length")
    with right:
        st.subheader("By depth")
        _pictures.show(figures.curves(sides, "depth"), "compare-by-depth")
    st.caption("Mean scores with 95 % intervals. Dotted: the score that makes a length effective.")


def _tables(found: Comparison) -> None:
    """The numbers behind the verdicts, and in what the runs' settings differ."""
    for contrast in found.contrasts:
        with st.expander(f"Numbers by length ({len(contrast.pairs)} pairs)"):
            _text.plain(f"{contrast.second} against {contrast.first}; p by exact paired tests, corrected after Holm")
            st.dataframe([_row(band, contrast) for band in (*contrast.bands, contrast.overall)], hide_index=True)
    with st.expander(f"Settings that differ ({len(found.settings)})"):
        rows = [
            {"setting": f"{s.where}.{s.name}"}
            | {_column(side, at): _value(v) for at, (side, v) in enumerate(zip(found.sides, s.values, strict=True))}
            for s in found.settings
        ]
        st.dataframe(rows, hide_index=True)


def _column(side: Side, at: int) -> str:
    return f"{at + 1} {_text.line(side.label)}"


def _row(band: Band, contrast: Contrast) -> dict[str, Any]:
    told: dict[str, Any] = {"length": "all" if band.length is None else length_label(band.length), "pairs": band.n}
    if not band.n:
        return told
    return told | {
        "baseline": _share(band.first),
        _text.line(contrast.second): _share(band.second),
        "difference": f"{100 * band.difference:+.1f}",
        "95 % interval": "–" if math.isnan(band.low) else f"{100 * band.low:+.1f} to {100 * band.high:+.1f}",
        "won": band.gained,
        "lost": band.lost,
        "p (Holm)": "< 0.001" if band.adjusted < 0.001 else f"{band.adjusted:.3f}",
    }


def _share(mean: float) -> str:
    return "–" if math.isnan(mean) else f"{100 * mean:.1f} %"


def _reach(reach: Effective) -> str:
    if reach.length is None:
        return "none"
    return f"{length_label(reach.length)} ({analysis.sure_label(reach.confidence)})"


def _value(value: Any) -> str:
    text = "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    shown = analysis.printable(text)
    return shown if len(shown) <= _VALUE else shown[: _VALUE - 1] + "…"
