"""vLLM: what it is asked for, and what becomes of its answers and failures.

Most of these run against a fake: a module with the part of vLLM's interface that the engine uses, which answers with
the real checkpoint through Transformers and refuses what vLLM refuses. The last test is for vLLM itself.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from needle import engines, forest, running
from needle.engines import vllm as engine
from needle.errors import UsageError
from needle.types import Answer, Grid, Prompt, RunSpec

REAL = importlib.util.find_spec("vllm") is not None


@dataclass
class SamplingParams:
    temperature: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    detokenize: bool = True


@dataclass
class Completion:
    token_ids: list[int]
    finish_reason: str


@dataclass
class Output:
    outputs: list[Completion]


class LLM:
    """The fake: `made` are all there were, `calls` the prompts of each call, `poison` a length that breaks it."""

    made: list[LLM]
    poison: int | None = None

    def __init__(self, model: str, *, max_model_len: int, dtype: str, **more: Any) -> None:
        self.arguments = {"model": model, "max_model_len": max_model_len, "dtype": dtype, **more}
        self.longest = max_model_len
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self.calls: list[list[list[int]]] = []
        self.sampled: list[SamplingParams] = []
        LLM.made.append(self)

    def generate(
        self, prompts: Sequence[dict[str, list[int]]], params: Sequence[SamplingParams], use_tqdm: bool = True
    ) -> list[Output]:
        assert not use_tqdm, "a bar of vLLM's own would tear the screen"
        given = [p["prompt_token_ids"] for p in prompts]
        self.calls.append(given)
        self.sampled += params
        for ids, asked in zip(given, params, strict=True):
            assert all(type(i) is int for i in ids)
            assert asked.max_tokens
            if len(ids) + asked.max_tokens > self.longest or len(ids) == self.poison:
                raise ValueError(f"The decoder prompt (length {len(ids)}) is longer than the maximum model length")
        return [self._greedy(ids, asked.max_tokens or 0) for ids, asked in zip(given, params, strict=True)]

    @torch.inference_mode()
    def _greedy(self, ids: list[int], most: int) -> Output:
        row = self.model.generate(
            torch.tensor([ids]), max_new_tokens=most, do_sample=False, eos_token_id=2, pad_token_id=0
        )
        new = row[0, len(ids) :].tolist()
        return Output([Completion(new, "stop" if new[-1] == 2 else "length")])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams, module.__version__ = LLM, SamplingParams, "0.0-fake"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(LLM, "made", [], raising=False)
    return LLM


def spec(model: Path | str, engine: str = "vllm", **options: Any) -> RunSpec:
    grid = Grid((384, 512, 640), (0.0, 0.5, 1.0))
    given = {"dtype": "float32", **options}
    return RunSpec(str(model), "number", "essays", grid, engine=engine, max_new_tokens=8, options=given)


def loaded(asked: RunSpec, said: list[str] | None = None) -> tuple[Any, list[Prompt], LLM]:
    prepared = running.prepare(asked, (said if said is not None else []).append)
    prepared.engine.load()
    return prepared.engine, prepared.prompts, LLM.made[-1]


def test_answers_are_those_of_the_transformers_engine(fake: type[LLM], checkpoint: Callable[..., Path]) -> None:
    opened, prompts, _ = loaded(spec(checkpoint("qwen2")))
    plain = running.prepare(spec(checkpoint("qwen2"), "transformers", plan="cells"), print)
    plain.engine.load()
    expected = dict(plain.engine.answers(plain.prompts))
    found = dict(opened.answers(prompts))
    assert sorted(found) == list(range(len(prompts)))
    for index, answer in found.items():
        assert (answer.ids, answer.text, answer.finish) == (
            expected[index].ids,
            expected[index].text,
            expected[index].finish,
        )
        assert (answer.way, answer.answer_logprob, answer.answer_rank) == ("vllm", None, None)
        assert answer.seconds > 0


def test_prompts_go_in_the_forests_order_so_that_the_prefix_cache_hits(
    fake: type[LLM], checkpoint: Callable[..., Path]
) -> None:
    opened, prompts, llm = loaded(spec(checkpoint("qwen2"), vllm_batch=4))
    list(opened.answers(prompts))
    sent = [ids for call in llm.calls for ids in call]
    walk = [f.index for t in forest.plan([p.ids for p in prompts]).trunks for f in t.forks]
    assert sent == [prompts[i].ids.tolist() for i in walk]
    assert [len(call) for call in llm.calls] == [4, 4, 1]


def test_answers_come_batch_by_batch(fake: type[LLM], checkpoint: Callable[..., Path]) -> None:
    """What is finished is stored before the next batch begins."""
    opened, prompts, llm = loaded(spec(checkpoint("qwen2"), vllm_batch=2))
    stream = opened.answers(prompts)
    assert isinstance(next(stream)[1], Answer)
    assert len(llm.calls) == 1


def test_vllm_is_started_with_what_the_run_asks_for(fake: type[LLM], checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint("qwen2")
    service = {"tensor_parallel_size": 2, "pipeline_parallel_size": 3, "gpu_memory_utilization": 0.5}
    _, _, llm = loaded(spec(folder, service=service, revision="v2", enforce_eager=True))
    assert llm.arguments == {
        "model": str(folder),
        "revision": "v2",
        "trust_remote_code": False,
        "dtype": "float32",
        "max_model_len": 640,
        "enable_prefix_caching": True,
        "seed": 0,
        "disable_log_stats": True,
        "enforce_eager": True,
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 3,
        "gpu_memory_utilization": 0.5,
    }


def test_stretched_positions_are_handed_on(fake: type[LLM], checkpoint: Callable[..., Path]) -> None:
    scaling = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 2048}
    _, _, llm = loaded(spec(checkpoint("qwen2"), rope_scaling=scaling))
    given = llm.arguments["hf_overrides"]
    assert given["max_position_embeddings"] == 4096
    assert given["rope_parameters"].items() >= scaling.items()


def test_sampling_is_greedy_or_a_draw_of_its_own_for_each_prompt(
    fake: type[LLM], checkpoint: Callable[..., Path]
) -> None:
    opened, prompts, llm = loaded(spec(checkpoint("qwen2")))
    list(opened.answers(prompts))
    assert {(s.temperature, s.seed, s.max_tokens) for s in llm.sampled} == {(0.0, None, 8)}
    drawn = [opened_at(checkpoint, seed)[1] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == len(prompts)


def opened_at(checkpoint: Callable[..., Path], seed: int) -> tuple[Any, list[int | None]]:
    """The seeds of each prompt's draw at a temperature."""
    asked = replace(spec(checkpoint("qwen2")), temperature=0.7)
    prompts = running.prepare(asked, print).prompts
    opened = engine.open(replace(asked, seed=seed), print)
    return opened, [opened._sampling(p).seed for p in prompts]


