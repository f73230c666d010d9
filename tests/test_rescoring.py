"""Stored answers graded anew: nothing of the model is asked, nothing of the old run is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judging import CANARY, Judge, said, serving

from needle import rescoring, scoring, store, tasks
from needle.errors import StoreError, UsageError
from needle.scoring import match
from needle.types import Answer, Cell, Grid, Question, Result, RunSpec

SPEC = RunSpec("some/model", "number", "essays", Grid((1024, 2048), (0.0, 0.5, 1.0), repeats=2))
SOURCES = {"model": "a1", "tokenizer": "b2", "haystack": "c3", "prompts": "d4"}
SESSION = {"needle": "0.0.9", "started": "2024-01-01T00:00:00Z", "device": "cuda", "git_commit": "abc", "way": "forest"}
Say = Callable[[Cell, Question], Answer]


def right(_: Cell, question: Question) -> Answer:
    return Answer(question.draft or "", ids=(1, 2), seconds=0.5, way="forest", answer_logprob=-0.25, answer_rank=2)


def row(identity: str, cell: Cell, question: Question, answer: Answer, position: int | None) -> Result:
    """A row as `needle run --scorer match` writes it."""
    score = None if answer.error else match.score(answer, question)
    return Result(
        key=store.key(identity, cell),
        length=cell.length,
        depth=cell.depth,
        repeat=cell.repeat,
        control=cell.control,
        status="error" if score is None else "ok",
        score=score.value if score else None,
        outcome=score.outcome if score else "error",
        position=position,
        prompt_tokens=cell.length - 64,
        prompt_sha256=f"{cell.length}{cell.depth}",
        question=question.question,
        expected=question.answers,
        answer=answer.text,
        answer_ids=answer.ids,
        finish=answer.finish,
        new_tokens=len(answer.ids),
        seconds=answer.seconds,
        way=answer.way,
        error=answer.error,
        answer_logprob=answer.answer_logprob,
        answer_rank=answer.answer_rank,
    )


def stored(root: Path, say: Say = right, spec: RunSpec = SPEC, cells: list[Cell] | None = None) -> store.Run:
    """A run in `root` whose answers are `say`'s; needles stand at 0, 300 and the end."""
    task, identity = tasks.get(spec.task), store.identity(spec, SOURCES)
    with store.writing(root, spec, SOURCES, SESSION) as writer:
        for cell in [*spec.grid.cells(), *spec.grid.controls()] if cells is None else cells:
            position = {0.0: 0, 0.5: 300, 1.0: -1}[cell.depth]
            within = f" of {cell.length}" if task.per_length else ""
            place = f"end of {cell.length}" if position < 0 else f"{position}{within}"
            question = task.question(spec.seed, cell.repeat, place)
            writer.append(row(identity, cell, question, say(cell, question), position))
        return store.read(writer.run.folder)


def bytes_of(run: store.Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.folder.iterdir() if path.name != ".lock"}


def test_a_run_of_its_own_with_the_identity_that_needle_run_would_give(tmp_path: Path) -> None:
    run = stored(tmp_path)
    before, told = bytes_of(run), []
    new = rescoring.rescore(run, "exact", {}, tmp_path, told.append)
    assert bytes_of(run) == before
    assert new.spec == replace(SPEC, scorer="exact")
    assert new.sources == SOURCES
    assert new.identity == store.identity(replace(SPEC, scorer="exact"), SOURCES) != run.identity
    assert new.folder == tmp_path / store.folder_name(new.spec, new.identity)
    assert (len(new.results), new.status) == (12, "complete")
    assert told == new.results
    assert [r.key for r in new.results] == [store.key(new.identity, c) for c in SPEC.grid.cells()]


