"""The Compare page, as Streamlit runs it without a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
import synthetic
from pages import page
from streamlit.testing.v1 import AppTest

from needle import store
from needle.types import Grid

GRID = Grid((1024, 2048, 4096), (0.0, 0.5, 1.0), 4)
HOSTILE = "<script>alert(1)</script> ![x](http://x/y.png) **bold** \x1b[31m \u202e [link](javascript:alert(1))"

Open = Callable[..., AppTest]


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """The page over the runs in `tmp_path`, with an address."""
    monkeypatch.setenv("NEEDLE_RUNS", str(tmp_path))
    return partial(page, "compare")


def two(root: Path, **more: object) -> list[str]:
    first = synthetic.write(root, "x/pocket-4k", synthetic.up_to(1024), grid=GRID)
    second = synthetic.write(root, "x/pocket-32k", synthetic.up_to(2048), grid=GRID, **more)
    return [first.name, second.name]


def words(app: AppTest) -> str:
    """Everything on the page that is shown as it is."""
    assert not app.exception, app.exception
    return "\n".join(str(each.value) for each in app.text)


def markdown(app: AppTest) -> str:
    """Everything on the page that Streamlit reads as Markdown: labels too."""
    told = [*app.markdown, *app.caption, *app.subheader, *app.info, *app.error, *app.warning]
    labels = [each.label for each in [*app.expander, *app.selectbox, *app.multiselect, *app.button]]
    return "\n".join([str(each.value) for each in told] + [str(label) for label in labels])


def rewrite(run: str, root: Path, **changed: object) -> None:
    """Put other texts into a run's rows."""
    rows = store.read(root / run).results
    text = "".join(json.dumps(asdict(row) | changed) + "\n" for row in rows)
    (root / run / "results.jsonl").write_text(text)


@pytest.mark.parametrize("runs", [0, 1])
def test_too_few_runs_to_compare(runs: int, tmp_path: Path, open_page: Open) -> None:
    if runs:
        synthetic.write(tmp_path, "x/m", synthetic.up_to(1024), grid=GRID)
    app = open_page()
    words(app)
    assert "takes two runs" in app.info[0].value
    assert not app.multiselect


def test_it_opens_with_two_runs_that_pair(tmp_path: Path, open_page: Open) -> None:
    older, newer = two(tmp_path)
    synthetic.write(tmp_path, "x/alone", synthetic.up_to(1024), task="word", grid=GRID)
    app = open_page()
    assert set(app.multiselect[0].value) == {older, newer}
    assert app.query_params["runs"] == app.multiselect[0].value
    assert "pocket" in words(app)


def test_the_first_run_is_the_baseline(tmp_path: Path, open_page: Open) -> None:
    first, second = two(tmp_path)
    told = words(open_page(runs=[first, second]))
    assert "pocket-4k (baseline)" in told
    assert "pocket-32k is better than pocket-4k at 2K" in told
    assert "effective length differs by +1,024 tokens" in told
    turned = words(open_page(runs=[second, first]))
    assert "pocket-4k is worse than pocket-32k at 2K" in turned


def test_up_to_six_runs_each_against_the_first(tmp_path: Path, open_page: Open) -> None:
    names = [synthetic.write(tmp_path, f"x/m{n}", synthetic.up_to(1024 * n), grid=GRID).name for n in range(8)]
    app = open_page(runs=names)
    assert app.multiselect[0].value == names[:6]
    told = words(app)
    for n in range(1, 6):
        assert f"m{n} − m0" in told
    assert "m6 − m0" not in told


def test_a_run_that_the_address_names_and_that_is_not_there(tmp_path: Path, open_page: Open) -> None:
    first, second = two(tmp_path)
    app = open_page(runs=[first, "no-such", second])
    assert "no run 'no-such'" in words(app)
    assert app.multiselect[0].value == [first, second]


@pytest.mark.parametrize("name", ["../up", "/etc", "..", "a\0b", HOSTILE])
def test_names_that_climb_out_are_refused(name: str, tmp_path: Path, open_page: Open) -> None:
    two(tmp_path)
    app = open_page(runs=[name])
    told = words(app)
    assert "is refused" in told or "no run" in told
    assert app.multiselect[0].value == []
    assert "alert" not in markdown(app)


def test_nothing_pairs_is_one_line(tmp_path: Path, open_page: Open) -> None:
    first = synthetic.write(tmp_path, "x/a", synthetic.up_to(1024), grid=GRID)
    second = synthetic.write(tmp_path, "x/b", synthetic.up_to(1024), grid=GRID, task="word")
    app = open_page(runs=[first.name, second.name])
    (line,) = [line for line in words(app).splitlines() if "no cell in common" in line]
    assert "tasks differ" in line
    assert not app.get("plotly_chart")


def test_a_damaged_run_is_named(tmp_path: Path, open_page: Open) -> None:
    first, second = two(tmp_path)
    (tmp_path / second / "results.jsonl").write_text("{nothing\n")
    app = open_page(runs=[first, second])
    assert "is damaged" in words(app)
    assert not app.get("plotly_chart")


