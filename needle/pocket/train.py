"""Train `pocket-4k` and `pocket-32k` from scratch: `python -m needle.pocket.train --out DIR`.

Phases grow the context: 256 tokens to 4K make `pocket-4k`; then the rotary base is raised and 2K to 32K make
`pocket-32k`. Everything comes from `--seed`; two CPU cores suffice.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from needle.pocket import corpus, tokenizer, wiring
from needle.pocket.facts import FactMaker
from needle.pocket.samples import SampleMaker
from needle.pocket.selective import loss as sample_loss
from needle.tasks import _values as values

LIMIT = 32768
THETA_4K, THETA_32K = 1e6, 3e7


@dataclass(frozen=True, slots=True)
class Phase:
    """`steps` steps of `batch` samples; learning rate falls from `lr` to `lr * floor` by a cosine."""

    name: str
    steps: int
    batch: int
    shortest: int
    longest: int
    needles: tuple[int, int]
    lr: float
    floor: float = 1.0
    warmup: int = 0
    full: bool = False
    stretch: int = 0


PHASES_4K = [
    Phase("256", 250, 16, 200, 256, (3, 6), 2e-3, warmup=30, full=True),
    Phase("1k", 400, 5, 256, 1024, (6, 12), 2e-3, full=True),
    Phase("4k", 350, 2, 1024, 4096, (12, 30), 2e-3),
    Phase("4k-cool", 500, 2, 512, 4096, (12, 30), 1.5e-3, floor=0.05),
]
PHASES_32K = [
    Phase("8k", 140, 2, 1024, 8192, (16, 36), 1.2e-3, warmup=10, stretch=34000),
    Phase("32k", 280, 1, 2048, 32768, (30, 48), 1.2e-3, floor=0.03, stretch=34000),
]


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The byte-level BPE, learned from the training text and a few made facts."""
    prose, manual = corpus.prose(), corpus.manual()
    sentences = [s for p in prose for s in p] * 4 + [s for p in manual for s in p]
    rng = Random(seed)
    words = sorted({w for s in sentences for w in s.split() if w.isalpha()})
    maker = FactMaker(rng, words, sentences)
    facts = [f for _ in range(300) for f in maker.group(4)]
    texts = sentences + [f.statement for f in facts] + [f.question for f in facts]
    return tokenizer.train(texts, wiring.VOCAB, LIMIT)


def _lr(phase: Phase, step: int) -> float:
    if step < phase.warmup:
        return phase.lr * (step + 1) / phase.warmup
    done = (step - phase.warmup) / max(1, phase.steps - phase.warmup)
    return phase.lr * (phase.floor + (1 - phase.floor) * 0.5 * (1 + math.cos(math.pi * done)))


def _optimizer(model: Qwen2ForCausalLM) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))


def run_phase(model: Qwen2ForCausalLM, maker: SampleMaker, phase: Phase, log: list[dict[str, float | str]]) -> None:
    """Train `model` in place through one phase, appending a record to `log` every 10 steps."""
    optimizer, rng = _optimizer(model), maker.rng
    began = time.monotonic()
    hits = total = 0.0
    for step in range(phase.steps):
        for group in optimizer.param_groups:
            group["lr"] = _lr(phase, step)
        mean = 0.0
        for _ in range(phase.batch):
            tokens = round(phase.shortest * (phase.longest / phase.shortest) ** math.sqrt(rng.random()))
            stretch = phase.stretch if phase.stretch and rng.random() < 0.25 else 0
            sample = maker.sample(tokens, rng.randint(*phase.needles), stretch)
            value, right, weights = sample_loss(model, sample, phase.full)
            (value / phase.batch).backward()
            mean += value.item() / phase.batch
            hits, total = hits + float(right[weights == 1].sum()), total + float((weights == 1).sum())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 10 == 9:
            row: dict[str, float | str] = {
                "phase": phase.name,
                "step": step + 1,
                "loss": round(mean, 4),
                "value_accuracy": round(hits / total, 4),
                "seconds": round(time.monotonic() - began, 1),
            }
            log.append(row)
            print(json.dumps(row), flush=True)
            hits = total = 0.0


def _set_theta(model: Qwen2ForCausalLM, theta: float) -> None:
    model.config.rope_parameters = {"rope_type": "default", "rope_theta": theta}
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)


def _save(model: Qwen2ForCausalLM, tok: PreTrainedTokenizerFast, folder: Path) -> None:
    copy = Qwen2ForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(folder)
    tok.save_pretrained(folder)


def train(out: Path, seed: int, only: set[str] | None = None) -> None:
    """Train both checkpoints into `out/pocket-4k` and `out/pocket-32k`, with the log and a checkpoint after each phase
    (`step-250`, …) beside them."""
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    tok = build_tokenizer(seed)
    config = wiring.config(THETA_4K, LIMIT, tok.eos_token_id, tok.pad_token_id)
    model = Qwen2ForCausalLM(config)
    wiring.wire(model, THETA_4K)
    maker = SampleMaker(tok, seed, values.held_out_words())
    log: list[dict[str, float | str]] = []
    done = 0
    for name, theta, phases in (("pocket-4k", THETA_4K, PHASES_4K), ("pocket-32k", THETA_32K, PHASES_32K)):
        _set_theta(model, theta)
        for phase in phases:
            if only is None or phase.name in only:
                run_phase(model, maker, phase, log)
                done += phase.steps
                _save(model, tok, out / f"step-{done}")
        _save(model, tok, out / name)
    record = {"seed": seed, "phases": [asdict(p) for p in PHASES_4K + PHASES_32K], "log": log}
    (out / "training.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def main() -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("pocket-training"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="phases to run, for trying things out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(options.out, options.seed, set(options.only) if options.only else None)


if __name__ == "__main__":
    main()
