"""The openai engine on real servers with a real model: what they answer is what the transformers engine answers.

`transformers serve` runs wherever its packages are installed (`pip install "needle-eval[test]"`). llama.cpp's server
needs `llama-cpp-python[server]`, which builds from source for some ten minutes: it is used where it is installed, or
where NEEDLE_LLAMA_PYTHON names an interpreter that has it. vLLM is used where NEEDLE_VLLM_PYTHON names one that has it.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from watchers import Quiet

from needle import pocket, running
from needle.types import Grid, Result, RunSpec

pytest.importorskip("openai")
pytest.importorskip("tenacity")

GRID = Grid((1024, 2048), (0.0, 0.5, 1.0))
START = 300
"""Seconds that a server may take to come up."""


@dataclass(frozen=True)
class Served:
    """A server's address and the name of its model."""

    url: str
    model: str


@contextmanager
def process(command: list[str], log: Path, port: int, path: str) -> Iterator[None]:
    """`command` running, once it answers on `path`."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as server:
        try:
            until = time.monotonic() + START
            while not answers(f"http://127.0.0.1:{port}{path}"):
                assert server.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < until, f"not up within {START} s: {log.read_text()[-3000:]}"
                time.sleep(0.3)
            yield
        finally:
            server.kill()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from transformers.utils.import_utils import is_accelerate_available, is_serve_available

    if not (is_serve_available() and is_accelerate_available()):
        pytest.skip("`transformers serve` needs fastapi, uvicorn, openai and accelerate")
    folder, port = str(pocket.path("pocket-32k")), free_port()
    main = "from transformers.cli.transformers import main; main()"
    more = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    log = tmp_path_factory.mktemp("serve") / "log"
    with process([sys.executable, "-c", main, "serve", folder, *more], log, port, "/health"):
        yield Served(f"http://127.0.0.1:{port}", folder)


@pytest.fixture(scope="module")
def llama_cpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    python = os.environ.get("NEEDLE_LLAMA_PYTHON") or sys.executable
    if python == sys.executable and not importlib.util.find_spec("llama_cpp"):
        pytest.skip("llama.cpp's server needs llama-cpp-python[server], here or in NEEDLE_LLAMA_PYTHON's interpreter")
    pytest.importorskip("gguf")
    from needle.pocket.gguf import convert

    folder, port = tmp_path_factory.mktemp("llama"), free_port()
    model = convert("pocket-32k", folder / "pocket-32k.gguf")
    settings = {"model": model, "model_alias": "pocket-32k", "n_ctx": 4096, "host": "127.0.0.1", "port": port}
    command = [python, "-m", "llama_cpp.server", *(str(x) for k, v in settings.items() for x in (f"--{k}", v))]
    with process(command, folder / "log", port, "/v1/models"):
        yield Served(f"http://127.0.0.1:{port}/v1", "pocket-32k")


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    python = os.environ.get("NEEDLE_VLLM_PYTHON")
    if not python:
        pytest.skip("vLLM's server needs an interpreter with vllm in NEEDLE_VLLM_PYTHON")
    folder, port = str(pocket.path("pocket-32k")), free_port()
    settings = {"model": folder, "served-model-name": "pocket-32k", "dtype": "float32", "max-model-len": 4096}
    settings |= {"host": "127.0.0.1", "port": port}
    more = [str(x) for k, v in settings.items() for x in (f"--{k}", v)]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", *more]
    with process(command, tmp_path_factory.mktemp("vllm") / "log", port, "/health"):
        yield Served(f"http://127.0.0.1:{port}", "pocket-32k")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    spec = RunSpec("pocket-32k", "number", "essays", GRID, options={"dtype": "float32", "device": "cpu"})
    return measured(spec, tmp_path_factory.mktemp("reference"))


def measured(spec: RunSpec, root: Path) -> list[Result]:
    return running.execute(running.prepare(spec, Quiet().say), root, Quiet()).results


def through(served: Served, root: Path, **options: Any) -> list[Result]:
    settings = {"base_url": served.url, "tokenizer": "pocket-32k", "service": {"concurrency": 2}, **options}
    return measured(RunSpec(served.model, "number", "essays", GRID, engine="openai", options=settings), root)


def same(results: list[Result], reference: list[Result]) -> None:
    """The very same prompts, answers and scores."""
    assert [r.prompt_sha256 for r in results] == [r.prompt_sha256 for r in reference]
    assert [r.error for r in results] == [None] * len(reference)
    assert [r.answer for r in results] == [r.answer for r in reference]
    assert [r.score for r in results] == [r.score for r in reference]
    assert sum(r.score or 0 for r in results) >= 5


@pytest.mark.parametrize(("api", "way"), [("auto", "chat"), ("completions", "completions, text")])
def test_transformers_serve(
    transformers_serve: Served, reference: list[Result], tmp_path: Path, api: str, way: str
) -> None:
    results = through(transformers_serve, tmp_path, api=api)
    same(results, reference)
    # No count beside the way: the server counts exactly the cell's tokens.
    assert {r.way for r in results} == {way}


def test_transformers_serve_pinned_to_another_model(transformers_serve: Served, tmp_path: Path) -> None:
    from needle.errors import UsageError

    with pytest.raises(UsageError, match=r"Server is pinned to .*; see --model"):
        through(Served(transformers_serve.url, "pocket-4k"), tmp_path)


@pytest.mark.parametrize("api", ["auto", "completions"])
def test_llama_cpp(llama_cpp: Served, reference: list[Result], tmp_path: Path, api: str) -> None:
    same(through(llama_cpp, tmp_path, api=api), reference)


@pytest.mark.parametrize(("api", "way"), [("auto", "completions, token ids"), ("chat", "chat")])
def test_vllm(vllm: Served, reference: list[Result], tmp_path: Path, api: str, way: str) -> None:
    results = through(vllm, tmp_path, api=api)
    same(results, reference)
    assert {r.way for r in results} == {way}


def test_vllm_says_how_long_a_context_it_takes(vllm: Served, tmp_path: Path) -> None:
    from needle.errors import UsageError

    options = {"base_url": vllm.url, "tokenizer": "pocket-32k"}
    spec = RunSpec("pocket-32k", "number", "essays", Grid((8192,), (0.5,)), engine="openai", options=options)
    with pytest.raises(UsageError, match="longer than the server's 4096"):
        measured(spec, tmp_path)
