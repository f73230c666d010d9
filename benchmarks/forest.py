"""Plain prefill against the forest, side by side in one process.

    python benchmarks/forest.py --shape pocket-32k --grid 12 --max-len 32k
    python benchmarks/forest.py --shape qwen2-12x896 --grid 12 --max-len 4k
    python benchmarks/forest.py --shape qwen1.5-7b --grid 12 --max-len 32k --device cuda

A plain prefill's time depends on its length alone, so each length is timed (the best of `--best-of`) and counted once a
depth. The forest is walked whole, as often, and of each trunk and each step the best time counts. Prefill and decoding
are told apart: random weights never match a draft, so their decoding says little. Prints a table and, as its last line,
JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from memory import Peak
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from needle import cost, forest, grid, haystack, pocket, running, tasks, template
from needle.attention import choose
from needle.cache import NAME, Walk
from needle.engines._forest import Walker, fork_batches
from needle.engines._ways import Draft
from needle.engines.transformers import prefill_chunk
from needle.planning import estimate
from needle.prompt import Builder
from needle.types import Prompt

SHAPES = {
    # name: (layers, hidden, inner, heads, kv heads); the last three as in the published configurations.
    "qwen2-12x896": (12, 896, 4864, 14, 2),
    "qwen1.5-0.5b": (24, 1024, 2816, 16, 16),
    "qwen1.5-7b": (32, 4096, 11008, 32, 32),
    "qwen1.5-32b": (64, 5120, 27392, 40, 8),
}


@dataclass
class Row:
    """One comparison; seconds, bytes, FLOP/s."""

    shape: str
    grid: str
    longest: int
    device: str
    dtype: str
    kernel: str
    threads: int
    cells: int
    plain_prefill: float
    forest_prefill: float
    speedup: float
    flop_ratio: float
    of_predicted: float
    plain_decode: float
    forest_decode: float
    peak_growth: int
    resident_growth: int
    library_buffers: int
    cache_and_chunk: int
    forest_flops_per_second: float
    matmul_ceiling: float
    attention_ceiling: float


def build_model(shape: str, device: str, dtype: torch.dtype) -> Any:
    if shape in pocket.NAMES:
        return AutoModelForCausalLM.from_pretrained(pocket.path(shape), dtype=dtype).to(device).eval()
    layers, hidden, inner, heads, kv_heads = SHAPES[shape]
    config = Qwen2Config(
        vocab_size=2048,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=1 << 17,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return Qwen2ForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def build_prompts(side: int, longest: int, costs: cost.Cost) -> tuple[list[Prompt], list[Draft]]:
    tokenizer = AutoTokenizer.from_pretrained(pocket.path("pocket-32k"))
    task = tasks.get("number")
    hay = haystack.tokenize(haystack.load("essays"), tokenizer)
    builder = Builder(tokenizer, hay, task, template.frame(tokenizer, task), 0, task.max_new_tokens, longest)
    cells = grid.make(grid.spaced_lengths(min(1024, longest // 4), longest, side), grid.spaced_depths(side), 1).cells()
    prompts = running.build(builder, cells, costs)
    end = tokenizer.eos_token_id
    drafts = [Draft([*template.encode(tokenizer, p.question.draft or ""), end]) for p in prompts]
    return prompts, drafts


@torch.inference_mode()
def warm_up(model: Any, chunk: int, device: str) -> None:
    """Feed as many sizes as it takes until libraries have all the buffers that they make once and keep.

    MKL keeps some tens of MB for matrix products of odd sizes; they are told apart from what the walk allocates.
    """
    for tokens in range(min(chunk, 1024), 0, -37):
        model(torch.zeros(1, tokens, dtype=torch.long, device=device), use_cache=False)


def seconds(device: str, what: Callable[[], Any]) -> float:
    sync(device)
    began = time.perf_counter()
    what()
    sync(device)
    return time.perf_counter() - began


def sync(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@torch.inference_mode()
def time_plain(model: Any, prompts: list[Prompt], device: str, best_of: int) -> tuple[float, float]:
    """Prefill and decoding of all cells, one at a time, from one prompt a length."""
    counts = Counter(len(p.ids) for p in prompts)
    prefill = decode = 0.0
    for length, count in counts.items():
        prompt = next(p for p in prompts if len(p.ids) == length)
        ids = torch.from_numpy(prompt.ids).long()[None].to(device)
        once = [seconds(device, lambda i=ids: model(i, use_cache=True, logits_to_keep=1)) for _ in range(best_of)]
        whole = seconds(device, lambda i=ids, p=prompt: generate(model, i, p.max_new_tokens))
        prefill += count * min(once)
        decode += count * max(0.0, whole - min(once))
    return prefill, decode


def generate(model: Any, ids: Any, tokens: int) -> None:
    model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)


@torch.inference_mode()
def time_forest(
    walker: TimedWalker, prompts: list[Prompt], drafts: list[Draft], device: str, best_of: int
) -> tuple[float, float, Peak]:
    """Trunks and question steps, decoding after them, and the growth of memory meanwhile."""
    with Peak(device) as peak:
        walks = [time_walk(walker, prompts, drafts, device)]
    walks += [time_walk(walker, prompts, drafts, device) for _ in range(best_of - 1)]
    best = [tuple(map(min, zip(*tries, strict=True))) for tries in zip(*walks, strict=True)]
    return sum(p for p, _ in best), sum(d for _, d in best), peak


def time_walk(
    walker: TimedWalker, prompts: list[Prompt], drafts: list[Draft], device: str
) -> list[tuple[float, float]]:
    """Seconds of prefill and of decoding for each trunk and for each batch of its forks."""
    end = walker.model.config.eos_token_id
    ends = frozenset([end]) if isinstance(end, int) else frozenset()
    took = []
    for trunk in forest.plan([p.ids for p in prompts]).trunks:
        ids = prompts[trunk.source].ids
        took.append((seconds(device, lambda t=trunk, i=ids: walker.feed(i, t.keep, t.stop)), 0.0))
        for batch in fork_batches(trunk.forks, prompts, drafts):
            walker.question = 0.0
            whole = seconds(device, lambda b=batch: walker.answer(b, prompts, drafts, ends))
            took.append((walker.question, whole - walker.question))
    return took


class TimedWalker(Walker):
    """Tells the question step's time from that of the decoding after it."""

    question = 0.0

    def _question(self, *arguments: Any) -> None:
        device = str(self.device)
        self.question += seconds(device, lambda: super(TimedWalker, self)._question(*arguments))


