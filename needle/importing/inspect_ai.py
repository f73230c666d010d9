"""inspect_ai: a log of needle's task in JSON (`--log-format json`, or `inspect log convert`), one sample a cell.

Its own grade, by the scorer `needle_score`, is kept; a sample that failed is a failed cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from needle.importing import _cell
from needle.importing._row import LONGEST, Row, Unreadable, first, mapping, number, text, title, unless, whole
from needle.importing._source import Document

if TYPE_CHECKING:
    from needle.importing import Asked

LINES = False
_SCORER = "needle_score"


def fits(document: Document) -> bool:
    """Whether this is a log with at least one such sample."""
    log = document.value
    samples = log.get("samples") if isinstance(log, dict) and "eval" in log else None
    return isinstance(samples, list) and any(_cell.is_record(_inside(sample, "metadata")) for sample in samples)


def parts(document: Document) -> list[Document]:
    """The samples, each with the model's name and its own."""
    log = mapping(document.value)
    samples = log.get("samples")
    if not isinstance(samples, list):
        raise Unreadable("a log without samples; it was written with --no-log-samples, or the run did not finish")
    model = unless(title, _inside(log, "eval"), "model")
    return [
        Document(document.file, f"sample {_name(sample, number)}", {"model": model, "sample": sample})
        for number, sample in enumerate(samples, 1)
    ]


def read(document: Document, asked: Asked) -> Row:
    """The sample's measurement."""
    both = mapping(document.value)
    sample = mapping(both.get("sample"))
    output, score = _inside(sample, "output"), _inside(_inside(sample, "scores"), _SCORER)
    error = unless(text, _inside(sample, "error"), "message")
    if error is None and not score:
        raise Unreadable(f"no score by {_SCORER}")
    return _cell.row(
        sample.get("metadata"),
        first(asked.model, both.get("model")),
        unless(text, output, "completion"),
        None if error is not None else number(score, "value", 0, 1),
        explanation="" if error is not None else unless(text, score, "explanation") or "graded in inspect_ai",
        extracted=unless(text, score, "answer") or "",
        new_tokens=unless(whole, _inside(output, "usage"), "output_tokens") or 0,
        seconds=unless(number, sample, "total_time", 0, LONGEST) or 0.0,
        error=None if error is None else f"inspect_ai: {error[:300]}",
    )


def _inside(value: Any, name: str) -> dict[str, Any]:
    """The object called `name`; empty where there is none."""
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _name(sample: Any, otherwise: int) -> str:
    """The sample's own name, or its place."""
    named = sample.get("id") if isinstance(sample, dict) else None
    return str(first(named, otherwise))[:80]
