"""Pass or fail: the exit code, and one line for each reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
import typer
from synthetic import GRID

from needle import gate, store
from needle.cli import compare as command
from needle.errors import UsageError
from needle.gate import Demands
from needle.types import Grid

MANY = replace(GRID, repeats=4)


def test_a_run_that_meets_every_demand_passes(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path, "a", lambda cell: 1.0, MANY)
    verdict = gate.check(run, Demands(16384, 0.95, 0.9, confidence=0.95))
    assert verdict.passed
    assert verdict.reasons == ()


def test_each_demand_that_is_not_met_is_a_reason(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path, "a", lambda cell: float(cell.length <= 4096))
    assert gate.check(run, Demands(16384, 0.95, 0.9)).reasons == (
        "mean score is 0.600, under 0.95",
        "mean score at 8K is 0.000, under 0.9",
        "mean score at 16K is 0.000, under 0.9",
        "effective length is 4K, under 16K",
    )
    assert gate.check(run, Demands(4096, 0.6)).passed


@pytest.mark.parametrize("demand", ["min_score", "min_band", "threshold"])
def test_a_mean_that_is_the_demand_but_for_rounding_passes(tmp_path: Path, demand: str) -> None:
    run = synthetic.write(tmp_path, "a", lambda cell: 0.1 if cell.depth < 0.15 else 0.8, Grid((4096,), GRID.depths[:7]))
    mean = sum(r.score or 0 for r in run.results) / 7
    assert gate.check(run, Demands(1024, **{"threshold": 0.0, demand: mean + 1e-12})).passed
    assert not gate.check(run, Demands(1024, **{"threshold": 0.0, demand: mean + 1e-6})).passed


def test_with_confidence_the_bound_must_pass_and_more_repeats_help(tmp_path: Path) -> None:
    few = synthetic.write(tmp_path, "few", lambda cell: 1.0)
    assert gate.check(few, Demands(16384, 0.95, 0.9)).passed
    reasons = gate.check(few, Demands(16384, 0.95, 0.9, confidence=0.95)).reasons
    assert reasons[0] == (
        "mean score at 1K is 1.000, but with 95 % confidence only at least 0.843 (11 cells), under 0.9"
    )
    assert len(reasons) == 6
    assert reasons[-1] == (
        "effective length is 16K, but that it is at least 16K is only 72 % sure, not 95 %; sure is none"
    )
    many = synthetic.write(tmp_path, "many", lambda cell: 1.0, MANY)
    assert gate.check(many, Demands(16384, 0.95, 0.9, confidence=0.95)).passed


def test_a_longer_length_than_asked_for_need_not_be_sure(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path, "a", lambda cell: float(cell.length <= 8192 or cell.depth > 0.05), MANY)
    assert gate.check(run, Demands(8192, confidence=0.95)).passed
    assert "only" in gate.check(run, Demands(16384, confidence=0.95)).reasons[0]


def test_a_length_that_was_not_asked_for_is_not_reached(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path, "a", lambda cell: 1.0)
    assert gate.check(run, Demands(32768)).reasons == (
        "effective length is 16K, under 32K; the run was asked for no more than 16K",
    )
    assert gate.check(run, Demands(12000)).passed


def test_failed_and_unmeasured_cells_are_reasons_and_no_zeros(tmp_path: Path) -> None:
    run = synthetic.write(
        tmp_path, "a", lambda cell: None if (cell.length, cell.depth) == (2048, 0.5) else 1.0, most=50
    )
    verdict = gate.check(run, Demands(16384, 1.0, 1.0))
    assert verdict.reasons == (
        "1 of 55 cells failed (2K: out of memory)",
        "5 of 55 cells are not measured",
    )


@pytest.mark.parametrize("fails", [None, 0.0], ids=["failed", "not reached"])
def test_a_length_without_a_score_is_unknown(tmp_path: Path, fails: float | None) -> None:
    most = 33 if fails == 0.0 else None
    run = synthetic.write(tmp_path, "a", lambda cell: fails if cell.length > 4096 else 1.0, most=most)
    _, *reasons = gate.check(run, Demands(8192, 1.0, 0.5)).reasons
    assert reasons == [
        "mean score at 8K is unknown: nothing is measured",
        "mean score at 16K is unknown: nothing is measured",
        "effective length is 4K, under 8K",
    ]


def test_a_run_with_nothing_measured_fails_every_demand(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path, "a", lambda cell: 1.0, most=0)
    other = synthetic.write(tmp_path, "b", lambda cell: 1.0)
    assert gate.check(run, Demands(1024, 0.0, max_drop=0.5), other).reasons == (
        "55 of 55 cells are not measured",
        "mean score is unknown: nothing is measured",
        "effective length is none, under 1K",
        "fall against the baseline is unknown: nothing is measured",
    )


def test_the_relative_form(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path, "a", lambda cell: float(cell.depth < 0.55 - 0.1 * (cell.length > 2048)))
    assert gate.check(run, Demands(2048)).reasons == ("effective length is none, under 2K",)
    assert gate.check(run, Demands(2048, relative=True)).passed
    assert not gate.check(run, Demands(4096, relative=True)).passed
    assert gate.check(run, Demands(4096, relative=True, threshold=0.8)).passed


# Against a baseline.


def test_a_fall_of_more_than_allowed_fails(tmp_path: Path) -> None:
    """Of 220 cells, 11 are lost."""
    old = synthetic.write(tmp_path, "old", lambda cell: 1.0, MANY)
    new = synthetic.write(tmp_path, "new", lambda cell: float((cell.length, cell.repeat) != (16384, 3)), MANY)
    assert gate.check(new, Demands(max_drop=0.05), old).passed
    assert gate.check(new, Demands(max_drop=0.02), old).reasons == (
        "mean score fell by 0.050 against old on 220 pairs, by more than 0.02",
    )
    (reason,) = gate.check(new, Demands(max_drop=0.06, confidence=0.95), old).reasons
    assert reason.startswith("mean score may have fallen by 0.0")
    assert reason.endswith("against old on 220 pairs (95 % confidence), over 0.06")
    assert gate.check(new, Demands(max_drop=0.1, confidence=0.95), old).passed


def test_no_loss_seen_on_few_pairs_is_no_proof(tmp_path: Path) -> None:
    few = Grid((1024,), (0.0, 0.5, 1.0))
    runs = [synthetic.write(tmp_path, name, lambda cell: 1.0, few) for name in ("old", "new")]
    assert gate.check(runs[1], Demands(max_drop=0.02), runs[0]).passed
    assert not gate.check(runs[1], Demands(max_drop=0.02, confidence=0.95), runs[0]).passed


def test_a_gain_is_no_fall(tmp_path: Path) -> None:
    old = synthetic.write(tmp_path, "old", lambda cell: 0.0)
    new = synthetic.write(tmp_path, "new", lambda cell: 1.0)
    assert gate.check(new, Demands(max_drop=0.0), old).passed
    assert not gate.check(old, Demands(max_drop=0.0), new).passed


def test_cells_without_partner_in_the_baseline_are_a_reason(tmp_path: Path) -> None:
    old = synthetic.write(tmp_path, "old", lambda cell: 1.0 if cell.depth else None)
    new = synthetic.write(tmp_path, "new", lambda cell: 1.0)
    verdict = gate.check(new, Demands(max_drop=0.02), old)
    assert verdict.reasons == ("5 of 55 measured cells have no partner in baseline old",)
    assert verdict.notes == ("of 55 cells, 5 failed in old; they are left out",)


def test_a_baseline_of_another_haystack_is_refused(tmp_path: Path) -> None:
    old = synthetic.write(tmp_path, "old", lambda cell: 1.0, haystack="noise")
    new = synthetic.write(tmp_path, "new", lambda cell: 1.0)
    with pytest.raises(UsageError, match="haystacks differ: noise, essays"):
        gate.check(new, Demands(max_drop=0.02), old)


# The command.


def needle(*arguments: object) -> int:
    """`check` as the command line calls it; its exit code."""
    app = typer.Typer()
    app.command()(command.check)
    return int(app([str(a) for a in arguments], standalone_mode=False) or 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Runs of a checkpoint that reaches 4K and of one that reaches 16K."""
    synthetic.write(tmp_path, "x/pocket-4k", lambda cell: float(cell.length <= 4096))
    synthetic.write(tmp_path, "x/pocket-32k", lambda cell: 1.0)
    return tmp_path


