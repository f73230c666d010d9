"""The page of one run: its heatmap, what it comes to, and the cell that was opened."""

from __future__ import annotations

import math
import time
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from needle import analysis, figures
from needle.analysis import Summary, depth_label, length_label
from needle.errors import NeedleError
from needle.store import Run
from needle.types import Result
from needle.ui import _pictures, _state, _text, cell

METRICS = {
    "score": "Score",
    "probability": "Probability",
    "outcome": "Outcome",
    "interval": "Interval",
}
PALETTES = {"traffic": "Red to green", "safe": "Colour-blind safe"}
CHART = "heatmap"
"""The chart's key: `session_state[CHART]` holds what is selected in it."""
EVERY = 2.0
"""Seconds between looks at a run in progress."""


def page() -> None:
    """Draw the page."""
    try:
        names = _state.names()
    except NeedleError as error:
        _state.refuse(error)
        return
    if not names:
        _nothing_yet()
        return
    name = _chosen(names)
    if name is None:
        return
    try:
        run = _state.run(name)
    except NeedleError as error:
        _text.error(str(error), "This run is damaged")
        return
    _place(run)
    if _state.being_written(run.folder):
        st.fragment(_picture, run_every=EVERY)(name, live=True)
    else:
        _picture(name, live=False)
    _cell(run)


def _nothing_yet() -> None:
    st.info("There are no runs here yet. Start one, or type in a terminal:", icon=":material/grid_on:")
    st.code("needle run pocket-32k --max-len 8k", language=None)
    _text.plain(f"runs folder: {_state.root().absolute()}")
    if st.button("Start a run", icon=":material/play_arrow:"):
        _state.go("start")


def _chosen(names: list[str]) -> str | None:
    """The run that is looked at; None, and a word on it, where the address names one that is not there."""
    said = _state.start("run", names, names[0])
    if said is not None:
        try:
            _state.folder(said)
        except NeedleError as error:
            _state.refuse(error)
        st.selectbox("Run", names, index=None, key="run-instead", format_func=_text.line, on_change=_instead)
        return None
    name: str = st.selectbox("Run", names, key="run", format_func=_text.line)
    if name != st.session_state.get("_run_shown", name):
        # Another run's cells are not this one's.
        _state.tell(cell=None)
    st.session_state["_run_shown"] = name
    _state.tell(run=name)
    return name


def _instead() -> None:
    st.session_state["run"] = st.session_state["run-instead"]
    _state.tell(run=st.session_state["run"], cell=None)


def _picture(name: str, live: bool) -> None:
    """Strip, toggles and heatmap. Of a run in progress this part alone is drawn again and again."""
    try:
        run, summary, frame = _state.run(name), _state.summary(name), _state.frame(name)
    except NeedleError as error:
        _state.refuse(error)
        return
    if live:
        if _clicked() is not None:
            st.rerun()
        _progress(run, summary)
        if not _state.being_written(run.folder):
            st.rerun()
    elif run.status == "partial":
        st.info("This run is not complete. The command that made it goes on from here.", icon=":material/pause:")
    _text.plain(_title(run))
    _strip(run, summary)
    metric, palette = _toggles(frame)
    figure = _figure(run, frame, metric, palette)
    # Drawn anew after every click, the chart has nothing selected again, and dims nothing.
    figure.update_layout(title=None, margin={"t": 16, "r": 10}, meta={"clicks": st.session_state.get("_clicks", 0)})
    _pictures.outline(figure, run.spec.grid, st.session_state.get("cell-length"), st.session_state.get("cell-depth"))
    _pictures.show(figure, CHART, select=True)
    _pictures.downloads(
        name, lambda: _figure(run, frame, metric, palette), lambda: analysis.frame(run.all_results), "run"
    )


def _title(run: Run) -> str:
    spec = run.spec
    return f"{spec.model} · {spec.task} in {spec.haystack} · n = {spec.grid.repeats} a cell"


def _figure(run: Run, frame: pd.DataFrame, metric: str, palette: str) -> go.Figure:
    grid = run.spec.grid
    more: dict[str, Any] = {"lengths": grid.lengths, "depths": grid.depths, "value": metric, "palette": palette}
    return figures.heatmap(frame, _title(run), **more)


def _toggles(frame: pd.DataFrame) -> tuple[str, str]:
    """What the colours stand for, and which they are."""
    known = list(METRICS) if frame["answer_logprob"].notna().any() else [m for m in METRICS if m != "probability"]
    left, right = st.columns([3, 2])
    with left:
        metric = _toggle("Cells show", "metric", {m: METRICS[m] for m in known})
    with right:
        palette = _toggle("Colours", "palette", PALETTES)
    return metric, palette


def _toggle(label: str, key: str, options: dict[str, str]) -> str:
    _state.start(key, list(options), next(iter(options)))
    said: str | None = st.segmented_control(label, list(options), format_func=options.__getitem__, key=key)
    # A second click on what is chosen chooses nothing.
    value = said or next(iter(options))
    _state.tell(**{key: value if value != next(iter(options)) else None})
    return value