def test_what_the_model_said_stays_and_what_the_scorer_says_is_new(tmp_path: Path) -> None:
    run = stored(tmp_path, lambda c, q: Answer(f"I say {q.answers[0]}", ids=(7,), seconds=1.5, finish="length"))
    new = rescoring.rescore(run, "exact", {}, tmp_path)
    for old, now in zip(run.results, new.results, strict=True):
        assert (old.score, now.score, now.outcome) == (1, 0, "truncated")
        assert "stands among other words" in now.explanation
        fresh = {name: getattr(now, name) for name in ("key", "score", "outcome", "extracted", "explanation")}
        assert replace(old, **fresh) == now
    assert [(c.before.score, c.after.score) for c in rescoring.changes(run, new)] == [(1, 0)] * 12


def test_the_session_says_where_the_answers_are_from(tmp_path: Path) -> None:
    run = stored(tmp_path)
    (session,) = rescoring.rescore(run, "part", {}, tmp_path).sessions
    assert session["started"] > "2025"
    assert (session["device"], session["way"]) == ("cuda", "forest")
    assert "git_commit" not in session
    assert session["rescored"] == {
        "run": run.name,
        "identity": run.identity,
        "scorer": {"before": "match", "now": "part"},
        "distractors_unknown": 0,
        "session": SESSION,
    }


@pytest.mark.parametrize("task", tasks.names())
def test_distractors_are_known_again(tmp_path: Path, task: str) -> None:
    def other(cell: Cell, question: Question) -> Answer:
        return Answer(question.distractors[cell.repeat] if question.distractors else "nothing of the kind")

    run = stored(tmp_path, other, replace(SPEC, task=task))
    new = rescoring.rescore(run, "exact", {}, tmp_path)
    assert [r.outcome for r in new.results] == [r.outcome for r in run.results]
    assert new.sessions[0]["rescored"]["distractors_unknown"] == 0
    if tasks.get(task).question(0, 0, "0").distractors:
        assert {r.outcome for r in new.results} == {"distractor"}


def test_where_the_task_draws_another_question_the_row_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stored(tmp_path, lambda c, q: Answer(q.distractors[0]))
    assert {r.outcome for r in run.results} == {"distractor"}
    changed = replace(tasks.get("number"), value=lambda rng: str(rng.randrange(10**6, 2 * 10**6)))  # type: ignore[type-var]
    monkeypatch.setattr(tasks, "get", lambda name: changed)
    new = rescoring.rescore(run, "exact", {}, tmp_path)
    assert {r.outcome for r in new.results} == {"number"}
    assert new.sessions[0]["rescored"]["distractors_unknown"] == 12


def test_a_task_file_that_is_gone_or_changed_leaves_the_row_alone(tmp_path: Path) -> None:
    run = stored(tmp_path, lambda c, q: Answer(q.distractors[0]))
    gone = replace(run, spec=replace(SPEC, task=str(tmp_path / "gone.toml")))
    assert rescoring._task(gone) is None
    changed = tmp_path / "mine.toml"
    changed.write_bytes((Path(__file__).parents[1] / "docs" / "task.toml").read_bytes())
    assert rescoring._task(replace(gone, spec=replace(SPEC, task=str(changed)))) is None
    known = {"task": tasks.source(str(changed)) or ""}
    assert rescoring._task(replace(gone, spec=replace(SPEC, task=str(changed)), sources=known)) is not None


def test_imported_rows_have_only_what_they_say(tmp_path: Path) -> None:
    spec = replace(SPEC, engine="import", scorer="kamradt 1-10", task="kamradt", options={"format": "kamradt"})
    identity = store.identity(spec, SOURCES)
    with store.writing(tmp_path, spec, SOURCES, SESSION) as writer:
        for cell, text in ((Cell(1024, 0.0, 0), "Eat a sandwich!"), (Cell(1024, 0.5, 0), "No idea")):
            made = row(identity, cell, Question("", "", ("eat a sandwich",)), Answer(text), None)
            writer.append(replace(made, finish="", question=""))
        nothing = row(identity, Cell(2048, 0.0, 0), Question("", "", ("x",)), Answer("x"), None)
        writer.append(replace(nothing, expected=(), finish=""))
    run = store.read(writer.run.folder)
    new = rescoring.rescore(run, "match", {}, tmp_path)
    assert [(r.score, r.outcome) for r in new.results] == [(1, "found"), (0, "wrong"), (None, "error")]
    assert list(rescoring.ungraded(run, new)) == ["no expected answer is known for this cell; choose another --scorer"]
    assert new.sessions[0]["rescored"]["distractors_unknown"] == 3
    back = rescoring.rescore(run, "regex", {"pattern": "(?i)sandwich"}, tmp_path)
    assert [r.score for r in back.results] == [1, 0, 0]
    assert back.spec.options == {"format": "kamradt", "pattern": "(?i)sandwich"}


