"""OpenCompass NeedleBench: `results/{model}/Length{n}Depth{d}_{task}.json`, graded 0–100, one detail a sample.

A file without details (OpenCompass writes them only when asked to) is one measurement, its mean score. A file of the
parallel task has one score a depth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from needle.importing._row import Row, Unreadable, first, mapping, number, percent, text, unless, whole
from needle.importing._source import Document

if TYPE_CHECKING:
    from needle.importing import Asked

LINES = False
_NUMBER = r"[0-9]{1,10}(?:\.[0-9]{1,10})?"
_STEM = re.compile(rf"Length(?P<length>[0-9]{{1,10}})(?:Depth(?P<depth>{_NUMBER}))?_(?P<task>.{{1,200}})", re.DOTALL)
_DEPTH = re.compile(rf"Depth({_NUMBER})")


def fits(document: Document) -> bool:
    """Whether the file's name says length, depth and task."""
    return isinstance(document.value, dict) and _STEM.fullmatch(document.file.stem) is not None


def parts(document: Document) -> Iterator[Document]:
    """A sample each, else a depth each, else the mean; each with the name of what it is."""
    result = mapping(document.value)
    details = result.get("details")
    samples = list(details.values()) if isinstance(details, dict) else details
    if isinstance(samples, list) and samples:
        for at, sample in enumerate(samples):
            for turn, single in enumerate(_replicas(sample)):
                place = f"detail {at}" if turn == 0 else f"detail {at}, replica {turn}"
                yield Document(document.file, place, single)
        return
    depths = {key: match[1] for key in result if (match := _DEPTH.fullmatch(key))}
    for key, depth in depths.items():
        yield Document(document.file, key, {"score": result[key], "depth": float(depth), "mean": True})
    if not depths:
        yield Document(document.file, "", {"score": result.get("score"), "mean": True})


def read(document: Document, asked: Asked) -> Row:
    """The part's measurement."""
    sample, name = mapping(document.value), _STEM.fullmatch(document.file.stem)
    if name is None:
        raise Unreadable("the file's name is not Length…Depth…_….json")
    depth = unless(number, sample, "depth", 0, 100) if sample.get("mean") else None
    named = {"length": int(name["length"]), "depth": first(depth, float(name["depth"]) if name["depth"] else None)}
    grade = _grade(sample)
    expected = first(unless(text, sample, "answer"), unless(text, sample, "references"))
    return Row(
        model=asked.model or document.file.absolute().parent.name,
        task=name["task"],
        length=whole(named, "length", 1),
        depth=percent(named, "depth"),
        score=grade / 100,
        scorer="needlebench",
        explanation=f"graded {grade:g} of 100" + (", a mean: the file has no details" if sample.get("mean") else ""),
        haystack="NeedleBench",
        expected=() if expected is None else (expected,),
        answer=first(*(unless(text, sample, key) for key in ("pred", "predictions", "origin_prediction"))),
    )


def _replicas(sample: Any) -> list[Any]:
    """Newer releases put the replicas of a sample into lists, field by field."""
    grades = sample.get("score", sample.get("correct")) if isinstance(sample, dict) else None
    if not isinstance(grades, list):
        return [sample]
    return [
        {key: value[at] if isinstance(value, list) and at < len(value) else value for key, value in sample.items()}
        for at in range(len(grades))
    ]


def _grade(sample: dict[str, Any]) -> float:
    """0–100. Samples that are only right or wrong say `correct`."""
    right = first(sample.get("correct"), sample.get("is_correct"))
    if "score" not in sample and isinstance(right, bool):
        return 100.0 * right
    return number(sample, "score", 0, 100)
