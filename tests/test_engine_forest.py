"""The forest says what one prefill a prompt says, token by token: whatever is shared, drafted, refused or too much."""

from __future__ import annotations

from collections.abc import Sequence

import models
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import ROOM, Forwards, ids_of, model_of, plain, prompt, prompts_of, walked

from needle import forest
from needle.cache import Branch, Walk
from needle.engines import _forest
from needle.engines._forest import Forest
from needle.engines._ways import Draft
from needle.types import Prompt

FAMILIES = ("llama", "mixtral", "qwen3", "qwen2", "gemma")


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
