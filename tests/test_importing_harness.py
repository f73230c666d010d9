"""What lm-evaluation-harness and inspect_ai measured of exported cells comes back as the run that it is.

The files under data/ were written by lm_eval 0.4.13 and inspect_ai 0.3.285 themselves, with the bundled pocket-4k at
two lengths and three depths; only long texts were cut, folders renamed, and inspect's record of events left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Done

from needle import importing, store
from needle.errors import UsageError
from needle.store import Run

DATA = Path(__file__).parent / "data"
SAMPLES, LOG, FAILED = (DATA / n for n in ("lm_eval_samples.jsonl", "inspect_log.json", "inspect_log_failed.json"))


def imported(path: Path, root: Path, **how: Any) -> Run:
    ((run, _),) = importing.write(root, importing.read(path, **how))
    return run


def samples() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SAMPLES.read_text().splitlines()]


def save_samples(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    log = json.loads(LOG.read_text())
    change(log)
    path.write_text(json.dumps(log))
    return path


@pytest.mark.parametrize(
    ("path", "form", "model"), [(SAMPLES, "lm-eval", "pocket-4k"), (LOG, "inspect-ai", "hf/local")]
)
def test_each_cell_comes_back_with_its_grade_and_answer(path: Path, form: str, model: str, tmp_path: Path) -> None:
    run = imported(path, tmp_path)
    assert (run.spec.model, run.spec.task, run.spec.haystack, run.spec.scorer) == (model, "number", "essays", "match")
    assert run.spec.options["format"] == form
    assert (run.spec.grid.lengths, run.spec.grid.depths, run.spec.grid.repeats) == ((512, 1024), (0.0, 0.5, 1.0), 1)
    assert run.status == "complete"
    for result in run.results:
        assert (result.status, result.score, result.outcome) == ("ok", 1.0, "found")
        assert result.expected[0] in result.answer
        assert result.prompt_tokens == result.length - 32
        assert len(str(result.prompt_sha256)) == 64
        assert result.question.startswith("What is the secret code for ")
        assert abs(result.depth_used - result.depth) <= 0.02


def test_both_harnesses_and_needle_speak_of_the_same_prompts(tmp_path: Path) -> None:
    """So that what they measured may be compared in pairs."""
    one, other = imported(SAMPLES, tmp_path / "a"), imported(LOG, tmp_path / "b")
    assert [(r.length, r.depth, r.prompt_sha256) for r in one.results] == [
        (r.length, r.depth, r.prompt_sha256) for r in other.results
    ]


def test_inspects_time_tokens_and_reason_are_kept(tmp_path: Path) -> None:
    by_name = {f"{s['metadata']['length']}:{s['metadata']['depth']}": s for s in json.loads(LOG.read_text())["samples"]}
    for result in imported(LOG, tmp_path).results:
        sample = by_name[f"{result.length}:{result.depth}"]
        assert result.seconds == sample["total_time"] > 0
        assert result.new_tokens == sample["output"]["usage"]["output_tokens"]
        assert result.extracted == result.expected[0]
        assert result.explanation.startswith(f"holds '{result.expected[0]}'")


def test_a_sample_that_failed_in_inspect_is_a_failed_cell(tmp_path: Path) -> None:
    run = imported(FAILED, tmp_path)
    assert run.status == "failed cells"
    assert {r.status for r in run.results} == {"error"}
    assert any("has to be a strictly positive float" in str(r.error) for r in run.results)


def test_a_grade_below_one_is_kept_as_it_is(tmp_path: Path) -> None:
    rows = samples()
    rows[0] |= {"needle_score": 0.25, "filtered_resps": [" something "]}
    run = imported(save_samples(tmp_path / "samples_x.jsonl", rows), tmp_path / "runs")
    (low,) = [r for r in run.results if r.score != 1]
    assert (low.score, low.outcome, low.answer) == (0.25, "partial", "something")


def test_a_model_that_is_named_stands_for_the_one_that_the_cells_were_made_for(tmp_path: Path) -> None:
    for path in (SAMPLES, LOG):
        run = imported(path, tmp_path, asked=importing.Asked(model="theirs"))
        assert run.spec.model == "theirs"


def test_repeats_are_repeats(tmp_path: Path) -> None:
    rows = samples()
    again = json.loads(json.dumps(rows))
    for row in again:
        row["doc"]["repeat"] = 1
        row["needle_score"] = 0.0
    run = imported(save_samples(tmp_path / "samples_x.jsonl", [*again, *rows]), tmp_path / "runs")
    assert run.spec.grid.repeats == 2
    assert {r.score for r in run.results if r.repeat == 0} == {1.0}
    assert {r.score for r in run.results if r.repeat == 1} == {0.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"needle_score": None}, "no needle_score"),
        ({"needle_score": 7}, "needle_score 7 is not within 0–1"),
        ({"filtered_resps": []}, "filtered_resps is no list of texts"),
        ({"doc": {"needle_cell": 2}}, "a cell of format 2, this version reads 1"),
        ({"doc": {"needle_cell": 1, "control": True}}, "a control cell"),
        ({"doc": {"needle_cell": 1, "model": "m", "task": "t", "length": -5}}, "length -5 is not within"),
    ],
)
def test_a_damaged_sample_is_named_and_the_others_are_read(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    rows = samples()
    rows[2] |= change
    found = importing.read(save_samples(tmp_path / "samples_x.jsonl", rows))
    assert len(found.drafts[0].cells) == len(rows) - 1
    (unread,) = found.unread
    assert unread.place == "line 3"
    assert reason in unread.reason


def test_a_sample_that_another_scorer_graded_is_not_taken(tmp_path: Path) -> None:
    path = changed(tmp_path / "log.json", lambda log: log["samples"][1].update(scores={"other": {"value": 1}}))
    found = importing.read(path)
    assert len(found.drafts[0].cells) == 5
    assert "no score by needle_score" in found.unread[0].reason


def test_a_log_of_another_task_is_not_taken_for_one(tmp_path: Path) -> None:
    def strip(log: dict[str, Any]) -> None:
        for sample in log["samples"]:
            sample["metadata"] = {}

    with pytest.raises(UsageError):
        importing.read(changed(tmp_path / "log.json", strip))


def test_a_log_without_samples_says_so(tmp_path: Path) -> None:
    path = changed(tmp_path / "log.json", lambda log: log.pop("samples"))
    with pytest.raises(UsageError, match="a log without samples"):
        importing.read(path, "inspect-ai")


def test_the_command_takes_both(needle: Callable[..., Done], tmp_path: Path) -> None:
    for path in (SAMPLES, LOG):
        done = needle("import", path, "-o", tmp_path)
        assert done.code == 0, done
        assert "6 rows; 2 lengths × 3 depths" in done.out
    assert len(store.folders(tmp_path)) == 2
