"""The inspect_ai task: its samples are the run's cells, its scorer the run's. Skipped where inspect_ai is absent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("inspect_ai")

from inspect_ai import eval as inspect_eval
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.scorer import Target

from needle import importing, running
from needle.integrations import inspect_task
from needle.types import Grid, RunSpec


def task(**options: Any) -> Any:
    asked = {"tokenizer": "pocket-4k", "lengths": [512, 640], "depths": [0, 0.5, 1], "max_new_tokens": 32}
    return inspect_task.needle(**{**asked, **options})


@pytest.fixture(scope="module")
def prepared() -> running.Prepared:
    grid = Grid((512, 640), (0.0, 0.5, 1.0))
    return running.prepare(RunSpec("pocket-4k", "number", "essays", grid, max_new_tokens=32), print)


def test_a_chat_of_a_sample_renders_the_very_tokens_of_its_cell(prepared: running.Prepared) -> None:
    tokenizer = prepared.engine.tokenizer
    made = list(task().dataset)
    assert len(made) == len(prepared.prompts)
    for sample, prompt in zip(made, prepared.prompts, strict=True):
        chat = [{"role": m.role, "content": m.text} for m in sample.input]
        rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert tokenizer.encode(rendered, add_special_tokens=False) == prompt.ids.tolist()
        assert sample.metadata["prompt_sha256"] == prompt.sha256
        assert sample.target == list(prompt.question.answers)
        assert "prompt" not in sample.metadata


def test_a_plain_prompt_goes_as_it_stands() -> None:
    (first, *_) = task(prompt="base", lengths="512", depths="0.5").dataset
    (message,) = first.input
    assert message.role == "user"
    assert message.text.endswith(first.metadata["prefix"].rstrip())


def test_generation_is_greedy_within_the_answers_budget() -> None:
    made = task()
    assert (made.config.temperature, made.config.max_tokens) == (0.0, 32)


def test_the_scorer_is_the_runs() -> None:
    sample = next(iter(task().dataset))
    score = inspect_task.needle_score({})
    for said, value in ((f"It is {sample.target[0]}.", 1.0), (sample.metadata["distractors"][0], 0.0)):
        state: Any = SimpleNamespace(metadata=sample.metadata, output=SimpleNamespace(completion=said))
        graded: Any = asyncio.run(score(state, Target(sample.target)))
        assert graded.value == value
    assert graded.metadata["outcome"] == "distractor"


def test_inspects_own_log_comes_back(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of inspect's that always gives the first cell's answer."""
    made = task()
    right = next(iter(made.dataset)).target[0]
    answers = [ModelOutput.from_content("mockllm/model", f"It is {right}.") for _ in range(6)]
    model = get_model("mockllm/model", custom_outputs=answers)

    async def count(*_: Any, **__: Any) -> int:
        return 1

    # It would fetch a vocabulary from the net to count the tokens of a model that has none.
    monkeypatch.setattr(model.api, "count_tokens", count)
    (log,) = inspect_eval(made, model=model, log_dir=str(tmp_path), log_format="json", display="none")
    assert log.status == "success"
    (file,) = tmp_path.glob("*.json")
    ((run, new),) = importing.write(tmp_path / "runs", importing.read(file))
    assert (new, run.spec.model) == (6, "mockllm/model")
    assert [r.score for r in run.results].count(1.0) >= 1
    assert run.results[0].score == 1.0