def test_settings_of_the_scorer_before_go_with_it(tmp_path: Path) -> None:
    run = stored(tmp_path, spec=replace(SPEC, options={"dtype": "auto"}))
    first = rescoring.rescore(run, "regex", {"pattern": r"\b{answer}\b", "rouge_variant": None}, tmp_path)
    assert first.spec.options == {"dtype": "auto", "pattern": r"\b{answer}\b"}
    second = rescoring.rescore(first, "rouge", {"rouge_variant": "rouge1"}, tmp_path)
    assert second.spec.options == {"dtype": "auto", "rouge_variant": "rouge1"}
    # Back to the first: its run is there, and nothing is written.
    before = bytes_of(run)
    assert rescoring.rescore(second, "match", {}, tmp_path) == run
    assert bytes_of(run) == before


def test_cells_that_the_model_failed_stay_errors(tmp_path: Path) -> None:
    def say(cell: Cell, question: Question) -> Answer:
        return Answer(error="out of memory", finish="error") if cell.length == 2048 else right(cell, question)

    run = stored(tmp_path, say)
    new = rescoring.rescore(run, "exact", {}, tmp_path)
    assert [(r.status, r.error) for r in new.results] == [(r.status, r.error) for r in run.results]
    assert new.status == "failed cells"
    assert not rescoring.ungraded(run, new)
    # Again: nothing is left. Mended in the run: the grade follows.
    told: list[Result] = []
    assert rescoring.rescore(run, "exact", {}, tmp_path, told.append) == new
    assert not told
    mended = stored(tmp_path)
    assert {r.score for r in rescoring.rescore(mended, "exact", {}, tmp_path).results} == {1}


def test_a_run_that_is_not_finished_and_then_is(tmp_path: Path) -> None:
    half = stored(tmp_path, cells=SPEC.grid.cells()[:5])
    new = rescoring.rescore(half, "exact", {}, tmp_path)
    assert (len(new.results), new.status) == (5, "partial")
    told: list[Result] = []
    whole = stored(tmp_path, cells=SPEC.grid.cells()[5:])
    assert rescoring.rescore(whole, "exact", {}, tmp_path, told.append).status == "complete"
    assert len(told) == 7


def test_controls_come_along(tmp_path: Path) -> None:
    spec = replace(SPEC, grid=replace(SPEC.grid, control=True))
    run = stored(tmp_path, lambda c, q: Answer("I don't know." if c.control else "7"), spec)
    new = rescoring.rescore(run, "exact", {}, tmp_path)
    assert (len(new.results), len(new.controls), new.status) == (12, 4, "complete")
    assert {r.outcome for r in new.controls} == {"refusal"}


def test_a_scorer_that_cannot_grade_makes_error_rows_and_is_tried_again(tmp_path: Path) -> None:
    run = stored(tmp_path, lambda c, q: replace(right(c, q), answer_logprob=-0.25 if c.length == 1024 else None))
    new = rescoring.rescore(run, "logprob", {}, tmp_path)
    assert [r.status for r in new.results] == ["ok" if r.length == 1024 else "error" for r in new.results]
    ((why, count),) = rescoring.ungraded(run, new).items()
    assert (count, "gave no log-probability" in why) == (6, True)
    for r in new.results:
        if r.status == "error":
            assert (r.score, r.outcome, r.error) == (None, "error", why)
            assert r.answer  # what the model said is kept, so that another scorer may grade it
    size, told = (new.folder / "results.jsonl").stat().st_size, []
    assert rescoring.rescore(run, "logprob", {}, tmp_path, told.append).results == new.results
    assert (len(told), (new.folder / "results.jsonl").stat().st_size) == (6, size)
    # The answers of such rows are graded from there as well.
    assert {r.score for r in rescoring.rescore(new, "part", {}, tmp_path).results} == {1}


