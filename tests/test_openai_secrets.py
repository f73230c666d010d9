"""API keys and credentials reach the server, and nothing else: no file, line, error or traceback."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from pathlib import Path
from typing import Any

import hostile
import pytest
from hostile import MODEL, Stub
from openai_runs import Ear, ask, spec

from needle import running
from needle.engines import _secrets
from needle.errors import UsageError

pytest.importorskip("openai")
pytest.importorskip("tenacity")
pytest_plugins = ("openai_fixtures",)
pytestmark = pytest.mark.usefixtures("no_wait")

KEY = "sk-canary-7b1f0c9e5d"


def echo(request: hostile.Request, handler: Any) -> bool:
    """The key in the error's message, and, for every other cell, in the answer itself and in the model's name."""
    sent = request.headers.get("authorization", "")
    if request.cell % 2:
        return hostile.status(400, f"bad key {sent} at " + "x" * 240 + sent)(request, handler)
    said = {"choices": [{"text": f"your key is {sent}", "finish_reason": "stop"}], "model": MODEL}
    hostile.send(
        handler, 200, {**said, "usage": {"prompt_tokens": len(request.body["prompt"]), "completion_tokens": 9}}
    )
    return True


def test_the_key_is_sent_and_nowhere_kept(
    tmp_path: Path,
    serve: Any,
    words: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    stub, ear = serve(Stub(words, trouble=hostile.for_cells(echo), names=[MODEL, f"x{KEY}"])), Ear()
    run = running.execute(running.prepare(spec(stub.url), ear.say), tmp_path, ear)
    assert all(r.headers["authorization"] == f"Bearer {KEY}" for r in stub.seen)
    assert {r.status for r in run.results} == {"ok", "error"}
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    for text in (*kept, *capfd.readouterr(), *ear.lines, caplog.text):
        assert KEY[:9] not in text
    assert any("[hidden]" in r.answer for r in run.results)


def test_a_refused_key_stops_the_run_without_being_shown(
    serve: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEEDLE_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another-one")

    def refuse(request: hostile.Request, handler: Any) -> bool:
        return hostile.status(401, f"bad key: {request.headers['authorization']}")(request, handler)

    stub = serve(Stub(words, trouble=refuse))
    with pytest.raises(UsageError, match=r"HTTP 401.*set NEEDLE_API_KEY") as caught:
        ask(spec(stub.url))
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert stub.seen[-1].headers["authorization"] == f"Bearer {KEY}"


def test_credentials_of_the_address_are_used_and_not_kept(
    tmp_path: Path, serve: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = serve(Stub(words))
    address = stub.url.replace("http://", "http://anna:se%2Fcret-9@")
    with pytest.raises(UsageError, match="set NEEDLE_BASE_URL") as caught:
        ask(spec(address))
    assert "cret-9" not in str(caught.value)
    monkeypatch.setenv("NEEDLE_BASE_URL", address)
    asked = spec("")
    run = running.execute(running.prepare(asked, Ear().say), tmp_path, Ear())
    assert run.status == "complete"
    assert run.sources["server"] == stub.url
    basic = "Basic " + base64.b64encode(b"anna:se/cret-9").decode()
    assert {r.headers["authorization"] for r in stub.seen} == {basic}
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"cret-9" not in path.read_bytes()


@pytest.mark.parametrize(
    ("given", "clean", "login"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1", None),
        ("https://u:p%40ss@api.example.com/openai/v1/", "https://api.example.com/openai/v1", ("u", "p@ss")),
        ("http://[::1]:80/v1", "http://[::1]:80/v1", None),
    ],
)
def test_addresses(given: str, clean: str, login: tuple[str, str] | None) -> None:
    assert _secrets.address(given) == (clean, login)


@pytest.mark.parametrize("given", ["localhost:8000", "ftp://x/v1", "http://", "http://h:port/v1", "http://h/v1?key=s3"])
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(UsageError, match="--base-url") as caught:
        _secrets.address(given)
    assert "s3" not in str(caught.value)


def test_no_form_of_a_secret_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = _secrets.read(("anna", "p@ss/word"), {"NEEDLE_API_KEY": "key-12345", "OPENAI_API_KEY": "key-12345-long"})
    basic = base64.b64encode(b"anna:p@ss/word").decode()
    said = {"a key-12345-long": ["p@ss/word", f"Basic {basic}"], "b": "p%40ss%2Fword", "c": 5, "d": None}
    assert "12345" not in json.dumps(secrets.hide_in(said))
    assert "ss/word" not in json.dumps(secrets.hide_in(said))
    assert basic not in json.dumps(secrets.hide_in(said))
    assert "%2Fword" not in json.dumps(secrets.hide_in(said))
    assert "-long" not in json.dumps(secrets.hide_in(said))
    assert "12345" not in repr(secrets)
    # A placeholder is no secret, and may be a word of the answer.
    assert _secrets.read(None, {"OPENAI_API_KEY": "EMPTY"}).hide("EMPTY words") == "EMPTY words"
