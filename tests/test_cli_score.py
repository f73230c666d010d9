"""`needle score` on a real run of a bundled checkpoint, and on what users do with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Done, copied
from judging import CANARY, Judge, said, serving

from needle import rescoring, store
from needle.cli import main

Needle = Callable[..., Done]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one real run of pocket-4k: four cells, all found."""
    root = tmp_path_factory.mktemp("measured")
    wanted = ["run", "pocket-4k", "--lengths", "1k", "--depths", "0,0.3,0.7,1", "-q", "-o", str(root)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["needle", *wanted])
        with pytest.raises(SystemExit, match=r"^0$"):
            main()
    return root


@pytest.fixture
def root(measured: Path, tmp_path: Path) -> Path:
    """A copy of it, to be added to."""
    return copied(measured, tmp_path / "runs")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Judge]:
    with serving(monkeypatch) as made:
        yield made


def runs(root: Path) -> list[store.Run]:
    return [store.read(folder) for folder in store.folders(root)]


def test_a_real_run_is_graded_anew(root: Path, needle: Needle) -> None:
    (run,) = runs(root)
    assert all(r.answer.startswith("The secret code for") for r in run.results)
    done = needle("score", "pocket-4k", "--scorer", "exact", "-o", root)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "scorer             match → exact"
    assert lines[1] == "mean score         1.000 → 1.000"
    assert lines[2] == "cells              4 graded, 0 otherwise than before"
    (new,) = (r for r in runs(root) if r.name != run.name)
    assert lines[3:] == [f"kept in            {new.folder}"]
    assert new.sessions[0]["rescored"]["distractors_unknown"] == 0
    # The rest of the house takes it.
    assert needle("show", new.folder.name, "-o", root).code == 0
    assert needle("check", new.folder.name, "--min-score", "1", "-o", root).code == 0
    cell = json.loads(needle("show", new.folder.name, "--cell", "1k:0", "--json", "-o", root).out)
    assert cell["explanation"] == "equals the expected answer"


def test_it_is_the_run_that_needle_run_would_make(root: Path, needle: Needle) -> None:
    assert needle("score", "pocket-4k", "--scorer", "part", "-o", root).code == 0
    folders = set(store.folders(root))
    asked = ("--lengths", "1k", "--depths", "0,0.3,0.7,1", "--scorer", "part")
    done = needle("run", "pocket-4k", *asked, "-o", root)
    assert "already measured: all 4 cells of this run" in done.err
    assert set(store.folders(root)) == folders


def test_a_name_that_fits_a_run_and_what_was_made_of_it_is_the_runs(root: Path, needle: Needle) -> None:
    for scorer in ("exact", "part", "rouge"):
        done = needle("score", "pocket-4k", "--scorer", scorer, "-o", root)
        assert f"match → {scorer}" in done.out
    (exact,) = (r for r in runs(root) if r.spec.scorer == "exact")
    assert "exact → regex" in needle("score", exact.name, "--scorer", "regex", "--pattern", "x", "-o", root).out
    assert "match → logprob" in needle("score", "pocket-4k", "--scorer", "logprob", "-o", root).out
    # Another run that was measured, and the name is no longer enough.
    (run,) = (r for r in runs(root) if r.spec.scorer == "match")
    with store.writing(root, replace(run.spec, seed=1), run.sources, {}):
        pass
    assert "runs fit 'pocket-4k'" in needle("score", "pocket-4k", "--scorer", "logprob", "-o", root).line


def test_cells_that_changed_are_named(root: Path, needle: Needle) -> None:
    done = needle("score", "pocket-4k", "--scorer", "regex", "--pattern", "^{answer}", "-o", root)
    assert "mean score         1.000 → 0.000" in done.out
    assert "  1K depth 0 %: 1.000 found → 0.000 wrong" in done.out
    assert done.out.count("→ 0.000 wrong") == 4
    told = json.loads(
        needle(
            "score",
            "pocket-4k",
            "--scorer",
            "regex",
            "--pattern",
            "code",
            "--json",
            "-o",
            root,
        ).out
    )
    assert (told["mean_before"], told["mean"], told["changed"], told["not_graded"]) == (1, 1, [], {})
    assert (told["scorer_before"], told["scorer"]) == ("match", "regex")
    assert Path(told["run"]).is_dir()


def test_the_engines_log_probabilities_are_a_grade(root: Path, needle: Needle) -> None:
    told = json.loads(needle("score", "pocket-4k", "--scorer", "logprob", "--json", "-o", root).out)
    assert 0.99 < told["mean"] < 1
    assert {c["outcomes"][1] for c in told["changed"]} <= {"found"}