DEMANDS = ("--min-effective-length", "16k", "--min-score", "0.95", "--min-band", "0.9")


def test_command_fails_the_one_and_passes_the_other(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert needle("pocket-32k", *DEMANDS, "-o", root) == 0
    assert capsys.readouterr().out.startswith("passed: pocket-32k")
    assert needle("pocket-4k", *DEMANDS, "-o", root) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "failed: mean score is 0.600, under 0.95"
    assert lines[-1] == "failed: effective length is 4K, under 16K"
    assert len(lines) == 4


def test_command_with_a_baseline_and_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    against = ("--baseline", "pocket-32k", "--max-drop", "0.02", "-o", root)
    assert needle("pocket-4k", *against, "--json") == 3
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] is False
    assert told["reasons"] == ["mean score fell by 0.400 against pocket-32k on 55 pairs, by more than 0.02"]


def test_a_reason_cannot_act_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = synthetic.write(tmp_path, "a", lambda cell: None)
    rows = run.folder / "results.jsonl"
    rows.write_text(rows.read_text().replace("out of memory", "\\u001b[2J\\nboom"))
    assert store.read(run.folder).results[0].error == "\x1b[2J\nboom"
    assert needle(run.name, "--min-score", "0.5", "-o", tmp_path) == 3
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "failed: 55 of 55 cells failed (1K: \\x1b[2J boom)"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--confidence", "0.95"),
        ("--min-score", "95"),
        ("--min-band", "-1"),
        ("--min-score", "0.9", "--confidence", "95"),
        ("--min-score", "0.9", "--threshold", "85.6"),
        ("--min-effective-length", "many"),
        ("--max-drop", "0.02"),
        ("--min-score", "0.9", "--baseline", "pocket-32k"),
        ("--baseline", "zzz", "--max-drop", "0.02"),
    ],
    ids=" ".join,
)
def test_command_refuses_demands_that_make_no_sense(arguments: tuple[str, ...], root: Path) -> None:
    with pytest.raises(UsageError):
        needle("pocket-4k", *arguments, "-o", root)
