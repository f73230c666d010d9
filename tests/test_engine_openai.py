"""The openai engine against stubs on loopback: what is sent, what is believed, what it costs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import hostile
import models
import pytest
from hostile import MODEL, Stub
from openai_runs import Ear, all_found, ask, spec

from needle import forest, running, tasks
from needle.engines import _words
from needle.errors import UsageError
from needle.types import Grid

pytest.importorskip("openai")
pytest.importorskip("tenacity")
pytest_plugins = ("openai_fixtures",)
pytestmark = pytest.mark.usefixtures("no_wait")


# What is sent.


def test_ids_go_out_as_they_are_in_the_forests_order(serve: Any, words: Any) -> None:
    stub = serve(Stub(words))
    prompts, answers, session = ask(spec(stub.url))
    plan = forest.plan([p.ids for p in prompts])
    order = [f.index for t in plan.trunks for f in t.forks]
    assert [r.body["prompt"] for r in stub.cells] == [prompts[i].ids.tolist() for i in order]
    assert {(r.body["temperature"], r.body["max_tokens"], r.body["model"]) for r in stub.cells} == {(0.0, 64, MODEL)}
    assert all_found(prompts, answers)
    assert {a.way for a in answers.values()} == {session["way"]} == {"completions, token ids"}
    assert list(answers) == order


def test_a_chat_carries_the_same_text_and_its_count_is_checked(serve: Any, words: Any) -> None:
    stub, ear = serve(Stub(words, ids=False)), Ear()
    prompts, answers, _ = ask(spec(stub.url, system="Be brief."), ear)
    assert all_found(prompts, answers)
    for request in stub.cells:
        rendered = words.apply_chat_template(request.body["messages"], tokenize=False, add_generation_prompt=True)
        assert any(rendered == words.decode(p.ids) for p in prompts)
        assert request.body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {a.way for a in answers.values()} == {"chat"}
    assert [line for line in ear.lines if "no token ids" in line and "HTTP 400" in line]


def test_a_servers_own_template_is_allowed_for_and_its_count_recorded(serve: Any, words: Any) -> None:
    stub = serve(Stub(words, ids=False, opens_with=7))
    prompts, answers, _ = ask(spec(stub.url))
    assert all_found(prompts, answers)
    for index, answer in answers.items():
        assert (answer.way, answer.prompt_tokens) == ("chat", len(prompts[index].ids) + 7)


def test_a_template_without_system_role_gets_it_in_the_users_turn(tmp_path: Path, serve: Any) -> None:
    words = models.tokenizer()
    words.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    )
    words.save_pretrained(tmp_path)
    stub = serve(Stub(words, ids=False))
    grid = Grid((900,), (0.5,))
    prompts, answers, _ = ask(spec(stub.url, grid, tokenizer=str(tmp_path), system="Be brief."))
    assert all_found(prompts, answers)
    (request,) = stub.cells
    (turn,) = request.body["messages"]
    assert turn["role"] == "user"
    assert turn["content"].startswith("Be brief.\n\n")


@pytest.mark.parametrize("api", ["auto", "completions"])
def test_base_prompts_go_as_text_where_ids_do_not(serve: Any, words: Any, api: str) -> None:
    stub = serve(Stub(words, ids=False))
    prompts, answers, session = ask(spec(stub.url, Grid((700,), (0.5,)), prompt="base", api=api))
    assert session["way"] == "completions, text"
    assert [r.body["prompt"] for r in stub.cells] == [words.decode(p.ids) for p in prompts]
    assert set(answers) == {0}


def test_a_bos_that_the_server_adds_is_not_sent_twice(tmp_path: Path, serve: Any) -> None:
    words = models.tokenizer()
    words.bos_token = "<|endoftext|>"
    words.chat_template = "{{ bos_token }}" + models.CHATML
    words.save_pretrained(tmp_path)
    stub = serve(Stub(words, ids=False, opens_with=1))
    asked = spec(stub.url, Grid((900,), (0.5,)), tokenizer=str(tmp_path), api="completions")
    prompts, answers, _ = ask(asked)
    assert stub.cells[0].body["prompt"] == words.decode(prompts[0].ids).removeprefix("<|endoftext|>")
    assert answers[0].way == "completions, text"
    assert answers[0].error is None


def test_seed_goes_along_only_where_it_matters(serve: Any, words: Any) -> None:
    stub = serve(Stub(words))
    ask(spec(stub.url, Grid((700,), (0.5,), repeats=2), temperature=0.7, seed=5))
    assert sorted(r.body["seed"] for r in stub.cells) == [5, 6]
    ask(spec(stub.url, Grid((700,), (0.5,))))
    assert "seed" not in stub.cells[-1].body


def test_no_more_requests_at_once_than_asked_for(serve: Any, words: Any) -> None:
    def slow(request: hostile.Request, handler: Any) -> bool:
        time.sleep(0.15)
        return False

    stub = serve(Stub(words, trouble=hostile.for_cells(slow)))
    prompts, answers, _ = ask(spec(stub.url, Grid((700,), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)), service={"concurrency": 3}))
    assert all_found(prompts, answers)
    assert stub.most_busy == 3


def test_max_completion_tokens_is_sent_where_the_server_insists(serve: Any, words: Any) -> None:
    def insist(request: hostile.Request, handler: Any) -> bool:
        wrong = "max_tokens" in request.body and "chat" in request.path
        return wrong and hostile.status(400, "'max_tokens' is not supported, use 'max_completion_tokens'")(
            request, handler
        )

    stub = serve(Stub(words, ids=False, trouble=insist))
    prompts, answers, _ = ask(spec(stub.url))
    assert all_found(prompts, answers)
    assert {r.body["max_completion_tokens"] for r in stub.cells} == {64}


def test_an_answer_begun_for_the_model_is_no_chat(serve: Any, words: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = replace(tasks.get("number"), prefill=True)  # type: ignore[type-var]
    monkeypatch.setattr(tasks, "get", lambda name: begun)
    stub = serve(Stub(words, ids=False))
    prompts, answers, session = ask(spec(stub.url, Grid((700,), (0.5,))))
    assert session["way"] == "completions, text"
    assert stub.cells[0].body["prompt"].endswith(prompts[0].question.prefix)
    assert answers[0].error is None


# What is believed.


def test_a_server_that_cuts_prompts_short_makes_an_error_of_the_cell(serve: Any, words: Any) -> None:
    for ids in (True, False):
        stub = serve(Stub(words, ids=ids, limit=800))
        prompts, answers, _ = ask(spec(stub.url))
        for index, prompt in enumerate(prompts):
            if prompt.cell.length == 1000:
                assert answers[index].error == (
                    f"the server read 800 of {len(prompt.ids)} prompt tokens: it cuts prompts short; "
                    "raise the context length that it was started with"
                )
            else:
                assert answers[index].error is None


def test_a_server_without_counts_is_said_once(serve: Any, words: Any) -> None:
    stub, ear = serve(Stub(words, ids=False, usage=False)), Ear()
    prompts, answers, _ = ask(spec(stub.url), ear)
    assert all_found(prompts, answers)
    assert len([line for line in ear.lines if "cannot be seen" in line]) == 1


def test_another_models_tokenizer_is_refused(serve: Any, words: Any) -> None:
    other = models.tokenizer()
    for ids, api in ((True, "auto"), (False, "completions")):
        stub = serve(Stub(other, ids=ids))
        with pytest.raises(UsageError, match=r"where tokenizer 'pocket-4k' counts \d+.*--tokenizer"):
            ask(spec(stub.url, api=api))
        assert not stub.cells


def test_a_chat_with_a_near_tokenizer_is_measured_and_said(serve: Any, words: Any) -> None:
    stub, ear = serve(Stub(models.tokenizer(), ids=False)), Ear()
    prompts, answers, _ = ask(spec(stub.url), ear)
    assert all_found(prompts, answers)
    assert [line for line in ear.lines if "is not the server's" in line]
    assert all(answer.prompt_tokens != len(prompts[index].ids) for index, answer in answers.items())


def test_another_model_than_asked_for(serve: Any, words: Any) -> None:
    stub = serve(Stub(words, names=["other"], answers_as="other"))
    with pytest.raises(UsageError, match="serves 'other', not 'stub'; give that --model"):
        ask(spec(stub.url))
    changing = serve(Stub(words))
    prepared = running.prepare(spec(changing.url), Ear().say)
    prepared.engine.load()
    changing.answers_as = "other"
    answers = dict(prepared.engine.answers(prepared.prompts))
    assert {a.error for a in answers.values()} == {"model 'other' answered, not 'stub' as before"}


def test_a_context_beyond_the_servers_is_refused_before_anything_is_sent(serve: Any, words: Any) -> None:
    stub = serve(Stub(words, more={"max_model_len": 900}))
    with pytest.raises(UsageError, match="longer than the server's 900"):
        ask(spec(stub.url))
    assert {r.method for r in stub.seen} == {"GET"}


# Tokenizers.


def test_tokenizers_from_folder_file_and_name(tmp_path: Path, words: Any) -> None:
    words.save_pretrained(tmp_path / "folder")
    alone = tmp_path / "tokenizer.json"
    alone.write_bytes((tmp_path / "folder" / "tokenizer.json").read_bytes())
    read = [_words.read(str(p), {}) for p in (tmp_path / "folder", tmp_path / "folder" / "tokenizer.json", alone)]
    assert [t("What? 12 é")["input_ids"] for t in read] == 3 * [words("What? 12 é")["input_ids"]]
    assert read[0].chat_template == read[1].chat_template == words.chat_template
    assert read[2].chat_template is None
    assert _words.cost_of("pocket-4k", {}).attention > 0
    assert _words.cost_of(str(alone), {}) == _words.PER_TOKEN
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(UsageError, match=r"no tokenizer .*broken.json"):
        _words.read(str(tmp_path / "broken.json"), {})


def test_prompts_are_rebuilt_without_the_server(tmp_path: Path, words: Any) -> None:
    with hostile.running(Stub(words)) as stub:
        run = running.execute(running.prepare(spec(stub.url), Ear().say), tmp_path, Ear())
    _, prompts = running.rebuild(run, run.results)
    assert [p.sha256 for p in prompts] == [r.prompt_sha256 for r in run.results]
