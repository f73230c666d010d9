"""The page of a checkpoint series: the heatmap at each training step, and how each length fares over the steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import streamlit as st

from needle import figures
from needle import series as grouping
from needle.analysis import length_label
from needle.errors import NeedleError, StoreError
from needle.series import Series
from needle.store import Run
from needle.ui import _pictures, _state, _text

EVERY = 1.2
"""Seconds a step is shown while the series plays."""


def page() -> None:
    """Draw the page."""
    try:
        found = _found()
    except NeedleError as error:
        _state.refuse(error)
        return
    if not found:
        st.info("There is no checkpoint series here yet.", icon=":material/timeline:")
        st.caption(
            "Runs become a series where they differ in the training step of their model alone, which is read from "
            "its folder's name or its revision: `checkpoint-500`, `step_500`, `global_step500`."
        )
        st.code("for at in 500 1000 1500; do needle run out/checkpoint-$at --max-len 8k; done", language="sh")
        return
    one = _picked(found)
    if one is None:
        return
    if len(one.steps) == 1:
        st.info("This series has one step so far; with a second one it can be played.", icon=":material/timeline:")
    playing = _play(one)
    st.fragment(_step, run_every=EVERY if playing else None)(one)
    _over_steps(one)
    _table(one)
    _pictures.downloads(one.name, lambda: figures.played(one), lambda: grouping.table(one), "series")


def _found() -> list[Series]:
    """The series in the runs folder; runs that cannot be read are in none."""
    runs = []
    for where in (_state.folder(name) for name in _state.names()):
        kept = _stepped(str(where), _state.stamp(where))
        if kept is not None:
            runs.append(kept)
    return grouping.of(runs)


def _read_stepped(where: str, at: _state.Stamp) -> Run | None:
    """The run if its model names a training step; a damaged run is none, as the page of runs says."""
    del at  # part of the cache's key
    try:
        run = _state.run(Path(where).name)
    except StoreError:
        return None
    return run if grouping.step(run) is not None else None


_stepped = st.cache_resource(_read_stepped, show_spinner=False, max_entries=2000)


def _picked(found: list[Series]) -> Series | None:
    by_name = {one.name: one for one in found}
    # At first the one with the most steps.
    bad = _state.start("series", list(by_name), max(found, key=lambda one: len(one.steps)).name)
    if bad is not None:
        _state.refuse(f"no series '{bad}'; pick one from the list")
    name: str = st.selectbox(
        "Series",
        list(by_name),
        key="series",
        format_func=lambda name: f"{_text.line(name)} ({len(by_name[name].steps)} steps)",
    )
    _state.tell(series=name)
    return by_name.get(name)


def _play(one: Series) -> bool:
    """The switch between playing and standing still."""
    if len(one.steps) < 2:
        return False
    playing = bool(st.session_state.get("_series-playing"))
    if st.button(
        "Pause" if playing else "Play",
        icon=":material/pause:" if playing else ":material/play_arrow:",
        key="series-play",
    ):
        st.session_state["_series-playing"] = playing = not playing
        if playing and st.session_state.get("step") == one.steps[-1]:
            st.session_state["step"] = one.steps[0]
            st.session_state["_series-held"] = True
        st.rerun()
    return playing


def _step(one: Series) -> None:
    """The slider and the heatmap of the step it stands at; while it plays, one step further each time."""
    bad = _state.start("step", one.steps, one.steps[-1])
    if bad is not None:
        _state.refuse(f"the series has no step '{bad}'; its steps are {', '.join(map(str, one.steps))}")
    if st.session_state.get("_series-playing"):
        _advance(one)
    step = one.steps[0]
    if len(one.steps) > 1:
        step = st.select_slider("Training step", one.steps, key="step")
    _state.tell(step=str(step))
    run = one.runs[one.steps.index(step)]
    totals = _totals(one)
    row = totals.iloc[one.steps.index(step)]
    reach = "none" if math.isnan(row["effective"]) else length_label(int(row["effective"]))
    told = f"step {step:,} · mean {_share(row['mean'])} · effective length {reach}"
    _text.plain(f"{_text.line(figures.title(run))}\n{told}")
    lengths, depths = grouping.lengths(one), sorted({d for r in one.runs for d in r.spec.grid.depths})
    figure = figures.heatmap(grouping.frame(run), "", lengths=lengths, depths=depths)
    figure.update_layout(title=None, margin={"t": 10, "r": 10})
    _pictures.show(figure, "series-step")
    if st.button("Open this run", icon=":material/grid_on:", key="series-open"):
        _state.go("heatmap", run=run.name)


def _advance(one: Series) -> None:
    """Put the slider one step further; at the end the playing ends."""
    if st.session_state.pop("_series-held", False):
        return  # the first step is shown as long as the others
    at = one.steps.index(st.session_state["step"]) + 1
    if at >= len(one.steps):
        st.session_state["_series-playing"] = False
        st.rerun()
    st.session_state["step"] = one.steps[at]


def _totals(one: Series) -> Any:
    kept = tuple((run.name, _state.stamp(run.folder)) for run in one.runs)
    return _counted(one.name, kept, one)


def _count(name: str, at: tuple[Any, ...], _one: Series) -> Any:
    del name, at  # what the cache goes by
    return grouping.totals(_one)


_counted = st.cache_data(_count, show_spinner=False, max_entries=32)


def _over_steps(one: Series) -> None:
    left, right = st.columns(2)
    with left:
        st.subheader("Step by length")
        figure = figures.over_steps(one)
        figure.update_layout(title=None, margin={"t": 10, "r": 10})
        _pictures.show(figure, "series-over-steps")
    with right:
        st.subheader("Each length over the steps")
        figure = figures.steps_by_length(one)
        figure.update_layout(title=None, margin={"t": 30, "r": 10})
        _pictures.show(figure, "series-by-length")
    st.caption("Mean scores over all depths; the curves with 95 % intervals.")


def _table(one: Series) -> None:
    with st.expander(f"Numbers by step ({len(one.steps)})"):
        rows = [
            {
                "step": int(row["step"]),
                "mean": _share(row["mean"]),
                "95 % interval": f"{_share(row['low'])} to {_share(row['high'])}",
                "n": int(row["n"]),
                "effective length": "none" if math.isnan(row["effective"]) else length_label(int(row["effective"])),
                "run": _text.line(str(row["run"])),
            }
            for _, row in _totals(one).iterrows()
        ]
        st.dataframe(rows, hide_index=True)


def _share(mean: float) -> str:
    return "–" if math.isnan(mean) else f"{100 * mean:.1f} %"