@torch.inference_mode()
def ceilings(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """FLOP/s of a large matrix product and of causal attention on this device."""
    n, tokens = (8192, 16384) if device.startswith("cuda") else (2048, 8192)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    q = torch.randn(1, 8, tokens, 128 if device.startswith("cuda") else 64, device=device, dtype=dtype)

    def attend() -> None:
        torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)

    product = min(seconds(device, lambda: a @ b) for _ in range(5))
    attention = min(seconds(device, attend) for _ in range(5))
    return 2 * n**3 / product, 2 * q.shape[1] * tokens**2 * q.shape[3] / attention


def compare(options: argparse.Namespace) -> Row:
    dtype = getattr(torch, options.dtype)
    model = build_model(options.shape, options.device, dtype)
    costs = cost.of(model.config, dtype.itemsize)
    longest = grid.size(options.max_len)
    prompts, drafts = build_prompts(options.grid, longest, costs)
    chunk = prefill_chunk(None, options.device, costs)
    found = estimate(prompts, costs, chunk)
    stock = model.config._attn_implementation
    kernel = choose("auto", torch.device(options.device), dtype)
    with Peak(options.device) as libraries:
        warm_up(model, chunk, options.device)
    model.set_attn_implementation(NAME)
    walker = TimedWalker(model, Walk(model.config.num_hidden_layers, kernel), chunk)
    ours, our_decode, peak = time_forest(walker, prompts, drafts, options.device, options.best_of)
    model.set_attn_implementation(stock)
    plain, decode = time_plain(model, prompts, options.device, options.best_of)
    product, attention = ceilings(options.device, dtype)
    on_card = options.device.startswith("cuda")
    return Row(
        shape=options.shape,
        grid=f"{options.grid}x{options.grid}",
        longest=longest,
        device=torch.cuda.get_device_name() if on_card else processor(),
        dtype=options.dtype,
        kernel=kernel,
        threads=torch.get_num_threads(),
        cells=len(prompts),
        plain_prefill=plain,
        forest_prefill=ours,
        speedup=plain / ours,
        flop_ratio=found.speedup,
        of_predicted=plain / ours / found.speedup,
        plain_decode=decode,
        forest_decode=our_decode,
        peak_growth=peak.growth,
        resident_growth=peak.resident,
        library_buffers=libraries.kept,
        cache_and_chunk=round(found.cache + found.activations),
        forest_flops_per_second=found.planned_flops / ours,
        matmul_ceiling=product,
        attention_ceiling=attention,
    )


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[*pocket.NAMES, *SHAPES], default="pocket-32k")
    parser.add_argument("--grid", type=int, default=12, help="lengths and depths")
    parser.add_argument("--max-len", default="32k")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--best-of", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    row = asdict(compare(options))
    for name, value in row.items():
        print(f"{name:<26}{value:,.3f}" if isinstance(value, float) else f"{name:<26}{value}")
    if options.out:
        options.out.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
