"""A judge on loopback: an OpenAI-compatible endpoint that says what a test has scripted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from needle import scoring
from needle.engines import _server

CANARY = "sk-canary-5f2b9d71c4e8a630"
Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


def said(content: Any, **choice: Any) -> Reply:
    """A chat completion whose message is `content`."""
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    return 200, {
        "model": "judge-7b-0613",
        "choices": [{"message": {"content": text}, "finish_reason": "stop", **choice}],
    }


class Judge:
    """An endpoint on loopback that gives `script`'s replies in turn, the last one for ever, and keeps what it got."""

    def __init__(self) -> None:
        self.script: list[Reply] = [said({"score": 10, "reason": "right"})]
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.refuses: set[str] = set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.bodies.append(body)
                owner.keys.append(self.headers["Authorization"])
                status, reply, *headers = owner.reply(body)
                data = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers[0] if headers else {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def reply(self, body: dict[str, Any]) -> Reply:
        unknown = self.refuses & set(body)
        if unknown:
            return 400, {"error": {"message": f"unsupported: {', '.join(unknown)}"}}
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def scorer(self) -> scoring.Scorer:
        return scoring.get("judge", {"judge_model": "judge-7b", "judge_base_url": self.url, "dtype": "auto"})


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Judge]:
    """A judge, the key in the environment, and no time lost between tries."""
    monkeypatch.setenv("NEEDLE_JUDGE_API_KEY", CANARY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(_server, "FIRST_WAIT", 0.01)
    made = Judge()
    try:
        yield made
    finally:
        made.http.shutdown()
        made.http.server_close()
