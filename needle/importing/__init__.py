"""Results of other tools as runs. One file a format: a module of this folder with `fits`, `parts` and `read` is one.

Everything is read and checked before anything is written. What cannot be read is returned with file, line and reason.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

from needle import __version__, registry
from needle.errors import UsageError
from needle.importing import _source, kamradt, ruler
from needle.importing._row import Row, Unreadable
from needle.importing._runs import Draft, draft, keep
from needle.importing._source import Document, Unread
from needle.store import Run

__all__ = ["Asked", "Document", "Draft", "Format", "Found", "Row", "Unread", "Unreadable", "names", "read", "write"]

_LOOKED_AT = 50
"""Lines of a file among which one must show its format."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a format cannot find in its files: a model's name for where none is said, the scale of Kamradt's grades
    (a key of `kamradt.SCALES`), and lengths and depths from RULER's data by the hash of their input."""

    model: str | None = None
    scale: str = "1-10"
    data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Format(Protocol):
    """What a module of this folder offers. `LINES`: its files hold one JSON value a line."""

    LINES: bool

    def fits(self, document: Document) -> bool:
        """Whether the value looks like this format's."""

    def parts(self, document: Document) -> Iterable[Document]:
        """The rows in a value; Unreadable if it holds none."""

    def read(self, document: Document, asked: Asked) -> Row:
        """A row's measurement; Unreadable says why there is none."""


@dataclass(frozen=True, slots=True)
class Found:
    """What `path` holds: runs to be written, and what could not be read."""

    path: Path
    drafts: list[Draft]
    unread: list[Unread]


def names() -> list[str]:
    """The formats there are, as the command line spells them."""
    return [name.replace("_", "-") for name in registry.names(sys.modules[__name__])]


def read(path: Path, form: str = "auto", data: Path | None = None, asked: Asked | None = None) -> Found:
    """The results of another tool at `path`, a file or a folder of them, in format `form` (one of `names`, or auto).

    `data` is RULER's data file, or a folder of them. Nothing is written.

    Raises:
        UsageError: the path, the format or the data is not there, or nothing in them can be read.
    """
    forms, asked = _forms(form), asked or Asked()
    if asked.scale not in kamradt.SCALES:
        raise UsageError(f"unknown scale '{asked.scale}'; known are {', '.join(kamradt.SCALES)}")
    files, unread = _source.files(path)
    known, data_hash = _data(data, unread) if data else ({}, None)
    asked = replace(asked, data=known)
    runs: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for file in files:
        name = _form(file, forms, unread) if form == "auto" else form
        if name and (form == "auto" or file == path or _source.by_line(file) == forms[name].LINES):
            for row in _rows(file, forms[name], asked, unread):
                runs[name, row.model, row.task, row.haystack, row.scorer].append(row)
    drafts = [_draft(rows, key[0], data_hash, unread) for key, rows in sorted(runs.items())]
    if not drafts:
        why = f"; {unread[0]}" if unread else "; it has no .json or .jsonl file for that"
        raise UsageError(f"'{path}' holds no results that can be read{why}")
    if data and "ruler" not in {key[0] for key in runs}:
        raise UsageError(f"--data goes with RULER's predictions, and '{path}' holds none")
    return Found(path, drafts, unread)


def write(root: Path, found: Found) -> list[tuple[Run, int]]:
    """Put the runs into `root`: each run, and how many of its rows are new. What lies there already is left alone.

    Raises:
        StoreError: a folder cannot be written.
    """
    return [keep(root, made, _session(made, found)) for made in found.drafts]


def _session(made: Draft, found: Found) -> dict[str, Any]:
    """Provenance of an import."""
    form = made.spec.options["format"]
    return {
        "needle": __version__,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "way": f"imported from {form}",
        "format": form,
        "source": str(found.path),
        "sha256": made.sources["source"],
        "rows": len(made.cells),
        "unread": len(found.unread),
        "notes": list(made.notes),
    }


def _forms(form: str) -> dict[str, Format]:
    """The formats to try, by name."""
    known = names()
    if form not in ("auto", *known):
        raise UsageError(f"unknown format '{form}'; known are auto, {', '.join(known)}")
    package = sys.modules[__name__]
    wanted = known if form == "auto" else [form]
    return {name: cast("Format", registry.get(package, name.replace("-", "_"), "format")) for name in wanted}


def _form(file: Path, forms: Mapping[str, Format], unread: list[Unread]) -> str | None:
    """The format of the first value in `file` that shows one; a file without is added to `unread`."""
    lines = _source.by_line(file)
    looked_at = list(islice(_source.documents(file, lines), _LOOKED_AT))
    for document in looked_at:
        for name, form in forms.items():
            if lines == form.LINES and isinstance(document, Document) and form.fits(document):
                return name
    broken = next((document for document in looked_at if isinstance(document, Unread)), None)
    unread.append(broken or Unread(file, "", f"is none of {', '.join(forms)}"))
    return None


def _rows(file: Path, form: Format, asked: Asked, unread: list[Unread]) -> Iterator[Row]:
    """The rows of `file`; what is none is added to `unread`."""
    digest = _source.sha256(file)
    for document in _source.documents(file, form.LINES):
        if isinstance(document, Unread):
            unread.append(document)
            continue
        try:
            parts = list(form.parts(document))
        except Unreadable as error:
            unread.append(Unread(file, document.place, str(error)))
            continue
        for part in parts:
            try:
                yield replace(form.read(part, asked), file=file, place=part.place, sha256=digest)
            except Unreadable as error:
                unread.append(Unread(file, part.place, str(error)))


def _draft(rows: Sequence[Row], form: str, data: str | None, unread: list[Unread]) -> Draft:
    """The run of `rows`. Where the depth of some is known, one without would have to stand at a depth of another."""
    rows = ruler.settle(rows) if form == "ruler" else rows
    known = [row for row in rows if row.depth is not None]
    if known:
        lost = (row for row in rows if row.depth is None)
        unread.extend(Unread(row.file, row.place, "no depth, where other rows have one") for row in lost)
    return draft(known or rows, form, data)


def _data(path: Path, unread: list[Unread]) -> tuple[dict[str, dict[str, Any]], str]:
    """What RULER's data say by the hash of an input, and the hash of the data."""
    known: dict[str, dict[str, Any]] = {}
    files, closed = _source.files(path)
    unread.extend(closed)
    for file in files:
        for document in _source.documents(file, lines=True):
            try:
                if isinstance(document, Unread):
                    unread.append(document)
                else:
                    known |= ruler.fields(document.value)
            except Unreadable as error:
                unread.append(Unread(file, document.place, str(error)))
    if not known:
        raise UsageError(f"--data '{path}' holds no RULER data: JSONL with an input in each line")
    return known, _source.joined(_source.sha256(file) for file in files)
