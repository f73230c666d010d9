"""A question that the tests of scorers ask."""

from __future__ import annotations

from needle.types import Question

CODE = Question(
    needle="The secret code for Lisbon is 4821937.",
    question="What is the secret code for Lisbon?",
    answers=("4821937",),
    distractors=("1111111", "2222222"),
    draft="The secret code for Lisbon is 4821937.",
    prefix="The secret code for Lisbon is",
)
