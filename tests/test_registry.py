"""The folder is the registry: a file in it is an entry, and nothing else has to know."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import Done

from needle import engines, registry, scoring, tasks
from needle.errors import UsageError


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package of two entries, a hidden module, and a file that is no module."""
    folder = tmp_path / "shelf_of_tests"
    folder.mkdir()
    for name, text in {"__init__": "", "red": "COLOUR = 1", "green": "COLOUR = 2", "_hidden": "1 / 0"}.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "notes.txt").write_text("nothing")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("shelf_of_tests")
    for name in [n for n in sys.modules if n.startswith("shelf_of_tests")]:
        del sys.modules[name]


def test_names_are_the_files_but_for_hidden_ones(shelf: ModuleType) -> None:
    assert registry.names(shelf) == ["green", "red"]
    assert registry.get(shelf, "red", "colour").COLOUR == 1


def test_a_new_file_is_a_new_entry(shelf: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "shelf_of_tests" / "blue.py").write_text("COLOUR = 3")
    importlib.invalidate_caches()
    assert registry.names(shelf) == ["blue", "green", "red"]
    assert registry.get(shelf, "blue", "colour").COLOUR == 3


def test_an_entry_is_imported_only_when_asked_for(shelf: ModuleType) -> None:
    registry.names(shelf)
    assert "shelf_of_tests.red" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gren", "unknown colour 'gren'; did you mean 'green'?"),
        ("ultraviolet", "unknown colour 'ultraviolet'; known are green, red"),
        ("_hidden", "unknown colour '_hidden'; known are green, red"),
        ("", "unknown colour ''; known are green, red"),
        ("os.path", "unknown colour 'os.path'; known are green, red"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(shelf: ModuleType, name: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        registry.get(shelf, name, "colour")
    assert str(refused.value) == message


def test_every_entry_of_the_package_is_whole() -> None:
    for name in tasks.names():
        task = tasks.get(name)
        assert task.summary
        assert "\n" not in task.summary
        assert task.question(0, 0, "1").answers
    for name in scoring.names():
        assert callable(scoring.get(name, {"pattern": "x", "judge_model": "m", "judge_base_url": "http://h/v1"}))
    for name in engines.names():
        assert callable(engines.get(name).open)


def test_help_lists_every_entry(needle: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = " ".join(needle("run", "--help").out.replace("│", " ").split())
    for package in (tasks, scoring, engines):
        assert ", ".join(package.names()) in shown
    listed = needle("tasks").out.splitlines()
    assert [line.split()[0] for line in listed] == tasks.names()
