"""One cell: what was asked and answered, why it scored as it did, and the prompt around its needle."""

from __future__ import annotations

import math
import shlex
from itertools import zip_longest

import streamlit as st

from needle import analysis, rebuilding
from needle.analysis import depth_label, length_label
from needle.errors import StoreError
from needle.rebuilding import Rebuilder
from needle.store import Run
from needle.types import Prompt, Result
from needle.ui import _paper, _text, _windows

_BUILDERS = 4


def name(result: Result) -> str:
    """LENGTH:DEPTH:REPEAT, as `needle show --cell` and the address bar take it."""
    return f"{result.length}:{result.depth:g}:{result.repeat}"


def view(run: Run, result: Result, key: str, beside: bool = False) -> None:
    """Show a cell of `run`. `key` parts its widgets from those of other cells on the page.

    With `beside`, answer and prompt stand beside each other where there is room.
    """
    prompt, maker, why = _prompt(run, result)
    left, right = st.columns([2, 3], gap="medium") if beside else (st.container(), st.container())
    with left:
        _answer(result, prompt, maker)
    with right:
        if prompt is None or maker is None:
            _text.warning(why, "The prompt is not here; what was recorded is shown")
        else:
            _show_prompt(prompt, maker, key, _stem(run, result))
    _recipe(run, result)


def _prompt(run: Run, result: Result) -> tuple[Prompt | None, Rebuilder | None, str]:
    """The rebuilt prompt and its builder, or why there is none."""
    if result.prompt_sha256 is None:
        return None, None, "the prompt cannot be rebuilt: the run did not record its hash"
    try:
        maker: Rebuilder = _opened(run.identity, run)
        return maker.prompt(result), maker, ""
    except StoreError as error:
        return None, None, str(error)


def _open(identity: str, _run: Run) -> Rebuilder:
    del identity  # the cache's key
    return rebuilding.opened(_run)


_opened = st.cache_resource(_open, show_spinner="reading tokenizer and haystack …", max_entries=_BUILDERS)


def _answer(result: Result, prompt: Prompt | None, maker: Rebuilder | None) -> None:
    said = result.error if result.status == "error" else result.answer
    tokens = _tokens(result, maker.expected_tokens(prompt) if prompt and maker else [])
    parts = [
        _paper.section("Question", _paper.words(result.question) if result.question else _none("not recorded")),
        _paper.section("Expected", _paper.words(", ".join(result.expected)) if result.expected else _none("nothing")),
        _paper.section("Failed" if result.status == "error" else "Answer", _said(result)),
        _paper.section(f"Score {_score(result)}", _paper.words(_why(result))),
        f"<h2>How likely the expected answer was, token by token</h2><p>{tokens}</p>" if tokens else "",
        f"<h2>Measured</h2>{_paper.facts(_facts(result))}",
    ]
    length = len(result.question) + len(said or "") + len(result.explanation)
    lines = 22 + length // 55 + (4 + len(result.answer_logprobs) // 6 if tokens else 0)
    _paper.show("".join(parts), _paper.tall(0, lines, most=720))


def _score(result: Result) -> str:
    return "none" if result.score is None else f"{100 * result.score:.4g} %"


def _why(result: Result) -> str:
    return f"{result.outcome}: {result.explanation}" if result.explanation else result.outcome


def _none(words: str) -> str:
    return f'<span class="none">{_paper.words(words)}</span>'


def _said(result: Result) -> str:
    """The answer as escaped HTML: what matched on the needle's colour, what was another's on that of a wrong one."""
    if result.status == "error":
        return _paper.words(result.error or "no reason was recorded")
    if not result.answer:
        return _none("the model said nothing")
    right = _windows.places(result.answer, result.expected)
    other = [] if right else _windows.places(result.answer, [result.extracted])
    parts, at = [], 0
    for start, end in right or other:
        parts += [_paper.words(result.answer[at:start])]
        parts += [_paper.marked(result.answer[start:end], "needle" if right else "wrong")]
        at = end
    return "".join([*parts, _paper.words(result.answer[at:])])


