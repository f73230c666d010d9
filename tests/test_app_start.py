"""The page that starts runs, as Streamlit runs it without a browser; the runs are real processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from needle import launch, store

HOSTILE = "<script>alert(1)</script> ![x](http://x/y.png) **bold** \x1b[31m \u202e"
PLAN = {
    "cells": 12,
    "positions": 3,
    "trunks": 3,
    "plain_tokens": 9_000,
    "planned_tokens": 4_000,
    "plain_flops": 3e12,
    "planned_flops": 1e12,
    "weights": 2e6,
    "cache": 1e6,
    "activations": 1e6,
    "speedup": 3.0,
}

Open = Callable[[], AppTest]


def script() -> None:
    from needle.ui import start

    start.page()


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """The page over `tmp_path`; what it started is ended afterwards."""
    monkeypatch.setenv("NEEDLE_RUNS", str(tmp_path / "runs"))
    yield lambda: AppTest.from_function(script, default_timeout=120).run()
    for started in launch.launches(tmp_path / "runs")[0]:
        launch.stop(launch.stop(started, grace=0.1))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a small program take Python's place: it answers plans, and does as told for runs."""

    def make(body: str) -> None:
        path = tmp_path / "python"
        plan = f"import json, os, sys, time\nif sys.argv[3] == 'plan':\n    print(json.dumps({PLAN!r}))\n    sys.exit()"
        path.write_text(f"#!{sys.executable}\n{plan}\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return make


def words(app: AppTest) -> str:
    """Everything on the page that is shown as it is."""
    assert not app.exception, app.exception
    return "\n".join(str(each.value) for each in [*app.text, *app.code])


def markdown(app: AppTest) -> str:
    told = [*app.markdown, *app.caption, *app.subheader, *app.info, *app.error, *app.warning]
    return "\n".join(str(each.value) for each in told)


def planned(app: AppTest) -> AppTest:
    return app.button(key="start-plan").click().run()


def keys(app: AppTest) -> list[str]:
    return [str(button.key) for button in app.button]


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_the_cost_stands_before_the_start(tmp_path: Path, open_page: Open, program: Callable[[str], None]) -> None:
    program("time.sleep(60)")
    app = open_page()
    assert "start-go" not in keys(app)
    assert "needle run --model=pocket-32k" in words(app)
    planned(app)
    assert {m.label: m.value for m in app.metric}["Prefill"] == "4 k tokens"
    assert not (tmp_path / "runs").exists()
    # Another request has another cost.
    app.number_input(key="start-seed").set_value(5).run()
    assert "start-go" not in keys(app)


def test_a_run_is_started_shown_stopped_and_forgotten(
    tmp_path: Path, open_page: Open, program: Callable[[str], None]
) -> None:
    program(f"print({HOSTILE!r}, flush=True)\ntime.sleep(60)")
    app = planned(open_page())
    app.button(key="start-go").click().run()
    ((started,), _) = launch.launches(tmp_path / "runs")
    assert launch.running(started)
    until(lambda: launch.tail(started))
    told = words(app.run())
    assert "\\x1b" in told
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert "bold" not in markdown(app)
    assert "running" in markdown(app)
    assert app.button(key="start-go").disabled
    assert f"forget-{started.id}" not in keys(app)
    app.button(key=f"stop-{started.id}").click().run()
    until(lambda: not launch.running(started))
    app.run()
    assert not app.button(key="start-go").disabled
    app.button(key=f"forget-{started.id}").click().run()
    words(app)
    assert launch.launches(tmp_path / "runs") == ([], [])


def test_another_page_sees_and_stops_it_as_well(
    tmp_path: Path, open_page: Open, program: Callable[[str], None]
) -> None:
    program("time.sleep(60)")
    planned(open_page()).button(key="start-go").click().run()
    ((started,), _) = launch.launches(tmp_path / "runs")
    other = open_page()
    other.button(key=f"stop-{started.id}").click().run()
    until(lambda: not launch.running(started))


def test_a_real_run_from_form_to_link(tmp_path: Path, open_page: Open) -> None:
    app = open_page()
    app.selectbox(key="start-model").select("pocket-4k")
    app.selectbox(key="start-haystack").select("noise")
    app.text_input(key="start-min").set_value("256")
    app.text_input(key="start-max").set_value("512")
    app.number_input(key="start-lengths").set_value(2)
    app.number_input(key="start-depths").set_value(2)
    app.run()
    planned(app)
    assert {m.label: m.value for m in app.metric}["Cells"] == "4"
    app.button(key="start-go").click().run()
    ((started,), _) = launch.launches(tmp_path / "runs")
    until(lambda: not launch.running(started), 120)
    app.run()
    assert "finished" in markdown(app)
    assert f"open-{started.id}" in keys(app)
    (folder,) = store.folders(tmp_path / "runs")
    assert store.read(folder).status == "complete"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("start-min", "x", "'x' is no length"),
        ("start-min", "9k", "longer than the longest"),
        ("start-max", "", "'' is no length"),
        ("start-max", HOSTILE, "is no length"),
        ("start-model-own", "", "no model given"),
        ("start-model-own", "--help", "begins with a dash"),
        ("start-haystack-own", "-x", "begins with a dash"),
        ("start-haystack-own", "", "no haystack given"),
    ],
)
def test_what_cannot_be_run_is_said_at_once(field: str, value: str, said: str, open_page: Open) -> None:
    app = open_page()
    if field.endswith("-own"):
        box = app.selectbox(key=field.removesuffix("-own"))
        box.select_index(len(box.options) - 1).run()
    app.text_input(key=field).set_value(value).run()
    assert said in words(app)
    assert "start-plan" not in keys(app)
    assert "bold" not in markdown(app)


def test_what_the_plan_refuses_is_one_line_and_no_start(
    open_page: Open, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page()
    box = app.selectbox(key="start-haystack")
    box.select_index(len(box.options) - 1).run()
    app.text_input(key="start-haystack-own").set_value("./**no**/such.txt").run()
    planned(app)
    assert "no haystack './**no**/such.txt'" in words(app)
    assert "**no**" not in markdown(app)
    assert "start-go" not in keys(app)


def test_a_damaged_record_is_named(tmp_path: Path, open_page: Open) -> None:
    (tmp_path / "runs" / launch.PLACE).mkdir(parents=True)
    (tmp_path / "runs" / launch.PLACE / "x.json").write_text("{")
    app = open_page()
    assert "x.json' is damaged" in words(app)
    assert "Nothing was started here yet" in markdown(app)


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, open_page: Open, program: Callable[[str], None]
) -> None:
    program("pass")
    (tmp_path / "runs").write_text("")
    app = planned(open_page())
    app.button(key="start-go").click().run()
    assert "no run can be started" in words(app)
