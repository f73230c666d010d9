"""What cells say under the pointer, in Plotly's small HTML; all that a model wrote is escaped."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from needle import analysis
from needle.analysis import depth_label, length_label
from needle.pairing import Pair

_ANSWERS_SHOWN = 3
_ANSWER_CHARACTERS = 180


def cell(length: int, depth: float, verdict: str, rows: Sequence[Any], between: tuple[float, float] | None) -> str:
    """A cell of one run: `verdict` is what is shown of it, `rows` its results, `between` its interval."""
    if len(rows) > 1:
        verdict += f", mean of {sum(row.status == 'ok' for row in rows)} of {len(rows)} repeats"
    lines = [_head(length, depth), f"{length:,} tokens · {verdict}"]
    if between is not None:
        lines.append(interval(*between))
    sure = [math.exp(row.answer_logprob) for row in rows if not math.isnan(row.answer_logprob)]
    if sure:
        lines.append(f"probability of the expected answer, a token: {percent(sum(sure) / len(sure))} %")
    used = [row.depth_used for row in rows if not math.isnan(row.depth_used)]
    if used:
        ends = dict.fromkeys(f"{100 * share:.2f}" for share in (min(used), max(used)))
        lines.append(f"needle really at {'–'.join(ends)} %")
    return "<br>".join([*lines, *_answers(rows)])


def _answers(rows: Sequence[Any]) -> Iterable[str]:
    for row in rows[:_ANSWERS_SHOWN]:
        said = row.error if row.status == "error" else row.answer
        yield f"<b>{escape(row.outcome)}</b>: {_quote(said or '(no text)')}"
    if len(rows) > _ANSWERS_SHOWN:
        yield f"and {len(rows) - _ANSWERS_SHOWN} more repeats"


def difference(length: int, depth: float, delta: float, pairs: Sequence[Pair]) -> str:
    """A cell of a difference of two runs."""
    lines = [_head(length, depth)]
    lines.append(f"difference {analysis.delta_label(delta)} %, {len(pairs)} pair{'s' if len(pairs) > 1 else ''}")
    lines += [f"{escape(p.first.outcome)} → {escape(p.second.outcome)}" for p in pairs[:_ANSWERS_SHOWN]]
    return "<br>".join(lines)


def interval(low: float, high: float) -> str:
    """A 95 % interval within 0–1, in whole per cent."""
    return f"95 % interval {analysis.score_label(low)}–{analysis.score_label(high)} %"


def percent(share: float) -> str:
    """A share 0–1 in per cent, four digits at most."""
    return f"{100 * share:.4g}"


def _head(length: int, depth: float) -> str:
    return f"<b>{length_label(length)} · depth {depth_label(depth)}</b>"


def _quote(text: str) -> str:
    """An answer on a few short lines, cut, with nothing in it that a page could take for markup."""
    flat = analysis.printable(" ".join(text.split()))
    cut = flat if len(flat) <= _ANSWER_CHARACTERS else flat[: _ANSWER_CHARACTERS - 1] + "…"
    return "<br>".join(escape(line) for line in textwrap.wrap(cut, 60))
