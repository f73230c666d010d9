"""Cells as a task of lm-evaluation-harness: the same prompts, graded the same, and run by itself where it is there."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Done

from needle import importing, pocket, running
from needle.errors import UsageError
from needle.integrations import _cells, lm_eval
from needle.running import Prepared
from needle.types import Answer, Grid, RunSpec

REAL = all(importlib.util.find_spec(name) is not None for name in ("lm_eval", "datasets"))


def spec(**changes: Any) -> RunSpec:
    asked: dict[str, Any] = {
        "grid": Grid((512, 640), (0.0, 0.5, 1.0)),
        "max_new_tokens": 32,
        "options": {"dtype": "float32"},
    }
    return RunSpec(**{"model": "pocket-4k", "task": "number", "haystack": "essays", **asked, **changes})


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return running.prepare(spec(), print)


@pytest.fixture(scope="module")
def made(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> lm_eval.Export:
    return lm_eval.export(prepared, tmp_path_factory.mktemp("exported") / "task")


def cells(made: lm_eval.Export) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (made.folder / "cells.jsonl").read_text().splitlines()]


def test_the_text_of_each_cell_becomes_its_very_tokens(prepared: Prepared, made: lm_eval.Export) -> None:
    tokenizer = prepared.engine.tokenizer
    assert made.cells == made.exact == len(prepared.prompts)
    for record, prompt in zip(cells(made), prepared.prompts, strict=True):
        assert tokenizer.encode(record["prompt"], add_special_tokens=False) == prompt.ids.tolist()
        assert record["prompt_sha256"] == prompt.sha256
        assert (record["length"], record["depth"], record["repeat"]) == (
            prompt.cell.length,
            prompt.cell.depth,
            prompt.cell.repeat,
        )


def test_a_text_that_becomes_other_tokens_is_counted(prepared: Prepared, tmp_path: Path) -> None:
    class Torn:
        """A tokenizer that reads back something else than it wrote."""

        def __getattr__(self, name: str) -> Any:
            return getattr(prepared.engine.tokenizer, name)

        def encode(self, text: str, **more: Any) -> list[int]:
            return [*prepared.engine.tokenizer.encode(text, **more), 0]

    assert not _cells.exact(Torn(), prepared.prompts[0])


def test_the_task_file_is_yaml_that_names_what_the_harness_needs(made: lm_eval.Export) -> None:
    class Loader(yaml.SafeLoader):
        """As the harness reads it: a function by its name."""

    Loader.add_constructor("!function", lambda loader, node: ("function", loader.construct_scalar(node)))
    task = yaml.load((made.folder / "needle.yaml").read_text(), Loader)
    assert task["task"] == made.task
    assert task["custom_dataset"] == ("function", "utils.cells")
    assert task["process_results"] == ("function", "utils.grade")
    assert task["output_type"] == "generate_until"
    assert task["generation_kwargs"] == {"until": [], "max_gen_toks": 32, "do_sample": False}
    assert [m["metric"] for m in task["metric_list"]] == ["needle_score", "needle_found"]
    assert task["doc_to_target"] == "{{expected | join(', ')}}"
    assert task["doc_to_text"] in cells(made)[0]


def test_the_name_tells_other_cells_apart(made: lm_eval.Export) -> None:
    other = running.prepare(spec(seed=1), print)
    assert re.fullmatch(r"needle_number_[0-9a-f]{8}", made.task)
    assert _cells.title(other) != made.task
    assert f"--tasks {made.task} --include_path {made.folder} --log_samples" in made.command


@pytest.mark.parametrize("scorer", ["match", "exact"])
def test_answers_are_graded_as_in_a_run(scorer: str, tmp_path: Path) -> None:
    from needle import scoring

    prepared = running.prepare(spec(scorer=scorer), print)
    made = lm_eval.export(prepared, tmp_path)
    score = scoring.get(scorer, prepared.spec.options)
    for record, prompt in zip(cells(made), prepared.prompts, strict=True):
        wrong = prompt.question.distractors[0]
        for said in (f" It is {prompt.question.answers[0]}.", prompt.question.draft, wrong, ""):
            assert said is not None
            own = score(Answer(text=said.strip()), prompt.question).value
            graded = lm_eval.grade(tmp_path, record, [said])
            assert graded == {"needle_score": own, "needle_found": float(own >= 1)}


def test_records_are_of_one_shape(made: lm_eval.Export) -> None:
    """A dataset has columns."""
    shapes = {tuple((key, type(value)) for key, value in record.items()) for record in cells(made)}
    assert len(shapes) == 1


def test_a_scorer_that_needs_the_models_own_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="use another scorer"):
        lm_eval.export(running.prepare(spec(scorer="logprob"), print), tmp_path / "task")
    assert not (tmp_path / "task").exists()


def test_a_folder_that_cannot_be_written_is_one_line(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        lm_eval.export(prepared, tmp_path / "file" / "task")


def test_files_of_something_else_are_not_overwritten(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("mine")
    with pytest.raises(UsageError, match=r"utils.py' is no exported task's"):
        lm_eval.export(prepared, tmp_path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("utils.py", "mine")]


def test_the_command_writes_the_task_and_says_how_to_run_it(
    needle: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from needle import cli
    from needle.cli import harness

    if "export-task" not in cli._COMMANDS:
        cli.app.command("export-task")(harness.harness)
    asked = ("export-task", "pocket-4k", "--lengths", "512", "--depths", "0,1", "--max-new-tokens", 32)
    done = needle(*asked, "-o", tmp_path / "task")
    assert done.code == 0, done
    first, command = done.out.splitlines()
    assert first.endswith("2 cells")
    assert command.startswith("lm_eval --model hf")
    assert (tmp_path / "task" / "utils.py").is_file()
    assert "use lm-eval" in needle(*asked, "--format", "helm").line


@pytest.mark.skipif(not REAL, reason="lm_eval is not installed")
def test_the_harness_runs_it_and_the_results_come_back(made: lm_eval.Export, tmp_path: Path) -> None:
    model = f"pretrained={pocket.path('pocket-4k')},dtype=float32"
    asked = f"-m lm_eval --model hf --model_args {model} --tasks {made.task} --device cpu --log_samples"
    folders = ["--include_path", str(made.folder), "--output_path", str(tmp_path)]
    subprocess.run([sys.executable, *asked.split(), *folders], check=True, timeout=300)
    (samples,) = tmp_path.rglob("samples_*.jsonl")
    ((run, new),) = importing.write(tmp_path / "runs", importing.read(samples))
    assert new == made.cells
    assert {r.score for r in run.results} == {1.0}


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"grid": Grid((512,), (0.5,), control=True)}, "--control"),
        ({"grid": Grid((512,), (0.5,), max_repeats=3)}, "--adaptive"),
        ({"temperature": 0.5}, "--temperature"),
    ],
)
def test_what_another_harness_cannot_do_is_refused(changes: dict[str, Any], option: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=option):
        lm_eval.export(running.prepare(spec(**changes), print), tmp_path / "task")
    assert not (tmp_path / "task").exists()
