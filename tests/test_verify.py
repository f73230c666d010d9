"""`needle verify`: a sound run agrees with itself, a tampered row is named, another model is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import pytest
import torch
from safetensors.torch import load_file, save_file
from watchers import Quiet

from needle import running, store, verify
from needle.engines import _ways
from needle.errors import StoreError, UsageError
from needle.store import Run
from needle.types import Grid, RunSpec

Checkpoint = Callable[..., Path]


def silent(_: str) -> None: ...


def measured(model: Path, root: Path, **options: Any) -> Run:
    grid = Grid((256, 400), (0.0, 0.5, 1.0))
    spec = RunSpec(str(model), "number", "noise", grid, max_new_tokens=8, options=options)
    return running.execute(running.prepare(spec, silent), root, Quiet())


@pytest.fixture(scope="module")
def run(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Six cells through the forest, in float32."""
    found = measured(checkpoint("qwen2", seed=1), tmp_path_factory.mktemp("runs"), dtype="float32")
    assert {r.way for r in found.results} == {"forest"}
    return found


def test_the_forest_agrees_with_one_prefill_a_cell(run: Run) -> None:
    dtype, checks = verify.verify(run, 100, 0, silent)
    assert dtype == "float32"
    assert sorted((c.result.length, c.result.depth) for c in checks) == [
        (n, d) for n in (256, 400) for d in (0.0, 0.5, 1.0)
    ]
    for check in checks:
        assert check.same_tokens
        assert check.same_score
        assert (check.answer.way, check.answer.ids) == ("cells", check.result.answer_ids)


def test_a_sample_is_drawn_from_the_seed(run: Run) -> None:
    def cells(seed: int) -> list[tuple[int, float]]:
        return [(c.result.length, c.result.depth) for c in verify.verify(run, 2, seed, silent)[1]]

    drawn = {seed: cells(seed) for seed in range(3)}
    assert cells(1) == drawn[1]
    assert all(len(set(some)) == 2 for some in drawn.values())
    assert len({tuple(some) for some in drawn.values()}) > 1


@pytest.mark.parametrize("forged", [{"answer_ids": (5, 6)}, {"score": 0.5}])
def test_a_row_that_was_tampered_with_is_named(run: Run, forged: dict[str, Any]) -> None:
    rows = [replace(run.results[0], **forged), *run.results[1:]]
    _, checks = verify.verify(replace(run, results=rows), 100, 0, silent)
    wrong = [c for c in checks if not (c.same_tokens and c.same_score)]
    assert [c.result for c in wrong] == rows[:1]
    assert (wrong[0].same_tokens, wrong[0].same_score) == ("score" in forged, "answer_ids" in forged)


def test_a_forged_prompt_is_not_measured(run: Run) -> None:
    rows = [replace(r, prompt_sha256="0" * 64) for r in run.results]
    with pytest.raises(StoreError, match="cannot be rebuilt"):
        verify.verify(replace(run, results=rows), 1, 0, silent)


def test_cells_that_had_failed_are_left_out(run: Run) -> None:
    failed = replace(run.results[0], status="error", score=None, outcome="error", error="out of memory")
    _, checks = verify.verify(replace(run, results=[failed, *run.results[1:3]]), 100, 0, silent)
    assert {c.result.key for c in checks} == {r.key for r in run.results[1:3]}


@pytest.mark.parametrize(("kept", "sample"), [(0, 5), (6, 0), (6, -1)])
def test_nothing_to_verify_is_said(run: Run, kept: int, sample: int) -> None:
    with pytest.raises(UsageError, match="nothing to do"):
        verify.verify(replace(run, results=run.results[:kept]), sample, 0, silent)


def test_a_cell_that_fails_anew_agrees_in_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any) -> list[int]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(_ways, "_generate", no_memory)
    mute = [replace(r, answer_ids=()) for r in run.results]
    _, checks = verify.verify(replace(run, results=mute), 2, 0, silent)
    assert [(c.same_tokens, c.same_score, c.answer.error) for c in checks] == [(False, False, "out of memory")] * 2


def test_another_model_in_the_same_place_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = Path(shutil.copytree(checkpoint("qwen2", seed=1), tmp_path / "model"))
    run = measured(model, tmp_path / "runs")
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"the model of .* changed since run"):
        verify.verify(run, 1, 0, silent)


def test_another_tokenizer_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = Path(shutil.copytree(checkpoint("qwen2", seed=1), tmp_path / "model"))
    run = measured(model, tmp_path / "runs")
    words = models.tokenizer()
    words.chat_template = models.CHATML.replace("assistant", "machine")
    words.save_pretrained(model)
    with pytest.raises(UsageError, match=r"the tokenizer of .* changed since run"):
        verify.verify(run, 1, 0, silent)


def test_cells_are_computed_in_the_dtype_that_they_had(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """ "auto" may be another dtype on the machine that verifies."""
    run = measured(checkpoint("qwen2", seed=1), tmp_path, dtype="auto")
    elsewhere = replace(run, sources={**run.sources, "dtype": "bfloat16"})
    assert verify.verify(elsewhere, 1, 0, silent)[0] == "bfloat16"
    assert verify.verify(run, 1, 0, silent)[0] == run.sessions[0]["dtype"] == "float32"


def test_what_is_verified_is_what_lies_on_disk(run: Run) -> None:
    again = store.read(run.folder)
    assert [c.same_tokens for c in verify.verify(again, 2, 0, silent)[1]] == [True, True]
