"""Out of memory, and other failures on a walk: smaller steps, then the forks at fault alone."""

from __future__ import annotations

import weakref
from typing import Any

import models
import numpy as np
import pytest
import torch
from walks import Forwards, ids_of, model_of, plain, prompt, prompts_of, walked

from needle import forest
from needle.engines._forest import Forest, Walker


def test_chunks_are_halved_until_they_fit_and_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    long, other = np.random.default_rng(0).integers(3, models.VOCABULARY, (2, 1500)).tolist()
    prompts = [prompt(long), prompt([*long[:700], *other[:700]])]
    expected = plain(model, prompts)
    refused = []

    def refuse(ids: list[int], _walk: Any) -> None:
        if len(ids) > 300:
            refused.append(len(ids))
            raise torch.OutOfMemoryError("CUDA out of memory")

    forwards = Forwards(monkeypatch, model, refuse)
    assert ids_of(walked(model, prompts, way=Forest("torch-flash-cpu", 1024))) == expected
    assert refused == [1024, 512]
    assert max(forwards.trunk) == 256
    assert sum(forwards.trunk) < 1500 + 700, "what was there was fed again"


def test_forks_are_halved_until_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    hay = prompts_of()[0].ids.tolist()
    prompts = [prompt([*hay, *range(3, 20), i]) for i in range(20, 29)]
    prompts += [prompt([*hay, *range(29, 38), i]) for i in range(40, 49)]
    expected = plain(model, prompts)
    assert len(forest.plan([p.ids for p in prompts]).trunks) == 2

    def refuse(ids: list[int], walk: Any) -> None:
        if getattr(walk, "step", None) and walk.step.branches and len(ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    forwards = Forwards(monkeypatch, model, refuse)
    assert ids_of(walked(model, prompts)) == expected
    assert set(forwards.forks) <= {1, 2, 3}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), IndexError("index out of range"), ValueError("bad")])
def test_a_fork_that_fails_fails_alone(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    model, prompts = model_of("llama"), prompts_of()
    expected = plain(model, prompts)
    prompts[4] = prompt([*prompts[4].ids.tolist()[:-1], 500])

    def refuse(ids: list[int], walk: Any) -> None:
        if hasattr(walk, "step") and 500 in ids:
            raise error

    Forwards(monkeypatch, model, refuse)
    found = walked(model, prompts)
    described = "out of memory" if isinstance(error, torch.OutOfMemoryError) else f"{type(error).__name__}: {error}"
    assert (found[4].ids, found[4].error) == ([], described)
    assert [found[i].ids for i in range(9) if i != 4] == [expected[i] for i in range(9) if i != 4]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), RuntimeError("CUDA error: unspecified")])
@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("chunk", [32, 4096])
def test_a_trunk_that_fails_leaves_the_others_right(
    monkeypatch: pytest.MonkeyPatch, error: Exception, failing: int, chunk: int
) -> None:
    """Its forks fail with it; later trunks are fed again from wherever the cache still holds."""
    model, prompts = model_of("llama"), prompts_of()
    expected = plain(model, prompts)
    trunks = forest.plan([p.ids for p in prompts]).trunks
    assert len(trunks) == 3
    fed = []
    feed = Walker.feed

    def watched(walker: Walker, ids: Any, keep: int, stop: int) -> None:
        fed.append(stop)
        feed(walker, ids, keep, stop)

    def refuse(ids: list[int], walk: Any) -> None:
        """The end of one trunk never goes through, in chunks of any size."""
        growing = hasattr(walk, "step") and not walk.step.branches
        if growing and len(fed) == failing + 1 and walk.length + len(ids) == fed[-1]:
            raise error

    Forwards(monkeypatch, model, refuse)
    monkeypatch.setattr(Walker, "feed", watched)
    found = walked(model, prompts, way=Forest("torch-flash-cpu", chunk))
    lost = {f.index for f in trunks[failing].forks}
    assert lost == {i for i, r in found.items() if r.error}
    assert [found[i].ids for i in found if i not in lost] == [expected[i] for i in found if i not in lost]


def test_a_trunk_too_long_for_the_memory_does_not_slow_down_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails at every size of chunk; shorter ones are then fed at full size."""
    model = model_of("llama")
    long = np.random.default_rng(0).integers(3, models.VOCABULARY, 1200).tolist()
    prompts = [prompt(long), prompt([5, *long[:800]])]
    expected = plain(model, prompts)

    def refuse(_ids: list[int], walk: Any) -> None:
        if getattr(walk, "capacity", 0) > 1000:
            raise torch.OutOfMemoryError("CUDA out of memory")

    forwards = Forwards(monkeypatch, model, refuse)
    found = walked(model, prompts, way=Forest("torch-flash-cpu", 512))
    assert (found[0].error, found[1].ids) == ("out of memory", expected[1])
    assert max(forwards.trunk) == 512


@pytest.mark.parametrize("where", ["fork", "trunk"])
def test_a_failed_step_holds_no_memory_while_the_next_is_tried(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """An error that is still being handled keeps alive all tensors of the frames that it went through."""
    model, prompts = model_of("llama"), prompts_of()
    held: list[weakref.ref[torch.Tensor]] = []

    def refuse(ids: list[int], walk: Any) -> None:
        assert not any(ref() is not None for ref in held), "a failed step's tensors are still there"
        if hasattr(walk, "step") and bool(walk.step.branches) == (where == "fork") and len(ids) > 3:
            activations = torch.zeros(len(ids))
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")

    Forwards(monkeypatch, model, refuse)
    walked(model, prompts)
    assert len(held) > 3
