"""Results of other tools become runs that say what those tools measured, and nothing that could be read is lost."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from needle import analysis, figures, importing, store
from needle.cli import imports
from needle.errors import UsageError
from needle.store import Run
from needle.types import Result

NEEDLE = "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."


def save(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def save_lines(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def v1(length: int = 1000, depth: float = 50.0, score: Any = 10, **more: Any) -> dict[str, Any]:
    row = {
        "model": "gpt-4-1106-preview",
        "context_length": length,
        "depth_percent": depth,
        "version": 1,
        "needle": f"\n{NEEDLE}\n",
        "model_response": "Eat a sandwich.",
        "score": score,
        "test_duration_seconds": 2.5,
        "test_timestamp_utc": "2023-12-01 10:00:00+0000",
    }
    return {**row, **more}


def v1_folder(folder: Path, rows: Iterable[dict[str, Any]]) -> Path:
    for at, row in enumerate(rows):
        name = f"gpt_len_{row.get('context_length')}_depth_{at}_results.json"
        save(folder / name, row)
    return folder


def v2(length: int = 2000, depth: float = 25.0, value: float = 0.6, **more: Any) -> dict[str, Any]:
    placements = [{"text": "a maps to b", "insertion_token_index": 496, "actual_depth_percent": 24.8}]
    recipe = {
        "haystack": {"type": "files", "path": "PaulGrahamEssays"},
        "inserter": "even_spread",
        "needle_placements": placements,
        "final_context_token_count": 2082,
    }
    row = {
        "schema_version": 2,
        "run_name": "chain",
        "model_id": "opus",
        "model_request_name": "claude",
        "task_type": "uuid_chain",
        "context_length": length,
        "target_depth_percent": depth,
        "recipe": recipe,
        "needle_metadata": {},
        "expected_answer": "the-uuid",
        "prompt_question": "What is the value?",
        "response": "b",
        "score": {"value": value, "details": {"hops_correct": 3}},
        "usage": {"input_tokens": 2100, "output_tokens": 12},
        "cost_usd": 0.1,
        "duration_seconds": 12.4,
        "status": "ok",
        "error": None,
        "seed": 1,
    }
    return {**row, **more}


def text_with(needle: str, before: int, after: int) -> str:
    return "x" * before + needle + "y" * after


def prediction(index: int = 0, answers: Iterable[str] = ("4821937",), pred: str = "", **more: Any) -> dict[str, Any]:
    answers = list(answers)
    row = {
        "index": index,
        "pred": pred,
        "input": text_with(answers[0], 493, 500),
        "outputs": answers,
        "others": {},
        "truncation": -1,
        "length": 4012,
    }
    return {**row, **more}


def imported(path: Path, root: Path, **how: Any) -> list[Run]:
    found = importing.read(path, **how)
    return [run for run, _ in importing.write(root, found)]


def only(path: Path, root: Path, **how: Any) -> Run:
    (run,) = imported(path, root, **how)
    return run


def cells(run: Run) -> dict[tuple[int, float, int], float | None]:
    return {(r.length, r.depth, r.repeat): r.score for r in run.results}


def single(run: Run) -> Result:
    (result,) = run.results
    return result


# The formats.


def test_a_kamradt_folder(tmp_path: Path) -> None:
    rows = [v1(1000, 0, 1), v1(1000, 11.316, 7), v1(16000, 100, 10), v1(1000, 0, 10, version=2, model_response=" ")]
    run = only(v1_folder(tmp_path / "results", rows), tmp_path / "runs")
    spec = run.spec
    assert cells(run) == {
        (1000, 0.0, 0): 0.0,
        (1000, 0.11316, 0): pytest.approx(6 / 9),
        (16000, 1.0, 0): 1.0,
        (1000, 0.0, 1): 1.0,
    }
    assert (spec.model, spec.engine, spec.grid.lengths) == ("gpt-4-1106-preview", "import", (1000, 16000))
    assert (spec.grid.depths, spec.grid.repeats) == ((0.0, 0.11316, 1.0), 2)
    worst, seven = run.results[0], run.results[1]
    assert (worst.outcome, seven.outcome, run.results[2].outcome) == ("wrong", "partial", "found")
    assert (seven.answer, seven.expected, seven.seconds) == ("Eat a sandwich.", (NEEDLE,), 2.5)
    assert (seven.depth_used, seven.prompt_tokens, seven.prompt_sha256) == (None, None, None)
    assert "graded 7 on a scale of 1–10" in seven.explanation
    assert "gpt_len_1000_depth_1_results.json" in seven.explanation


def test_several_models_in_a_folder_are_several_runs(tmp_path: Path) -> None:
    rows = [v1(model="a"), v1(model="b"), v1(2000, model="b")]
    runs = imported(v1_folder(tmp_path / "results", rows), tmp_path / "runs")
    assert {run.spec.model: len(run.results) for run in runs} == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("scale", "grade", "score"),
    [("1-10", 1, 0.0), ("1-10", 5.5, 0.5), ("1-10", 10, 1.0), ("0-10", 0, 0), ("0-10", 4.2, 0.42), ("0-1", 1, 1)],
)
def test_the_scales_of_kamradts_grades(tmp_path: Path, scale: str, grade: float, score: float) -> None:
    file = save(tmp_path / "one.json", v1(score=grade))
    run = only(file, tmp_path / "runs", asked=importing.Asked(scale=scale))
    assert single(run).score == pytest.approx(score)
    assert run.spec.scorer == f"kamradt {scale}"


def test_the_oldest_list_is_named_after_its_file(tmp_path: Path) -> None:
    rows = [
        {"token_limit": 1000, "depth_percent": 7, "score": 10},
        {"token_limit": 9143, "depth_percent": 7, "score": 4},
    ]
    file = save(tmp_path / "gpt-4.json", rows)
    run = only(file, tmp_path / "runs")
    assert cells(run) == {(1000, 0.07, 0): 1.0, (9143, 0.07, 0): pytest.approx(3 / 9)}
    assert (run.spec.model, run.results[1].answer, run.results[1].outcome) == ("gpt-4", "", "partial")
    assert only(file, tmp_path / "runs", asked=importing.Asked(model="gpt-4-turbo")).spec.model == "gpt-4-turbo"


def test_the_list_that_came_next_says_its_model(tmp_path: Path) -> None:
    run = only(save(tmp_path / "results.json", [v1(), v1(2000)]), tmp_path / "runs")
    assert (run.spec.model, run.spec.options["format"]) == ("gpt-4-1106-preview", "kamradt-list")
    assert run.spec.grid.lengths == (1000, 2000)


def test_kamradts_version_2(tmp_path: Path) -> None:
    failed = v2(4000, status="error", error="rate limit", response=None, score=None, usage=None)
    file = save_lines(tmp_path / "results.jsonl", [v2(seed=2, value=1.0), v2(), failed])
    run = only(file, tmp_path / "runs")
    assert cells(run) == {(2000, 0.25, 0): 0.6, (2000, 0.25, 1): 1.0, (4000, 0.25, 0): None}
    first, last, _ = run.results
    assert (run.spec.model, run.spec.task, run.spec.haystack) == ("opus", "kamradt uuid_chain", "PaulGrahamEssays")
    assert (first.depth_used, first.position) == (0.248, 496)
    assert (first.prompt_tokens, first.new_tokens, first.seconds) == (2100, 12, 12.4)
    assert (first.question, first.expected, first.answer) == ("What is the value?", ("the-uuid",), "b")
    assert (last.status, last.outcome, last.error) == ("error", "error", "rate limit")


def test_ruler_predictions_are_graded_anew(tmp_path: Path) -> None:
    rows = [
        prediction(0, ["Ab-1", "cd-2"], "it is ab-1 and\x00 CD-2."),
        prediction(1, ["Ab-1", "cd-2"], "AB-1"),
        prediction(2, ["Ab-1", "cd-2"], " \x01 "),
        prediction(3, ["Ab-1", "cd-2"], "none"),
    ]
    file = save_lines(tmp_path / "llama-3" / "synthetic" / "4096" / "pred" / "niah_multivalue.jsonl", rows)
    run = only(file, tmp_path / "runs")
    assert [r.score for r in run.results] == [1.0, 0.5, 0.0, 0.0]
    assert [r.outcome for r in run.results] == ["found", "partial", "wrong", "wrong"]
    assert (run.spec.model, run.spec.task, run.spec.scorer) == ("llama-3", "niah_multivalue", "string_match_all")
    # The folder's length; the depth is where the first answer stands, to the nearest tenth in the grid.
    assert (run.spec.grid.lengths, run.spec.grid.depths, run.spec.grid.repeats) == ((4096,), (0.5,), 4)
    assert (run.results[1].depth_used, run.results[1].extracted) == (pytest.approx(493 / 997, abs=1e-6), "Ab-1")


def test_for_rulers_questions_any_answer_will_do(tmp_path: Path) -> None:
    file = save_lines(tmp_path / "qa_1.jsonl", [prediction(0, ["Ab", "cd"], "CD"), prediction(1, ["Ab", "cd"], "no")])
    run = only(file, tmp_path / "runs")
    assert ([r.score for r in run.results], run.spec.scorer) == ([1.0, 0.0], "string_match_part")


def test_ruler_lengths_that_nearly_agree_are_one_column(tmp_path: Path) -> None:
    lengths = [4012, 4070, 4001, 8100, 2000]
    file = save_lines(tmp_path / "pred.jsonl", [prediction(i, length=n) for i, n in enumerate(lengths)])
    assert only(file, tmp_path / "runs").spec.grid.lengths == (2000, 4070, 8100)


def test_chunks_of_a_ruler_task_are_one_run(tmp_path: Path) -> None:
    pred = tmp_path / "m" / "synthetic" / "8192" / "pred"
    for chunk in (0, 1):
        save_lines(pred / f"niah_single_1-{chunk}.jsonl", [prediction(chunk)])
    run = only(tmp_path / "m", tmp_path / "runs")
    assert (run.spec.task, len(run.results)) == ("niah_single_1", 2)


def test_ruler_data_joins_on_the_input(tmp_path: Path) -> None:
    rows = [prediction(i, input=f"prompt {i}", length=-1, pred="4821937") for i in range(4)]
    data = [
        {"index": 9, "input": "prompt 0", "outputs": ["4821937"], "length": 4000, "token_position_answer": 1000},
        {"index": 9, "input": "prompt", "answer_prefix": " 1", "length": 4000, "depth_percent": 75},
        {"index": 9, "input": "prompt 2", "others": {"length": 8000, "depth_percent": 1}},
    ]
    file = save_lines(tmp_path / "niah.jsonl", rows)
    found = importing.read(file, data=save_lines(tmp_path / "validation.jsonl", data))
    (run,) = (run for run, _ in importing.write(tmp_path / "runs", found))
    places = [(r.length, r.depth, r.depth_used) for r in run.results]
    assert places == [(4000, 0.2, 0.25), (4000, 0.75, None), (8000, 0.01, None)]
    assert [str(row).split("jsonl ")[1] for row in found.unread] == [
        "line 4: its length is unknown; keep RULER's folders, or give --data"
    ]


@pytest.mark.parametrize(
    ("asked", "depths"), [([0, 0.5, 1], (0.0, 0.5, 1.0)), ([0, 1, 50], (0.0, 0.01, 0.5)), ([100], (1.0,))]
)
def test_a_ruler_depth_above_one_is_per_cent_and_so_are_all(
    tmp_path: Path, asked: list[float], depths: tuple[float, ...]
) -> None:
    file = save_lines(tmp_path / "p.jsonl", [prediction(i, others={"depth": d}) for i, d in enumerate(asked)])
    assert only(file, tmp_path / "runs").spec.grid.depths == depths


def test_where_no_depth_is_known_the_run_says_so(tmp_path: Path) -> None:
    file = save_lines(tmp_path / "p.jsonl", [prediction(i, input="cut") for i in range(2)])
    found = importing.read(file)
    ((run, _),) = importing.write(tmp_path / "runs", found)
    assert found.drafts[0].notes == ("no depth is known; all stand at 0 %",)
    assert run.spec.options["depth"] == "unknown"
    assert [(r.depth, r.depth_used) for r in run.results] == [(0.0, None)] * 2


def test_one_without_depth_does_not_stand_among_those_with_one(tmp_path: Path) -> None:
    file = save_lines(tmp_path / "p.jsonl", [prediction(0), prediction(1, input="cut")])
    found = importing.read(file)
    assert [(row.place, row.reason) for row in found.unread] == [("line 2", "no depth, where other rows have one")]
    assert [row.depth for _, row in found.drafts[0].cells] == [0.5]


def test_same_inputs_of_two_models_pair_by_prompt(tmp_path: Path) -> None:
    from needle import pairing

    for model in "ab":
        rows = [prediction(i, pred="4821937") for i in range(2)]
        save_lines(tmp_path / model / "synthetic" / "4096" / "pred" / "niah.jsonl", rows)
    one, other = imported(tmp_path, tmp_path / "runs")
    pairs, _ = pairing.pair(one, other, "a", "b")
    assert [pair.by for pair in pairs] == ["prompt", "prompt"]


def test_needlebench_details(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "internlm2-7b"
    details = [{"pred": "tofu", "answer": "tofu", "score": 100}, {"pred": "?", "answer": "rice", "score": 12.5}]
    save(folder / "Length8000Depth11_origin_en_8k.json", {"score": 56.25, "details": details})
    replicas = [{"example_abbr": "x_0", "pred": ["a", "b"], "answer": ["a", "a"], "score": [100, 0]}]
    save(folder / "Length8000Depth100_origin_en_8k.json", {"score": 50.0, "details": replicas})
    numbered = {"0": {"prompt": "p", "predictions": "a", "references": "a", "correct": True}}
    save(folder / "Length4000Depth0_origin_en_8k.json", {"score": 100.0, "details": numbered})
    run = only(tmp_path / "results", tmp_path / "runs")
    assert cells(run) == {
        (8000, 0.11, 0): 1.0,
        (8000, 0.11, 1): 0.125,
        (8000, 1.0, 0): 1.0,
        (8000, 1.0, 1): 0.0,
        (4000, 0.0, 0): 1.0,
    }
    assert (run.spec.model, run.spec.task) == ("internlm2-7b", "origin_en_8k")
    named = {(r.length, r.depth, r.repeat): (r.answer, r.expected) for r in run.results}
    assert named[8000, 0.11, 1] == ("?", ("rice",))
    assert named[8000, 1.0, 1] == ("b", ("a",))
    assert named[4000, 0.0, 0] == ("a", ("a",))


def test_needlebench_without_details_is_its_mean(tmp_path: Path) -> None:
    file = save(tmp_path / "m" / "Length4000Depth50_2needle_en_8k.json", {"score": 62.5})
    assert "a mean" in single(only(file, tmp_path / "runs")).explanation
    assert single(only(file, tmp_path / "runs")).score == 0.625


def test_needlebenchs_parallel_task_has_one_score_a_depth(tmp_path: Path) -> None:
    value = {"Depth0": 100.0, "Depth50": 40.0, "details": [], "average_score": 70.0}
    run = only(save(tmp_path / "m" / "Length4000_parallel_en_8k.json", value), tmp_path / "runs")
    assert (cells(run), run.spec.task) == ({(4000, 0.0, 0): 1.0, (4000, 0.5, 0): 0.4}, "parallel_en_8k")


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 100), st.floats(1, 10)), min_size=1, max_size=12))
def test_every_row_is_there_once_and_keeps_its_order(rows: list[tuple[int, float, float]]) -> None:
    values = [{"token_limit": n, "depth_percent": d, "score": s} for n, d, s in rows]
    with tempfile.TemporaryDirectory() as folder:
        run = only(save(Path(folder) / "in" / "m.json", values), Path(folder))
    expected = [(n, round(d / 100, 6) + 0.0, (s - 1) / 9) for n, d, s in rows]
    assert sorted((r.length, r.depth, r.score) for r in run.results) == [
        (n, d, pytest.approx(s)) for n, d, s in sorted(expected)
    ]
    assert all(0 <= (r.score or 0) <= 1 for r in run.results)


def test_minus_zero_is_zero(tmp_path: Path) -> None:
    rows = [v1(1000, 0.0, 10), v1(1000, -0.0, 1)]
    assert [r.score for r in only(save(tmp_path / "m.json", rows), tmp_path / "runs").results] == [1.0, 0.0]


# What cannot be read.

BAD = [
    v1(score=0),
    v1(score=11),
    v1(score=float("nan")),
    v1(score=True),
    v1(score="10"),
    v1(score=None),
    v1(score=[10]),
    v1(score=10**400),
    v1(depth=-1),
    v1(depth=100.5),
    v1(depth=float("inf")),
    v1(length=0),
    v1(length=10**18),
    v1(context_length=1000.5),
    v1(context_length={"a": 1}),
]


def test_rows_that_cannot_be_read_are_counted_and_named(tmp_path: Path) -> None:
    file = save(tmp_path / "m.json", [*BAD, v1(), "text", 3, None, [], {}])
    found = importing.read(file)
    assert [len(made.cells) for made in found.drafts] == [1]
    places = [f"row {n}" for n in [*range(1, len(BAD) + 1), *range(len(BAD) + 2, len(BAD) + 7)]]
    assert [row.place for row in found.unread] == places
    reasons = [row.reason for row in found.unread]
    assert reasons[:2] == ["score 0 is not within 1–10", "score 11 is not within 1–10"]
    assert "score is '10', no number" in reasons
    assert "context_length 1000.5 is no whole number" in reasons
    assert all(len(reason) < 120 and "\n" not in reason for reason in reasons)


def test_damaged_files_and_lines_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    v1_folder(folder / "good", [v1()])
    (folder / "torn.json").write_text('{"model": "a", "context_')
    (folder / "latin.json").write_bytes(json.dumps(v1(), ensure_ascii=False).encode() + b"\xff")
    (folder / "deep.json").write_text("[" * 200_000)
    (folder / "digits.json").write_text("9" * 10_000)
    (folder / "other.json").write_text('{"a": 1}')
    (folder / "empty.jsonl").write_text("")
    lines = [
        json.dumps(v2()).encode(),
        b"\xfe\xff",
        b"",
        b"[" * 100_000,
        b"{",
        json.dumps(v2(status="ok", score=1)).encode(),
    ]
    (folder / "v2.jsonl").write_bytes(b"\n".join(lines))
    found = importing.read(folder)
    assert sum(len(made.cells) for made in found.drafts) == 2
    named = {f"{row.file.name} {row.place}".strip(): row.reason for row in found.unread}
    assert set(named) == {
        *("torn.json", "latin.json", "deep.json", "digits.json", "other.json", "empty.jsonl"),
        *("v2.jsonl line 2", "v2.jsonl line 4", "v2.jsonl line 5", "v2.jsonl line 6"),
    }
    assert (named["latin.json"], named["deep.json"]) == ("no UTF-8", "nested too deeply")
    assert named["v2.jsonl line 6"] == "no score"
    assert "none of" in named["other.json"]


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(v1()).encode())
    assert single(only(file, tmp_path / "runs")).score == 1.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150)
@given(st.data())
def test_whatever_stands_in_a_field_is_a_run_or_a_refusal(data: st.DataObject) -> None:
    base, name = data.draw(
        st.sampled_from(
            [
                (v1(), "c.json"),
                ([v1()], "l.json"),
                (v2(), "v.jsonl"),
                (prediction(), "r.jsonl"),
                ({"score": 1, "details": [{"pred": "a", "answer": "a", "score": 1}]}, "Length5Depth5_a.json"),
            ]
        )
    )
    target = base[0] if isinstance(base, list) else base
    changed = {**target, data.draw(st.sampled_from(sorted(target))): data.draw(json_values)}
    with tempfile.TemporaryDirectory() as folder:
        file = save(Path(folder) / "in" / name, [changed] if isinstance(base, list) else changed)
        try:
            found = importing.read(file)
        except UsageError:
            return
        runs = [run for run, _ in importing.write(Path(folder), found)]
    for result in (result for run in runs for result in run.results):
        assert result.score is None or 0 <= result.score <= 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"form": "zzz"}, "unknown format 'zzz'"),
        ({"asked": importing.Asked(scale="0-5")}, "unknown scale '0-5'"),
        ({"form": "ruler"}, "holds no results that can be read"),
        ({"data": Path("/nowhere/at/all")}, "neither a file nor a folder"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path: Path, how: dict[str, Any], message: str) -> None:
    folder = v1_folder(tmp_path / "in", [v1()])
    with pytest.raises(UsageError, match=message):
        importing.read(folder, **how)


def test_data_goes_with_ruler_only(tmp_path: Path) -> None:
    folder = v1_folder(tmp_path / "in", [v1()])
    with pytest.raises(UsageError, match="goes with RULER"):
        importing.read(folder, data=save_lines(tmp_path / "d.jsonl", [{"input": "a"}]))
    with pytest.raises(UsageError, match="holds no RULER data"):
        importing.read(folder, data=save_lines(tmp_path / "d.jsonl", [{"output": "a"}]))


def test_a_grid_that_nothing_could_draw_is_refused(tmp_path: Path) -> None:
    rows = [{"token_limit": 1 + n, "depth_percent": n / 6, "score": 1} for n in range(600)]
    with pytest.raises(UsageError, match="600 lengths × 600 depths × 1 repeats are 360000 cells"):
        importing.read(save(tmp_path / "m.json", rows))


# Runs as any other.


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return v1_folder(tmp_path / "results", [v1(n, d, s) for n, d, s in [(1000, 0, 10), (1000, 100, 1), (4000, 0, 7)]])


def test_an_irregular_grid_is_the_union_and_what_is_not_measured_is_nan(source: Path, tmp_path: Path) -> None:
    run = only(source, tmp_path / "runs")
    frame, grid = analysis.frame(run.results), run.spec.grid
    table = analysis.grid(frame, lengths=grid.lengths, depths=grid.depths)
    assert table.shape == (2, 2)
    assert table.loc[0.0, 1000] == 1.0
    assert str(table.loc[1.0, 4000]) == "nan"
    summary = analysis.summary(run.results, run.spec, run.sessions[-1])
    # Another tool need not have measured a grid: what it did measure is all there is.
    assert (summary.asked, summary.done, summary.failed) == (3, 3, 0)
    assert run.status == "complete"
    assert summary.mean == pytest.approx((1 + 0 + 6 / 9) / 3)
    assert len(figures.heatmap(frame, "t", lengths=grid.lengths, depths=grid.depths).data) >= 2


def test_provenance_says_file_format_and_hash(source: Path, tmp_path: Path) -> None:
    import hashlib

    file = sorted(source.iterdir())[0]
    run = only(file, tmp_path / "runs")
    (session,) = run.sessions
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (session["source"], session["format"], session["sha256"]) == (str(file), "kamradt", digest)
    assert run.sources == {"source": digest}


def test_importing_again_adds_nothing_and_goes_on_where_it_broke_off(source: Path, tmp_path: Path) -> None:
    root, found = tmp_path / "runs", importing.read(source)
    ((run, new),) = importing.write(root, found)
    before = {file.name: file.read_bytes() for file in run.folder.iterdir()}
    ((again, fresh),) = importing.write(root, importing.read(source))
    assert (new, fresh, again.folder) == (3, 0, run.folder)
    assert {file.name: file.read_bytes() for file in run.folder.iterdir()} == before
    rows = run.folder / "results.jsonl"
    rows.write_bytes(before["results.jsonl"][:-5])
    ((mended, left),) = importing.write(root, importing.read(source))
    assert (left, mended.results) == (1, run.results)
    assert len(store.folders(root)) == 1


def test_the_same_files_elsewhere_are_the_same_run_and_changed_ones_are_not(source: Path, tmp_path: Path) -> None:
    run = only(source, tmp_path / "runs")
    moved = source.rename(tmp_path / "moved")
    assert only(moved, tmp_path / "runs").folder == run.folder
    save(sorted(moved.iterdir())[0], v1(1000, 0, 9))
    assert only(moved, tmp_path / "runs").folder != run.folder


# The command.

Command = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    app = typer.Typer()
    app.command("import")(imports.import_runs)

    def call(*arguments: object) -> tuple[str, list[str]]:
        app([str(a) for a in arguments], standalone_mode=False)
        written = capsys.readouterr()
        return written.out, written.err.splitlines()

    return call


def test_the_command_tells_what_it_made_and_what_it_left_out(source: Path, tmp_path: Path, command: Command) -> None:
    (source / "torn\x1b[2J.json").write_text("{")
    root = tmp_path / "runs"
    out, err = command(source, "-o", root)
    (folder,) = store.folders(root)
    assert out == f"{folder}: 3 rows; 2 lengths × 2 depths; graded by kamradt 1-10\n"
    assert err[0] == "needle: 1 could not be read:"
    assert err[1].startswith(f"  {source}/torn\\x1b[2J.json: no JSON")
    assert "was imported before" in command(source, "-o", root)[0]


def test_of_many_unreadable_rows_the_first_are_named_and_json_names_all(tmp_path: Path, command: Command) -> None:
    file = save(tmp_path / "m.json", [v1(), *[v1(score=0)] * 30])
    _, err = command(file, "-o", tmp_path / "runs")
    assert (len(err), err[0], err[-1]) == (22, "needle: 30 could not be read:", "  and 10 more; --json names them all")
    out, err = command(file, "-o", tmp_path / "runs", "--json")
    report = json.loads(out)
    assert (report["unread"], len(report["unreadable"]), err) == (30, 30, [])
    assert report["unreadable"][0] == {"file": str(file), "place": "row 2", "reason": "score 0 is not within 1–10"}
    (run,) = report["runs"]
    assert (run["model"], run["format"], run["rows"], run["new"]) == ("gpt-4-1106-preview", "kamradt-list", 1, 0)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"null", b'[{"token_limit": 1, "depth_percent": 2}]'])
def test_nothing_readable_is_an_error_and_nothing_is_written(tmp_path: Path, command: Command, content: bytes) -> None:
    file = tmp_path / "m.json"
    file.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        command(file, "-o", tmp_path / "runs")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_list_and_show_take_an_imported_run(source: Path, tmp_path: Path, needle: Callable[..., Any]) -> None:
    only(source, tmp_path / "runs")
    (listed,) = json.loads(needle("list", "--json", "-o", tmp_path / "runs").out)
    assert (listed["model"], listed["measured"], listed["failed"]) == ("gpt-4-1106-preview", 3, 0)
    shown = needle("show", "-o", tmp_path / "runs")
    assert (shown.code, "imported from kamradt" in shown.out) == (0, True)