def _progress(run: Run, summary: Summary) -> None:
    """How far a run in progress is, how fast it goes as seen from here, and how long it will take at that rate."""
    finished = summary.done + summary.failed
    since, before = st.session_state.setdefault(f"_watched-{run.name}", (time.monotonic(), finished))
    gone, fresh = time.monotonic() - since, finished - before
    said = f"Running: {finished} of {summary.asked} cells"
    if fresh > 0:
        rate = fresh / gone
        said += f", {rate:.2g} cells a second, about {_span((summary.asked - finished) / rate)} left"
    st.progress(min(finished / max(summary.asked, 1), 1.0), said)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _strip(run: Run, summary: Summary) -> None:
    """A run in a few numbers."""
    reach, worst = summary.effective_length, min(summary.lengths, key=lambda row: row.mean, default=None)
    told = [
        ("Mean score", "–" if summary.mean is None else _percent(summary.mean), None),
        ("Effective length", "none" if reach is None else length_label(reach), _sure(summary)),
        ("Worst length", "–" if worst is None else f"{length_label(worst.length)}: {_percent(worst.mean)}", None),
        ("Cells", f"{summary.done}/{summary.asked}", f"{summary.failed} failed" if summary.failed else None),
        *_saved(run),
        ("Time", _span(summary.seconds), None),
    ]
    with st.container(horizontal=True, gap="medium"):
        for label, value, note in told:
            st.metric(label, value, note, delta_color="off", delta_arrow="off", width="content")


def _percent(share: float) -> str:
    return f"{analysis.score_label(share)} %"


def _sure(summary: Summary) -> str | None:
    """How sure the effective length is; of a run that is not whole it is no random sample that speaks."""
    confidence = summary.effective_confidence
    if confidence is None or math.isnan(confidence):
        return None
    return "so far" if summary.done < summary.asked else analysis.sure_label(confidence)


def _saved(run: Run) -> list[tuple[str, str, str | None]]:
    """The share of prefill tokens that the plan spared, where the run recorded it."""
    plan = run.sessions[-1].get("plan") if run.sessions else None
    if not isinstance(plan, dict) or not plan.get("plain_tokens"):
        return []
    share = 1 - plan.get("planned_tokens", plan["plain_tokens"]) / plan["plain_tokens"]
    return [("Prefill spared", _percent(share), f"of {plan['plain_tokens']:,} tokens")]


def _clicked() -> tuple[int, float] | None:
    """The (length, depth) that was clicked since the last look. It is looked up before the chart is drawn anew."""
    state = st.session_state.get(CHART)
    points: list[dict[str, Any]] = state["selection"]["points"] if state else []
    now = [tuple(point["customdata"][:2]) for point in points if point.get("customdata")]
    before = st.session_state.get("_clicked", [])
    st.session_state["_clicked"] = now
    # The chart goes on reporting a click until it has been drawn anew.
    if not now or now == before:
        return None
    length, depth = now[-1]
    st.session_state["_clicks"] = st.session_state.get("_clicks", 0) + 1
    st.session_state["cell-length"], st.session_state["cell-depth"] = int(length), float(depth)
    return int(length), float(depth)


def _cell(run: Run) -> None:
    """The choice of a cell by keyboard, and the cell that is open."""
    if not run.results:
        return
    st.divider()
    result = _pick(run)
    if result is None:
        return
    _state.tell(cell=cell.name(result))
    cell.view(run, result, "cell", beside=True)


def _pick(run: Run) -> Result | None:
    """The result in the boxes drawn here, which follow clicks and the address, too."""
    by_place: dict[tuple[int, float], dict[int, Result]] = {}
    for result in run.results:
        by_place.setdefault((result.length, result.depth), {})[result.repeat] = result
    boxes = st.columns(3)
    length = boxes[0].selectbox(
        "Length", _lengths(run), key="cell-length", format_func=length_label, placeholder="click a cell, or choose"
    )
    depth = boxes[1].selectbox(
        "Depth", _depths(run), key="cell-depth", format_func=depth_label, placeholder="and a depth"
    )
    if length is None or depth is None:
        _state.tell(cell=None)
        return None
    repeats = by_place.get((length, depth))
    if not repeats:
        st.info("This cell has not been measured.")
        return None
    if st.session_state.get("cell-repeat") not in repeats:
        st.session_state["cell-repeat"] = min(repeats)
    repeat = boxes[2].selectbox("Repeat", sorted(repeats), key="cell-repeat", disabled=len(repeats) == 1)
    return repeats[repeat]


def _lengths(run: Run) -> list[int]:
    return sorted({*run.spec.grid.lengths, *(r.length for r in run.results)})


def _depths(run: Run) -> list[float]:
    return sorted({*run.spec.grid.depths, *(r.depth for r in run.results)})


def _place(run: Run) -> None:
    """Set the boxes, before anything is drawn, to the cell that was clicked or that the address names."""
    said = _state.changed("cell")
    if _clicked() is None and said is not None:
        found = next((r for r in run.results if cell.name(r) == said), None)
        if found is None:
            _text.warning(f"run '{run.name}' has no result at {said}", "No such cell")
            _state.tell(cell=None)
        else:
            for part in ("length", "depth", "repeat"):
                st.session_state[f"cell-{part}"] = getattr(found, part)
    for box, known in (("cell-length", _lengths(run)), ("cell-depth", _depths(run))):
        if st.session_state.get(box) not in known:
            st.session_state[box] = None
