"""The cells of a comparison: those that differ as a list, and one of them open in all runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from needle import pairing
from needle.analysis import depth_label, length_label, score_label
from needle.comparison import Comparison, Side
from needle.pairing import Place
from needle.types import Result
from needle.ui import _state, _text, cell

_KEY = "compare-cell"
_LISTED = 400


def section(found: Comparison) -> None:
    """List what differs, and open the cell that was picked here or clicked in a picture."""
    st.subheader("Cells")
    held = _held(found)
    changed, places = _places(found, held)
    differing = set(changed)
    st.caption(
        f"{len(changed)} of {len(places)} cells score differently. Click a cell in a picture, or pick one here: "
        "those that differ stand first."
    )
    if changed:
        with st.expander(f"Cells that differ ({len(changed)})"):
            st.dataframe(table(found).head(_LISTED), hide_index=True)
    by_name = {name(place): place for place in [*changed, *(p for p in places if p not in differing)]}
    bad = _state.start("cell", list(by_name), None, widget=_KEY)
    if bad is not None:
        _state.refuse(f"no cell '{bad}' is in all of these runs' grids; pick one below")
    wanted = st.session_state.pop("_compare-wanted", None)
    if wanted is not None:
        st.session_state[_KEY] = _clicked_name(wanted, by_name)
    picked: str | None = st.selectbox(
        "Open a cell",
        list(by_name),
        index=None,
        key=_KEY,
        format_func=lambda at: _label(held, by_name[at], by_name[at] in differing),
        placeholder="Length, depth, repeat",
    )
    _state.tell(cell=picked)
    if picked is not None:
        _open(found.sides, [results.get(by_name[picked]) for results in held], picked)


def clicked(points: Sequence[dict[str, Any]], where: str) -> None:
    """Remember a fresh click in the picture `where`, for `section` to open its cell."""
    places = [(int(point["customdata"][0]), float(point["customdata"][1])) for point in points if "customdata" in point]
    seen = st.session_state.setdefault("_compare-clicks", {})
    # A click on the selected cell takes its selection back; it is a click on it all the same.
    wanted = places or seen.get(where, [])
    if places != seen.get(where, []) and wanted:
        st.session_state["_compare-wanted"] = wanted[-1]
    seen[where] = places


def table(found: Comparison) -> pd.DataFrame:
    """One row a cell whose scores differ: where, and score, outcome and answer of each run."""
    held = _held(found)
    rows = []
    for place in _places(found, held)[0]:
        row: dict[str, Any] = {"length": place[0], "depth": place[1], "repeat": place[2]}
        for at, results in enumerate(held, 1):
            result = results.get(place)
            row |= {
                f"{at} score": None if result is None else result.score,
                f"{at} outcome": None if result is None else result.outcome,
                f"{at} answer": None if result is None else _text.line(result.answer),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def name(place: Place) -> str:
    """LENGTH:DEPTH:REPEAT, as the address bar and `needle show --cell` take it."""
    return f"{place[0]}:{place[1]:g}:{place[2]}"


def _held(found: Comparison) -> list[dict[Place, Result]]:
    """Each run's results by their place."""
    return [{pairing.place(r): r for r in side.run.results if not r.control} for side in found.sides]


def _places(found: Comparison, held: Sequence[dict[Place, Result]]) -> tuple[list[Place], list[Place]]:
    """The places where any run differs from the baseline, and all where any run has a result; in grid order."""
    changed = {pairing.place(pair.first) for contrast in found.contrasts for pair in contrast.changed}
    return sorted(changed), sorted({place for results in held for place in results})


def _clicked_name(at: tuple[int, float], by_name: dict[str, Place]) -> str | None:
    """The cell there: of its repeats one that differs, else the first; they stand in this order."""
    fitting = (told for told, p in by_name.items() if p[0] == at[0] and abs(p[1] - at[1]) < 1e-6)
    return next(fitting, None)


def _label(held: Sequence[dict[Place, Result]], place: Place, differs: bool) -> str:
    told = f"{length_label(place[0])} · depth {depth_label(place[1])} · repeat {place[2] + 1}"
    return f"{told}: {' → '.join(_brief(results.get(place)) for results in held)}" if differs else told


def _brief(result: Result | None) -> str:
    if result is None:
        return "not measured"
    return result.outcome if result.score is None else f"{score_label(result.score)} {result.outcome}"


def _open(sides: Sequence[Side], results: Sequence[Result | None], where: str) -> None:
    """All runs' answers in one table, then the baseline's cell and another's side by side."""
    told = [_answer(side, result) for side, result in zip(sides, results, strict=True)]
    st.dataframe(told, hide_index=True)
    at = 1
    if len(sides) > 2:
        labels = [_text.line(side.label) for side in sides]
        others = range(1, len(sides))
        at = st.selectbox("Beside the baseline", others, format_func=labels.__getitem__, key="compare-with")
    for column, number in zip(st.columns(2), (0, at), strict=True):
        side, result = sides[number], results[number]
        with column:
            _text.plain(side.label)
            if result is None:
                st.info("This run has not measured the cell.")
            else:
                cell.view(side.run, result, f"compare-{side.run.name}-{where}")


def _answer(side: Side, result: Result | None) -> dict[str, Any]:
    told: dict[str, Any] = {"run": _text.line(side.label)}
    if result is None:
        return told | {"outcome": "not measured"}
    score = None if result.score is None else f"{score_label(result.score)} %"
    said = result.error if result.status == "error" else result.answer
    return told | {"score": score, "outcome": result.outcome, "answer": _text.line(said or "")}
