"""One thread, no network, no cache of the user's, no terminal: the same ground on every machine."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Read by libraries when they are imported, so it stands before any of them is.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": tempfile.mkdtemp(prefix="needle-tests-"),
    "TOKENIZERS_PARALLELISM": "false",
}
for _name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "CLICOLOR_FORCE"):
    os.environ.pop(_name, None)

settings.register_profile("needle", deadline=None)
settings.load_profile("needle")


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@dataclass(frozen=True)
class Done:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that a refused request is answered with."""
        assert (self.code, self.out) == (2, ""), self
        assert self.err.startswith("needle: "), self.err
        assert self.err.endswith("\n"), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.strip()


@pytest.fixture
def needle(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The `needle` command, in this process: the heavy imports are paid for once."""
    from needle.cli import main

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["needle", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        written = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Done(stop.value.code, written.out, written.err)

    return call


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`models.build`, each checkpoint once; they are shared, so a test that changes one takes a copy."""
    import models

    @cache
    def make(family: str = "llama", **more: Any) -> Path:
        return models.build(tmp_path_factory.mktemp("checkpoints") / family, family, **more)

    return make


def only_run(root: Path) -> Any:
    """The one run in `root`."""
    from needle import store

    (folder,) = store.folders(root)
    return store.read(folder)


def rows_of(root: Path) -> Path:
    """The results file of the one run in `root`."""
    from needle import store

    (folder,) = store.folders(root)
    return folder / "results.jsonl"


def copied(checkpoint: Path, to: Path) -> Path:
    """A copy of a checkpoint, to be changed."""
    return Path(shutil.copytree(checkpoint, to))


def without_weights(checkpoint: Path, to: Path) -> Path:
    """The same checkpoint with weights that no one could load."""
    folder = copied(checkpoint, to)
    (folder / "model.safetensors").write_bytes(b"nothing of the kind")
    return folder
