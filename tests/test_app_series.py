"""The Series page, as Streamlit runs it without a browser."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import synthetic
from pages import page
from streamlit.testing.v1 import AppTest

from needle.types import Grid

GRID = Grid((1024, 2048, 4096), (0.0, 0.5, 1.0))
STEPS = (500, 1000, 2000)

Open = Callable[..., AppTest]


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """The page over the runs in `tmp_path`, with an address."""
    monkeypatch.setenv("NEEDLE_RUNS", str(tmp_path))
    return partial(page, "series")


def trained(root: Path, steps: tuple[int, ...] = STEPS, folder: str = "out") -> None:
    """Checkpoints of a training that learns to search longer contexts, 4K by step 2,000."""
    for step in steps:
        synthetic.write(root, f"{folder}/checkpoint-{step}", synthetic.up_to(1024 * step // 500), grid=GRID)


def words(app: AppTest) -> str:
    """Everything on the page that is shown as it is."""
    assert not app.exception, app.exception
    return "\n".join(str(each.value) for each in app.text)


def slider(app: AppTest) -> int:
    return int(app.select_slider(key="step").value)


def test_without_a_series_it_says_what_makes_one(tmp_path: Path, open_page: Open) -> None:
    assert "no checkpoint series" in open_page().info[0].value
    synthetic.write(tmp_path, "x/pocket-4k", synthetic.up_to(1024), grid=GRID)
    app = open_page()
    words(app)
    assert "no checkpoint series" in app.info[0].value


def test_one_step_is_shown_without_a_slider(tmp_path: Path, open_page: Open) -> None:
    trained(tmp_path, (500,))
    app = open_page()
    assert "step 500 · mean" in words(app)
    assert "one step so far" in app.info[0].value
    assert not app.select_slider
    assert app.query_params["step"] == "500"


def test_it_opens_at_the_last_step_and_the_slider_goes_to_any(tmp_path: Path, open_page: Open) -> None:
    trained(tmp_path)
    app = open_page()
    assert "step 2,000 · mean 100.0 % · effective length 4K" in words(app)
    app.select_slider(key="step").set_value(1000).run()
    assert "step 1,000 · mean 66.7 % · effective length 2K" in words(app)
    assert app.query_params["step"] == "1000"
    app.select_slider(key="step").set_value(500).run()
    assert "out/checkpoint-500" in words(app)


def test_the_address_names_series_and_step(tmp_path: Path, open_page: Open) -> None:
    trained(tmp_path)
    trained(tmp_path, (100, 300), folder="other")
    first = open_page()
    assert first.query_params["series"].startswith("out_")
    name = next(option for option in first.selectbox(key="series").options if option.startswith("other"))
    app = open_page(series=name.split(" ")[0], step="100")
    assert "other/checkpoint-100" in words(app)
    assert slider(app) == 100
    # Another series, another set of steps.
    app.selectbox(key="series").select(first.query_params["series"]).run()
    assert "step 2,000" in words(app)


@pytest.mark.parametrize("address", [{"step": "7"}, {"step": "../x"}, {"series": "<b>no</b>"}, {"series": "../x"}])
def test_what_is_not_there_is_refused_in_words(address: dict[str, str], tmp_path: Path, open_page: Open) -> None:
    trained(tmp_path)
    told = words(open_page(**address))
    assert f"'{next(iter(address.values()))}'" in told
    assert "step 2,000" in told


def test_playing_goes_step_by_step_and_ends(tmp_path: Path, open_page: Open) -> None:
    trained(tmp_path)
    app = open_page()
    seen = []
    app.button(key="series-play").click().run()
    assert app.button(key="series-play").label == "Pause"
    while app.button(key="series-play").label == "Pause" and len(seen) < 9:
        seen.append(slider(app))
        app.run()
        words(app)
    assert [step for at, step in enumerate(seen) if seen[at - 1 : at] != [step]] == list(STEPS)
    assert slider(app) == STEPS[-1]


def test_playing_can_be_paused(tmp_path: Path, open_page: Open) -> None:
    trained(tmp_path)
    app = open_page(step="500")
    app.button(key="series-play").click().run()
    app.button(key="series-play").click().run()
    at = slider(app)
    app.run().run()
    assert slider(app) == at


def test_a_damaged_run_is_left_out(tmp_path: Path, open_page: Open) -> None:
    trained(tmp_path)
    (folder,) = tmp_path.glob("checkpoint-1000*")
    (folder / "results.jsonl").write_text("{nothing\n")
    app = open_page()
    words(app)
    assert app.select_slider(key="step").options == ["500", "2000"]


def test_partial_and_failed_steps(tmp_path: Path, open_page: Open) -> None:
    trained(tmp_path)
    synthetic.write(tmp_path, "out/checkpoint-3000", lambda _: None, grid=GRID)
    synthetic.write(tmp_path, "out/checkpoint-4000", lambda _: 1.0, grid=GRID, most=0)
    synthetic.write(tmp_path, "out/checkpoint-5000", lambda c: 1.0, grid=GRID, most=2)
    for step, mean in (("3000", "–"), ("4000", "–"), ("5000", "100.0 %")):
        assert f"mean {mean} ·" in words(open_page(step=step))


def test_hostile_names_are_shown_as_they_are(tmp_path: Path, open_page: Open) -> None:
    hostile = "<script>alert(1)<_script> ![x](y) **b** \x1b[31m"
    for step in (1, 2):
        synthetic.write(tmp_path, f"{hostile}/checkpoint-{step}", synthetic.up_to(1024), grid=GRID)
    app = open_page()
    told = words(app)
    assert "**b**" in told
    assert "\x1b" not in told
    read_as_markdown = [*app.markdown, *app.caption, *app.subheader, *app.info]
    assert "**b**" not in "".join([str(each.value) for each in read_as_markdown] + [e.label for e in app.expander])
    assert "<script" not in "".join(chart.proto.spec for chart in app.get("plotly_chart"))
