"""The web app in a real browser, over real runs: clicks, the slider, shared addresses, and a quiet console."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import synthetic

from needle import store
from needle.analysis import depth_label, length_label
from needle.types import Grid, Result

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REPOSITORY = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LENGTHS, DEPTHS = (512, 1024, 2048), (0.0, 0.5, 1.0)
STEPS = (500, 1000, 2000)
HOSTILE = "<img src=x onerror='window.struck=1'> ![x](x.png) <script>window.struck=1</script>"
WAIT = 90_000
_PROBES = ("/_stcore/health", "/_stcore/host-config")  # Streamlit looks for its root below the page's address first

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="needs playwright: pip install playwright"
    ),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@dataclass(frozen=True)
class App:
    """The server's address, its runs, and the browser."""

    address: str
    small: store.Run
    large: store.Run
    hostile: store.Run
    browser: Browser


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    from playwright.sync_api import sync_playwright

    root = tmp_path_factory.mktemp("runs")
    small, large = measured(root)
    for step in STEPS:
        synthetic.write(root, f"out/checkpoint-{step}", synthetic.up_to(1024 * step // 500))
    hostile = synthetic.write(root, "x/hostile", synthetic.up_to(512), grid=Grid(LENGTHS, DEPTHS))
    rows = [asdict(row) | {"answer": HOSTILE, "explanation": HOSTILE, "question": HOSTILE} for row in hostile.results]
    (hostile.folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ["--server.headless=true", f"--server.port={port}", "--server.fileWatcherType=none"]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", *settings, "--", "--output-dir", str(root)]
    with (
        (root / "server.log").open("wb") as log,
        subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log) as server,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address, server, root / "server.log")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                yield App(address, small, large, hostile, browser)
                browser.close()
        finally:
            server.kill()


def measured(root: Path) -> Iterator[store.Run]:
    """Real runs of the bundled checkpoints."""
    grid = f"--lengths={','.join(map(str, LENGTHS))}", f"--depths={','.join(map(str, DEPTHS))}"
    models = "pocket-4k", "pocket-32k"
    command = [sys.executable, "-m", "needle", "run", *models, *grid, "--haystack=noise", "--dtype=float32", "-q"]
    subprocess.run([*command, f"--output-dir={root}"], check=True, stdout=subprocess.DEVNULL)
    for model in models:
        yield store.read(store.find(root, model))


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture
def page(app: App) -> Iterator[Page]:
    """A fresh page; at its end nothing may have gone wrong in it."""
    context = app.browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(WAIT)
    seen, wrong = context.new_page(), []
    seen.on("pageerror", lambda error: wrong.append(str(error)))
    seen.on("console", lambda message: wrong.append(complaint(message)))
    yield seen
    assert seen.evaluate("window.struck") is None
    context.close()
    assert [each for each in wrong if each] == []


def complaint(message: Any) -> str | None:
    if message.type != "error" or message.location["url"].endswith(_PROBES):
        return None
    return f"{message.text} ({message.location['url']})"


def box(page: Page, row: int, column: int, picture: int = 0) -> dict[str, float]:
    """Where a cell of a heatmap lies in the window."""
    page.locator(".js-plotly-plot").nth(picture).locator(".barlayer .point path").first.wait_for()
    find = """([picture, row, column]) => {
        const plot = document.querySelectorAll('.js-plotly-plot')[picture];
        const cell = plot.querySelectorAll('.barlayer .trace')[row].querySelectorAll('.point')[column];
        cell.scrollIntoView({block: 'center'});
        const {x, y, width, height} = cell.querySelector('path').getBoundingClientRect();
        return {x, y, width, height};
    }"""
    found: dict[str, float] = page.evaluate(find, [picture, row, column])
    return found


def click(page: Page, row: int, column: int, picture: int = 0, across: float = 0.5, down: float = 0.5) -> None:
    """Click in a cell, at a share of its width and height, once Plotly has seen the pointer there.

    A click while the page is still being drawn goes to a picture that is about to be replaced.
    """
    page.locator('[data-test-script-state="notRunning"]').wait_for()
    found = box(page, row, column, picture)
    page.mouse.move(found["x"] + across * found["width"], found["y"] + down * found["height"], steps=3)
    told = f"{length_label(LENGTHS[column])} · depth {depth_label(DEPTHS[row])}"
    page.locator(".hoverlayer .hovertext", has_text=told).wait_for()
    page.mouse.down()
    page.mouse.up()


def opened(page: Page, result: Result) -> None:
    """Wait until this cell is the one in the address and on the page, with its own prompt."""
    where = re.escape(f"cell={result.length}:{result.depth:g}:{result.repeat}").replace(":", "(:|%3A)")
    page.wait_for_url(re.compile(where))
    end = time.monotonic() + WAIT / 1000
    while time.monotonic() < end:
        sheets = contents(page)
        asked = any(result.question in sheet for sheet in sheets)
        held = any(re.search(rf'<mark class="needle">[^/]*{re.escape(result.expected[0])}', sheet) for sheet in sheets)
        if asked and held and any(f"{len_of(result)} tokens of prompt" in sheet for sheet in sheets):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"no prompt of {result.length}:{result.depth:g}")


def contents(page: Page) -> list[str]:
    """The HTML of the page's frames; of one that is just being replaced, nothing."""
    from playwright.sync_api import Error

    found = []
    for frame in page.frames[1:]:
        with suppress(Error):
            found.append(frame.content())
    return found


def len_of(result: Result) -> str:
    return f"{result.prompt_tokens:,}"


def result_at(run: store.Run, row: int, column: int) -> Result:
    return next(r for r in run.results if (r.length, r.depth) == (LENGTHS[column], DEPTHS[row]))


def test_a_click_anywhere_in_a_cell_opens_its_prompt(app: App, page: Page) -> None:
    page.goto(f"{app.address}/?run={app.small.name}")
    places = [(0.5, 0.5), (0.02, 0.06), (0.98, 0.06), (0.02, 0.94), (0.98, 0.94)]
    cells = [(1, 1), (0, 0), (2, 2), (0, 2), (2, 0)]
    for (across, down), (row, column) in zip(places, cells, strict=True):
        click(page, row, column, across=across, down=down)
        opened(page, result_at(app.small, row, column))


def test_a_shared_address_shows_the_same_cell(app: App, page: Page) -> None:
    wanted = result_at(app.large, 2, 1)
    page.goto(f"{app.address}/?run={app.large.name}&cell={wanted.length}:{wanted.depth:g}:0&palette=safe")
    opened(page, wanted)
    assert "palette=safe" in page.url


def test_two_runs_are_compared_and_a_click_opens_both(app: App, page: Page) -> None:
    page.goto(f"{app.address}/compare?runs={app.small.name}&runs={app.large.name}")
    page.get_by_text("pocket-4k (baseline)").wait_for()
    page.get_by_text(re.compile("pocket-32k is|no difference shown between pocket-4k and pocket-32k")).wait_for()
    click(page, 1, 2, picture=1)
    opened(page, result_at(app.large, 1, 2))
    assert page.get_by_text("Whole prompt").count() == 2
    # The address alone leads to the same comparison, the same cell open.
    page.goto(page.url)
    opened(page, result_at(app.small, 1, 2))


def test_runs_are_picked_by_hand(app: App, page: Page) -> None:
    page.goto(f"{app.address}/compare?runs={app.large.name}")
    page.get_by_text("The first is the baseline").wait_for()
    page.get_by_role("combobox").first.click()
    page.get_by_role("option", name=app.small.name).click()
    page.get_by_text("pocket-32k (baseline)").wait_for()
    page.wait_for_url(re.compile(f"runs={app.large.name}&runs={app.small.name}"))


def test_the_slider_moves_through_the_steps(app: App, page: Page) -> None:
    page.goto(f"{app.address}/series")
    page.get_by_text("step 2,000 · mean").wait_for()
    slider = page.locator("input[type=range]")  # hidden under the knob that is drawn for it
    slider.focus()
    slider.press("ArrowLeft")
    page.get_by_text("step 1,000 · mean").wait_for()
    page.wait_for_url(re.compile("step=1000"))
    page.get_by_role("button", name="Play").click()
    page.get_by_text("step 2,000 · mean").wait_for()
    page.get_by_role("button", name="Play").wait_for()


def test_hostile_answers_do_nothing(app: App, page: Page) -> None:
    for address in (
        f"?run={app.hostile.name}&cell=512:0:0",
        f"compare?runs={app.hostile.name}&runs={app.small.name}&cell=512:0:0",
    ):
        page.goto(f"{app.address}/{address}")
        page.get_by_text(re.compile("recorded is shown|no cell in common")).first.wait_for()
        assert page.locator("img[src='x'], img[src*='x.png']").count() == 0


def test_every_page_opens(app: App, page: Page) -> None:
    for path, word in (("runs", app.small.name), ("start", "What to measure"), ("series", "Step by length")):
        page.goto(f"{app.address}/{path}")
        if path == "runs":
            page.get_by_test_id("stDataFrame").first.wait_for()
        else:
            page.get_by_text(word).first.wait_for()
