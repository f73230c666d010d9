"""Which token comes next: the likeliest, or at a temperature a draw that depends on nothing but seed, prompt and step.

A draw is made by the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030): the argmax of scaled logits
plus independent Gumbel noise is distributed as their softmax. As the noise is fixed beforehand, the same reply is drawn
on every way through a model, and a drafted token is verified as in greedy decoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from needle.types import Prompt


@dataclass(frozen=True, slots=True)
class Sampling:
    """Temperature 0 is greedy."""

    temperature: float = 0.0
    seed: int = 0

    def picks(self, logits: Tensor, prompts: Sequence[Prompt], steps: Sequence[int]) -> list[int]:
        """The next token of each row of `logits` (rows, vocabulary), row i being step `steps[i]` of `prompts[i]`."""
        if self.temperature:
            rows = zip(prompts, steps, strict=True)
            noise = torch.stack([self.noise(prompt, step, logits.shape[-1]) for prompt, step in rows])
            logits = logits.float() / self.temperature + noise.to(logits.device)
        picked: list[int] = logits.argmax(-1).tolist()
        return picked

    def noise(self, prompt: Prompt, step: int, size: int) -> Tensor:
        """Standard Gumbel noise, (size,) float32, drawn on the CPU so that it is the same on every device."""
        key = hashlib.sha256(f"{self.seed}/{prompt.sha256}/{step}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))
        return -torch.empty(size).exponential_(generator=generator).log()

    def processors(self, prompt: Prompt) -> list[Any]:
        """For `generate` over that prompt: what makes its greedy choice this one."""

        def draw(ids: Tensor, scores: Tensor) -> Tensor:
            step = ids.shape[1] - len(prompt.ids)
            noise = self.noise(prompt, step, scores.shape[-1])
            return scores.float() / self.temperature + noise.to(scores.device)

        return [draw] if self.temperature else []
