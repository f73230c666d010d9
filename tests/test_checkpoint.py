"""What is let in: safe weights, whole weights, no code of strangers; and by what a checkpoint is known."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
import torch
from conftest import Done, copied, only_run

from needle import store
from needle.engines import _checkpoint

Needle = Callable[..., Done]
Checkpoint = Callable[..., Path]

BUDGET = 8
PLAIN = ("--plan", "cells", "--haystack", "noise", "--max-new-tokens", BUDGET, "--quiet")
SMALL = (*PLAIN, "--lengths", "256,512", "--depths", "0,1")


def test_pickles_are_loaded_only_if_allowed(needle: Needle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    pickled = checkpoint(pickle=True)
    line = needle("run", pickled, *SMALL, "-o", tmp_path / "pickled").line
    assert "has no safetensors" in line
    assert "--allow-pickle" in line
    assert not (tmp_path / "pickled").exists()
    assert needle("run", pickled, *SMALL, "--allow-pickle", "-o", tmp_path / "pickled").code == 0
    assert needle("run", checkpoint(), *SMALL, "-o", tmp_path / "safe").code == 0
    replies = [[r.answer for r in only_run(tmp_path / name).results] for name in ("pickled", "safe")]
    assert replies[0] == replies[1]


def test_a_hub_model_in_the_cache_is_found_offline_and_its_pickles_are_refused(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    for name, pickled in (("safe", False), ("pickled", True)):
        cached = Path(os.environ["HF_HOME"]) / "hub" / f"models--nobody--{name}"
        copied(checkpoint(pickle=pickled), cached / "snapshots" / commit)
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text(commit)
    assert needle("run", "nobody/safe", *SMALL, "-o", tmp_path / "safe").code == 0
    assert only_run(tmp_path / "safe").sources["model"] == commit
    assert "--allow-pickle" in needle("run", "nobody/pickled", *SMALL, "-o", tmp_path / "pickled").line
    assert needle("run", "nobody/pickled", *SMALL, "--allow-pickle", "-o", tmp_path / "pickled").code == 0


def test_a_branch_that_moved_is_another_run(needle: Needle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    cached = Path(os.environ["HF_HOME"]) / "hub" / "models--nobody--moving"
    (cached / "refs").mkdir(parents=True)
    for seed, commit in enumerate(("a" * 40, "b" * 40)):
        copied(checkpoint(seed=seed), cached / "snapshots" / commit)
        (cached / "refs" / "tip").write_text(commit)
        assert needle("run", "nobody/moving", *SMALL, "--revision", "tip", "-o", tmp_path).code == 0
    new, old = (store.read(folder) for folder in store.folders(tmp_path))
    assert {old.sources["model"], new.sources["model"]} == {"a" * 40, "b" * 40}
    assert [r.answer for r in old.results] != [r.answer for r in new.results]


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_an_allowed_pickle_may_hold_tensors_only(needle: Needle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = copied(checkpoint(pickle=True), tmp_path / "trapped")
    torch.save({"lm_head.weight": Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin")
    line = needle("run", folder, *SMALL, "--allow-pickle", "-o", tmp_path / "runs").line
    assert "weights cannot be loaded" in line
    assert not (tmp_path / "sprung").exists()


def test_broken_safetensors_are_no_reason_to_allow_pickles(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = copied(checkpoint(), tmp_path / "torn")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    line = needle("run", folder, *SMALL, "-o", tmp_path / "runs").line
    assert "weights cannot be loaded" in line
    assert "pickle" not in line
    assert not (tmp_path / "runs").exists()


def test_missing_tensors_are_not_made_up(needle: Needle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied(checkpoint(), tmp_path / "holey")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    line = needle("run", folder, *SMALL, "-o", tmp_path / "runs").line
    assert "lack 1 of the tensors" in line
    assert "model.layers.1.mlp.up_proj.weight" in line


def test_a_model_that_does_not_fit_the_memory_is_one_line(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore\nlines")

    monkeypatch.setattr(torch.nn.Module, "to", refuse)
    line = needle("run", checkpoint(), *SMALL, "-o", tmp_path / "runs").line
    assert "does not fit the memory of cpu" in line
    assert not (tmp_path / "runs").exists()


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({mark!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = "own-kind"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_code_of_the_model_runs_only_if_allowed(needle: Needle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, mark = copied(checkpoint(), tmp_path / "own"), tmp_path / "ran"
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own-kind",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    line = needle("run", folder, *SMALL, "-o", tmp_path / "runs").line
    assert "code of its own" in line
    assert "--trust-remote-code" in line
    assert not mark.exists()
    assert not (tmp_path / "runs").exists()
    assert needle("run", folder, *SMALL, "--trust-remote-code", "-o", tmp_path / "runs").code == 0
    assert mark.exists()


def test_a_fingerprint_follows_the_checkpoint_not_its_place(checkpoint: Checkpoint, tmp_path: Path) -> None:
    def prints(folder: Path) -> dict[str, str]:
        options: dict[str, Any] = {}
        config = _checkpoint.read_config(str(folder), options)
        return _checkpoint.sources(str(folder), config, _checkpoint.read_tokenizer(str(folder), options))

    first = copied(checkpoint(), tmp_path / "first")
    before = prints(first)
    assert prints(copied(first, tmp_path / "second")) == before
    weights = bytearray((first / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (first / "model.safetensors").write_bytes(weights)
    after = prints(first)
    assert (after["model"] != before["model"], after["tokenizer"]) == (True, before["tokenizer"])
    models.set_generation(first, eos_token_id=5)
    assert prints(first)["model"] != after["model"]
