"""The runs that come with the project: whole, of prompts that are still built alike, and of what the app shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from needle import comparison, rebuilding, series, store

GALLERY = Path(__file__).parents[1] / "runs" / "gallery"
RUNS = store.folders(GALLERY)


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_each_run_is_whole_and_its_prompts_are_rebuilt(folder: Path) -> None:
    run = store.read(folder)
    assert run.status == "complete"
    if run.spec.model.startswith("pocket-training"):
        return  # these checkpoints are not bundled
    some = [*run.results[:: len(run.results) // 5], *run.controls[:2]]
    assert [prompt.sha256 for prompt, _ in rebuilding.prompts(run, some)] == [r.prompt_sha256 for r in some]


def test_there_are_a_comparison_a_series_and_several_tasks() -> None:
    runs = [store.read(folder) for folder in RUNS]
    (training,) = series.of(runs)
    assert len(training.steps) == 6
    numbers = {run.spec.model: run for run in runs if run.spec.task == "number"}
    (contrast,) = comparison.compare([numbers["pocket-4k"], numbers["pocket-32k"]]).contrasts
    assert {pair.by for pair in contrast.pairs} == {"prompt"}
    assert "pocket-32k is better" in contrast.verdict
    assert len({run.spec.task for run in runs}) == 5
