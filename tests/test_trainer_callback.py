"""Retrieval at each save of a real training: what is logged, where the runs lie, and that the training is unharmed."""

from __future__ import annotations

import json
import logging
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
import torch
import transformers

from needle import series, store
from needle.errors import UsageError

pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")

from needle.integrations import NeedleCallback
from needle.integrations.trainer import scores

STEPS = 4


class Heard(transformers.TrainerCallback):
    """What any logger, as wandb's or tensorboard's, is told."""

    def __init__(self) -> None:
        self.logs: list[tuple[int, dict[str, float]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append((state.global_step, dict(logs)))


def trainer(
    folder: Path, tokenizer: Any = None, dropout: float = 0.0, **more: Any
) -> tuple[transformers.Trainer, Heard]:
    heard = Heard()
    rows = [{"input_ids": list(range(3 + i, 35 + i)), "labels": list(range(3 + i, 35 + i))} for i in range(8)]
    settings = {
        "max_steps": STEPS,
        "save_steps": 2,
        "logging_steps": 1,
        "save_strategy": "steps",
        "report_to": [],
        "per_device_train_batch_size": 2,
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
        **more,
    }
    made = transformers.Trainer(
        model=models.make(attention_dropout=dropout).train(),
        args=transformers.TrainingArguments(output_dir=str(folder), **settings),
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[heard],
    )
    return made, heard


def losses(made: transformers.Trainer) -> list[float]:
    return [row["loss"] for row in made.state.log_history if "loss" in row]


SMALL: dict[str, Any] = {"lengths": (256, "0.5k"), "depths": (0.0, 1.0), "max_new_tokens": 16}


def test_each_save_is_measured_logged_and_kept(tmp_path: Path) -> None:
    made, heard = trainer(tmp_path / "out", models.tokenizer())
    made.add_callback(NeedleCallback(made, output_dir=tmp_path / "runs", **SMALL))
    made.train()
    told = [(step, logs) for step, logs in heard.logs if "needle/mean" in logs]
    assert [step for step, _ in told] == [2, 4]
    for _, logs in told:
        assert {"needle/256", "needle/512", "needle/mean", "needle/effective_length", "needle/seconds"} <= set(logs)
        assert logs["needle/mean"] == pytest.approx((logs["needle/256"] + logs["needle/512"]) / 2)
    assert [row["step"] for row in made.state.log_history if "needle/mean" in row] == [2, 4]
    (found,) = series.of(map(store.read, store.folders(tmp_path / "runs")))
    assert found.steps == (2, 4)
    assert {run.status for run in found.runs} == {"complete"}
    assert [scores(run)["needle/mean"] for run in found.runs] == [logs["needle/mean"] for _, logs in told]
    assert json.loads(json.dumps(made.state.log_history))


def test_the_training_goes_on_as_if_nothing_were_measured(tmp_path: Path) -> None:
    """Dropout and data order draw random numbers: a training disturbed in them has other losses."""
    plain, _ = trainer(tmp_path / "plain", models.tokenizer(), dropout=0.3)
    plain.train()
    watched, _ = trainer(tmp_path / "watched", models.tokenizer(), dropout=0.3)
    callback = NeedleCallback(watched, output_dir=tmp_path / "runs", **SMALL)
    watched.add_callback(callback)
    transformers.logging.set_verbosity_warning()
    transformers.logging.enable_progress_bar()
    watched.train()
    assert losses(plain) == losses(watched)
    assert len(losses(plain)) == STEPS
    for one, other in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert transformers.logging.get_verbosity() == logging.WARNING
    assert transformers.logging.is_progress_bar_enabled()


def test_the_live_model_and_the_random_states_are_left_alone(tmp_path: Path) -> None:
    made, _ = trainer(tmp_path / "out", models.tokenizer())
    callback = NeedleCallback(made, output_dir=tmp_path / "runs", **SMALL)
    made.model.config.use_cache = False
    made.state.global_step = 7
    made.state.is_world_process_zero = True
    made.save_model(str(tmp_path / "out" / "checkpoint-7"))
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert callback.on_save(made.args, made.state, made.control, model=made.model) is None
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert made.model.training
    assert made.model.config.use_cache is False
    assert torch.is_grad_enabled()
    assert len(store.folders(tmp_path / "runs")) == 1


def test_a_tokenizer_that_the_trainer_lacks_is_saved_beside_the_weights(tmp_path: Path) -> None:
    made, heard = trainer(tmp_path / "out", save_steps=STEPS)
    with pytest.raises(UsageError, match="no tokenizer"):
        NeedleCallback(made, **SMALL)
    made.add_callback(NeedleCallback(made, output_dir=tmp_path / "runs", processing_class=models.tokenizer(), **SMALL))
    made.train()
    assert (tmp_path / "out" / f"checkpoint-{STEPS}" / "tokenizer_config.json").is_file()
    assert any("needle/mean" in logs for _, logs in heard.logs)


def test_only_the_first_process_measures(tmp_path: Path) -> None:
    made, heard = trainer(tmp_path / "out", models.tokenizer())
    callback = NeedleCallback(made, output_dir=tmp_path / "runs", **SMALL)
    made.save_model(str(tmp_path / "out" / "checkpoint-0"))
    made.state.is_world_process_zero = False
    callback.on_save(made.args, made.state, made.control)
    assert not (tmp_path / "runs").exists()
    assert not heard.logs


@pytest.mark.parametrize("harm", ["gone", "weights", "adapter"])
def test_a_checkpoint_that_cannot_be_read_is_said_and_training_goes_on(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    made, heard = trainer(tmp_path / "out", models.tokenizer())
    callback = NeedleCallback(made, output_dir=tmp_path / "runs", **SMALL)
    folder = tmp_path / "out" / "checkpoint-0"
    made.save_model(str(folder))
    made.state.is_world_process_zero = True
    if harm == "gone":
        shutil.rmtree(folder)
    elif harm == "weights":
        (folder / "model.safetensors").write_bytes(b"nothing of the kind")
    else:
        (folder / "config.json").rename(folder / "adapter_config.json")
    with caplog.at_level(logging.WARNING):
        callback.on_save(made.args, made.state, made.control)
    (record,) = [r for r in caplog.records if r.name.startswith("needle")]
    assert "checkpoint-0 was not measured" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert not any("needle/mean" in logs for _, logs in heard.logs)


@pytest.mark.parametrize(
    "wrong",
    [{"task": "nothing"}, {"lengths": ("many",)}, {"lengths": ()}, {"depths": (2.0,)}, {"haystack": "/nowhere.txt"}],
)
def test_what_no_checkpoint_could_be_asked_is_refused_at_once(tmp_path: Path, wrong: dict[str, Any]) -> None:
    made, _ = trainer(tmp_path / "out", models.tokenizer())
    with pytest.raises(UsageError):
        NeedleCallback(made, **{**SMALL, **wrong})


def test_a_length_that_the_model_does_not_take_is_refused_before_training(tmp_path: Path) -> None:
    made, _ = trainer(tmp_path / "out", models.tokenizer())
    made.add_callback(NeedleCallback(made, **{**SMALL, "lengths": ("4k",)}))
    with pytest.raises(UsageError, match="4096"):
        made.train()
    assert not losses(made)


def test_the_package_of_integrations_is_light_and_knows_its_names() -> None:
    code = (
        "import sys, needle.integrations as i; assert not {'torch', 'transformers'} & set(sys.modules);"
        "assert 'NeedleCallback' in i.__all__\ntry: i.nothing\nexcept AttributeError as e: assert 'nothing' in str(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
