"""Servers on loopback for the openai engine: an honest stub, and every kind of trouble that it can be told to make.

They are stubs: no model answers, a regular expression does. Real servers are in `test_servers.py`.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "stub"


@dataclass(frozen=True)
class Request:
    """One request as it came in, names of headers in small letters.

    `cell` is its number among those for more than one new token, from 1, else 0.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    cell: int


@dataclass
class Stub:
    """What the server is like, and what it was asked. `trouble` may answer a request in place of the stub."""

    tokenizer: Any
    trouble: Callable[[Request, BaseHTTPRequestHandler], bool] = lambda request, handler: False
    ids: bool = True
    usage: bool = True
    names: list[str] | None = field(default_factory=lambda: [MODEL])
    answers_as: str | None = None
    more: dict[str, Any] = field(default_factory=dict)
    opens_with: int = 0
    limit: int | None = None
    seen: list[Request] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0
    lock: Any = field(default_factory=threading.Lock)
    url: str = ""

    @property
    def cells(self) -> list[Request]:
        """The requests that were for cells, not probes."""
        return [r for r in self.seen if r.cell]

    def get(self, path: str) -> Any:
        """The answer to a GET; None where there is nothing."""
        if path == "/v1/models" and self.names is not None:
            return {"object": "list", "data": [{"id": n, "object": "model", **self.more} for n in self.names]}
        return None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a POST; a number is a status."""
        budget = body.get("max_tokens") or body.get("max_completion_tokens")
        if path == "/v1/completions":
            prompt = body["prompt"]
            if not isinstance(prompt, str) and not self.ids:
                return 400
            text = prompt if isinstance(prompt, str) else self.tokenizer.decode(prompt)
            tokens = self.count(prompt) + self.opens_with * isinstance(prompt, str)
            return self.said(tokens, {"text": reply(text, budget)}, body)
        if path == "/v1/chat/completions":
            text = self.tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
            said = {"message": {"role": "assistant", "content": reply(text, budget)}}
            return self.said(self.count(text) + self.opens_with, said, body)
        return 404

    def count(self, prompt: str | list[int]) -> int:
        """Its tokens."""
        return len(self.tokenizer(prompt, add_special_tokens=False)["input_ids"] if isinstance(prompt, str) else prompt)

    def said(self, tokens: int, choice: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        """An answer in the protocol's form; beyond `limit` it silently reads less."""
        read = min(tokens, self.limit or tokens)
        usage = {"usage": {"prompt_tokens": read, "completion_tokens": 12}} if self.usage else {}
        model = self.answers_as or body["model"]
        return {"model": model, "choices": [{"index": 0, "finish_reason": "stop", **choice}], **usage}


def reply(text: str, budget: int | None) -> str:
    """What a model that never fails would say."""
    if budget == 1:
        return "The"
    city = re.findall(r"What is the secret code for ([^?]+)\?", text)[-1]
    found = re.search(rf"The secret code for {re.escape(city)} is (\w[\w-]*)\.", text)
    return found.group(0) if found else "I do not know."


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: Stub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: dict[str, Any]) -> None:
        stub = self.stub
        options = body.get("options", {})
        budget = options.get("num_predict") or body.get("max_tokens") or body.get("max_completion_tokens") or 1
        with stub.lock:
            number = len(stub.cells) + 1 if budget > 1 else 0
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body, number)
            stub.seen.append(request)
            stub.busy += 1
            stub.most_busy = max(stub.most_busy, stub.busy)
        try:
            if stub.trouble(request, self):
                return
            data = stub.get(self.path) if self.command == "GET" else stub.post(self.path, body)
            if data is None or isinstance(data, int):
                send(self, data or 404, {"error": {"message": "not here", "type": "invalid_request_error"}})
            else:
                send(self, 200, data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with stub.lock:
                stub.busy -= 1


def send(handler: BaseHTTPRequestHandler, status: int, data: Any, **headers: str) -> None:
    """A whole answer; `data` is JSON unless it is bytes already."""
    payload = data if isinstance(data, bytes) else json.dumps(data).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(payload)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(payload)


@contextmanager
def running(stub: Stub) -> Iterator[Stub]:
    """`stub` at work under its `url`."""
    handler = type("Handler", (_Handler,), {"stub": stub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()


Trouble = Callable[[Request, BaseHTTPRequestHandler], bool]


def for_cells(trouble: Trouble, times: int = 10**9) -> Trouble:
    """`trouble` on the first so many requests for cells; probes and the rest are served."""

    def make(request: Request, handler: BaseHTTPRequestHandler) -> bool:
        return 0 < request.cell <= times and trouble(request, handler)

    return make


def status(code: int, message: str = "no", **headers: str) -> Trouble:
    """An HTTP error."""

    def make(request: Request, handler: BaseHTTPRequestHandler) -> bool:
        send(handler, code, {"error": {"message": message, "code": code}}, **headers)
        return True

    return make


def hang(request: Request, handler: BaseHTTPRequestHandler) -> bool:
    """No answer at all, for longer than anybody waits."""
    time.sleep(30)
    return True


def drip(request: Request, handler: BaseHTTPRequestHandler) -> bool:
    """An answer that never ends, a space at a time, as gateways keep a connection alive."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(600):
        handler.wfile.write(b"1\r\n \r\n")
        time.sleep(0.05)
    return True


def malformed(request: Request, handler: BaseHTTPRequestHandler) -> bool:
    """Status 200, and JSON that breaks off."""
    send(handler, 200, b'{"choices": [{"text": "The sec')
    return True


def empty(request: Request, handler: BaseHTTPRequestHandler) -> bool:
    """Status 200, sound JSON, and no answer in it."""
    send(handler, 200, {"choices": []})
    return True


def error_as_answer(request: Request, handler: BaseHTTPRequestHandler) -> bool:
    """An error with status 200."""
    send(handler, 200, {"error": {"message": "upstream overloaded", "code": 502}})
    return True


def torn(request: Request, handler: BaseHTTPRequestHandler) -> bool:
    """Fewer bytes than announced, then the end of the connection."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True
    return True


def slam(request: Request, handler: BaseHTTPRequestHandler) -> bool:
    """The connection is closed before a word."""
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True
    return True
