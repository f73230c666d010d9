"""What a run will cost, before anything is loaded: tokens, FLOPs and memory, plain and planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from needle import forest
from needle.cost import Cost
from needle.types import Prompt

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Estimate:
    """Prefill of all cells: one at a time (`plain`) and through the forest (`planned`). Memory in bytes."""

    cells: int
    positions: int
    trunks: int
    plain_tokens: int
    planned_tokens: int
    plain_flops: float
    planned_flops: float
    weights: float
    cache: float
    activations: float

    @property
    def speedup(self) -> float:
        """Plain FLOPs over planned ones."""
        return self.plain_flops / self.planned_flops if self.planned_flops else 1.0


def estimate(prompts: Sequence[Prompt], cost: Cost, chunk: int) -> Estimate:
    """The estimate for `prompts` on a model of this `cost`, prefilled in chunks of up to `chunk` tokens."""
    plan = forest.plan([p.ids for p in prompts])
    lengths = [len(p.ids) for p in prompts]
    needles = {(p.cell.repeat, s.start) for p in prompts for s in p.spans if s.kind == "needle"}
    return Estimate(
        cells=len(prompts),
        positions=len(needles),
        trunks=len(plan.trunks),
        plain_tokens=plan.plain_tokens,
        planned_tokens=plan.planned_tokens,
        plain_flops=cost.plain(lengths),
        planned_flops=cost.planned(plan, lengths),
        weights=cost.weights,
        cache=cost.kv * plan.longest,
        activations=cost.activation * min(chunk, plan.longest),
    )


def lines(found: Estimate) -> list[str]:
    """The estimate for a terminal, a line a fact."""
    total = found.weights + found.cache + found.activations
    if not found.weights:
        # A served model whose shape is not known here.
        return [
            f"cells              {found.cells:,} at {found.positions:,} needle positions",
            f"prefill            {found.plain_tokens:,} tokens; {found.planned_tokens:,} if the server keeps prefixes",
        ]
    return [
        f"cells              {found.cells:,} at {found.positions:,} needle positions, {found.trunks:,} trunks",
        f"prefill, plain     {found.plain_tokens:,} tokens, {flops(found.plain_flops)}",
        f"prefill, planned   {found.planned_tokens:,} tokens, {flops(found.planned_flops)}"
        f" ({found.speedup:.2f} times less work)",
        f"memory, about      {_bytes(total)}: weights {_bytes(found.weights)}, cache {_bytes(found.cache)},"
        f" activations {_bytes(found.activations)}",
    ]


def flops(count: float) -> str:
    """A count of operations for people: 43.9 PFLOP."""
    for unit, size in (("PFLOP", 1e15), ("TFLOP", 1e12)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e9:,.1f} GFLOP"


def _bytes(count: float) -> str:
    return f"{count / GIB:,.1f} GiB" if count >= GIB else f"{count / 1024**2:,.0f} MiB"
