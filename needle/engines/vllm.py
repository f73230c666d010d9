"""vLLM in this process: token ids in, prefix cache on, prompts in the forest's order so that shared prefixes hit.

What is measured of the expected answer: nothing. vLLM scores given tokens only as a part of the prompt, for which it
leaves its prefix cache aside and prefills the whole context again; `answer_logprob` and `answer_rank` stay empty.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from needle import cost, forest
from needle.engines import _checkpoint
from needle.engines._settings import count, setting
from needle.errors import UsageError, one_line
from needle.types import Answer, Prompt, RunSpec

DTYPES = ("bfloat16", "float16", "float32")
SETTINGS = ("tensor_parallel_size", "pipeline_parallel_size", "gpu_memory_utilization", "enforce_eager")
BATCH = 32
"""Prompts handed to vLLM at once, unless `vllm_batch` says otherwise: what is finished of a run is stored as often."""
_FAILURES = (RuntimeError, ValueError, MemoryError, IndexError, KeyError, TypeError, AssertionError)


def open(spec: RunSpec, say: Callable[[str], None]) -> Vllm:
    """The engine for `spec`; settings are read from its options, under "service" first.

    `tensor_parallel_size` (1), `pipeline_parallel_size` (1), `gpu_memory_utilization` (vLLM's own), `enforce_eager`
    (false), `vllm_batch`.

    Raises:
        UsageError: the model is not to be had, a setting has no meaning, or a context is longer than the model takes.
    """
    return Vllm(spec, say)


class Vllm:
    """See `needle.engines.Engine`."""

    def __init__(self, spec: RunSpec, say: Callable[[str], None]) -> None:
        self.spec, self.say, self.options = spec, say, spec.options
        self.config = _checkpoint.read_config(spec.model, self.options)
        self.longest = max(spec.grid.lengths)
        _checkpoint.check_length(self.config, self.longest)
        self.dtype = _dtype(str(self.options.get("dtype", "auto")), self.config)
        self.batch = count(self.options, "vllm_batch", BATCH)
        self.parallel = {
            name: count(self.options, name, 1) for name in ("tensor_parallel_size", "pipeline_parallel_size")
        }
        self.cost = cost.of(self.config, 4 if self.dtype == "float32" else 2).whole()
        self.chunk = self.longest
        self.tokenizer = _checkpoint.read_tokenizer(spec.model, self.options)
        self.sources = {**_checkpoint.sources(spec.model, self.config, self.tokenizer), "dtype": self.dtype}
        self.llm: Any = None

    def load(self) -> dict[str, Any]:
        """Start vLLM with the weights; device, dtype and versions as they are.

        Raises:
            UsageError: vLLM is not installed, or cannot run this model here.
        """
        vllm = _vllm()
        try:
            self.llm = vllm.LLM(**self._arguments())
        except (*_FAILURES, OSError) as error:
            raise UsageError(f"vLLM cannot run '{self.spec.model}' here ({_describe(error)})") from error
        import torch

        return {
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "dtype": self.dtype,
            "way": "vllm",
            "kernel": "vllm, prefix caching",
            "versions": {"vllm": vllm.__version__, "torch": torch.__version__},
            **self.parallel,
        }

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Answer]]:
        """Answers in the forest's order, some at a time. A batch that fails is tried again prompt by prompt."""
        order = [f.index for trunk in forest.plan([p.ids for p in prompts]).trunks for f in trunk.forks]
        for at in range(0, len(order), self.batch):
            batch = order[at : at + self.batch]
            began = time.perf_counter()
            try:
                outputs = self._generate([prompts[i] for i in batch])
            except _failures() as error:
                if len(batch) > 1:
                    self.say(f"vLLM refused {len(batch)} prompts at once ({_describe(error)}); one by one instead")
                yield from ((i, self._single(prompts[i])) for i in batch)
                continue
            seconds = (time.perf_counter() - began) / len(batch)
            yield from ((i, self._answer(out, seconds)) for i, out in zip(batch, outputs, strict=True))

    def _single(self, prompt: Prompt) -> Answer:
        began = time.perf_counter()
        try:
            (output,) = self._generate([prompt])
        except _failures() as error:
            spent = time.perf_counter() - began
            return Answer(finish="error", error=_describe(error), way="vllm", seconds=spent)
        return self._answer(output, time.perf_counter() - began)

    def _generate(self, prompts: Sequence[Prompt]) -> list[Any]:
        """vLLM's outputs, in the order of `prompts`."""
        given = [{"prompt_token_ids": prompt.ids.tolist()} for prompt in prompts]
        outputs: list[Any] = self.llm.generate(given, [self._sampling(p) for p in prompts], use_tqdm=False)
        return outputs

    def _answer(self, output: Any, seconds: float) -> Answer:
        said = output.outputs[0]
        ids = tuple(said.token_ids)
        return Answer(
            text=self.tokenizer.decode(ids, skip_special_tokens=True).strip(),
            ids=ids,
            finish="stop" if said.finish_reason == "stop" else "length",
            seconds=seconds,
            way="vllm",
        )

    def _sampling(self, prompt: Prompt) -> Any:
        """Greedy; at a temperature a draw that depends on the run's seed and the prompt alone."""
        key = hashlib.sha256(f"{self.spec.seed}/{prompt.sha256}".encode()).digest()
        return _vllm().SamplingParams(
            temperature=self.spec.temperature,
            seed=int.from_bytes(key[:4], "big") if self.spec.temperature else None,
            max_tokens=prompt.max_new_tokens,
            detokenize=False,
        )

    def _arguments(self) -> dict[str, Any]:
        """What `vllm.LLM` is given."""
        options = self.options
        given = {
            "model": _checkpoint.locate(self.spec.model),
            "revision": getattr(self.config, "_commit_hash", None) or options.get("revision"),
            "trust_remote_code": bool(options.get("trust_remote_code")),
            "dtype": self.dtype,
            "max_model_len": self.longest,
            "enable_prefix_caching": True,
            "seed": 0,
            "disable_log_stats": True,
            "enforce_eager": bool(setting(options, "enforce_eager", False)),
            **self.parallel,
        }
        share = setting(options, "gpu_memory_utilization")
        if share is not None:
            given["gpu_memory_utilization"] = float(share)
        scaling: Mapping[str, Any] | None = options.get("rope_scaling")
        if scaling is not None:
            text = self.config.get_text_config()
            stretched = ("rope_parameters", "max_position_embeddings")
            given["hf_overrides"] = {name: getattr(text, name) for name in stretched}
        return given


def _vllm() -> ModuleType:
    try:
        return importlib.import_module("vllm")
    except ImportError as error:
        raise UsageError(
            f"--engine vllm needs the package vllm: pip install 'needle-eval[vllm]' ({one_line(error)[:120]})"
        ) from error


def _failures() -> tuple[type[Exception], ...]:
    """What a batch may raise; errors of vLLM's own engine, where it has them, are no RuntimeErrors."""
    try:
        own = importlib.import_module("vllm.v1.engine.exceptions")
    except ImportError:
        return _FAILURES
    return (*_FAILURES, own.EngineGenerateError, own.EngineDeadError)


def _dtype(asked: str, config: Any) -> str:
    """ "auto" is the checkpoint's own, wherever it runs."""
    if asked == "auto":
        asked = str(getattr(config.get_text_config(), "dtype", None) or "float32").removeprefix("torch.")
    if asked not in DTYPES:
        raise UsageError(f"--dtype '{asked}' is unknown; use auto, {', '.join(DTYPES)}")
    return asked


def _describe(error: Exception) -> str:
    """One line for the row of a cell that failed."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return one_line(f"{type(error).__name__}: {first}")[:300]