def test_a_judge_on_loopback(root: Path, endpoint: Judge, needle: Needle) -> None:
    endpoint.script = [said({"score": 10, "reason": "right"}), said("I like it"), said({"score": 4, "reason": "no"})]
    judge = ("score", "pocket-4k", "--scorer", "judge", "--judge-model", "m", "--judge-base-url", endpoint.url)
    first = needle(*judge, "-o", root)
    assert first.code == 1
    assert "mean score         1.000 → 0.556" in first.out
    assert "cells              3 graded, 2 otherwise than before" in first.out
    assert "not graded         1: the judge gave no verdict but 'I like it'" in first.out
    endpoint.bodies.clear()
    second = needle(*judge, "-o", root)
    assert (second.code, len(endpoint.bodies)) == (0, 1)
    assert "cells              4 graded" in second.out
    assert needle(*judge, "-o", root).out == second.out
    assert len(endpoint.bodies) == 1
    assert endpoint.keys[0] == f"Bearer {CANARY}"
    files = [path for path in root.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    assert CANARY not in first.out + first.err + second.out + second.err


def test_a_judge_out_of_reach_leaves_error_rows(root: Path, endpoint: Judge, needle: Needle) -> None:
    endpoint.script = [(503, "gone")]
    done = needle(
        "score", "pocket-4k", "--scorer", "judge", "--judge-model", "m", "--judge-base-url", endpoint.url, "-o", root
    )
    assert done.code == 1
    assert len(endpoint.bodies) == 5 + 3
    assert "mean score         1.000 → none" in done.out
    (new,) = (r for r in runs(root) if r.spec.scorer == "judge")
    assert {(r.status, r.outcome, r.score) for r in new.results} == {("error", "error", None)}
    assert any("tried 5 times" in (r.error or "") for r in new.results)
    assert sum("gone" in line for line in done.out.splitlines()) == 1


def test_what_a_judge_says_cannot_act_on_the_terminal(root: Path, endpoint: Judge, needle: Needle) -> None:
    endpoint.script = [said("\x1b[2J\x1b]0;owned\x07[red]ten[/red]\r\n")]
    judge = ("--scorer", "judge", "--judge-model", "m\x1b[31m", "--judge-base-url", endpoint.url)
    done = needle("score", "pocket-4k", *judge, "-o", root)
    assert not {"\x1b", "\x07", "\r"} & set(done.out + done.err)
    assert "[red]ten[/red]" in done.out


def test_a_run_given_by_its_path_is_kept_beside_it(root: Path, needle: Needle, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = runs(root)
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert needle("score", run.folder, "--scorer", "exact").code == 0
    assert len(runs(root)) == 2
    monkeypatch.chdir(run.folder)
    assert needle("score", ".", "--scorer", "part").code == 0
    assert len(runs(root)) == 3
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nothing", "--scorer", "exact"], "no run 'nothing' in"),
        (["pocket-4k", "--scorer", "match"], "is scored by 'match' already; choose another --scorer"),
        (["pocket-4k", "--scorer", "mach"], "unknown scorer 'mach'; did you mean 'match'?"),
        (["pocket-4k", "--scorer", "regex"], "scorer 'regex' needs a --pattern"),
        (["pocket-4k", "--scorer", "regex", "--pattern", "("], "is no regular expression"),
        (["pocket-4k", "--scorer", "rouge", "--rouge-variant", "rouge99"], "is not one of rougeL"),
        (["pocket-4k", "--scorer", "part", "--judge-model", "m"], "--judge-model is a setting of scorer 'judge'"),
        (["pocket-4k", "--scorer", "judge"], "scorer 'judge' needs a --judge-model"),
        (["pocket-4k", "--scorer", "judge", "--judge-model", "m", "--judge-base-url", "http://a:bcd@h"], "credentials"),
        (["pocket-4k"], "Missing option '--scorer'"),
    ],
)
def test_a_request_at_fault_is_one_line(root: Path, needle: Needle, arguments: list[str], line: str) -> None:
    done = needle("score", *arguments, "-o", root)
    assert line in done.line
    assert "bcd" not in done.line
    assert len(runs(root)) == 1


def test_ctrl_c_keeps_what_is_graded(root: Path, needle: Needle, monkeypatch: pytest.MonkeyPatch) -> None:
    appended = store.Writer.append

    def stop(writer: store.Writer, result: object) -> None:
        appended(writer, result)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "append", stop)
        done = needle("score", "pocket-4k", "--scorer", "exact", "-o", root)
    assert (done.code, done.err.splitlines()[-1][:16]) == (130, "needle: stopped;")
    assert sorted(len(r.results) for r in runs(root)) == [1, 4]
    assert needle("score", "pocket-4k", "--scorer", "exact", "-o", root).code == 0
    assert sorted(len(r.results) for r in runs(root)) == [4, 4]


def test_a_run_that_is_being_written_is_waited_for(root: Path, needle: Needle) -> None:
    (run,) = runs(root)
    new = rescoring.rescore(run, "exact", {}, root)
    (new.folder / "results.jsonl").write_bytes(b"")
    with store.writing(root, new.spec, new.sources, new.sessions[-1]):
        assert (
            "is being written by another needle run" in needle("score", run.name, "--scorer", "exact", "-o", root).line
        )


def test_a_run_scored_again_keeps_its_name(root: Path, needle: Needle) -> None:
    assert needle("score", "pocket-4k", "--scorer", "exact", "-o", root).code == 0
    shown = needle("show", "pocket-4k", "-o", root)
    assert shown.code == 0
    (first,) = (r for r in runs(root) if r.spec.scorer == "match")
    assert first.name in shown.out
