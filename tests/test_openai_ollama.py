"""The openai engine on Ollama, against a stub of it: no Ollama can be installed where the tests run."""

from __future__ import annotations

from typing import Any

import pytest
from hostile import MODEL
from ollama_stub import Ollama
from openai_runs import Ear, all_found, ask, spec

from needle import running
from needle.errors import UsageError
from needle.types import Grid

pytest.importorskip("openai")
pytest.importorskip("tenacity")
pytest_plugins = ("openai_fixtures",)
pytestmark = pytest.mark.usefixtures("no_wait")


def test_ollama_is_told_the_context_that_the_longest_cell_needs(serve: Any, words: Any) -> None:
    stub = serve(Ollama(words))
    prompts, answers, session = ask(spec(stub.url, Grid((700, 6000), (0.0, 1.0))))
    assert all_found(prompts, answers)
    assert {r.path for r in stub.cells} == {"/api/generate"}
    assert {r.body["options"]["num_ctx"] for r in stub.seen if "options" in r.body} == {6000}
    assert {a.way for a in answers.values()} == {"ollama generate, text"}
    assert session["versions"]["ollama"] == "0.13.5"
    assert stub.cells[0].body["prompt"] in [words.decode(p.ids) for p in prompts]


def test_ollamas_weights_are_part_of_the_runs_identity(serve: Any, words: Any) -> None:
    stub = serve(Ollama(words))
    assert stub.digest in running.prepare(spec(stub.url), Ear().say).sources["model"]


def test_ollama_that_cuts_a_prompt_all_the_same_is_found_out(serve: Any, words: Any) -> None:
    stub = serve(Ollama(words, old=True))
    prepared = running.prepare(spec(stub.url), Ear().say)
    prepared.engine.load()
    stub.trained = 800
    answers = dict(prepared.engine.answers(prepared.prompts))
    cut = {p.cell.length for i, p in enumerate(prepared.prompts) if "cuts prompts short" in (answers[i].error or "")}
    assert cut == {1000}


@pytest.mark.parametrize(
    ("stub", "more", "says"),
    [
        ({"trained": 900}, {}, "longer than the server's 900"),
        ({}, {"model": "unheard"}, "run: ollama pull unheard"),
        ({}, {"api": "chat"}, "cuts prompts without a word"),
    ],
)
def test_ollama_refusals(serve: Any, words: Any, stub: dict[str, Any], more: dict[str, Any], says: str) -> None:
    running_stub = serve(Ollama(words, **stub))
    with pytest.raises(UsageError, match=says):
        ask(spec(running_stub.url, **more))


def test_the_stubs_openai_endpoint_would_have_cut_the_prompt(serve: Any, words: Any) -> None:
    """What the native API is used for."""
    stub = Ollama(words)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "word " * 6000}], "max_tokens": 1}
    assert stub.post("/v1/chat/completions", body)["usage"]["prompt_tokens"] == 4096
