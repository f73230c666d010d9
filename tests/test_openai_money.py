"""What a run of the openai engine costs, and requests of it that make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostile import Stub
from openai_runs import Ear, ask, spec

from needle import running
from needle.errors import UsageError

pytest.importorskip("openai")
pytest.importorskip("tenacity")
pytest_plugins = ("openai_fixtures",)
pytestmark = pytest.mark.usefixtures("no_wait")


def test_a_budget_stops_the_run_before_it_is_overdrawn(tmp_path: Path, serve: Any, words: Any) -> None:
    stub, ear = serve(Stub(words)), Ear()
    money = {"price_in": 1000.0, "price_out": 1000.0, "budget": 2.5}
    asked = spec(stub.url, service=money)
    run = running.execute(running.prepare(asked, ear.say), tmp_path, ear)
    tokens = sum(len(r.body["prompt"]) + 12 for r in stub.cells)
    assert 0 < len(run.results) < 6
    assert run.status == "partial"
    assert all(r.status == "ok" for r in run.results)
    assert 1000 * tokens / 1e6 <= 2.5
    assert f"spent about ${1000 * tokens / 1e6:,.4f}" in ear.lines
    assert ear.lines[-1].startswith("the budget of $2.5 does not pay for another cell:")
    # More money, and the same run goes on.
    richer = spec(stub.url, service={**money, "budget": 100.0})
    assert running.prepare(richer, ear.say).sources == running.prepare(asked, ear.say).sources


def test_requests_side_by_side_do_not_overdraw(serve: Any, words: Any) -> None:
    stub = serve(Stub(words))
    ask(spec(stub.url, service={"price_in": 1000.0, "budget": 1.5, "concurrency": 6}))
    assert sum(len(r.body["prompt"]) for r in stub.cells) / 1000 <= 1.5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budget": 5}, "--budget needs prices"),
        ({"concurrency": 0}, "--concurrency '0' is no number from 1"),
        ({"timeout": "soon"}, "--timeout 'soon' is no number"),
        ({"price_in": -1}, "--price-in '-1'"),
        ({"api": "grpc"}, "--api 'grpc' is unknown; use auto, completions, chat"),
        ({"tokenizer": "/nowhere"}, "no tokenizer '/nowhere'.*--tokenizer"),
        ({"base_url": None}, "needs --base-url"),
    ],
)
def test_a_request_that_makes_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        running.prepare(spec("http://127.0.0.1:9", service={**options}, **options), Ear().say)
