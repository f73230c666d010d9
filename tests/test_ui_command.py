"""`needle ui` serves this machine alone, says where, and takes nobody's word from another site."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic
from pages import GRID, everything

from needle.cli import ui as command
from needle.errors import UsageError

CONFIG = Path(__file__).parents[1] / ".streamlit" / "config.toml"
START = "import typer; from needle.cli.ui import ui; app = typer.Typer(); app.command()(ui); app()"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The app as the command starts it, and its port."""
    root = tmp_path_factory.mktemp("runs")
    synthetic.write(root, "x/y", everything, GRID)
    arguments = [sys.executable, "-c", START, "--port", "0", "--output-dir", str(root)]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=root
    )
    assert process.stdout
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
    assert found, line
    try:
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        if process.stderr:
            process.stderr.close()


def answer(address: str, patience: float = 60) -> int:
    """The status of a GET, once somebody listens."""
    until = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_the_address_answers_and_no_other_one(served: tuple[subprocess.Popen[str], int]) -> None:
    _, port = served
    assert answer(f"http://127.0.0.1:{port}/_stcore/health") == 200
    assert answer(f"http://127.0.0.1:{port}/") == 200
    if sys.platform == "linux":
        # All of 127.0.0.0/8 is this machine: a server that listened everywhere would answer here too.
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port), timeout=5)


def test_a_port_that_is_taken_is_said(served: tuple[subprocess.Popen[str], int]) -> None:
    _, port = served
    answer(f"http://127.0.0.1:{port}/_stcore/health")
    with pytest.raises(UsageError, match=f"port {port} .* is taken; give another --port"):
        command.ui(port=port)


def test_ctrl_c_ends_it(served: tuple[subprocess.Popen[str], int]) -> None:
    process, port = served
    answer(f"http://127.0.0.1:{port}/_stcore/health")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) is not None
    assert process.stderr
    assert "Traceback" not in process.stderr.read()


def test_both_ways_of_starting_are_equally_safe() -> None:
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11
    told = dict(option.removeprefix("--").split("=") for option in command._settings(8501))
    file = {
        f"{section}.{name}": value
        for section, names in tomllib.loads(CONFIG.read_text()).items()
        for name, value in names.items()
    }
    for name in (
        "server.address",
        "server.enableXsrfProtection",
        "server.enableCORS",
        "server.headless",
        "browser.gatherUsageStats",
        "client.showErrorDetails",
    ):
        assert str(file[name]).lower() == told[name], name
    assert (told["server.address"], told["server.enableXsrfProtection"]) == ("127.0.0.1", "true")
    assert (told["browser.gatherUsageStats"], told["server.headless"]) == ("false", "true")
