"""The forest says what one prefill a prompt says, token by token: whatever is shared, drafted, refused or too much."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import models
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from needle import forest
from needle.cache import NAME, Branch, Walk
from needle.engines import _forest
from needle.engines._forest import Forest, Walker
from needle.engines._ways import Cells, Draft, Reply
from needle.types import Cell, Prompt, Question

FAMILIES = ("llama", "mixtral", "qwen3", "qwen2", "gemma")
ROOM = 6


# A model and prompts of ids, without a tokenizer.


def prompt(ids: Sequence[int], room: int = ROOM) -> Prompt:
    made = np.asarray(ids, np.int32)
    question = Question("", "", ())
    return Prompt(Cell(len(made) + room, 0.0, 0), made, question, room, 0, 0.0, 0, (0, 0), (), "")


def prompts_of(seed: int = 0, count: int = 9, room: int = ROOM) -> list[Prompt]:
    """Prompts over one haystack: a needle of three tokens somewhere, a cut, a question."""
    random = np.random.default_rng(seed)
    hay = random.integers(3, models.VOCABULARY, 300).tolist()
    made = []
    for i in range(count):
        place, stop = 20 * (i % 3), 60 + 70 * (i // 3)
        made.append(prompt([*hay[:place], 3, 4, 5 + i % 3, *hay[place:stop], 9, 8, 7 + i % 2], room))
    return made


@cache
def model_of(family: str) -> Any:
    return models.make(family, **({"sliding_window": None} if family == "mistral" else {}))


@contextmanager
def on_the_forest(model: Any) -> Iterator[None]:
    stock = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(stock)


def walked(
    model: Any,
    prompts: Sequence[Prompt],
    drafts: Sequence[Draft] | None = None,
    ends: frozenset[int] = frozenset(),
    way: Forest | None = None,
) -> dict[int, Reply]:
    with on_the_forest(model):
        found = list(
            (way or Forest("torch-flash-cpu")).replies(model, prompts, drafts or [Draft([])] * len(prompts), ends)
        )
    assert sorted(i for i, _ in found) == list(range(len(prompts))), "a prompt was answered twice, or never"
    return dict(found)


def plain(model: Any, prompts: Sequence[Prompt], ends: frozenset[int] = frozenset()) -> list[list[int]]:
    replies = dict(Cells("sdpa").replies(model, prompts, [], ends))
    assert not any(r.error for r in replies.values())
    return [replies[i].ids for i in range(len(prompts))]


def ids_of(replies: dict[int, Reply]) -> list[list[int]]:
    assert not any(r.error for r in replies.values()), replies
    return [replies[i].ids for i in range(len(replies))]


@pytest.mark.parametrize(
    ("family", "kernel"),
    [*((f, "torch-flash-cpu") for f in (*FAMILIES, "mistral")), ("llama", "sdpa"), ("qwen2", "eager")],
)
def test_every_family_and_kernel_says_the_same(family: str, kernel: str) -> None:
    model, prompts = model_of(family), prompts_of()
    assert ids_of(walked(model, prompts, way=Forest(kernel))) == plain(model, prompts)


@st.composite
def sets(draw: st.DrawFn) -> list[Prompt]:
    """Prompts that share beginnings, are each other's beginnings, come twice, or are alone."""
    tokens = st.lists(st.integers(3, 40), min_size=1, max_size=30)
    made = [draw(tokens)]
    for _ in range(draw(st.integers(0, 4))):
        base = draw(st.sampled_from(made))
        made.append(base[: draw(st.integers(1, len(base)))] + draw(st.one_of(tokens, st.just([]))))
    return [prompt(ids, draw(st.integers(1, 5))) for ids in made]