def _tokens(result: Result, texts: list[str]) -> str:
    """The expected answer's tokens, each on the colour of its probability; without their texts where none are known."""
    logprobs = result.answer_logprobs
    if len(texts) != len(logprobs):
        texts = []
    chips = []
    for text, logprob in zip_longest(texts, logprobs, fillvalue=""):
        share = math.exp(min(float(logprob), 0.0))
        chips.append(
            f'<span class="token" style="background: {analysis.colour(share)}">{_paper.words(str(text) or "·")}'
            f"<small>{_percent(share)}</small></span>"
        )
    return "".join(chips)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share >= 0.001 else "&lt; 0.1 %"


def _facts(result: Result) -> list[tuple[str, str]]:
    pairs = [
        ("context length", f"{result.length:,} tokens"),
        ("depth", _depth(result)),
        ("prompt", None if result.prompt_tokens is None else f"{result.prompt_tokens:,} tokens"),
        ("answer", f"{result.new_tokens} tokens, ended by {result.finish}" if result.finish else None),
        ("time", f"{result.seconds:.2f} s" if result.seconds else None),
        ("way", result.way or None),
        ("log-probability", _logprob(result)),
        ("repeat", str(result.repeat)),
    ]
    return [(name, value) for name, value in pairs if value is not None]


def _depth(result: Result) -> str:
    if result.control:
        return "no needle: a control"
    asked = depth_label(result.depth)
    return asked if result.depth_used is None else f"{asked} asked, {100 * result.depth_used:.2f} % really"


def _logprob(result: Result) -> str | None:
    if result.answer_logprob is None:
        return None
    rank = "" if result.answer_rank is None else f", worst rank {result.answer_rank}"
    return f"{result.answer_logprob:.3g} a token of the expected answer{rank}"


def _show_prompt(prompt: Prompt, maker: Rebuilder, key: str, stem: str) -> None:
    """The prompt on a sheet, as windows or whole, and as a file."""
    switch, save = st.columns([2, 1], vertical_alignment="center")
    whole = switch.toggle("Whole prompt", key=f"{key}-whole")
    save.download_button(
        "Prompt",
        lambda: maker.tokenizer.decode(prompt.ids.tolist()).encode("utf-8", "backslashreplace"),
        f"{stem}.txt",
        "text/plain",
        key=f"{key}-text",
        icon=":material/download:",
        on_click="ignore",
    )
    body = _sheet(prompt, maker, whole)
    if not _paper.fits(body):
        st.info("The whole prompt is too long to be shown here; download it. These are windows of it.")
        body = _sheet(prompt, maker, whole=False)
    _paper.show(body, 640, at="needle")


def _sheet(prompt: Prompt, maker: Rebuilder, whole: bool) -> str:
    found = _windows.pieces(prompt, maker.tokenizer, whole)
    others = sum(span.kind == "distractor" for span in prompt.spans)
    legend = [_paper.marked("needle", "needle")] if any(p.kind == "needle" for p in found) else []
    legend += [_paper.marked(f"{others} distractor{'s' if others > 1 else ''}", "distractor")] if others else []
    parts = [_piece(piece.kind, piece.text, piece.tokens) for piece in found]
    title = f"{len(prompt.ids):,} tokens of prompt"
    return _paper.section(title, " ".join(legend)) + "<h2></h2><p>" + "".join(parts) + "</p>"


def _piece(kind: str, text: str, tokens: int) -> str:
    if kind == "gap":
        return f'…<span class="gap">{tokens:,} tokens</span>…'
    if kind == "frame":
        return f'<span class="frame">{_paper.words(text)}</span>'
    if kind == "needle":
        return f'<span id="needle">{_paper.marked(text, kind)}</span>'
    return _paper.words(text) if kind == "text" else _paper.marked(text, kind)


def _stem(run: Run, result: Result) -> str:
    return f"{run.name}_{length_label(result.length)}_{result.depth:g}_{result.repeat}"


def _recipe(run: Run, result: Result) -> None:
    """What to type to see the same in a terminal, and the prompt's fingerprint."""
    where = [] if str(run.folder.parent) == "runs" else ["--output-dir", str(run.folder.parent)]
    command = ["needle", "show", run.name, "--cell", name(result), *where]
    digest = f"\nprompt sha256 {result.prompt_sha256}" if result.prompt_sha256 else ""
    st.code(_text.line(shlex.join(command)) + digest, language=None, wrap_lines=True)
