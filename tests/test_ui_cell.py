"""A cell in the web app: the prompt around its needle, the answer's marks, and text that would like to be more."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import synthetic
from hypothesis import example, given
from hypothesis import strategies as st
from pages import GRID, everything, opened, page, sheets, words
from watchers import Quiet

from needle import rebuilding, running, store
from needle.store import Run
from needle.types import Grid, Prompt, Result, RunSpec
from needle.ui import _paper, _windows, cell

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> ![pixel](http://evil.example/p.png) [go](javascript:x) "
    "$$\\href{x}{y}$$ :red[hot] <b>bold</b> &lt;i&gt; `code` \x1b[31mred\x1b[0m \x07 \u202egnp.exe \u2066x\u2069 </p>"
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A real run of pocket-4k."""
    root = tmp_path_factory.mktemp("runs")
    spec = RunSpec("pocket-4k", "number", "essays", Grid((1024, 2048), (0.0, 0.5, 1.0)), max_new_tokens=32)
    return running.execute(running.prepare(spec, lambda _: None), root, Quiet())


@pytest.fixture
def root(measured: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = measured.folder.parent
    monkeypatch.setenv("NEEDLE_RUNS", str(folder))
    return folder


class Tags(HTMLParser):
    """Tags, their attributes, and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


OURS = set("html head meta title style body h2 p bdi mark span small dl dt dd".split())


def harmless(sheet: str) -> Tags:
    """The page, which must hold only tags and attributes of ours, and nothing unseen."""
    found = Tags(sheet)
    assert set(found.tags) <= OURS, found.tags
    assert found.attributes <= {"class", "id", "lang", "charset", "http-equiv", "content", "style", "tabindex"}
    assert not any(ord(c) < 32 and c not in "\n\t" for c in sheet)
    assert not set("\u202e\u2066\u2069\x1b") & set(sheet)
    assert "default-src 'none'" in sheet
    return found


def shown(at: Any) -> tuple[str, str]:
    """The answer's sheet and the prompt's."""
    answer, prompt = sheets(at)
    return harmless(answer).text, harmless(prompt).text


def test_a_cell_shows_question_answer_score_prompt_and_recipe(measured: Run, root: Path) -> None:
    at = opened(run=measured.name, cell="2048:0.5:0")
    result = next(r for r in measured.results if (r.length, r.depth) == (2048, 0.5))
    answer, prompt = shown(at)
    for part in (result.question, result.expected[0], result.answer, result.explanation, "2,048 tokens", "Score 100 %"):
        assert part in answer
    for part in ("2,016 tokens of prompt", result.question, result.expected[0], "distractors", "<|im_start|>user"):
        assert part in prompt
    needle = f"The secret code for {result.question.rsplit(maxsplit=1)[1][:-1]} is {result.expected[0]}."
    assert f'<mark class="needle"><bdi>{needle}</bdi></mark>' in sheets(at)[1].partition('id="needle"')[2]
    assert _paper.marked(result.expected[0], "needle") in sheets(at)[0]
    (recipe,) = [code.value for code in at.code]
    command, digest = recipe.split("\n")
    assert digest == f"prompt sha256 {result.prompt_sha256}"
    assert shlex.split(command) == [
        *("needle", "show", measured.name, "--cell", "2048:0.5:0", "--output-dir"),
        str(root),
    ]


def test_the_recipe_is_what_needle_show_takes(measured: Run, needle: Any) -> None:
    result = measured.results[1]
    done = needle("show", measured.folder, "--cell", cell.name(result), "--json")
    assert json.loads(done.out)["key"] == result.key


def test_probabilities_of_the_expected_answer_stand_under_its_tokens(measured: Run, root: Path) -> None:
    result = measured.results[0]
    assert result.answer_logprobs
    answer = sheets(opened(run=measured.name, cell=cell.name(result)))[0]
    assert answer.count('class="token"') == len(result.answer_logprobs) == len(result.expected[0])
    bare = cell._tokens(replace(result, answer_logprobs=(-0.1, -9.0)), ["only one"])
    assert "only one" not in bare
    assert "90.5 %" in bare
    assert "&lt; 0.1 %" in bare


def test_the_whole_prompt_is_there_on_demand(measured: Run, root: Path) -> None:
    at = opened(run=measured.name, cell="2048:1:0")
    windows = shown(at)[1]
    at.toggle(key="cell-whole").set_value(True).run()
    whole = shown(at)[1]
    assert len(whole) > len(windows) + 1000
    maker = rebuilding.opened(measured)
    prompt = maker.prompt(next(r for r in measured.results if (r.length, r.depth) == (2048, 1.0)))
    assert maker.tokenizer.decode(prompt.ids.tolist()) in whole


def test_a_prompt_that_cannot_be_rebuilt_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLE_RUNS", str(tmp_path))
    run = synthetic.write(tmp_path, "x/y", everything, GRID)
    at = opened(run=run.name, cell="1024:0.5:0")
    (answer,) = sheets(at)
    assert "scored 1.0" in harmless(answer).text
    assert "cannot be rebuilt here" in words(at)
    unhashed = synthetic.write(tmp_path, "x/z", everything, GRID, hashed=False)
    at = opened(run=unhashed.name, cell="1024:0.5:0")
    assert "did not record its hash" in words(at)


@pytest.fixture
def hostile(measured: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose every text would like to be markup."""
    monkeypatch.setenv("NEEDLE_RUNS", str(tmp_path))
    spec = replace(measured.spec, model=f"pocket-4k/{HOSTILE}", task="number", haystack="essays")
    known = store.identity(spec, measured.sources)
    with store.writing(tmp_path, spec, measured.sources, {}) as writer:
        for at, result in enumerate(measured.results):
            text = {"answer": HOSTILE, "explanation": HOSTILE, "extracted": HOSTILE, "question": HOSTILE}
            row = replace(result, key=store.key(known, spec.grid.cells()[at]), expected=(HOSTILE,), **text)
            broken = replace(row, status="error", score=None, outcome="error", error=HOSTILE)
            writer.append(broken if at == 0 else row)
    return store.read(writer.run.folder)


MARKUP = ("markdown", "caption", "title", "header", "subheader", "info", "warning", "error", "success", "html")


def interpreted(at: Any) -> Iterator[str]:
    """All that Streamlit would take for Markdown or HTML."""
    for kind in MARKUP:
        for element in at.get(kind):
            yield str(element.proto)
    for element in [*at.metric, *at.button, *at.selectbox, *at.toggle]:
        yield str(element.proto.label)
    for element in at.metric:
        yield f"{element.value} {element.delta}"


@pytest.mark.parametrize("at", [0, 1])
def test_hostile_text_stays_text(hostile: Run, at: int) -> None:
    drawn = opened(run=hostile.name, cell=cell.name(hostile.results[at]))
    answer = harmless(sheets(drawn)[0])
    assert "<script>alert(1)</script><img src=x onerror=alert(2)> ![pixel](http://evil.example/p.png)" in answer.text
    assert r"\x1b[31mred\x1b[0m \x07 \u202egnp.exe" in answer.text
    for told in interpreted(drawn):
        assert not any(part in told for part in ("evil", "alert", "javascript", ":red", "href")), told
    figure = drawn.get("plotly_chart")[0].proto.spec
    assert "<script" not in figure
    assert "\\u001b" not in figure


@pytest.mark.parametrize("module", ["runs"])
def test_hostile_names_stay_text_in_lists(hostile: Run, module: str) -> None:
    for told in interpreted(page(module)):
        assert not any(part in told for part in ("evil", "alert", "javascript", ":red")), told


@given(
    st.one_of(st.text(), st.lists(st.sampled_from([*list("<>/&;\"'= !-\n"), "img", "b", "x", "\x1b"])).map("".join)),
    st.sampled_from(["needle", "distractor", "wrong"]),
)
@example("<img src=x onerror=alert(1)>", "needle")
def test_any_text_on_a_sheet_is_that_text(text: str, kind: str) -> None:
    body = _paper.section("Title", _paper.words(text) + _paper.marked(text, kind)) + _paper.facts([(text, text)])
    assert set(Tags(body).tags) <= OURS
    for dark in (True, False):
        harmless(_paper.sheet(body, dark))


@given(st.text(alphabet="ab <>&\n", max_size=30))
def test_marks_leave_the_text_as_it_is(text: str) -> None:
    assert Tags(_paper.marked(text, "needle")).text == text


@pytest.fixture(scope="module")
def prompts(measured: Run) -> list[tuple[Prompt, Any]]:
    return rebuilding.prompts(measured, measured.results)


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("whole", [True, False])
def test_pieces_cover_every_token_once(prompts: list[tuple[Prompt, Any]], at: int, whole: bool) -> None:
    prompt, tokenizer = prompts[at]
    pieces = _windows.pieces(prompt, tokenizer, whole)
    assert sum(piece.tokens for piece in pieces) == len(prompt.ids)
    assert [p.text.strip() for p in pieces if p.kind == "needle"] == [prompt.question.needle]
    others = [p for p in pieces if p.kind == "distractor"]
    assert len(others) == sum(s.kind == "distractor" for s in prompt.spans)
    assert all(p.text.strip().startswith("The secret code for") for p in others)
    if whole:
        assert "".join(p.text for p in pieces) == tokenizer.decode(prompt.ids.tolist())
    else:
        assert any(p.kind == "gap" for p in pieces)
        assert prompt.question.question in "".join(p.text for p in pieces if p.kind == "frame")


def test_text_around_a_needle_is_shown_on_both_sides(prompts: list[tuple[Prompt, Any]]) -> None:
    prompt, tokenizer = prompts[4]
    pieces = _windows.pieces(prompt, tokenizer)
    (at,) = [i for i, p in enumerate(pieces) if p.kind == "needle"]
    gaps = [i for i, p in enumerate(pieces) if p.kind == "gap"]
    before = max((i for i in gaps if i < at), default=-1)
    after = min((i for i in gaps if i > at), default=len(pieces))
    assert sum(p.tokens for p in pieces[before + 1 : at]) >= _windows.AROUND
    assert sum(p.tokens for p in pieces[at + 1 : after]) >= _windows.AROUND


def test_a_space_between_pieces_is_kept_where_the_tokenizer_drops_it() -> None:
    class Words:
        """Decodes like SentencePiece: the first piece loses its space."""

        def decode(self, ids: list[int]) -> str:
            return "".join([" one", " two", " three"][i] for i in ids).lstrip()

    assert _windows.decoded(Words(), [0, 1, 2], 1, 3) == " two three"
    assert _windows.decoded(Words(), [0, 1, 2], 0, 1) == "one"


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        ("The code is 123.", ["123"], ["123"]),
        ("eat A\nSandwich and a  sandwich", ["a sandwich"], ["A\nSandwich", "a  sandwich"]),
        ("aaa", ["a", "aa"], ["aa", "a"]),
        ("none of it", ["x", "", "  "], []),
        ("a.c abc", ["a.c"], ["a.c"]),
    ],
)
def test_places_of_an_answer(text: str, wanted: list[str], found: list[str]) -> None:
    assert [text[start:end] for start, end in _windows.places(text, wanted)] == found


def test_the_distractor_that_was_named_is_marked_as_wrong() -> None:
    result = Result("k", 1024, 0.0, 0, "ok", 0.0, "distractor", expected=("1",), answer="It is 77.", extracted="77")
    assert _paper.marked("77", "wrong") in cell._said(result)
    assert "<mark" not in cell._said(replace(result, answer="no idea"))
    assert _paper.marked("1", "needle") in cell._said(replace(result, answer="77 and 1"))
    assert "said nothing" in cell._said(replace(result, answer=""))


def test_a_prompt_too_long_for_a_sheet_is_not_put_on_one() -> None:
    assert _paper.fits("a" * 1_000_000)
    assert not _paper.fits("a" * 1_400_000)
    assert not _paper.fits("é" * 700_000)
