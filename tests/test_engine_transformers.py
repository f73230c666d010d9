"""Any checkpoint through the plain way: one command for all families, nothing loaded in vain, greedy means argmax."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
import torch
import transformers
from conftest import Done, copied, only_run, without_weights

from needle import cost, running
from needle.engines.transformers import HELD, prefill_chunk
from needle.types import Grid, RunSpec

Needle = Callable[..., Done]
Checkpoint = Callable[..., Path]

BUDGET = 8
PLAIN = ("--plan", "cells", "--haystack", "noise", "--max-new-tokens", BUDGET, "--quiet")
SMALL = (*PLAIN, "--lengths", "256,512", "--depths", "0,1")


def spec_of(model: Path, *lengths: int, **more: Any) -> RunSpec:
    grid = Grid(lengths or (256,), (0.0, 0.5))
    return RunSpec(str(model), "number", "noise", grid, max_new_tokens=BUDGET, options={"plan": "cells", **more})


@pytest.mark.parametrize("family", models.FAMILIES)
def test_the_same_command_measures_every_family(
    family: str, needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    shape = ("--min-len", 256, "--max-len", "1k", "--length-count", 3, "--depth-count", 2)
    done = needle("run", checkpoint(family), *PLAIN, *shape, "-o", tmp_path)
    assert (done.code, done.out, done.err) == (0, "", "")
    run = only_run(tmp_path)
    assert run.status == "complete"
    assert [(r.length, r.depth) for r in run.results] == [(n, d) for n in (256, 640, 1024) for d in (0.0, 1.0)]
    (session,) = run.sessions
    assert {k: session[k] for k in ("device", "way", "kernel")} == {"device": "cpu", "way": "cells", "kernel": "sdpa"}
    assert session["dtype"] == "float32"
    assert session["versions"]["torch"] == torch.__version__
    for row in run.results:
        assert row.way == "cells"
        assert row.prompt_tokens == row.length - BUDGET
        assert 1 <= row.new_tokens <= BUDGET


def test_a_base_model_needs_no_template(needle: Needle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    base = checkpoint("mistral", chat=False)
    assert needle("run", base, *SMALL, "-o", tmp_path).code == 0
    line = needle("run", base, *SMALL, "--prompt", "chat", "-o", tmp_path).line
    assert "no chat template" in line
    assert "--prompt base" in line


def answers_of(model: Path, **more: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    """The engine, and each prompt with its answer."""
    prepared = running.prepare(spec_of(model, **more), lambda _: None)
    prepared.engine.load()
    return prepared.engine, [(prepared.prompts[i], a) for i, a in prepared.engine.answers(prepared.prompts)]


def argmax(model: Any, prompt: Any, count: int = BUDGET) -> list[int]:
    """Greedy decoding by hand: the whole text anew for every token, no cache, no settings."""
    ids = torch.from_numpy(prompt.ids).long()[None]
    with torch.inference_mode():
        for _ in range(count):
            ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    return ids[0, len(prompt.ids) :].tolist()


@pytest.fixture
def loops(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A checkpoint that says one token over and over when it is left alone, and knows no end."""
    folder = copied(checkpoint("qwen2", seed=1), tmp_path / "loops")
    models.set_generation(folder, eos_token_id=None)
    return folder


def test_sampling_settings_of_the_checkpoint_are_not_used(loops: Path) -> None:
    models.set_generation(
        loops,
        do_sample=True,
        temperature=5.0,
        top_k=3,
        repetition_penalty=100.0,
        no_repeat_ngram_size=1,
        min_new_tokens=4,
        max_length=9,
        suppress_tokens=list(range(100, 300)),
        num_beams=3,
    )
    engine, pairs = answers_of(loops)
    for prompt, answer in pairs:
        expected = argmax(engine.model, prompt)
        assert len(set(expected)) < BUDGET, "a penalty would not show: the model repeats nothing"
        assert answer.ids == tuple(expected)
        assert answer.finish == "length"