def test_of_the_settings_only_differences_are_told(tmp_path: Path, open_page: Open) -> None:
    names = two(tmp_path, session={"started": "x", "dtype": "bfloat16"})
    app = open_page(runs=names)
    table = next(f.value for f in app.dataframe if "setting" in f.value.columns)
    assert set(table["setting"]) == {"spec.model", "sources.model", "session.dtype"}


def test_cells_that_differ_are_listed_and_stand_first(tmp_path: Path, open_page: Open) -> None:
    app = open_page(runs=two(tmp_path))
    table = next(f.value for f in app.dataframe if "1 answer" in f.value.columns)
    assert list(table["length"].unique()) == [2048]
    assert len(table) == 12
    box = app.selectbox(key="compare-cell")
    assert box.value is None
    assert len(box.options) == 36
    assert box.options[0] == "2K · depth 0 % · repeat 1: 0 wrong → 100 found"
    assert "→" not in box.options[12]


def test_a_cell_opens_side_by_side_and_is_in_the_address(tmp_path: Path, open_page: Open) -> None:
    names = two(tmp_path)
    app = open_page(runs=names)
    app.selectbox(key="compare-cell").select_index(0).run()
    assert app.query_params["cell"] == "2048:0:0"
    words(app)
    answers = next(f.value for f in app.dataframe if "run" in f.value.columns)
    assert list(answers["answer"]) == ["scored 0.0", "scored 1.0"]
    again = open_page(runs=names, cell="2048:0.5:2")
    assert again.selectbox(key="compare-cell").value == "2048:0.5:2"


def test_a_cell_that_is_not_there_is_refused(tmp_path: Path, open_page: Open) -> None:
    app = open_page(runs=two(tmp_path), cell="77:0.5:0")
    assert "no cell '77:0.5:0'" in words(app)
    assert app.selectbox(key="compare-cell").value is None


def test_a_click_in_any_picture_opens_the_cell(tmp_path: Path, open_page: Open) -> None:
    first, second = two(tmp_path)
    app = open_page(runs=[first, second])
    for at, picture in enumerate((f"compare-{first}", f"compare-delta-{second}")):
        length = (2048, 4096)[at]
        points = {"selection": {"points": [{"customdata": [length, 0.5]}], "point_indices": [], "box": [], "lasso": []}}
        app.session_state[picture] = points
        app.run()
        words(app)
        assert app.selectbox(key="compare-cell").value == f"{length}:0.5:0"
    # The pictures go on reporting their clicks; the box is heeded all the same.
    app.selectbox(key="compare-cell").select("1024:0:0").run()
    assert app.query_params["cell"] == "1024:0:0"


def test_with_several_runs_the_one_beside_the_baseline_is_chosen(tmp_path: Path, open_page: Open) -> None:
    names = [synthetic.write(tmp_path, f"x/m{n}", synthetic.up_to(1024 * n), grid=GRID).name for n in (1, 2, 4)]
    app = open_page(runs=names, cell="4096:0:0")
    words(app)
    assert app.selectbox(key="compare-with").options == ["m2", "m4"]
    app.selectbox(key="compare-with").select(2).run()
    words(app)


def test_unmeasured_and_failed_cells(tmp_path: Path, open_page: Open) -> None:
    first = synthetic.write(tmp_path, "x/a", lambda c: None if c.depth == 0.5 else 1.0, grid=GRID)
    second = synthetic.write(tmp_path, "x/b", synthetic.up_to(1024), grid=GRID, most=9)
    told = words(open_page(runs=[first.name, second.name]))
    assert "12 failed in a" in told
    assert "27 are not measured in b" in told
    app = open_page(runs=[first.name, second.name], cell="1024:0:3")
    words(app)
    assert "not measured" in str(next(f.value for f in app.dataframe if "run" in f.value.columns))


def test_hostile_words_are_shown_as_they_are(tmp_path: Path, open_page: Open) -> None:
    model = f"x/{HOSTILE}".replace("/", "_")
    first = synthetic.write(tmp_path, model + "1", synthetic.up_to(1024), grid=GRID)
    second = synthetic.write(tmp_path, model + "2", synthetic.up_to(2048), grid=GRID)
    rewrite(second.name, tmp_path, answer=HOSTILE, explanation=HOSTILE, question=HOSTILE, extracted=HOSTILE)
    app = open_page(runs=[first.name, second.name], cell="2048:0:0")
    told = words(app)
    assert "\x1b" not in told
    assert "\u202e" not in told
    for sign in ("alert", "y.png", "**bold**"):
        assert sign not in markdown(app)
    charts = "".join(chart.proto.spec for chart in app.get("plotly_chart"))
    assert "<script" not in charts
    answers = next(f.value for f in app.dataframe if "run" in f.value.columns)
    assert "\\x1b" in answers["answer"].iloc[1]


def test_imported_runs_without_prompts_compare_as_well(tmp_path: Path, open_page: Open) -> None:
    first = synthetic.write(tmp_path, "x/a", synthetic.up_to(1024), grid=GRID, hashed=False, engine="import")
    second = synthetic.write(tmp_path, "x/b", synthetic.up_to(2048), grid=GRID, hashed=False, engine="import")
    told = words(open_page(runs=[first.name, second.name], cell="2048:0:0"))
    assert "by cell, not by identical prompt" in told
