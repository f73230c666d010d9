"""How long the web app takes to show a heatmap and to open a cell, measured in a browser on a quiet machine.

Makes its own runs: 200 of 110 cells and one of 35 × 35, written through the store, and a real one of `pocket-4k` whose
cells are opened. "Opens" is from the address being entered to the first cell drawn, in a browser that has the app's
files in its cache; each figure is the median of several. Needs the package playwright, and Chromium.

    python benchmarks/app.py [--repeats 5] [--json out.json]

The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

import synthetic  # noqa: E402

from needle.types import Grid  # noqa: E402

MANY, CELLS = 200, Grid(tuple(range(1024, 10_241, 1024)), tuple(d / 10 for d in range(11)))
LARGE = Grid(tuple(range(1024, 35 * 1024 + 1, 1024)), tuple(round(d / 34, 4) for d in range(35)))
LIMITS = {
    "first heatmap, server just started, 200 runs": 1.5,
    "first heatmap, 200 runs": 1.5,
    "heatmap of 35 x 35": 2.5,
    "a cell opens": 0.5,
}
DRAWN = "() => document.querySelectorAll('.js-plotly-plot .barlayer .point path').length >= {cells}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        large = synthetic.write(root, "x/large", synthetic.up_to(20_000), grid=LARGE).name
        for number in range(MANY):
            synthetic.write(root, f"x/m{number}", synthetic.up_to(1024 * (number % 10 + 1)), grid=CELLS)
        found = measure(root, large, asked.repeats)
    print(f"{'what':<48}{'median s':>10}{'worst s':>10}{'limit s':>10}")
    for name, times in found.items():
        print(f"{name:<48}{statistics.median(times):>10.2f}{max(times):>10.2f}{LIMITS[name]:>10.1f}")
    told = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "seconds": {name: [round(t, 3) for t in times] for name, times in found.items()},
        "limits": LIMITS,
        "kept": {name: statistics.median(times) <= LIMITS[name] for name, times in found.items()},
    }
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1))
    print(json.dumps(told))


def measure(root: Path, large: str, repeats: int) -> dict[str, list[float]]:
    """Seconds by what was measured."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium(), args=["--no-sandbox"], viewport={"width": 1280, "height": 1000}
        )
        page = context.new_page()
        with serving(root) as address:
            opened(page, address, 110)  # fills the browser's cache and compiles nothing but the server's modules
        with serving(root) as address:
            found = {"first heatmap, server just started, 200 runs": [opened(page, address, 110)]}
            found["first heatmap, 200 runs"] = [opened(page, address, 110) for _ in range(repeats)]
            found["heatmap of 35 x 35"] = [opened(page, f"{address}/?run={large}", 35 * 35) for _ in range(repeats)]
        with tempfile.TemporaryDirectory() as other:
            name = real(Path(other))
            with serving(Path(other)) as address:
                page.goto(f"{address}/?run={name}")
                found["a cell opens"] = cells(page, repeats)
        context.close()
    return found


def opened(page: Any, address: str, cells: int) -> float:
    """Seconds from entering the address to all cells being drawn."""
    page.goto("about:blank")
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(DRAWN.format(cells=cells), polling=20, timeout=120_000)
    return time.perf_counter() - began


def cells(page: Any, repeats: int) -> list[float]:
    """Seconds from a click on a cell to its prompt; the first click, which reads the tokenizer, is left out."""
    page.wait_for_function(DRAWN.format(cells=9), polling=20, timeout=120_000)
    times = []
    for number in range(repeats + 1):
        row, column = divmod(number % 9, 3)
        place = page.evaluate(
            "([row, column]) => { const cell = document.querySelectorAll('.js-plotly-plot .barlayer .trace')[row]"
            ".querySelectorAll('.point')[column]; cell.scrollIntoView({block: 'center'});"
            "const r = cell.querySelector('path').getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; }",
            [row, column],
        )
        before = page.evaluate("[...document.querySelectorAll('iframe')].map(e => e.src).join()")
        page.mouse.move(*place, steps=3)
        page.locator(".hoverlayer .hovertext").first.wait_for()
        page.wait_for_timeout(150)
        began = time.perf_counter()
        page.mouse.down()
        page.mouse.up()
        page.wait_for_function(
            "before => { const now = [...document.querySelectorAll('iframe')].map(e => e.src);"
            "return now.length >= 2 && now.join() !== before; }",
            arg=before,
            polling=20,
            timeout=120_000,
        )
        times.append(time.perf_counter() - began)
        page.wait_for_timeout(1500)
    return times[1:]


def real(root: Path) -> str:
    """The name of a run whose prompts can be rebuilt, 32K long."""
    grid = ["--lengths=8k,16k,32k", "--depths=0,0.5,1"]
    command = [sys.executable, "-m", "needle", "run", "pocket-4k", *grid, "-q", f"--output-dir={root}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(path.name for path in root.iterdir() if path.is_dir())


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        sys.exit("benchmarks/app.py needs Chromium: apt-get install chromium")
    return found


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """The address of a server of its own over `root`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ["--server.headless=true", f"--server.port={port}", "--server.fileWatcherType=none"]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", *settings, "--", "--output-dir", str(root)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            until(lambda: answers(address))
            yield address
        finally:
            server.terminate()


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).close()
    except OSError:
        return False
    return True


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        if time.monotonic() > end:
            sys.exit("the server does not answer")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
