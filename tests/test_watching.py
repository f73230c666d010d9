"""Checkpoints of a running training: when one is ready, that each is measured once, and what may go wrong meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import synthetic
import typer
from conftest import copied, without_weights

from needle import series, store, watching
from needle.cli import watch as command
from needle.errors import UsageError
from needle.types import Grid
from needle.watching import Asked


@dataclass
class Training:
    """A job that writes checkpoints while the watch sleeps: `plan` maps a time in seconds to what happens then."""

    folder: Path
    plan: dict[float, Callable[[], object]] = field(default_factory=dict)
    now: float = 0.0
    said: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        assert self.now < 10_000, "the watch does not end"
        for at in sorted(at for at in self.plan if at <= self.now):
            self.plan.pop(at)()

    def save(self, step: int, sealed: bool = True, weights: bytes = b"w", name: str = "checkpoint-") -> Path:
        folder = self.folder / f"{name}{step}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
        if sealed:
            (folder / "trainer_state.json").write_text("{}")
        return folder

    def arrivals(self, **asked: Any) -> list[str]:
        found = watching.arrivals(self.folder, Asked(**asked), self.said.append, self.clock, self.sleep)
        return [f"{checkpoint.path.name} at {self.now:g}" for checkpoint in found]


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path / "out")


def test_what_is_there_comes_by_step_and_later_ones_as_they_are_written(training: Training) -> None:
    for step in (1000, 20, 300):
        training.save(step)
    training.plan = {35: lambda: training.save(2000), 70: lambda: training.save(3000)}
    assert training.arrivals(every=10, idle_exit=60) == [
        *("checkpoint-20 at 0", "checkpoint-300 at 0", "checkpoint-1000 at 0"),
        *("checkpoint-2000 at 40", "checkpoint-3000 at 70"),
    ]
    assert training.now == 130


def test_one_that_no_trainer_seals_must_have_settled(training: Training) -> None:
    training.save(1, sealed=False)
    training.plan = {at: lambda at=at: training.save(1, sealed=False, weights=b"w" * at) for at in (4, 9, 14)}  # type: ignore[misc]
    assert training.arrivals(every=1, settle=6, idle_exit=30) == ["checkpoint-1 at 20"]


def test_a_seal_older_than_the_weights_does_not_count(training: Training) -> None:
    folder = training.save(1)
    os.utime(folder / "trainer_state.json", (1, 1))
    assert training.arrivals(every=1, settle=6, idle_exit=30) == ["checkpoint-1 at 6"]


def test_a_checkpoint_is_not_ready_before_all_its_shards_are_there(training: Training) -> None:
    folder = training.save(1)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    def second() -> None:
        (folder / "model-00002-of-00002.safetensors").write_bytes(b"w")
        (folder / "trainer_state.json").write_text("{}")

    training.plan = {20: second}
    assert training.arrivals(every=10, idle_exit=50) == ["checkpoint-1 at 20"]


@pytest.mark.parametrize(
    ("remove", "add", "reason"),
    [
        ("config.json", {}, "no config.json"),
        ("config.json", {"adapter_config.json": "{}"}, "merge the adapter"),
        ("model.safetensors", {"training_args.bin": "x", "optimizer.bin": "x"}, "no weights"),
        ("model.safetensors", {"model.safetensors.index.json": "{"}, "not whole"),
        ("model.safetensors", {"model.safetensors.index.json": "[]"}, "not whole"),
    ],
)
def test_what_cannot_be_measured_is_said_once(
    training: Training, remove: str, add: dict[str, str], reason: str
) -> None:
    folder = training.save(1)
    (folder / remove).unlink()
    for name, text in add.items():
        (folder / name).write_text(text)
    (folder / "trainer_state.json").write_text("{}")
    assert training.arrivals(every=1, idle_exit=30) == []
    (said,) = training.said
    assert reason in said
    assert "checkpoint-1" in said


def test_one_that_is_half_written_is_not_complained_of(training: Training) -> None:
    training.folder.mkdir()
    (training.folder / "checkpoint-1").mkdir()
    assert training.arrivals(every=1, idle_exit=5) == []
    assert training.said == []
    assert training.arrivals(once=True) == []
    assert len(training.said) == 1


def test_a_checkpoint_that_is_written_anew_comes_again(training: Training) -> None:
    training.save(1)
    training.plan = {10: lambda: training.save(1, weights=b"other")}
    assert training.arrivals(every=5, idle_exit=20) == ["checkpoint-1 at 0", "checkpoint-1 at 10"]


def test_once_waits_for_what_is_there_and_no_longer(training: Training) -> None:
    training.save(1)
    training.save(2, sealed=False)
    training.plan = {500: lambda: training.save(3)}
    assert training.arrivals(once=True, settle=20) == ["checkpoint-1 at 0", "checkpoint-2 at 20"]
    assert training.now < 30


def test_until_step_ends_with_the_first_that_is_so_far(training: Training) -> None:
    training.save(100)
    training.plan = {30: lambda: training.save(500), 60: lambda: training.save(600)}
    assert training.arrivals(until_step=450) == ["checkpoint-100 at 0", "checkpoint-500 at 30"]


def test_the_pattern_says_what_is_a_checkpoint(training: Training) -> None:
    training.save(1)
    training.save(2, name="global_step")
    (training.folder / "global_step3").write_text("a file")
    assert training.arrivals(once=True, pattern="global_step*") == ["global_step2 at 0"]
    assert training.arrivals(once=True, pattern="*-1") == ["checkpoint-1 at 0"]


def test_one_that_vanishes_while_it_is_looked_at_is_left_out(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.save(1)
    training.save(2)
    look = watching.look

    def unlucky(path: Path) -> watching.Checkpoint:
        if path.name == "checkpoint-1":
            shutil.rmtree(path, ignore_errors=True)
            raise FileNotFoundError(path)
        return look(path)

    monkeypatch.setattr(watching, "look", unlucky)
    assert training.arrivals(once=True) == ["checkpoint-2 at 0"]


def test_failures_are_said_and_counted_and_a_later_success_makes_good(training: Training, tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        training.save(step)
    calls: list[str] = []
    good = synthetic.write(tmp_path / "runs", "good", lambda cell: 1.0, grid=Grid((1024,), (0.5,)))
    broken = synthetic.write(tmp_path / "runs", "broken", lambda cell: None, grid=Grid((1024,), (0.5,)))

    def measure(model: str) -> list[store.Run]:
        calls.append(Path(model).name)
        if model.endswith("-1") and len(calls) == 1:
            raise UsageError("its weights\ncannot be loaded")
        if model.endswith("-2"):
            raise FileNotFoundError(2, "No such file", model)
        return [broken if model.endswith("-3") else good]

    training.plan = {30: lambda: training.save(1, weights=b"mended")}
    seen = watching.watch(
        training.folder, measure, training.said.append, Asked(idle_exit=90), training.clock, training.sleep
    )
    assert calls == [f"checkpoint-{n}" for n in (1, 2, 3, 4, 1)]
    assert [path.name for path in seen.measured] == ["checkpoint-4", "checkpoint-1"]
    assert [path.name for path in seen.failed] == ["checkpoint-2", "checkpoint-3"]
    assert "its weights cannot be loaded" in training.said[0]
    assert len(training.said) == 2


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (Asked(every=0), "--every"),
        (Asked(settle=-1), "--settle"),
        (Asked(idle_exit=float("nan")), "--idle-exit"),
        (Asked(pattern="/etc/*"), "--checkpoints"),
        (Asked(pattern="../*"), "--checkpoints"),
        (Asked(pattern=""), "--checkpoints"),
        (Asked(once=True), "no folder"),
    ],
)
def test_what_has_no_meaning_is_refused(training: Training, asked: Asked, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        watching.watch(training.folder, lambda _: [], training.said.append, asked, training.clock, training.sleep)


def test_a_folder_that_is_not_there_yet_is_waited_for_and_a_file_refused(training: Training) -> None:
    training.plan = {50: lambda: training.save(1)}
    seen = watching.watch(
        training.folder, lambda _: [], training.said.append, Asked(until_step=1), training.clock, training.sleep
    )
    assert len(seen.measured) == 1
    assert "waiting" in training.said[0]
    with pytest.raises(UsageError, match="no folder"):
        watching.watch(training.folder / "checkpoint-1" / "config.json", lambda _: [], print, Asked())


# The command, on real checkpoints.

GRID = ("--lengths", "256,512", "--depths", "0,1", "--max-new-tokens", "16")


def needle(*arguments: object) -> int:
    """`watch` as the command line calls it; its exit code."""
    app = typer.Typer()
    app.command()(command.watch)
    return int(app([str(a) for a in arguments], standalone_mode=False) or 0)


@pytest.fixture
def out(tmp_path: Path, checkpoint: Callable[..., Path]) -> Path:
    folder = tmp_path / "out"
    for step in (10, 20):
        copied(checkpoint(seed=step), folder / f"checkpoint-{step}")
    return folder


def test_command_measures_all_with_the_same_settings_and_then_nothing_again(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = (out, "--once", "--settle", "0", *GRID, "-o", tmp_path / "runs")
    assert needle(*call) == 0
    (found,) = series.of(map(store.read, store.folders(tmp_path / "runs")))
    assert found.steps == (10, 20)
    assert {run.status for run in found.runs} == {"complete"}
    assert {run.spec.grid for run in found.runs} == {Grid((256, 512), (0.0, 1.0))}
    before = {run.folder: (run.folder / "results.jsonl").read_bytes() for run in found.runs}
    capsys.readouterr()
    assert needle(*call) == 0
    assert capsys.readouterr().err.count("already measured") == 2
    assert before == {folder: (folder / "results.jsonl").read_bytes() for folder in before}


def test_command_goes_on_past_a_damaged_checkpoint(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_weights(out / "checkpoint-10", out / "checkpoint-5")
    (out / "checkpoint-7").mkdir()
    assert needle(out, "--once", "--settle", "0", *GRID, "-o", tmp_path / "runs") == 1
    told = capsys.readouterr().err
    assert "checkpoint-5' is not measured" in told
    assert "checkpoint-7' is left out" in told
    assert "2 checkpoints measured, 1 failed" in told
    assert len(store.folders(tmp_path / "runs")) == 2


@pytest.mark.parametrize("wrong", [("--task", "nothing"), ("--scorer", "nothing"), ("--haystack", "/nowhere.txt")])
def test_command_refuses_at_once_what_no_checkpoint_could_be_asked(
    tmp_path: Path, out: Path, wrong: tuple[str, str]
) -> None:
    with pytest.raises(UsageError):
        needle(out, *wrong, "-o", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_interrupt_ends_it_cleanly(tmp_path: Path, out: Path) -> None:
    # Heeded even where the shell that started the tests has its children ignore interrupts.
    code = (
        "import signal, typer; from needle.cli import watch; app = typer.Typer(); app.command()(watch.watch);"
        f"signal.signal(signal.SIGINT, signal.default_int_handler); app({_call(tmp_path, out)})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if len([f for f in store.folders(tmp_path / "runs") if store.read(f).status == "complete"]) == 2:
                break
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "stopped" in told
    assert "Traceback" not in told


def _call(tmp_path: Path, out: Path) -> list[str]:
    return [str(out), "--settle", "0", "--every", "0.2", *GRID, "-o", str(tmp_path / "runs")]
