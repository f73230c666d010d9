"""What the scorers share: how texts are compared, and what an answer that is not right is called."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain

from needle.errors import ScoreError
from needle.scoring import _refusal
from needle.types import Answer, Outcome, Question, Score

# A value stands alone where no letter or digit touches it, also not over a hyphen (a block of a uuid is no number) or
# a decimal point. Only ASCII counts: Chinese writes a number between its characters without a space.
_BEFORE = r"(?<![0-9a-z])(?<![0-9a-z]-)(?<!\d\.)"
_AFTER = r"(?![0-9a-z])(?!-[0-9a-z])(?!\.\d)"
_UUID = "-".join(f"[0-9a-f]{{{size}}}" for size in (8, 4, 4, 4, 12))
_GROUPED = re.compile(rf"{_BEFORE}\d{{1,3}}(?:[,.' ]\d{{3}})+{_AFTER}")
_SLIP = 5
"""From this many digits on, a number with one digit more or less is of the same shape: copying loses and doubles."""


def plain(text: str) -> str:
    """`text` without case, accents composed, with every run of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def held(answer: Answer, question: Question) -> list[str]:
    """The expected answers that the reply holds anywhere, whatever their case and white space.

    Inside a longer word or number counts, as it does in RULER's `string_match_all` (Hsieh et al. 2024,
    arXiv:2404.06654).

    Raises:
        ScoreError: nothing is expected, so nothing can be right or wrong.
    """
    if not question.answers or not all(plain(a) for a in question.answers):
        raise ScoreError("no expected answer is known for this cell; choose another --scorer")
    said = plain(answer.text)
    return [a for a in question.answers if plain(a) in said]


def found_of(right: Sequence[str], answer: Answer, question: Question) -> str:
    """What `held` found and did not find, in one line; what only a longer word or number holds is said."""
    if len(right) < len(question.answers):
        missing = ", ".join(f"'{a}'" for a in question.answers if a not in right)
        return f"{len(right)} of {len(question.answers)} found; missing {missing}"
    said = plain(answer.text)
    inside = [a for a in right if alone(a, said) is None]
    longer = f"; '{inside[0]}' only inside a longer word or number, which counts in RULER" if inside else ""
    return "holds " + ", ".join(f"'{a}'" for a in right) + longer


def sentences(question: Question) -> list[str]:
    """Whole replies that are right: the expected answers in a row, the task's sentence with and without its prefix."""
    draft = question.draft or ""
    return [text for text in (", ".join(question.answers), draft, draft.removeprefix(question.prefix)) if text.strip()]


def grade(value: float, share: float, answer: Answer, question: Question, right: Sequence[str], why: str) -> Score:
    """The Score of an answer of which the `share` 0–1 is right, `right` being those parts of it; `why` in one line.

    The share, and not the value, decides the outcome: the sentence with a distractor's value in it is close to the
    right one by ROUGE, and yet it is not partly found.
    """
    kind, words = classify(share, answer, question)
    reasons = {
        "distractor": f"'{words}' belongs to a distractor",
        "number": f"'{words}' is another value than any expected",
        "refusal": f"says that it does not know: '{words}'",
        "truncated": "cut off by the answer budget",
        "empty": "no text",
        "wrong": f"'{words}' is the expected number, written in another way" if words else "",
    }
    extracted = ", ".join(right) if kind in ("found", "partial") else words
    return Score(value, kind, extracted, "; ".join(filter(None, (why, reasons.get(kind)))))


def classify(share: float, answer: Answer, question: Question) -> tuple[Outcome, str]:
    """The class of an answer of which the `share` 0–1 is right, and the words in it that make it one of that class.

    A value that it names tells more than a refusal behind it; a refusal that comes first is what the answer says, and
    values behind it are what it found instead.
    """
    if share >= 1:
        return "found", ""
    if not answer.text.strip():
        return "empty", ""
    if share > 0:
        return "partial", ""
    said = plain(answer.text)
    refusal, distractor, other = _refusal.find(said), _distractor(said, question), _other(said, question)
    value = distractor or other
    if refusal and (value is None or refusal.start() < value[0]):
        return "refusal", refusal.group()
    if value:
        return ("distractor" if distractor else "number"), value[1]
    if answer.finish == "length":
        return "truncated", ""
    return "wrong", _written_otherwise(said, question)


def alone(value: str, said: str) -> re.Match[str] | None:
    """Where `value` stands in the plain text `said`, and not as a part of a longer word or number."""
    return re.search(f"{_BEFORE}{re.escape(plain(value))}{_AFTER}", said)


def _distractor(said: str, question: Question) -> tuple[int, str] | None:
    """The first distractor's value that is named, with its place. One that the question names itself tells nothing."""
    named = [(m.start(), d) for d in question.distractors if plain(d) and (m := alone(d, said))]
    return min((n for n in named if not _asked(n[1], question)), default=None)


def _other(said: str, question: Question) -> tuple[int, str] | None:
    """The first value of an expected one's shape that is none of those that are known, with its place."""
    known = {plain(value) for value in (*question.answers, *question.distractors)}
    shapes = {shape for value in question.answers if (shape := _shape(plain(value)))}
    found = chain.from_iterable(re.finditer(f"{_BEFORE}{shape}{_AFTER}", said) for shape in shapes)
    others = [(m.start(), m.group()) for m in found if m.group() not in known]
    return min((o for o in others if not _asked(o[1], question)), default=None)


def _asked(value: str, question: Question) -> bool:
    """Whether the question names the value itself: a reply that repeats the question answers nothing with it."""
    return alone(value, plain(f"{question.question} {question.prefix}")) is not None


def _shape(value: str) -> str | None:
    """A pattern of values like this one; None where it is no code: without a digit, or of several words."""
    if " " in value or not any(c.isdecimal() for c in value):
        return None
    if re.fullmatch(_UUID, value):
        return _UUID
    if value.isdecimal():
        slip = int(len(value) >= _SLIP)
        return rf"\d{{{len(value) - slip},{len(value) + slip}}}"
    letters = (r"\d" if c.isdecimal() else r"[^\W\d_]" if c.isalpha() else re.escape(c) for c in value)
    return "".join(letters)


def _written_otherwise(said: str, question: Question) -> str:
    """An expected number with its digits in groups of three, as in 4,821,937; RULER does not count it."""
    wanted = {plain(a) for a in question.answers}
    return next((m.group() for m in _GROUPED.finditer(said) if re.sub(r"\D", "", m.group()) in wanted), "")
