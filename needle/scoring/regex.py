"""1 if a pattern matches somewhere in the reply, else 0; with several expected answers, the share that matches.

The pattern has the syntax of Python's `re`, and `{answer}` in it stands for an expected answer as it is written. Case
counts unless the pattern begins with `(?i)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any

from needle import scoring
from needle.errors import ScoreError, UsageError, one_line
from needle.scoring._outcome import grade, held
from needle.types import Answer, Question, Score

SETTINGS = ("pattern",)
ANSWER = "{answer}"
SECONDS = 1.0
"""What one search may take: some patterns need longer than anyone waits on some answers."""
_MOST_REPEATS = 1_000_000
"""Repeats of repeats are written out when a pattern is compiled, and fill the memory beyond this."""


def make(options: Mapping[str, Any]) -> scoring.Scorer:
    """The scorer for `options["pattern"]`.

    Raises:
        UsageError: there is no pattern, it is none, or its repeats multiply beyond reason.
    """
    pattern = options.get("pattern")
    if not pattern:
        raise UsageError(r"scorer 'regex' needs a --pattern, as in '\b{answer}\b'")
    _check(str(pattern))

    def score(answer: Answer, question: Question) -> Score:
        if ANSWER in pattern:
            held(answer, question)  # raises where nothing is expected
        wanted = question.answers if ANSWER in pattern else ("",)
        found = [_search(pattern.replace(ANSWER, re.escape(a)), answer.text) for a in wanted]
        there = [" ".join(f.split()) for f in found if f is not None]
        value = len(there) / len(wanted)
        many = f"for {len(there)} of {len(wanted)} expected answers" if len(wanted) > 1 else ""
        why = f"'{one_line(pattern)}' {'matches' if there else 'does not match'} {many}".strip()
        return grade(value, value, answer, question, there, why)

    return score


def _check(pattern: str) -> None:
    """Raise UsageError if the pattern is none or would fill the memory."""
    import regex

    shown = one_line(pattern)[:80]
    repeats = [int(low) for low in re.findall(r"(?<!\\)\{(\d{1,10})", pattern)]
    if prod(max(times, 1) for times in repeats) > _MOST_REPEATS:
        raise UsageError(f"--pattern '{shown}' has too many repeats of repeats; write fewer or smaller ones")
    try:
        _compiled(pattern.replace(ANSWER, "0"))
    except (regex.error, RecursionError, OverflowError) as error:
        raise UsageError(f"--pattern '{shown}' is no regular expression: {one_line(error)}") from error


def _compiled(pattern: str) -> Any:
    # The package of that name, which unlike `re` can stop a search. It keeps compiled patterns itself.
    import regex

    return regex.compile(pattern)


def _search(pattern: str, text: str) -> str | None:
    try:
        match = _compiled(pattern).search(text, timeout=SECONDS)
    except TimeoutError:
        raise ScoreError(
            f"--pattern '{one_line(pattern)[:80]}' takes longer than {SECONDS:g} s on this answer; write it with "
            "fewer nested repeats"
        ) from None
    return None if match is None else str(match.group())
