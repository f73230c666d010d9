"""lm-evaluation-harness: `samples_{task}_{time}.jsonl` of a task that `needle export-task` wrote, one line a cell.

Its own grade, `needle_score`, is kept. The model is the one that the cells were made for, unless --model says another:
the samples do not name theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from needle.importing import _cell
from needle.importing._row import Row, Unreadable, mapping, number
from needle.importing._source import Document

if TYPE_CHECKING:
    from needle.importing import Asked

LINES = True


def fits(document: Document) -> bool:
    """Whether this is a sample of such a task."""
    sample = document.value
    return isinstance(sample, dict) and "filtered_resps" in sample and _cell.is_record(sample.get("doc"))


def parts(document: Document) -> list[Document]:
    """The one sample of a line."""
    return [document]


def read(document: Document, asked: Asked) -> Row:
    """The sample's measurement."""
    sample = mapping(document.value)
    return _cell.row(
        sample.get("doc"),
        asked.model,
        _answer(sample),
        number(sample, "needle_score", 0, 1),
        explanation="graded in lm-evaluation-harness",
    )


def _answer(sample: dict[str, Any]) -> str:
    """The one answer of greedy decoding, after the harness's filter."""
    said = sample.get("filtered_resps")
    if not isinstance(said, list) or not said or not isinstance(said[0], str):
        raise Unreadable("filtered_resps is no list of texts")
    return said[0].strip()
