"""What flows through the house: frozen dataclasses, no behaviour, no imports of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Outcome = Literal["found", "partial", "distractor", "number", "refusal", "truncated", "empty", "wrong", "error"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One square of the heatmap, once: a context length in tokens, an asked depth 0–1, a repeat from 0.

    A `control` cell is the same context without any needle: it tells what a model says that cannot know.
    """

    length: int
    depth: float
    repeat: int
    control: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What a task asks at one position: the needle, the question, and what counts as an answer.

    `answers` must all be found for a full score; `distractors` are values that would be plausible but wrong;
    `draft` is the whole reply that a perfect model might give; an engine may verify it, never assume it.
    """

    needle: str
    question: str
    answers: tuple[str, ...]
    distractors: tuple[str, ...] = ()
    draft: str | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Other:
    """A text of the task that stands in the haystack beside the asked needle, near haystack token `position`.

    A "needle" is asked for as well, a "distractor" is not.
    """

    position: int
    text: str
    kind: Literal["needle", "distractor"] = "distractor"


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, end) of a prompt that hold a needle or a distractor; the asked needle's span comes first."""

    start: int
    end: int
    kind: Literal["needle", "distractor"]


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A cell fitted to the token: `len(ids) + max_new_tokens == cell.length`.

    `position` is the needle's place in haystack tokens, `depth` the share of the document that really stands before
    the needle, `offset` the haystack token that the document starts at, `document` the [start, end) of the document.
    """

    cell: Cell
    ids: Ids
    question: Question
    max_new_tokens: int
    position: int
    depth: float
    offset: int
    document: tuple[int, int]
    spans: tuple[Span, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine returns for one prompt. `error` is set, and the rest empty, when the cell failed.

    `answer_logprob` is the mean log-probability, a token, of the expected answer where the engine measured it;
    `answer_rank` the worst rank among those tokens (1: each was the model's first choice); `answer_logprobs` are the
    tokens' own. `prompt_tokens` is a server's own count of the prompt, where it gives one.
    """

    text: str = ""
    ids: tuple[int, ...] = ()
    finish: Literal["stop", "length", "error"] = "stop"
    seconds: float = 0.0
    way: str = ""
    error: str | None = None
    answer_logprob: float | None = None
    answer_rank: int | None = None
    answer_logprobs: tuple[float, ...] = ()
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A grade 0–1, the outcome class, the part of the answer it rests on, and why in one line."""

    value: float
    outcome: Outcome
    extracted: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Grid:
    """Context lengths (tokens), depths (0–1) and how often each cell is measured.

    `max_repeats` is how often at most where more measurements decide something; `control` adds, for each length and
    repeat, a cell without a needle.
    """

    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    repeats: int = 1
    max_repeats: int | None = None
    control: bool = False

    def cells(self) -> list[Cell]:
        """Every cell that is measured whatever comes out, by repeat, then length, then depth."""
        return self.column(self.lengths, range(self.repeats))

    def extra(self) -> list[Cell]:
        """Every further cell that may be measured, in the same order."""
        return self.column(self.lengths, range(self.repeats, self.max_repeats or 0))

    def column(self, lengths: Iterable[int], repeats: Iterable[int]) -> list[Cell]:
        """All depths at these lengths and repeats."""
        lengths = tuple(lengths)
        return [Cell(n, d, r) for r in repeats for n in lengths for d in self.depths]

    def controls(self) -> list[Cell]:
        """The cells without a needle, by repeat, then length."""
        return [Cell(n, 0.0, r, True) for r in range(self.repeats) for n in self.lengths] if self.control else []


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that decides what a run's answers are; its hash is the run's identity."""

    model: str
    task: str
    haystack: str
    grid: Grid
    seed: int = 0
    engine: str = "transformers"
    scorer: str = "match"
    max_new_tokens: int = 64
    prompt: str = "auto"
    system: str | None = None
    depth_tolerance: float = 0.01
    temperature: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """One line of `results.jsonl`: the cell, the recipe of its prompt, the answer, the score."""

    key: str
    length: int
    depth: float
    repeat: int
    status: Literal["ok", "error"]
    score: float | None
    outcome: Outcome
    depth_used: float | None = None
    position: int | None = None
    offset: int | None = None
    prompt_tokens: int | None = None
    prompt_sha256: str | None = None
    question: str = ""
    expected: tuple[str, ...] = ()
    answer: str = ""
    answer_ids: tuple[int, ...] = ()
    extracted: str = ""
    explanation: str = ""
    finish: str = ""
    new_tokens: int = 0
    seconds: float = 0.0
    way: str = ""
    error: str | None = None
    answer_logprob: float | None = None
    answer_rank: int | None = None
    answer_logprobs: tuple[float, ...] = ()
    control: bool = False

    @property
    def cell(self) -> Cell:
        """The cell that this is the result of."""
        return Cell(self.length, self.depth, self.repeat, self.control)
