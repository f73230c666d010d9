"""The files under a path and the JSON in them. What cannot be read is returned with its place, never raised."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from needle.errors import UsageError

LINES = (".jsonl", ".ndjson")
"""Suffixes of files that hold one JSON value a line."""


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON value, and the file and place in it ("line 3"; empty for the whole file) where it stands."""

    file: Path
    place: str
    value: Any


@dataclass(frozen=True, slots=True)
class Unread:
    """What could not be read: file, place in it ("line 3"; empty for all of it), and why, in one line."""

    file: Path
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{' '.join(filter(None, (str(self.file), self.place)))}: {self.reason}"


def files(path: Path) -> tuple[list[Path], list[Unread]]:
    """`path` itself, or the JSON files under it in sorted order, and the folders that could not be listed.

    Raises:
        UsageError: there is nothing at `path`.
    """
    if os.path.isfile(path):
        return [path], []
    if not os.path.isdir(path):
        raise UsageError(f"'{path}' is neither a file nor a folder; give the results of the other tool")
    closed: list[OSError] = []
    found = [
        Path(folder, name)
        for folder, _, names in os.walk(path, onerror=closed.append)
        for name in names
        if name.lower().endswith((".json", *LINES)) and not name.startswith(".")
    ]
    return sorted(f for f in found if os.path.isfile(f)), [Unread(Path(e.filename), "", _refusal(e)) for e in closed]


def by_line(file: Path) -> bool:
    """Whether the file's name says that it holds one JSON value a line."""
    return file.name.lower().endswith(LINES)


def documents(file: Path, lines: bool) -> Iterator[Document | Unread]:
    """The file's JSON values: one a line, blank lines left out, or one in all."""
    try:
        with file.open("rb") as handle:
            if not lines:
                yield _parsed(file, "", handle.read())
                return
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield _parsed(file, f"line {number}", line)
    except OSError as error:
        yield Unread(file, "", _refusal(error))


def joined(hashes: Iterable[str]) -> str:
    """One hash for several files, wherever they lie: the file's own where there is one."""
    different = sorted(set(hashes))
    return different[0] if len(different) == 1 else hashlib.sha256("".join(different).encode()).hexdigest()


def sha256(file: Path) -> str:
    """The hash of the file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _parsed(file: Path, place: str, data: bytes) -> Document | Unread:
    try:
        return Document(file, place, json.loads(data.decode("utf-8-sig")))
    except UnicodeDecodeError:
        return Unread(file, place, "no UTF-8")
    except RecursionError:
        return Unread(file, place, "nested too deeply")
    except ValueError as error:
        return Unread(file, place, f"no JSON ({error})")


def _refusal(error: OSError) -> str:
    return f"cannot be read ({error.strerror})"
