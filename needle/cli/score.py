"""`needle score`: the answers of a run graded by another scorer, without the model. It does not load torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from needle.cli import _out
from needle.cli.show import Json, Root

if TYPE_CHECKING:
    from collections import Counter
    from types import TracebackType

    from needle.rescoring import Change
    from needle.store import Run
    from needle.types import Result

_NAMED = 10
"""Changed cells, and reasons for none, that are named on a screen; --json names all."""


def score(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, name, or the beginning or end of it.")],
    scorer: Annotated[str, typer.Option(help="How the answers are graded now.", metavar="NAME")],
    pattern: Annotated[
        str | None, typer.Option(help="For regex; {answer} stands for an expected answer.", metavar="REGEX")
    ] = None,
    rouge_variant: Annotated[str | None, typer.Option(help="For rouge: rougeL, rouge1, rouge2 or rougeLsum.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="For judge: the model that grades.", metavar="NAME")] = None,
    judge_base_url: Annotated[
        str | None,
        typer.Option(help="For judge: an OpenAI-compatible endpoint other than OpenAI's own.", metavar="URL"),
    ] = None,
    output_dir: Root = Path("runs"),
    as_json: Json = False,
) -> None:
    """Grade a run's answers with another scorer; the run stays as it is, the grades go into a new one.

    The judge's API key is read from NEEDLE_JUDGE_API_KEY or OPENAI_API_KEY, and never kept. The same command again
    tries cells again that could not be graded.

    Exit code: 0 every answer is graded, 1 some could not be, 2 the request is at fault.

    Examples:

        needle score pocket-32k --scorer exact
        needle score pocket-32k --scorer regex --pattern '\\b{answer}\\b'
        needle score pocket-32k --scorer judge --judge-model qwen3 --judge-base-url http://localhost:8000/v1
    """
    from needle import rescoring, store

    before = store.read(store.find(output_dir, run))
    # Beside the run, also where that is given as a path to somewhere else.
    root = output_dir if before.folder.parent == output_dir else before.folder.resolve().parent
    options = {
        "pattern": pattern,
        "rouge_variant": rouge_variant,
        "judge_model": judge_model,
        "judge_base_url": judge_base_url,
    }
    try:
        with _Progress(len(before.all_results)) as progress:
            after = rescoring.rescore(before, scorer, options, root, progress.cell)
    except KeyboardInterrupt:
        print("needle: stopped; graded cells are kept, the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
    lost = rescoring.ungraded(before, after)
    _tell(before, after, rescoring.changes(before, after), lost, as_json)
    raise typer.Exit(1 if lost else 0)


class _Progress:
    """How many answers are graded, on stderr, where that is a terminal: a judge takes a second each."""

    def __init__(self, cells: int) -> None:
        self.cells, self.graded = cells, 0
        console = _out.console(stderr=True)
        self._status = console.status("grading …") if console.is_terminal else None

    def __enter__(self) -> _Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()

    def cell(self, _: Result) -> None:
        """One more."""
        self.graded += 1
        if self._status:
            self._status.update(f"grading … {self.graded} of {self.cells}")


def _tell(before: Run, after: Run, changes: list[Change], lost: Counter[str], as_json: bool) -> None:
    if as_json:
        print(_out.json_text(_report(before, after, changes, lost)))
        return
    from needle.analysis import printable

    for line in _lines(before, after, changes, lost):
        print(printable(line))


def _lines(before: Run, after: Run, changes: list[Change], lost: Counter[str]) -> list[str]:
    """What came out, a line a fact."""
    graded = sum(r.status == "ok" for r in after.all_results)
    lines = [
        f"scorer             {before.spec.scorer} → {after.spec.scorer}",
        f"mean score         {_number(_mean(before))} → {_number(_mean(after))}",
        f"cells              {graded} graded, {len(changes)} otherwise than before",
    ]
    for change in changes[:_NAMED]:
        old, new = change.before, change.after
        lines.append(f"  {_where(new)}: {old.score:.3f} {old.outcome} → {new.score:.3f} {new.outcome}")
    if len(changes) > _NAMED:
        lines.append(f"  and {len(changes) - _NAMED} more; --json names them all")
    for why, count in lost.most_common(_NAMED):
        lines.append(f"not graded         {count}: {why}")
    unknown = _unknown(after)
    if unknown:
        lines.append(
            f"known in part      {unknown} cells have no distractors on record; their outcome may be a plainer one"
        )
    return [*lines, f"kept in            {after.folder}"]


def _report(before: Run, after: Run, changes: list[Change], lost: Counter[str]) -> dict[str, Any]:
    return {
        "run": str(after.folder),
        "rescored": str(before.folder),
        "scorer": after.spec.scorer,
        "scorer_before": before.spec.scorer,
        "mean": _mean(after),
        "mean_before": _mean(before),
        "changed": [
            {
                "length": c.after.length,
                "depth": c.after.depth,
                "repeat": c.after.repeat,
                "control": c.after.control,
                "scores": [c.before.score, c.after.score],
                "outcomes": [c.before.outcome, c.after.outcome],
                "explanation": c.after.explanation,
            }
            for c in changes
        ],
        "not_graded": dict(lost),
        "distractors_unknown": _unknown(after),
    }


def _mean(run: Run) -> float | None:
    """The mean score as `needle show` gives it."""
    from needle import analysis

    return analysis.of(run).mean


def _number(mean: float | None) -> str:
    return "none" if mean is None else f"{mean:.3f}"


def _unknown(run: Run) -> int:
    last = run.sessions[-1] if run.sessions else {}
    return int(last.get("rescored", {}).get("distractors_unknown", 0))


def _where(result: Result) -> str:
    from needle.analysis import depth_label, length_label

    place = "no needle" if result.control else f"depth {depth_label(result.depth)}"
    return f"{length_label(result.length)} {place}" + (f" repeat {result.repeat}" if result.repeat else "")
