"""Files to hand on: whole or not at all, and nothing in them that runs."""

from __future__ import annotations

import csv as reader
import os
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from needle import analysis, export, figures
from needle.errors import UsageError
from needle.types import Result


def row(answer: str = "4821", repeat: int = 0) -> Result:
    return Result(
        f"k{repeat}", 1024, 0.5, repeat, "ok", 1.0, "found", expected=("4821", "17"), answer=answer, answer_logprob=-2.5
    )


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(reader.DictReader(file))


@pytest.mark.parametrize("answer", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x","y")'])
def test_a_formula_becomes_a_text_and_a_number_stays(tmp_path: Path, answer: str) -> None:
    export.csv(analysis.frame([row(answer)]), tmp_path / "run.csv")
    (cell,) = read(tmp_path / "run.csv")
    assert cell["answer"] == "'" + answer
    assert cell["answer_logprob"] == "-2.5"
    assert cell["length"] == "1024"
    assert cell["position"] == ""
    assert cell["error"] == ""
    assert cell["expected"] == "4821 | 17"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), min_size=1, max_size=4))
def test_csv_gives_back_every_answer_and_none_starts_a_formula(
    tmp_path_factory: pytest.TempPathFactory, answers: list[str]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "run.csv"
    export.csv(analysis.frame([row(answer, at) for at, answer in enumerate(answers)]), path)
    cells = [each["answer"] for each in read(path)]
    assert [cell.removeprefix("'") for cell in cells] == [answer.removeprefix("'") for answer in answers]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)


def test_csv_of_other_text_columns_and_their_names_is_safe_too(tmp_path: Path) -> None:
    export.csv(pd.DataFrame({"=name": pd.array(["=1", "b"], dtype="str"), "n": [-1, -2]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == b"'=name,n\r\n'=1,-1\r\nb,-2\r\n"


def test_csv_of_no_rows_is_its_header_and_half_a_character_is_no_crash(tmp_path: Path) -> None:
    export.csv(analysis.frame([]), tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text().strip() == ",".join(Result.__slots__)
    export.csv(analysis.frame([row("\ud83d")]), tmp_path / "half.csv")
    assert read(tmp_path / "half.csv")[0]["answer"] == "\\ud83d"


class Page(HTMLParser):
    """What a page would load, and what its title says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts, self.title, self._inside = 0, "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in {"src", "href"}]
        self.scripts += tag == "script"
        self._inside = tag

    def handle_data(self, data: str) -> None:
        self.title += data if self._inside == "title" else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def test_html_needs_nothing_else_and_runs_nothing_of_the_models(tmp_path: Path) -> None:
    pages = []
    for name, answer in (("plain", "4821"), ("evil", "</script><script>alert(1)</script><img src=x>")):
        figure = figures.heatmap(analysis.frame([row(answer)]), f"run </title> {name}")
        export.html(figure, tmp_path / f"{name}.html")
        text = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert "<script>alert(1)" not in text
        assert len(text) > 1_000_000
        pages.append(Page(text))
    assert pages[0].scripts == pages[1].scripts
    assert [page.loads for page in pages] == [[], []]
    assert [page.title for page in pages] == ["run </title> plain", "run </title> evil"]


def test_a_title_in_plotlys_html_cannot_end_the_pages(tmp_path: Path) -> None:
    export.html(go.Figure(layout={"title": {"text": "a</title><script>alert(1)</script>"}}), tmp_path / "a.html")
    assert Page((tmp_path / "a.html").read_text(encoding="utf-8")).title == "a</title><script>alert(1)</script>"


def test_png_is_a_picture_or_one_line_that_tells_the_remedy(tmp_path: Path) -> None:
    told = ""
    try:
        export.png(figures.heatmap(analysis.frame([row()]), "t"), tmp_path / "run.png")
    except UsageError as error:
        told = str(error)
    written = [path.read_bytes()[:4] for path in tmp_path.iterdir()]
    assert written == ([] if told else [b"\x89PNG"])
    assert not told or ("Chrome" in told and "\n" not in told)


def test_png_without_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_browser(*_: object, **__: object) -> bytes:
        raise RuntimeError("\n\nKaleido requires Google Chrome to be installed.\n\nSee …")

    monkeypatch.setattr(go.Figure, "to_image", no_browser)
    with pytest.raises(UsageError, match=r"^the PNG .*requires Google Chrome.*: install Chrome .*plotly_get_chrome"):
        export.png(go.Figure(), tmp_path / "run.png")


def test_png_without_kaleido(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install"):
        export.png(go.Figure(), tmp_path / "run.png")


def test_a_path_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "a.csv", tmp_path / "file" / "a.csv", tmp_path / "folder", Path("/")):
        with pytest.raises(UsageError, match="cannot be written") as caught:
            export.csv(analysis.frame([row()]), path)
        assert str(path) in str(caught.value)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder"]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.csv"
    path.write_text("old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_disk)
        with pytest.raises(UsageError, match="No space left"):
            export.csv(analysis.frame([row()]), path)
    assert [each.name for each in tmp_path.iterdir()] == ["run.csv"]
    assert path.read_text() == "old"
    export.csv(analysis.frame([row()]), path)
    assert path.read_text() != "old"
    assert [each.name for each in tmp_path.iterdir()] == ["run.csv"]
