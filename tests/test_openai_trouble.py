"""What no server may do to a run of the openai engine: each kind of trouble, in bounded time, ends in a clear row."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from hostile import Stub
from openai_runs import Ear, all_found, ask, spec

from needle import running
from needle.engines import openai as engine_module
from needle.errors import UsageError
from needle.types import Grid

pytest.importorskip("openai")
pytest.importorskip("tenacity")
pytest_plugins = ("openai_fixtures",)
pytestmark = pytest.mark.usefixtures("no_wait")

PASSING = {
    "429": hostile.status(429, "slow down"),
    "500": hostile.status(500),
    "503": hostile.status(503),
    "malformed": hostile.malformed,
    "empty": hostile.empty,
    "error as answer": hostile.error_as_answer,
    "torn": hostile.torn,
    "slam": hostile.slam,
}
SAYS = {
    "429": "HTTP 429: slow down",
    "500": "HTTP 500: no",
    "503": "HTTP 503: no",
    "malformed": "no JSON",
    "empty": "without choices",
    "error as answer": "upstream overloaded",
    "torn": "no connection",
    "slam": "no connection",
}


@pytest.mark.parametrize("kind", PASSING)
def test_trouble_that_passes_is_outlived(serve: Any, words: Any, kind: str) -> None:
    stub = serve(Stub(words, trouble=hostile.for_cells(PASSING[kind], times=2)))
    prompts, answers, _ = ask(spec(stub.url, Grid((700,), (0.0, 1.0))))
    assert all_found(prompts, answers)
    assert len(stub.cells) == 4


@pytest.mark.parametrize("kind", PASSING)
def test_trouble_that_stays_ends_in_a_clear_error(serve: Any, words: Any, kind: str) -> None:
    stub = serve(Stub(words, trouble=hostile.for_cells(PASSING[kind])))
    began = time.monotonic()
    _, answers, _ = ask(spec(stub.url, Grid((700,), (0.0, 1.0)), service={"retries": 2}))
    assert time.monotonic() - began < 8
    assert len(stub.cells) == 6
    for answer in answers.values():
        assert answer.finish == "error"
        assert SAYS[kind] in (answer.error or "")
        assert "tried 3 times" in (answer.error or "")
        assert "\n" not in (answer.error or "")


@pytest.mark.parametrize("code", [400, 401, 403, 404])
def test_a_request_at_fault_is_not_repeated(serve: Any, words: Any, code: int) -> None:
    stub = serve(Stub(words, trouble=hostile.for_cells(hostile.status(code, "because"))))
    _, answers, _ = ask(spec(stub.url, Grid((700,), (0.0, 1.0))))
    assert {a.error for a in answers.values()} == {f"HTTP {code}: because"}
    assert len(stub.cells) == 2


def test_an_empty_account_is_not_asked_again(serve: Any, words: Any) -> None:
    def broke(request: hostile.Request, handler: Any) -> bool:
        hostile.send(handler, 429, {"error": {"message": "quota", "code": "insufficient_quota"}})
        return True

    stub = serve(Stub(words, trouble=hostile.for_cells(broke)))
    ask(spec(stub.url, Grid((700,), (0.5,))))
    assert len(stub.cells) == 1


def test_retry_after_is_waited_for(serve: Any, words: Any) -> None:
    stub = serve(Stub(words, trouble=hostile.for_cells(hostile.status(429, Retry_After="1"), times=1)))
    began = time.monotonic()
    prompts, answers, _ = ask(spec(stub.url, Grid((700,), (0.5,))))
    assert all_found(prompts, answers)
    assert answers[0].seconds >= 1
    assert time.monotonic() - began < 5


def test_retry_after_beyond_the_time_is_not_waited_for(serve: Any, words: Any) -> None:
    date = "Fri, 01 Jan 2100 00:00:00 GMT"
    for value in ("3600", date):
        stub = serve(Stub(words, trouble=hostile.for_cells(hostile.status(503, Retry_After=value))))
        _, answers, _ = ask(spec(stub.url, Grid((700,), (0.5,))))
        assert answers[0].seconds < 2
        assert "it asks to wait" in (answers[0].error or "")
        assert len(stub.cells) == 1


@pytest.mark.parametrize("kind", [hostile.hang, hostile.drip])
def test_an_answer_without_end_is_given_up(serve: Any, words: Any, kind: hostile.Trouble) -> None:
    stub = serve(Stub(words, trouble=hostile.for_cells(kind)))
    asked = spec(stub.url, Grid((700,), (0.0, 0.5, 1.0)), service={"timeout": 0.7, "concurrency": 2})
    began = time.monotonic()
    _, answers, _ = ask(asked)
    assert time.monotonic() - began < 6
    assert len(answers) == 3
    assert all("within" in (a.error or "") for a in answers.values())


def test_a_server_that_is_lost_ends_the_run_with_the_rest_unmeasured(tmp_path: Path, serve: Any, words: Any) -> None:
    stub, ear = serve(Stub(words, trouble=hostile.for_cells(hostile.slam))), Ear()
    asked = spec(stub.url, Grid((700,), tuple(np.linspace(0, 1, 9).round(3).tolist())), service={"retries": 0})
    run = running.execute(running.prepare(asked, ear.say), tmp_path, ear)
    assert run.status == "partial"
    assert len(run.results) == engine_module.GIVE_UP
    assert ear.lines[-1] == (
        "no answer to 5 cells in a row, so the server is taken for lost: 4 cells are left unmeasured; "
        "the same command goes on from here"
    )
    stub.trouble = lambda request, handler: False
    again = running.execute(running.prepare(asked, ear.say), tmp_path, ear)
    assert again.status == "complete"


def test_nobody_there() -> None:
    with pytest.raises(UsageError, match=r"server http://127\.0\.0\.1:9/v1: no connection.*--base-url"):
        ask(spec("http://127.0.0.1:9", service={"retries": 0}))
