"""`needle ui`: the web app, on this machine only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from needle.cli.show import Root

ADDRESS = "127.0.0.1"


def ui(
    port: Annotated[int, typer.Option(help="Port of 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 8501,
    output_dir: Root = Path("runs"),
) -> None:
    """Open the web app: heatmaps, cells, comparisons and runs in progress. Ctrl-C ends it.

    It answers this machine only. From another one, forward the port: ssh -L 8501:127.0.0.1:8501 HOST.

    Examples:

        needle ui
        needle ui --port 8600 --output-dir ./results
    """
    import os

    from needle.errors import UsageError

    chosen = _free(port)
    if chosen is None:
        raise UsageError(f"port {port} of {ADDRESS} is taken; give another --port, or 0 for a free one")
    print(f"needle ui: http://{ADDRESS}:{chosen}   (Ctrl-C ends it)", flush=True)
    os.environ["NEEDLE_RUNS"] = str(output_dir.absolute())
    from streamlit.web.cli import main

    app = Path(__file__).parents[1] / "ui" / "_app.py"
    main(["run", str(app), *_settings(chosen)], prog_name="needle ui")


def _free(port: int) -> int | None:
    """The port if it can be had, any free one for 0, None if it is taken."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return None
        found: int = probe.getsockname()[1]
    return found


def _settings(port: int) -> list[str]:
    """Streamlit's options: this machine only, requests from other sites refused, nothing sent home, no browser."""
    told = {
        "server.address": ADDRESS,
        "server.port": port,
        "server.headless": True,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.fileWatcherType": "none",
        "browser.serverAddress": ADDRESS,
        "browser.gatherUsageStats": False,
        "logger.hideWelcomeMessage": True,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    return [f"--{name}={str(value).lower()}" for name, value in told.items()]
