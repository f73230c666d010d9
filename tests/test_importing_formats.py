"""What each format's files say is what the imported run says."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from foreign import NEEDLE, cells, imported, only, prediction, save, save_lines, single, v1, v1_folder, v2
from hypothesis import given, settings
from hypothesis import strategies as st

from needle import importing


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
