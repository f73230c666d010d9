"""Fixtures for the tests of the openai engine: a stub at work, a small haystack, and no waiting.

A test module that wants them names this one in its `pytest_plugins` and marks itself with "no_wait".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hostile
import pytest
from hostile import Stub
from openai_runs import HAY

from needle import haystack
from needle.engines import _secrets, _server, _words
from needle.engines import openai as engine_module


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch, small_haystack: Path) -> None:
    """No key or address of the user's, waits that a test can bear, and a haystack that is read at once."""
    for name in (*_secrets.KEYS, "NEEDLE_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_server, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(engine_module, "GRACE", 0.3)
    monkeypatch.setitem(HAY, "path", small_haystack)


@pytest.fixture(scope="session")
def small_haystack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hay") / "hay.txt"
    path.write_text(haystack.load("essays").text[:20_000])
    return path


@pytest.fixture(scope="session")
def words() -> Any:
    """The tokenizer that the engine is told to use."""
    return _words.read("pocket-4k", {})


@pytest.fixture
def serve() -> Iterator[Callable[[Stub], Stub]]:
    """Puts a stub to work until the test ends."""
    with ExitStack() as stack:
        yield lambda stub: stack.enter_context(hostile.running(stub))
