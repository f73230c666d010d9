"""Control cells: the same contexts without a needle, kept and told apart from the measurement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conftest import Done
from watchers import Quiet

from needle import analysis, running, store
from needle.types import Grid, RunSpec

Checkpoint = Callable[..., Path]


def spec_of(model: Path) -> RunSpec:
    return RunSpec(str(model), "number", "noise", Grid((320, 512), (0.0, 0.5, 1.0), 2, control=True), max_new_tokens=8)


def test_controls_are_measured_once_a_length_and_repeat_and_stand_apart(checkpoint: Checkpoint, tmp_path: Path) -> None:
    prepared = running.prepare(spec_of(checkpoint("llama")), print)
    run = running.execute(prepared, tmp_path, Quiet())
    assert (run.status, len(run.results), len(run.controls)) == ("complete", 12, 4)
    assert [(r.length, r.repeat) for r in run.controls] == [(320, 0), (512, 0), (320, 1), (512, 1)]
    assert all(r.control and r.status == "ok" and r.prompt_tokens == r.length - 8 for r in run.controls)
    assert not any(r.control for r in run.results)
    summary = analysis.of(run)
    assert (summary.done, summary.asked, sum(summary.controls.values())) == (12, 12, 4)
    assert len(analysis.frame(run.results)) == 12


def test_a_control_holds_everything_but_the_needle(checkpoint: Checkpoint, tmp_path: Path) -> None:
    run = running.execute(running.prepare(spec_of(checkpoint("llama")), print), tmp_path, Quiet())
    engine, prompts = running.rebuild(run, run.controls)
    for prompt in prompts:
        text = engine.tokenizer.decode(prompt.ids.tolist())
        assert prompt.question.question in text
        assert all(answer not in text for answer in prompt.question.answers)
        assert {span.kind for span in prompt.spans} == {"distractor"}


def test_a_run_whose_controls_are_missing_is_partial_and_goes_on(checkpoint: Checkpoint, tmp_path: Path) -> None:
    spec = spec_of(checkpoint("llama"))
    whole = running.execute(running.prepare(spec, print), tmp_path, Quiet())
    path = whole.folder / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b'"control": true' not in line))
    torn = store.read(whole.folder)
    assert (torn.status, torn.missing) == ("partial", 4)
    assert running.execute(running.prepare(spec, print), tmp_path, Quiet()).status == "complete"


def test_a_control_is_shown_around_the_end_of_its_text(
    needle: Callable[..., Done], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    running.execute(running.prepare(spec_of(checkpoint("llama")), print), tmp_path, Quiet())
    shown = needle("show", "-o", tmp_path, "--cell", "320:control:1")
    assert (shown.code, "(no needle)" in shown.out) == (0, True)
    assert "the secret code" in " ".join(shown.out.split())