@pytest.mark.parametrize(
    ("scorer", "options", "why"),
    [
        ("match", {}, "is scored by 'match' already; choose another --scorer"),
        ("mach", {}, "unknown scorer 'mach'"),
        ("regex", {}, "needs a --pattern"),
        ("exact", {"pattern": "x"}, "means nothing to 'exact'"),
        ("judge", {}, "needs a --judge-model"),
    ],
)
def test_a_request_at_fault_writes_nothing(
    tmp_path: Path, scorer: str, options: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-something")
    run = stored(tmp_path)
    with pytest.raises(UsageError, match=why):
        rescoring.rescore(run, scorer, options, tmp_path)
    assert store.folders(tmp_path) == [run.folder]


def test_a_run_without_answers_and_a_folder_that_takes_none(tmp_path: Path) -> None:
    empty = stored(tmp_path, cells=[])
    with pytest.raises(UsageError, match="holds no answers yet"):
        rescoring.rescore(empty, "exact", {}, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        rescoring.rescore(stored(tmp_path), "exact", {}, tmp_path / "file")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Judge]:
    with serving(monkeypatch) as made:
        yield made


def test_a_judge_that_fails_is_asked_again_by_the_same_command(tmp_path: Path, endpoint: Judge) -> None:
    run = stored(tmp_path)
    options = {"judge_model": "judge-7b", "judge_base_url": endpoint.url}
    endpoint.script = [said({"score": 7, "reason": "nearly"}), said("ten"), (401, f"bad key {CANARY}")]
    first = rescoring.rescore(run, "judge", options, tmp_path)
    assert [r.score for r in first.results] == [pytest.approx(2 / 3), *[None] * 11]
    assert {r.outcome for r in first.results[1:]} == {"error"}
    endpoint.bodies.clear()
    endpoint.script = [said({"score": 10, "reason": "right"})]
    second = rescoring.rescore(run, "judge", options, tmp_path)
    assert len(endpoint.bodies) == 11
    assert [r.score for r in second.results] == [pytest.approx(2 / 3), *[1] * 11]
    assert second.folder == first.folder
    assert rescoring.rescore(run, "judge", options, tmp_path) == second
    assert len(endpoint.bodies) == 11
    assert second.sources == {**SOURCES, **scoring.sources("judge", options)}
    assert second.spec.options == options
    # From one judge to another, nothing of the first is left.
    third = rescoring.rescore(second, "exact", {}, tmp_path)
    assert (third.sources, third.spec.options) == (SOURCES, {})
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"judge-7b" in written
    assert CANARY.encode() not in written


def test_the_judge_sees_the_needle(tmp_path: Path, endpoint: Judge) -> None:
    run = stored(tmp_path, cells=SPEC.grid.cells()[:1])
    rescoring.rescore(run, "judge", {"judge_model": "m", "judge_base_url": endpoint.url}, tmp_path)
    case = json.loads(endpoint.bodies[0]["messages"][1]["content"])
    drawn = tasks.get("number").question(0, 0, "0")
    assert case == {
        "question": drawn.question,
        "reference": drawn.needle,
        "expected": list(drawn.answers),
        "answer": drawn.draft,
    }


def test_what_was_graded_before_an_interrupt_is_kept(tmp_path: Path) -> None:
    run, told = stored(tmp_path), []

    def stop(result: Result) -> None:
        told.append(result)
        if len(told) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rescoring.rescore(run, "exact", {}, tmp_path, stop)
    new = rescoring.rescore(run, "exact", {}, tmp_path, told.append)
    assert new.status == "complete"
    assert len(told) == 12


def test_no_torch_and_no_transformers() -> None:
    code = "import sys; from needle import rescoring; from needle.cli import score\n"
    code += "print([m for m in ('torch', 'transformers', 'openai', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
