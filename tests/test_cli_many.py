"""`needle run` with several models and tasks, and what it is told with options of its later years."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Done

from needle import store
from needle.cli import _models
from needle.errors import UsageError

Needle = Callable[..., Done]
Checkpoint = Callable[..., Path]
FINE = ("--haystack", "noise", "--max-new-tokens", 8, "--lengths", "320", "--depths", "0,1")


@pytest.fixture
def training(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A training's folder with three checkpoints and something else."""
    for step in (1000, 200, 30):
        shutil.copytree(checkpoint("llama"), tmp_path / "out" / f"checkpoint-{step}")
    (tmp_path / "out" / "checkpoint-logs").mkdir()
    return tmp_path / "out"


def test_a_pattern_gives_checkpoints_by_step(training: Path) -> None:
    found = _models.asked([str(training / "checkpoint-*")], [])
    assert [Path(m).name for m in found] == ["checkpoint-30", "checkpoint-200", "checkpoint-1000"]
    assert _models.asked([f"{training}/checkpoint-30/", str(training / "checkpoint-30")], []) == [found[0]]
    assert _models.asked([], []) == ["pocket-32k"]
    assert _models.asked(["a*"], [], served=True) == ["a*"]
    with pytest.raises(UsageError, match="no checkpoint folder"):
        _models.asked([str(training / "nothing-*")], [])


def test_a_series_is_measured_on_identical_prompts_and_skips_what_is_done(
    needle: Needle, training: Path, tmp_path: Path
) -> None:
    shutil.move(training / "checkpoint-1000", tmp_path / "later")
    assert needle("run", training / "checkpoint-*", *FINE, "-o", tmp_path / "runs").code == 0
    shutil.move(tmp_path / "later", training / "checkpoint-1000")
    done = needle("run", training / "checkpoint-*", *FINE, "-o", tmp_path / "runs", "--json")
    assert (done.code, done.err.count("nothing to do")) == (0, 2)
    assert [Path(each["model"]).name for each in json.loads(done.out)] == [
        "checkpoint-30",
        "checkpoint-200",
        "checkpoint-1000",
    ]
    runs = [store.read(folder) for folder in store.folders(tmp_path / "runs")]
    assert len(runs) == 3
    assert len({tuple(r.prompt_sha256 for r in run.results) for run in runs}) == 1


def test_tasks_repeat_and_families_stand_for_their_tasks(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    assert needle("run", checkpoint(), "--task", "number", "--task", "uuid", *FINE, "-o", tmp_path).code == 0
    assert {store.read(f).spec.task for f in store.folders(tmp_path)} == {"number", "uuid"}
    told = needle("plan", checkpoint(), "--task", "ruler", *FINE[2:4], "--lengths", "1k", "--depths", "0.5", "--json")
    assert len(json.loads(told.out)) == 8


def test_a_model_that_fails_later_does_not_take_the_others_with_it(
    needle: Needle, training: Path, tmp_path: Path
) -> None:
    (training / "checkpoint-200" / "model.safetensors").write_bytes(b"no weights")
    done = needle("run", training / "checkpoint-*", *FINE, "-o", tmp_path / "runs")
    assert done.code == 1
    assert "checkpoint-200, task number: " in done.err
    assert len(store.folders(tmp_path / "runs")) == 2


def test_a_dry_run_says_what_plan_says_and_writes_nothing(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    dry = needle("run", checkpoint(), *FINE, "--dry-run", "-o", tmp_path / "runs")
    assert (dry.code, dry.out) == (0, needle("plan", checkpoint(), *FINE).out)
    assert not (tmp_path / "runs").exists()


def test_controls_and_scorers_are_asked_for_on_the_command_line(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    asked = ("--control", "--scorer", "regex", "--pattern", "{answer}", "--temperature", 0.7)
    done = needle("run", checkpoint(), *FINE, *asked, "-o", tmp_path)
    assert (done.code, "without a needle" in done.err) == (0, True)
    (folder,) = store.folders(tmp_path)
    run = store.read(folder)
    assert (len(run.controls), run.spec.temperature, run.spec.options["pattern"]) == (1, 0.7, "{answer}")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--pattern", "x"], "--pattern is a setting of scorer 'regex'"),
        (["--temperature", "-1"], "--temperature -1 is no number from 0"),
        (["--repeats", "3", "--max-repeats", "2"], "--max-repeats 2 is below --repeats 3"),
        (["--base-url", "http://localhost:1/v1"], "--base-url means nothing to --engine transformers"),
        (["--tokenizer", "elsewhere"], "--tokenizer means nothing to --engine transformers"),
        (["--engine", "ray", "--workers", "2", "--budget", "1"], "--budget means nothing to --engine ray"),
        (["--repeats", "100000000"], "--repeats 100000000 is above 1,000,000"),
        (["--task", "nunber"], "did you mean 'number'?"),
    ],
)
def test_new_options_that_make_no_sense(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path, more: list[str], told: str
) -> None:
    assert told in needle("run", checkpoint(), *FINE, *more, "-o", tmp_path / "runs").line
    assert not (tmp_path / "runs").exists()
