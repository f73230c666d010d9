"""Which cells of two runs may be compared: those with identical prompts, else, and said so, those at the same place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from needle.analysis import depth_label, length_label
from needle.errors import UsageError
from needle.store import Run
from needle.types import Result

_SHAPING = ("prompt", "system", "max_new_tokens", "depth_tolerance")
_NAMED = 6

Place = tuple[int, float, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """One cell measured in both runs, matched by identical prompt or by cell, and its two scores."""

    first: Result
    second: Result
    scores: tuple[float, float]
    by: Literal["prompt", "cell"]

    @property
    def length(self) -> int:
        """The cell's context length in tokens, the same in both."""
        return self.first.length


def names(runs: Sequence[Run]) -> list[str]:
    """Names as short as tells the runs apart: the models', else the folders', else the folders' paths."""
    for told in ([Path(run.spec.model).name or run.spec.model for run in runs], [run.name for run in runs]):
        if len(set(told)) == len(told):
            return told
    return [str(run.folder) for run in runs]


def pair(first: Run, second: Run, one: str, other: str) -> tuple[list[Pair], list[str]]:
    """The pairs of two runs, called `one` and `other`, in the first run's order, and notes on what does not pair.

    Raises:
        UsageError: their scorers differ, or nothing pairs.
    """
    if first.spec.scorer != second.spec.scorer:
        raise UsageError(
            f"scores of '{one}' and '{other}' do not measure the same: scorers {first.spec.scorer} and "
            f"{second.spec.scorer}; measure both with one scorer"
        )
    left, right = _measured(first), _measured(second)
    partners = _by_prompt(left, right)
    apart = _apart(first, second)
    if not apart:
        taken = {place(r) for r in partners.values()}
        free = {place(r): r for r in right if place(r) not in taken}
        partners |= {place(r): free[place(r)] for r in left if place(r) not in partners and place(r) in free}
    pairs = [_pair(r, partners[place(r)]) for r in left if place(r) in partners]
    grids = _grids(first, second, one, other)
    if not pairs:
        empty = [f"nothing is measured in {name}" for name, rows in ((one, left), (other, right)) if not rows]
        why = "; ".join(empty or [*apart, *grids] or ["no cell is measured in both"])
        raise UsageError(f"'{one}' and '{other}' have no cell in common: {why}")
    return pairs, [*apart, *grids, *_missing(first, second, one, other), *_by_cell(pairs, first, second)]


def place(result: Result) -> Place:
    """Where a result stands in its grid; depths that are the same but for rounding are the same."""
    return result.length, round(result.depth, 6), result.repeat


def _measured(run: Run) -> list[Result]:
    return [r for r in run.results if r.status == "ok" and r.score is not None]


def _by_prompt(left: Sequence[Result], right: Sequence[Result]) -> dict[Place, Result]:
    """For places of the left, the right's result to the same prompt; of several, the one at the same place."""
    same: dict[tuple[int, str], list[Result]] = {}
    for result in right:
        if result.prompt_sha256:
            same.setdefault((result.length, result.prompt_sha256), []).append(result)
    partners = {}
    # Those at the same place first, so that none of them is given away.
    for exactly in (True, False):
        for result in left:
            if place(result) in partners:
                continue
            fitting = same.get((result.length, result.prompt_sha256 or ""), [])
            found = next((r for r in fitting if not exactly or place(r) == place(result)), None)
            if found is not None:
                partners[place(result)] = found
                fitting.remove(found)
    return partners


def _pair(first: Result, second: Result) -> Pair:
    assert first.score is not None
    assert second.score is not None
    same = bool(first.prompt_sha256) and first.prompt_sha256 == second.prompt_sha256
    return Pair(first, second, (float(first.score), float(second.score)), "prompt" if same else "cell")


def _apart(first: Run, second: Run) -> list[str]:
    """Why cells at the same place of both runs ask for different things."""
    one, other = first.spec, second.spec
    why = []
    if one.task != other.task:
        why.append(f"tasks differ: {one.task}, {other.task}")
    texts = [run.sources.get("haystack") for run in (first, second)]
    if all(texts) and texts[0] != texts[1]:
        named = one.haystack != other.haystack
        why.append(f"haystacks differ: {one.haystack}, {other.haystack}" if named else "haystacks differ in their text")
    elif not all(texts) and one.haystack != other.haystack:
        why.append(f"haystacks differ: {one.haystack}, {other.haystack}")
    if one.seed != other.seed:
        why.append(f"seeds differ: {one.seed}, {other.seed}")
    return why


def _grids(first: Run, second: Run, one: str, other: str) -> list[str]:
    """What only one of the grids has."""
    here, there = first.spec.grid, second.spec.grid
    notes = []
    for name, mine, yours in ((one, here, there), (other, there, here)):
        lengths = [length_label(n) for n in mine.lengths if n not in yours.lengths]
        theirs = {round(d, 6) for d in yours.depths}
        depths = [depth_label(d) for d in mine.depths if round(d, 6) not in theirs]
        notes += [f"lengths only in {name}: {_few(lengths)}"] if lengths else []
        notes += [f"depths only in {name}: {_few(depths)}"] if depths else []
    if here.repeats != there.repeats:
        notes.append(f"repeats differ: {here.repeats} in {one}, {there.repeats} in {other}")
    return notes


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _missing(first: Run, second: Run, one: str, other: str) -> list[str]:
    """How many of the cells that both were asked for failed, or were not reached, in one of them."""
    common = _asked(first) & _asked(second)
    notes = []
    for name, run in ((one, first), (other, second)):
        failed = _count(run.results, "error", common)
        absent = len(common) - failed - _count(run.results, "ok", common)
        told = [f"{failed} failed"] * (failed > 0) + [f"{absent} are not measured"] * (absent > 0)
        if told:
            notes.append(f"of {len(common)} cells, {' and '.join(told)} in {name}; they are left out")
    return notes


def _asked(run: Run) -> set[Place]:
    return {(c.length, round(c.depth, 6), c.repeat) for c in run.wanted()}


def _count(results: Iterable[Result], status: str, places: set[Place]) -> int:
    return sum(r.status == status and place(r) in places for r in results)


def _by_cell(pairs: Sequence[Pair], first: Run, second: Run) -> list[str]:
    """A note if some prompts are not identical, and why."""
    count = sum(p.by == "cell" for p in pairs)
    if not count:
        return []
    shaping = [name for name in _SHAPING if getattr(first.spec, name) != getattr(second.spec, name)]
    if first.sources.get("tokenizer") != second.sources.get("tokenizer"):
        why = "tokenizers differ"
    elif shaping:
        why = f"settings differ: {', '.join(shaping)}"
    elif any(not (p.first.prompt_sha256 and p.second.prompt_sha256) for p in pairs):
        why = "some prompts are not on record"
    else:
        why = "needles stand at other tokens"
    return [f"{count} of {len(pairs)} pairs are by cell, not by identical prompt: {why}"]