def test_each_id_of_an_eos_list_ends_an_answer(loops: Path) -> None:
    engine, pairs = answers_of(loops)
    free = [argmax(engine.model, prompt) for prompt, _ in pairs]
    ends = sorted({ids[2] for ids in free})
    models.set_generation(loops, eos_token_id=[7, *ends])
    for ids, (_, answer) in zip(free, answers_of(loops)[1], strict=True):
        stop = next(i for i, token in enumerate(ids) if token in ends)
        assert answer.ids == tuple(ids[: stop + 1])
        assert answer.finish == "stop"


def test_dtype_is_that_of_the_weights(checkpoint: Checkpoint) -> None:
    own = checkpoint(dtype="bfloat16")
    for asked, expected in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        engine = running.prepare(spec_of(own, dtype=asked), lambda _: None).engine
        assert engine.load()["dtype"] == asked
        assert {p.dtype for p in engine.model.parameters()} == {expected}


@pytest.mark.parametrize(("hidden", "chunk"), [(64, 1024), (512, 1024), (896, 512), (2048, 256), (8192, 256)])
def test_a_wide_model_is_fed_fewer_tokens_at_once_on_a_cpu(hidden: int, chunk: int) -> None:
    config = transformers.Qwen2Config(
        hidden_size=hidden, intermediate_size=5 * hidden, num_attention_heads=8, num_key_value_heads=2
    )
    costs = cost.of(config, 4)
    assert prefill_chunk(None, "cpu", costs) == chunk
    assert chunk == 256 or costs.activation * chunk <= HELD
    assert (prefill_chunk(100, "cpu", costs), prefill_chunk(None, "cuda:0", costs)) == (100, 8192)


def test_eager_attention_is_used_and_recorded(needle: Needle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert needle("run", checkpoint(), *SMALL, "--attn", "eager", "-o", tmp_path).code == 0
    assert only_run(tmp_path).sessions[-1]["kernel"] == "eager"


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--dtype", "float99", "bfloat16, float16, float32"),
        ("--attn", "telepathy", "sdpa, eager"),
        ("--attn", "flash_attention_2", "needs its package and a CUDA device"),
        ("--device", "toaster", "'toaster' is not to be had here"),
        ("--device", "cuda:99", "'cuda:99' is not to be had here"),
        ("--plan", "jungle", "forest or cells"),
        ("--engine", "transformer", "did you mean 'transformers'?"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_weights_are_read(
    option: str, value: str, told: str, needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    broken = without_weights(checkpoint(), tmp_path / "broken")
    line = needle("run", broken, *SMALL, option, value, "-o", tmp_path / "runs").line
    assert option.removeprefix("--") in line
    assert told in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 12 bytes"),
    ],
    ids=["cuda", "cpu"],
)
def test_a_cell_without_memory_is_a_row_and_is_tried_again(
    error: Exception, needle: Needle, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, asked, room = transformers.GenerationMixin.generate, [], 300

    def tight(self: Any, ids: torch.Tensor, *args: Any, **more: Any) -> Any:
        asked.append(ids.shape[1] + BUDGET)
        if ids.shape[1] > room:
            raise error
        return generate(self, ids, *args, **more)

    monkeypatch.setattr(transformers.GenerationMixin, "generate", tight)
    command = ("run", checkpoint(), *SMALL, "-o", tmp_path)
    done = needle(*command, "--json")
    assert done.code == 1
    assert (json.loads(done.out)["done"], json.loads(done.out)["failed"]) == (2, 2)
    first = only_run(tmp_path)
    assert [(r.length, r.status, r.error) for r in first.results] == [
        *[(256, "ok", None)] * 2,
        *[(512, "error", "out of memory")] * 2,
    ]
    assert all(r.score is None and r.outcome == "error" for r in first.results[2:])

    asked.clear()
    assert needle(*command).code == 1
    assert asked == [512, 512]

    asked.clear()
    room = 10_000
    assert needle(*command).code == 0
    assert asked == [512, 512]
    last = only_run(tmp_path)
    assert last.status == "complete"
    assert last.results[:2] == first.results[:2]

    asked.clear()
    assert needle(*command).code == 0
    assert asked == []