def test_a_prompt_that_vllm_refuses_fails_alone(
    fake: type[LLM], checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    opened, prompts, _ = loaded(spec(checkpoint("qwen2")), said)
    bad = 4
    monkeypatch.setattr(LLM, "poison", len(prompts[bad].ids))
    same = {i for i, p in enumerate(prompts) if len(p.ids) == LLM.poison}
    found = dict(opened.answers(prompts))
    assert sorted(found) == list(range(len(prompts)))
    assert {i for i, a in found.items() if a.error} == same
    assert found[bad].finish == "error"
    assert str(found[bad].error).startswith("ValueError: The decoder prompt")
    assert any("one by one instead" in line for line in said)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "--dtype 'int8' is unknown"),
        ({"tensor_parallel_size": 0}, "--tensor-parallel-size 0 is no whole number from 1"),
        ({"service": {"vllm_batch": "many"}}, "--vllm-batch many is no whole number from 1"),
    ],
)
def test_a_setting_without_meaning_is_refused(
    checkpoint: Callable[..., Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        engine.open(spec(checkpoint("qwen2"), **options), print)


def test_the_dtype_is_the_checkpoints_own_unless_asked(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint("qwen2", dtype="bfloat16")
    assert engine.open(spec(folder, dtype="auto"), print).sources["dtype"] == "bfloat16"
    assert engine.open(spec(folder, dtype="float16"), print).sources["dtype"] == "float16"


def test_without_vllm_one_line_says_what_to_install(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    opened = engine.open(spec(checkpoint("qwen2")), print)
    with pytest.raises(UsageError, match="pip install 'needle-eval"):
        opened.load()


def test_what_vllm_cannot_run_is_one_line(
    fake: type[LLM], checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("Model architectures ['Odd'] are not supported\nfor now.")

    monkeypatch.setattr(LLM, "__init__", refuse)
    with pytest.raises(UsageError, match=r"vLLM cannot run '.*' here \(ValueError: Model architectures"):
        engine.open(spec(checkpoint("qwen2")), print).load()


@pytest.mark.skipif(not REAL, reason="vLLM is not installed")
def test_vllm_itself_agrees_with_the_transformers_engine() -> None:
    """With the bundled checkpoint, whose answers have no near-ties."""
    scored = {}
    for name in ("transformers", "vllm"):
        asked = replace(spec("pocket-4k", name, enforce_eager=True), max_new_tokens=32)
        prepared = running.prepare(asked, print)
        engines.get(name)
        prepared.engine.load()
        scored[name] = {i: a.text for i, a in prepared.engine.answers(prepared.prompts)}
    assert scored["vllm"] == scored["transformers"]
