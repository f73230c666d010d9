"""How long a context a checkpoint takes, and what `--rope-scaling` makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
import torch
import transformers
from conftest import Done, only_run, without_weights

from needle import running
from needle.engines import _checkpoint, _rope
from needle.errors import UsageError
from needle.types import Grid, RunSpec

Needle = Callable[..., Done]
Checkpoint = Callable[..., Path]

BUDGET = 8
PLAIN = ("--plan", "cells", "--haystack", "noise", "--max-new-tokens", BUDGET, "--quiet")
SMALL = (*PLAIN, "--lengths", "256,512", "--depths", "0,1")


def spec_of(model: Path, *lengths: int, **more: Any) -> RunSpec:
    grid = Grid(lengths or (256,), (0.0, 0.5))
    return RunSpec(str(model), "number", "noise", grid, max_new_tokens=BUDGET, options={"plan": "cells", **more})


def test_a_length_past_the_limit_is_refused_before_weights_are_read(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    broken = without_weights(checkpoint(positions=512), tmp_path / "broken")
    asked = ("run", broken, *PLAIN, "--depth-count", 1, "-o", tmp_path / "runs")
    assert "longer than the model's 512" in needle(*asked, "--lengths", 513).line
    assert "weights cannot be loaded" in needle(*asked, "--lengths", 512).line
    assert not (tmp_path / "runs").exists()


def test_the_stretching_that_the_refusal_proposes_lets_the_length_run(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    short = checkpoint(positions=256)
    asked = ("run", short, *PLAIN, "--depth-count", 2, "--lengths", "256,600", "-o", tmp_path)
    line = needle(*asked).line
    proposed = re.search(r"--rope-scaling '(.*)'", line)
    assert proposed is not None
    assert needle(*asked, "--rope-scaling", proposed[1]).code == 0
    run = only_run(tmp_path)
    assert run.status == "complete"
    assert run.spec.options["rope_scaling"]["rope_type"] == "yarn"
    assert max(r.prompt_tokens or 0 for r in run.results) == 600 - BUDGET


def test_stretched_positions_are_those_that_the_checkpoints_own_config_would_give(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    own = models.build(tmp_path / "own", positions=1024, rope_parameters={"rope_theta": 10_000.0, **yarn})
    plain = checkpoint(positions=256)

    def replies(model: Path, **more: Any) -> list[Any]:
        engine = running.prepare(spec_of(model, 256, **more), lambda _: None).engine
        engine.load()
        ids = torch.arange(3, 403)[None]
        with torch.inference_mode():
            return [engine.model(ids).logits, engine.model.model.rotary_emb.inv_freq]

    for asked, expected in zip(replies(plain, rope_scaling=yarn), replies(own), strict=True):
        assert torch.equal(asked, expected)
    assert not torch.equal(replies(plain)[1], replies(own)[1])


@pytest.mark.parametrize(
    ("positions", "rope", "expected"),
    [
        (512, None, 512),
        # Qwen2.5's own advice leaves max_position_embeddings as it is.
        (512, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}, 2048),
        # Llama 3.1 allows more than its factor says.
        (
            1024,
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "original_max_position_embeddings": 64,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
            },
            1024,
        ),
        (512, {"rope_type": "dynamic", "factor": 2.0}, 1024),
        (512, {"rope_type": "linear", "factor": 2.0}, 512),
    ],
)
def test_limit_counts_stretching_of_the_checkpoint(positions: int, rope: Any, expected: int) -> None:
    config = transformers.LlamaConfig(max_position_embeddings=positions, rope_parameters=rope)
    assert _rope.limit(config) == expected
    _checkpoint.check_length(config, expected)
    with pytest.raises(UsageError):
        _checkpoint.check_length(config, expected + 1)


def test_only_layers_that_see_everything_are_stretched() -> None:
    config = models.make("gemma3", positions=512).config
    before = dict(config.rope_parameters["sliding_attention"])
    _rope.scale(config, {"rope_type": "linear", "factor": 8})
    assert config.rope_parameters["sliding_attention"] == before
    assert config.rope_parameters["full_attention"] == {"rope_theta": 1_000_000.0, "rope_type": "linear", "factor": 8}
    assert _rope.limit(config) == 4096


def test_dynamic_stretching_keeps_the_length_that_it_starts_from() -> None:
    config = transformers.LlamaConfig(max_position_embeddings=512)
    _rope.scale(config, {"rope_type": "dynamic", "factor": 4.0})
    assert (config.max_position_embeddings, _rope.limit(config)) == (512, 2048)


def test_a_model_without_rotary_positions_is_offered_none() -> None:
    config = transformers.GPT2Config(n_positions=128)
    with pytest.raises(UsageError, match=r"longer than the model's 128; lower --max-len$"):
        _checkpoint.check_length(config, 129)
    with pytest.raises(UsageError, match="rotary"):
        _rope.scale(config, {"rope_type": "yarn", "factor": 2.0})


@pytest.mark.parametrize(
    "scaling",
    [
        "yarn",
        "[1]",
        "{",
        "{}",
        '{"factor": 4.0}',
        '{"rope_type": "yearn", "factor": 4.0}',
        '{"rope_type": ["yarn"], "factor": 4.0}',
        '{"rope_type": "yarn"}',
        '{"rope_type": "yarn", "factor": "four"}',
        '{"rope_type": "yarn", "factor": true}',
        '{"rope_type": "yarn", "factor": -4}',
        '{"rope_type": "yarn", "factor": NaN}',
        '{"rope_type": "yarn", "factor": Infinity}',
        '{"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": "all"}',
        '{"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 0}',
        '{"rope_type": "llama3", "factor": 4.0}',
        '{"rope_type": "longrope", "factor": 4.0}',
    ],
)
def test_a_stretching_that_cannot_be_is_refused(
    scaling: str, needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    broken = without_weights(checkpoint(), tmp_path / "broken")
    assert "--rope-scaling" in needle("run", broken, *SMALL, "--rope-scaling", scaling, "-o", tmp_path / "runs").line
    assert not (tmp_path / "runs").exists()