@settings(max_examples=25)
@given(
    sets(),
    st.sampled_from(["none", "whole", "longer", "part", "wrong"]),
    st.sampled_from([1, 7, 4096]),
    st.sampled_from([1, 40, 2048]),
    st.integers(0, 5),
)
def test_any_prompts_drafts_and_sizes_say_the_same(
    prompts: list[Prompt], drafted: str, chunk: int, fork_tokens: int, ends_at: int
) -> None:
    """A draft may be the whole answer, go on behind it, agree for a while, or be all wrong."""
    model = model_of("llama")
    free = plain(model, prompts)
    # An end from the middle of one answer: some are cut short by it, others meet it late or never.
    ends = frozenset(free[0][ends_at : ends_at + 1])
    expected = plain(model, prompts, ends)
    drafts = {
        "none": [Draft([]) for _ in expected],
        "whole": [Draft(ids) for ids in expected],
        "longer": [Draft([*ids, 7, 7, 7]) for ids in expected],
        "part": [Draft([*ids[: len(ids) // 2], 1, *ids[len(ids) // 2 :]]) for ids in expected],
        "wrong": [Draft([1, 1]) for _ in expected],
    }[drafted]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_forest, "FORK_TOKENS", fork_tokens)
        assert ids_of(walked(model, prompts, drafts, ends, Forest("torch-flash-cpu", chunk))) == expected


class Forwards:
    """Counts a model's forwards, and lets a test refuse some: `refuse(new tokens, tokens of the trunk before)`."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, model: Any, refuse: Callable[[list[int], Any], None] = lambda *_: None
    ) -> None:
        self.trunk: list[int] = []
        self.forks: list[int] = []
        forward = model.base_model.forward

        def watched(*args: Any, **more: Any) -> Any:
            walk, ids = more.get("past_key_values"), more["input_ids"][0].tolist()
            refuse(ids, walk)
            if hasattr(walk, "step"):
                (self.forks if walk.step.branches else self.trunk).append(len(ids))
            return forward(*args, **more)

        monkeypatch.setattr(model.base_model, "forward", watched)


def test_a_draft_that_is_right_leaves_nothing_to_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = model_of("qwen3"), prompts_of()
    expected = plain(model, prompts)
    forwards = Forwards(monkeypatch, model)
    ids_of(walked(model, prompts))
    undrafted, forwards.forks = len(forwards.forks), []
    assert ids_of(walked(model, prompts, [Draft(ids) for ids in expected])) == expected
    trunks = len(forest.plan([p.ids for p in prompts]).trunks)
    assert len(forwards.forks) == trunks
    assert undrafted == trunks * ROOM


def test_nothing_is_said_behind_an_end_though_the_draft_goes_on() -> None:
    model, prompts = model_of("llama"), prompts_of(count=4)
    free = plain(model, prompts)
    ends = frozenset(ids[2] for ids in free)
    expected = plain(model, prompts, ends)
    assert max(map(len, expected)) <= 3
    assert ids_of(walked(model, prompts, [Draft(ids) for ids in free], ends)) == expected


def test_all_forks_of_a_trunk_are_decoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("qwen3")
    hay = prompts_of()[0].ids.tolist()
    prompts = [prompt([*hay, i, i + 1]) for i in range(5)]
    forwards = Forwards(monkeypatch, model)
    ids_of(walked(model, prompts))
    assert forwards.trunk == [len(hay)]
    assert forwards.forks == [10] + [5] * (ROOM - 1)


def test_forks_of_more_tokens_than_a_chunk_are_asked_in_turn_and_decoded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("qwen3")
    hay = prompts_of()[0].ids.tolist()
    prompts = [prompt([*hay, i, i + 1]) for i in range(5)]
    expected = plain(model, prompts)
    forwards = Forwards(monkeypatch, model)
    assert ids_of(walked(model, prompts, way=Forest("torch-flash-cpu", chunk=4))) == expected
    assert max(forwards.trunk) == 4
    assert forwards.forks == [4, 4, 2] + [5] * (ROOM - 1)


def test_a_whole_reply_has_room_in_the_cache_only_where_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large --max-new-tokens costs no memory where the drafts are right."""
    rooms: list[int] = []
    seat = Walk.seat

    def watched(walk: Walk, branches: Sequence[Branch], sizes: Sequence[int]) -> None:
        rooms.append(sum(sizes))
        seat(walk, branches, sizes)

    monkeypatch.setattr(Walk, "seat", watched)
    model = model_of("qwen3")
    hay = prompts_of()[0].ids.tolist()
    prompts = [prompt([*hay, i, i + 1], room=50) for i in range(5)]
    free = plain(model, prompts)
    ends = frozenset(ids[3] for ids in free)
    expected = plain(model, prompts, ends)
    drafts = [Draft(ids) for ids in expected]
    assert ids_of(walked(model, prompts, drafts, ends)) == expected
    assert rooms == [0, sum(2 + len(ids) - 1 for ids in expected), 0]
    rooms.clear()
    drafts[1:3] = [Draft([9, 9])] * 2
    assert ids_of(walked(model, prompts, drafts, ends)) == expected
    assert rooms[2:] == [2 * (2 + 50)]


def test_every_shared_token_is_fed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = model_of("llama"), prompts_of()
    forwards = Forwards(monkeypatch, model)
    drafts = [Draft(ids) for ids in plain(model, prompts)]
    walked(model, prompts, drafts)
    drafted = sum(len(d.ids) - 1 for d in drafts)
    assert sum(forwards.trunk) + sum(forwards.forks) == forest.plan([p.ids for p in prompts]).planned_tokens + drafted


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_odds_of_the_answer_are_those_of_a_plain_forward(family: str) -> None:
    model, prompts = model_of(family), prompts_of()
    random = np.random.default_rng(1)
    drafts = [Draft(random.integers(3, models.VOCABULARY, ROOM).tolist(), (1, 2, 4)) for _ in prompts]
    drafts[0] = Draft(plain(model, prompts[:1])[0], (1, 2, 4))
    found = walked(model, prompts, drafts)
    for i, (one, draft) in enumerate(zip(prompts, drafts, strict=True)):
        whole = torch.tensor([[*one.ids.tolist(), *draft.ids]])
        with torch.inference_mode():
            odds = model(whole).logits[0, len(one.ids) - 1 : -1].log_softmax(-1)
        own = [odds[at, draft.ids[at]] for at in draft.answer]
        ranks = [int((odds[at] > odds[at, draft.ids[at]]).sum()) + 1 for at in draft.answer]
        assert found[i].logprobs == pytest.approx(torch.stack(own).tolist(), abs=1e-4)
        assert found[i].rank == max(ranks)
    assert found[0].rank == 1
    assert max(r.rank or 0 for r in found.values()) > 1


@pytest.mark.parametrize("draft", [Draft([]), Draft([5, 6]), Draft([5] * ROOM + [6, 7], (1, ROOM))])
def test_there_are_no_odds_where_no_answer_was_measured(draft: Draft) -> None:
    """None is expected, it is not known which tokens are the answer, or they lie beyond the budget."""
    reply = walked(model_of("llama"), prompts_of(count=1), [draft])[0]
    assert (reply.error, reply.logprobs, reply.rank) == (None, (), None)


# Out of memory, and other failures.


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
