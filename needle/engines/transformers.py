"""Hugging Face Transformers: any local path or hub id, on CPU, CUDA or Apple's GPU.

`--plan cells` is the plain way, one `generate` a cell: the reference that the forest is held against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import transformers

from needle import cost, template
from needle.engines import _checkpoint, _choice
from needle.engines._forest import CHUNK
from needle.engines._sampling import Sampling
from needle.engines._ways import Draft, Reply, Way
from needle.errors import UsageError
from needle.types import Answer, Prompt, RunSpec

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
HELD = 48 * 1024**2
"""Bytes of a chunk's activations on a CPU. More are no faster, and the C library holds on to what was freed of them."""
KERNELS = ("auto", "flash_attention_3", "flash_attention_2", "sdpa", "eager")


def open(spec: RunSpec, say: Callable[[str], None]) -> Transformers:
    """The engine for `spec`; `say` tells the user, on stderr, what was fallen back to.

    Raises:
        UsageError: the model is not to be had, an option is unknown, or a context is longer than the model takes.
    """
    return Transformers(spec, say)


class Transformers:
    """See `needle.engines.Engine`."""

    def __init__(self, spec: RunSpec, say: Callable[[str], None]) -> None:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.spec, self.say = spec, say
        self.options = spec.options
        self.device = _device(str(self.options.get("device", "auto")))
        self.attention = _kernel(str(self.options.get("attn", "auto")), self.device)
        self.config = _checkpoint.read_config(spec.model, self.options)
        _checkpoint.check_length(self.config, max(spec.grid.lengths))
        self.dtype = _dtype(str(self.options.get("dtype", "auto")), self.device, self.config)
        self.cost = cost.of(self.config, self.dtype.itemsize)
        self.tokenizer = _checkpoint.read_tokenizer(spec.model, self.options)
        self.sources = {
            **_checkpoint.sources(spec.model, self.config, self.tokenizer),
            "dtype": str(self.dtype).removeprefix("torch."),
        }
        self.plan = str(self.options.get("plan", "forest"))
        if self.plan not in _choice.PLANS:
            raise UsageError(f"--plan '{self.plan}' is unknown; use {' or '.join(_choice.PLANS)}")
        self.chunk = prefill_chunk(self.options.get("prefill_chunk"), self.device, self.cost)
        self.model: Any = None
        self.way: Way

    def load(self) -> dict[str, Any]:
        """Read the weights; returns device, dtype, kernel and versions as they really are."""
        self.model = _checkpoint.read_weights(
            self.spec.model, self.config, self.options, self.dtype, self.attention, self.device
        )
        asked = str(self.options.get("attn", "auto"))
        longest, sampling = max(self.spec.grid.lengths), Sampling(self.spec.temperature, self.spec.seed)
        self.way = _choice.choose(self.model, self.plan, asked, longest, self.chunk, self.say, sampling)
        return {
            "device": _device_name(self.model.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "way": self.way.name,
            "kernel": self.way.kernel,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Answer]]:
        """One answer a prompt, in the order of the way used."""
        ends = self._ends()
        drafts = [self._draft(p) for p in prompts]
        for index, reply in self.way.replies(self.model, prompts, drafts, ends):
            yield index, self._answer(reply)

    def _answer(self, reply: Reply) -> Answer:
        if reply.error is not None:
            return Answer(finish="error", error=reply.error, way=self.way.name, seconds=reply.seconds)
        ended = bool(reply.ids) and reply.ids[-1] in self._ends()
        return Answer(
            text=self.tokenizer.decode(reply.ids, skip_special_tokens=True).strip(),
            ids=tuple(reply.ids),
            finish="stop" if ended else "length",
            seconds=reply.seconds,
            way=self.way.name,
            answer_logprob=sum(reply.logprobs) / len(reply.logprobs) if reply.logprobs else None,
            answer_rank=reply.rank,
            answer_logprobs=tuple(round(p, 5) for p in reply.logprobs),
        )

    def _ends(self) -> frozenset[int]:
        """Ids that end an answer, from the generation config and the tokenizer."""
        told = getattr(self.model.generation_config, "eos_token_id", None)
        ids = told if isinstance(told, list) else [told]
        return frozenset(i for i in [*ids, self.tokenizer.eos_token_id] if i is not None)

    def _draft(self, prompt: Prompt) -> Draft:
        """The expected reply as it stands at the end of the prompt, with the end that a chat would give it."""
        question = prompt.question
        if question.draft is None:
            return Draft([])
        drafted = template.drafted(self.tokenizer, question, self.spec.prompt)
        close = self.tokenizer.eos_token_id
        return Draft([*drafted.ids, close] if close is not None else drafted.ids, drafted.answer)


def _device(asked: str) -> str:
    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=asked)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device '{asked}' is not to be had here ({str(error).splitlines()[0]})") from error
    return asked


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _kernel(asked: str, device: str) -> str | None:
    """The attention implementation that transformers is asked for; "auto" takes flash-attn where it can run.

    None leaves the choice to transformers: not every model takes sdpa.
    """
    if asked not in KERNELS:
        raise UsageError(f"--attn '{asked}' is unknown; use one of {', '.join(KERNELS)}")
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    there = {"flash_attention_2": is_flash_attn_2_available(), "flash_attention_3": is_flash_attn_3_available()}
    if asked == "auto":
        return next((k for k in ("flash_attention_3", "flash_attention_2") if there[k] and device == "cuda"), None)
    if asked in there and not (there[asked] and device.startswith("cuda")):
        raise UsageError(
            f"--attn {asked} needs its package and a CUDA device; install needle-eval[flash-attn] or use sdpa"
        )
    return asked


def prefill_chunk(asked: object, device: str, costs: cost.Cost) -> int:
    """Tokens fed at once: those asked for, else enough to keep the device busy and few enough that memory stays small.

    On a CPU they are as many as keep activations within `HELD`, a power of two from 256 on.
    """
    if asked is not None:
        if not isinstance(asked, int) or asked < 1:
            raise UsageError(f"--prefill-chunk {asked} is below 1")
        return asked
    if device.startswith("cuda"):
        return 8192
    if device != "cpu":
        return CHUNK
    return next((size for size in (CHUNK, CHUNK // 2) if size * costs.activation <= HELD), CHUNK // 4)


def _dtype(asked: str, device: str, config: Any) -> torch.dtype:
    """ "auto" is the checkpoint's own dtype, but float32 on a CPU that multiplies bf16 no faster."""
    if asked == "auto":
        own = getattr(config.get_text_config(), "dtype", None) or torch.float32
        slow = device == "cpu" and not torch.cpu.get_capabilities().get("amx_tile", False)
        return torch.float32 if slow else own
    if asked not in DTYPES:
        raise UsageError(f"--dtype '{asked}' is unknown; use auto, {', '.join(DTYPES)}")
    return DTYPES[asked]
