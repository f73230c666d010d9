"""Which way a checkpoint goes, and that it answers the same on either: real tasks, families, and those that refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
import torch
import transformers
from hypothesis import example, given
from hypothesis import strategies as st
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama import modeling_llama

from needle import pocket, running
from needle.attention import KERNELS
from needle.cache import NAME
from needle.engines import _choice
from needle.types import Answer, Grid, RunSpec

Checkpoint = Callable[..., Path]

FAMILIES = ("llama", "mixtral", "qwen3", "qwen2", "gemma")
ROOM = 6


def spec_of(model: Path, task: str = "number", **more: Any) -> RunSpec:
    asked = {"lengths": (320, 512), "depths": (0.0, 0.4, 1.0), "max_new_tokens": ROOM, **more}
    options = {k: v for k, v in asked.items() if k in ("plan", "attn", "dtype", "prefill_chunk", "rope_scaling")}
    grid = Grid(asked["lengths"], asked["depths"])
    return RunSpec(str(model), task, "noise", grid, max_new_tokens=asked["max_new_tokens"], options=options)


def answered(model: Path, task: str = "number", **more: Any) -> tuple[list[Answer], list[str], dict[str, Any]]:
    """Answers in the order of the cells, what was said, and what is recorded."""
    said: list[str] = []
    prepared = running.prepare(spec_of(model, task, **more), said.append)
    said.clear()
    about = prepared.engine.load()
    found = dict(prepared.engine.answers(prepared.prompts))
    assert not any(a.error for a in found.values()), found
    return [found[i] for i in range(len(prepared.prompts))], said, about


@pytest.mark.parametrize("task", ["number", "uuid", "sentence"])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_plans_answer_the_same(family: str, task: str, checkpoint: Checkpoint) -> None:
    shared, said, about = answered(checkpoint(family), task)
    alone, _, _ = answered(checkpoint(family), task, plan="cells")
    assert [a.ids for a in shared] == [a.ids for a in alone]
    assert [a.finish for a in shared] == [a.finish for a in alone]
    assert (said, about["way"], about["kernel"]) == ([], "forest", "torch-flash-cpu")
    assert {a.way for a in shared} == {"forest"}
    assert {a.way for a in alone} == {"cells"}


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_the_kernel_that_is_asked_for_is_used_and_recorded(attn: str, checkpoint: Checkpoint) -> None:
    shared, _, about = answered(checkpoint("qwen3"), attn=attn)
    assert (about["way"], about["kernel"]) == ("forest", attn)
    assert [a.ids for a in shared] == [a.ids for a in answered(checkpoint("qwen3"), plan="cells", attn=attn)[0]]


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_goes_through_the_forest(family: str, checkpoint: Checkpoint) -> None:
    _, said, about = answered(checkpoint(family, dtype="bfloat16"), dtype="bfloat16", lengths=(320,), depths=(0.5,))
    assert (said, about["way"], about["dtype"]) == ([], "forest", "bfloat16")


@pytest.mark.skipif(pocket.path("pocket-4k") is None, reason="pocket-4k is not bundled yet")
@pytest.mark.parametrize("task", ["number", "uuid", "sentence"])
def test_pocket_answers_the_same_both_ways(task: str) -> None:
    """A model that knows its answers: drafts are right for most cells, and partly for some."""
    asked = {"lengths": (512, 1024), "depths": (0.0, 0.5, 1.0), "max_new_tokens": 64, "dtype": "float32"}
    shared, _, _ = answered(Path("pocket-4k"), task, **asked)
    alone, _, _ = answered(Path("pocket-4k"), task, plan="cells", **asked)
    assert [a.ids for a in shared] == [a.ids for a in alone]
    if task == "number":
        assert any(a.answer_rank == 1 for a in shared)


HALF = models.SIZES["hidden_size"] // models.SIZES["num_attention_heads"] // 2
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "factor": 4.0,
    "short_factor": [1.0] * HALF,
    "long_factor": [3.0] * HALF,
    "original_max_position_embeddings": 400,
}
HYBRID = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "head_dim": 16,
    "num_experts": 0,
    "layer_types": ["linear_attention", "full_attention"],
}


def stranger(to: Path, prefix: str, **config: Any) -> Path:
    """A checkpoint of a family that `models` does not build."""
    words = models.tokenizer()
    words.save_pretrained(to)
    more = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": words.eos_token_id}
    made = getattr(transformers, f"{prefix}Config")(**{**models.SIZES, **more, **config})
    transformers.set_seed(0)
    transformers.AutoModelForCausalLM.from_config(made).eval().save_pretrained(to)
    return to


STRANGERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "recurrent layers": ("Qwen3Next", "linear_attention layers", HYBRID),
    "no attention": ("Mamba", "", {"state_size": 4}),
    "recurrent heads beside attention": (
        "FalconH1",
        "",
        {"head_dim": 8, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
    ),
    "capped scores": ("Gemma2", "softcap", {"head_dim": 16, "sliding_window": 4096}),
    "sinks": (
        "GptOss",
        "s_aux",
        {"head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 4096},
    ),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_attention_that_cannot_be_shared_goes_plain(name: str, tmp_path: Path) -> None:
    prefix, reason, config = STRANGERS[name]
    model = stranger(tmp_path / prefix, prefix, **config)
    shared, said, about = answered(model)
    alone, nothing, _ = answered(model, plan="cells")
    assert (about["way"], {a.way for a in shared}) == ("cells", {"cells"})
    assert about["kernel"] != NAME
    assert [a.ids for a in shared] == [a.ids for a in alone]
    assert nothing == []
    (line,) = said
    assert line.startswith("no shared prefill: ")
    assert line.endswith("; one prefill a cell instead")
    assert reason in line


@pytest.mark.parametrize(
    ("family", "config", "reason"),
    [
        ("mistral", {}, "slides over a window of 128 tokens"),
        ("mistral", {"sliding_window": 511}, "slides over a window of 511 tokens"),
        ("gemma3", {}, "slides over a window of 128 tokens"),
        ("llama", {"rope_parameters": DYNAMIC, "positions": 256}, "depend on the context's length"),
        ("llama", {"rope_parameters": LONG, "positions": 1600}, "depend on the context's length"),
    ],
)
def test_configurations_that_cannot_be_shared_go_plain(
    family: str, config: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    model = models.build(tmp_path / family, family, **config)
    shared, said, about = answered(model)
    assert about["way"] == "cells"
    assert about["kernel"] == "sdpa"
    assert [a.ids for a in shared] == [a.ids for a in answered(model, plan="cells")[0]]
    (line,) = said
    assert reason in line


@pytest.mark.parametrize("window", [512, 4096, None])
def test_a_window_that_no_context_outgrows_is_none(window: int | None, tmp_path: Path) -> None:
    model = models.build(tmp_path / "mistral", "mistral", sliding_window=window)
    shared, said, about = answered(model)
    assert (said, about["way"]) == ([], "forest")
    assert [a.ids for a in shared] == [a.ids for a in answered(model, plan="cells")[0]]


def test_attention_of_a_models_own_goes_plain(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ALL_ATTENTION_FUNCTIONS["sdpa"]
    monkeypatch.setattr(modeling_llama.ALL_ATTENTION_FUNCTIONS, "get_interface", lambda *_: own)
    shared, said, about = answered(checkpoint("llama"))
    assert (len(said), about["way"]) == (1, "cells")
    monkeypatch.undo()
    assert [a.ids for a in shared] == [a.ids for a in answered(checkpoint("llama"), plan="cells")[0]]


@pytest.mark.parametrize("fault", ["nan", "drift", "refuses"])
def test_a_kernel_that_errs_in_the_trial_is_not_used(
    fault: str, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = KERNELS["torch-flash-cpu"]

    def wrong(*states: Any) -> torch.Tensor:
        if fault == "refuses":
            raise RuntimeError("head_dim should be a multiple of 8")
        return right(*states) * (float("nan") if fault == "nan" else 1.02)

    monkeypatch.setitem(KERNELS, "torch-flash-cpu", wrong)
    shared, said, about = answered(checkpoint("llama"))
    assert about["way"] == "cells"
    assert ("head_dim" in said[0]) == (fault == "refuses")
    assert [a.ids for a in shared] == [a.ids for a in answered(checkpoint("llama"), plan="cells")[0]]


@given(st.integers(1, 600), st.integers(1, 600))
@example(128, 128)
def test_a_window_matters_only_beyond_itself(window: int, longest: int) -> None:
    config = transformers.MistralConfig(sliding_window=window, **models.SIZES)
    assert (_choice.unfit(config, longest) is not None) == (window < longest)
