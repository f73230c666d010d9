"""Answers at a temperature: what is drawn follows the model's odds, and is the same on every way and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from needle import running
from needle.engines._sampling import Sampling
from needle.types import Answer, Cell, Grid, Prompt, Question, RunSpec

Checkpoint = Callable[..., Path]
SPEC = RunSpec("", "number", "noise", Grid((320, 512), (0.0, 0.4, 1.0)), max_new_tokens=8)


def prompt(name: str = "") -> Prompt:
    return Prompt(Cell(8, 0.0, 0), np.arange(4, dtype=np.int32), Question("", "", ()), 4, 0, 0.0, 0, (0, 0), (), name)


def test_draws_follow_the_softmax_at_that_temperature() -> None:
    logits, sampling, times = torch.tensor([0.0, 1.0, 2.5, -1.0]), Sampling(0.7, 3), 4000
    drawn = sampling.picks(
        logits.repeat(times, 1), [prompt(str(i)) for i in range(times)], [i % 5 for i in range(times)]
    )
    expected = torch.softmax(logits.double() / 0.7, 0).numpy() * times
    assert stats.chisquare(np.bincount(drawn, minlength=4), expected).pvalue > 0.001


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=9, unique=True))
def test_without_a_temperature_the_likeliest_is_taken(logits: list[float]) -> None:
    row = torch.tensor([logits], dtype=torch.float64)
    assert Sampling().picks(row, [prompt()], [0]) == [logits.index(max(logits))]
    assert Sampling().processors(prompt()) == []


def test_a_draw_depends_on_seed_prompt_and_step_alone() -> None:
    noises = {
        (seed, name, step): tuple(Sampling(1.0, seed).noise(prompt(name), step, 6).tolist())
        for seed in (0, 1)
        for name in ("a", "b")
        for step in (0, 1)
    }
    assert len(set(noises.values())) == len(noises)
    assert noises[1, "b", 1] == tuple(Sampling(1.0, 1).noise(prompt("b"), 1, 6).tolist())


def answered(model: Path, plan: str = "forest", **more: Any) -> list[Answer]:
    spec = replace(SPEC, model=str(model), options={"plan": plan}, **more)
    prepared = running.prepare(spec, lambda _: None)
    assert prepared.engine.load()["way"] == plan
    found = dict(prepared.engine.answers(prepared.prompts))
    return [found[i] for i in range(len(prepared.prompts))]


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_both_plans_draw_the_same_and_not_what_greedy_says(family: str, checkpoint: Checkpoint) -> None:
    model = checkpoint(family)
    drawn = [a.ids for a in answered(model, temperature=1.0)]
    assert drawn == [a.ids for a in answered(model, "cells", temperature=1.0)]
    assert drawn != [a.ids for a in answered(model)]
    assert drawn != [a.ids for a in answered(model, temperature=1.0, seed=1)]


def test_what_is_sure_is_drawn_at_a_low_temperature(checkpoint: Checkpoint) -> None:
    """A model that is sure says at a low temperature what it says without one."""
    from needle import pocket

    spec = replace(SPEC, haystack="essays", grid=Grid((1024,), (0.0, 0.5)), max_new_tokens=32)
    cold, warm = (
        [a.text for a in answered_by(replace(spec, temperature=t), pocket.path("pocket-4k"))] for t in (0, 0.2)
    )
    assert cold == warm
    assert all("secret code" in text for text in cold)


def answered_by(spec: RunSpec, model: Path | None) -> list[Answer]:
    prepared = running.prepare(replace(spec, model=str(model)), lambda _: None)
    prepared.engine.load()
    return [answer for _, answer in sorted(prepared.engine.answers(prepared.prompts), key=lambda pair: pair[0])]
