"""The page that starts a run: the form, what it will cost, and the runs that were started here."""

from __future__ import annotations

import math
import shlex
import time
from typing import Any

import streamlit as st

from needle import grid, haystack, launch, planning, pocket, tasks
from needle.analysis import printable
from needle.errors import NeedleError, UsageError
from needle.launch import Ask, Launch
from needle.ui import _state, _text

EVERY = 2.0
"""Seconds between looks at the runs in the background."""
_OWN = "another, by its path or hub id"
_TEXT = "a text file or folder"
_SHOWN = 12  # launches; older ones are still in the folder
_ENDED = {0: "finished", 1: "finished, some cells failed", 2: "refused", 130: "stopped"}


def page() -> None:
    """Draw the page."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        ask = _form()
        if ask is not None:
            _cost(ask)
    with right:
        st.subheader("Started here")
        found, _ = launch.launches(_state.root())
        busy = any(launch.running(each) for each in found)
        st.fragment(_list, run_every=EVERY if busy else None)(busy)


def _form() -> Ask | None:
    """What is asked for; None, and why, where that is nothing that could be run."""
    st.subheader("What to measure")
    model = _choice("Model", [*reversed(pocket.NAMES), _OWN], "model", "Checkpoint folder or hub id")
    text = _choice("Haystack", [*haystack.BUNDLED, _TEXT], "haystack", "Path of the text file or folder")
    names = tasks.names()
    task: str = st.selectbox(
        "Task", names, names.index("number"), format_func=lambda name: f"{name}: {tasks.get(name).summary}",
        key="start-task",
    )  # fmt: skip
    short, long, count = st.columns(3)
    shortest = short.text_input("Shortest context", "1k", key="start-min", help="Tokens, as 1024 or 1k")
    longest = long.text_input("Longest context", "8k", key="start-max", help="Tokens, as 32768 or 32k")
    lengths = count.number_input("How many lengths", 1, 100, 8, key="start-lengths")
    deep, often, luck = st.columns(3)
    depths = deep.number_input("How many depths", 1, 101, 11, key="start-depths")
    repeats = often.number_input("Repeats", 1, 100, 1, key="start-repeats", help="Measurements a cell")
    seed = luck.number_input("Seed", 0, 2**31 - 1, 0, key="start-seed", help="All randomness comes from it")
    try:
        between = grid.size(shortest), grid.size(longest)
        if between[0] > between[1]:
            raise UsageError(f"the shortest context, {between[0]}, is longer than the longest, {between[1]}")
        asked = Ask(
            model=model.strip(),
            task=task,
            haystack=text.strip(),
            lengths=grid.spaced_lengths(*between, int(lengths)),
            depths=grid.spaced_depths(int(depths)),
            repeats=int(repeats),
            seed=int(seed),
        )
        launch.options(asked)
    except NeedleError as error:
        _text.warning(str(error), "This cannot be run yet")
        return None
    return asked


def _choice(label: str, options: list[str], key: str, own: str) -> str:
    """One of the options, or, where the last one is picked, what is typed into a field of its own."""
    picked: str = st.selectbox(label, options, key=f"start-{key}")
    return picked if picked != options[-1] else st.text_input(own, key=f"start-{key}-own")


def _cost(ask: Ask) -> None:
    """What the run would cost, when that is asked for, and then the button that starts it."""
    st.subheader("What it costs")
    command = shlex.join(["needle", "run", *launch.options(ask), f"--output-dir={_state.root()}"])
    st.code(_text.line(command), language=None, wrap_lines=True)
    if st.button("Show the cost", key="start-plan", icon=":material/calculate:"):
        st.session_state["_start-planned"] = ask
    if st.session_state.get("_start-planned") != ask:
        st.caption("The cost is worked out first; nothing is loaded or written for it.")
        return
    try:
        plan: dict[str, Any] = _planned(ask)
    except NeedleError as error:
        _text.error(str(error), "This cannot be run")
        return
    _show(plan)
    going = any(launch.running(each) and each.ask == ask for each in launch.launches(_state.root())[0])
    if going:
        st.info("This run is in progress.", icon=":material/hourglass_top:")
    if st.button("Start", type="primary", key="start-go", icon=":material/play_arrow:", disabled=going):
        try:
            launch.start(ask, _state.root())
        except NeedleError as error:
            _text.error(str(error), "The run could not be started")
            return
        st.rerun()


_planned = st.cache_data(launch.plan, show_spinner="working out the cost …", max_entries=64, ttl=600)


def _show(plan: dict[str, Any]) -> None:
    memory = plan["weights"] + plan["cache"] + plan["activations"]
    told = [
        ("Cells", f"{plan['cells']:,}"),
        ("Prefill", f"{_count(plan['planned_tokens'])} tokens"),
        ("One by one", f"{_count(plan['plain_tokens'])} tokens"),
        ("Work", planning.flops(plan["planned_flops"])),
        ("Less work", f"{plan['speedup']:.2f} ×"),
        ("Memory, about", _bytes(memory)),
    ]
    with st.container(horizontal=True, gap="medium"):
        for label, value in told:
            st.metric(label, value, width="content")


def _count(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def _bytes(count: float) -> str:
    return f"{count / 1024**3:,.1f} GiB" if count >= 1024**3 else f"{math.ceil(count / 1024**2):,} MiB"


def _list(busy: bool) -> None:
    """The launches, newest first, each with its last words."""
    found, damaged = launch.launches(_state.root())
    for line in damaged:
        _state.refuse(line)
    if not found:
        st.caption("Nothing was started here yet. A run that is started goes on when this page is closed.")
    for each in found[:_SHOWN]:
        _one(each)
    if len(found) > _SHOWN:
        st.caption(f"and {len(found) - _SHOWN} older ones")
    if busy and not any(launch.running(each) for each in found):
        st.rerun()  # the rest of the page has to know as well


def _one(each: Launch) -> None:
    going = launch.running(each)
    with st.container(border=True, key=f"launch-{each.id}"):
        _text.plain(f"{each.ask.model} · {each.ask.task} in {each.ask.haystack}")
        st.caption(f"{_status(each, going)} · started {time.strftime('%Y-%m-%d %H:%M', time.localtime(each.started))}")
        st.code("\n".join(map(printable, launch.tail(each))) or "…", language=None, wrap_lines=True)
        where = launch.folder(each)
        with st.container(horizontal=True):
            if where is not None and st.button("Open the run", key=f"open-{each.id}", icon=":material/grid_on:"):
                _state.go("heatmap", run=where.name)
            if going and st.button(
                "Stop" if each.stopped is None else "Stop at once", key=f"stop-{each.id}", icon=":material/stop:"
            ):
                _do(launch.stop, each)
            if not going and st.button("Forget", key=f"forget-{each.id}", help="Takes it off this list; the run stays"):
                _do(launch.forget, each)


def _do(what: Any, each: Launch) -> None:
    try:
        what(each)
    except NeedleError as error:
        _state.refuse(error)
        return
    st.rerun()


def _status(each: Launch, going: bool) -> str:
    if going:
        return "running" if each.stopped is None else "stopping, its cells so far are kept"
    code = launch.exit_code(each)
    if code is None:
        return "ended"
    return _ENDED.get(code, f"ended by signal {-code}" if code < 0 else f"ended with code {code}")
