"""Ray: two workers give what one gives, one that is killed costs nothing but time, and no cell can kill for ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from needle import engines, running
from needle.engines import _ray_crew
from needle.engines import ray as engine
from needle.engines._ray_board import TRIES, Board
from needle.engines._ray_crew import Crew, Worker, connect, cores
from needle.errors import UsageError
from needle.types import Answer, Grid, Prompt, Result, RunSpec

# --- What needs no Ray: who does what ---------------------------------------------------------------------------------


def worked(pieces: list[list[int]], killers: set[int], patience: int = 10**6) -> tuple[list[int], list[int], int]:
    """What became of the cells where each of `killers` kills whoever comes to it: done, given up, and deaths."""
    board, done, given_up, deaths = Board(pieces, patience), list[int](), list[int](), 0
    while board:
        piece = board.take()
        for index in list(piece.left):
            if index in killers:
                deaths += 1
                given_up += board.lost(piece)
                break
            board.finished(piece, index)
            done.append(index)
    return done, given_up, deaths


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.sets(st.integers(0, 40), max_size=6))
def test_cells_that_kill_are_given_up_and_all_others_are_done_once(sizes: list[int], killers: set[int]) -> None:
    cells = iter(range(sum(sizes)))
    pieces = [[next(cells) for _ in range(size)] for size in sizes]
    done, given_up, deaths = worked(pieces, killers)
    assert sorted(given_up) == sorted(killers & set(range(sum(sizes))))
    assert sorted(done) == [i for i in range(sum(sizes)) if i not in killers]
    # Halving finds each of them, alone, in as many deaths as the piece can be halved.
    assert deaths <= len(given_up) * (4 + TRIES)


def test_a_death_from_outside_costs_no_cell() -> None:
    board = Board([[0, 1, 2, 3, 4]], 10)
    piece = board.take()
    board.finished(piece, 0)
    assert board.lost(piece) == []
    left = []
    while board:
        left += board.take().left
    assert left == [1, 2, 3, 4]


def test_where_all_die_the_rest_is_given_up_at_once() -> None:
    done, given_up, deaths = worked([list(range(100)), list(range(100, 200))], set(range(200)), patience=5)
    assert (done, sorted(given_up), deaths) == ([], list(range(200)), 5)


def node(cpu: float, gpu: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpu, **({"GPU": gpu} if gpu else {})}}


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "each"),
    [
        ([node(2)], 2, 0, 1),
        ([node(8)], 2, 0, 4),
        ([node(3), node(5)], 2, 0, 3),
        ([node(16, 8)], 8, 1, 1),
        ([node(16, 1)], 10, 0.1, 1),
        ([node(4, 2), node(4, 2)], 2, 2, 1),
        ([node(4), node(4, alive=False)], 4, 0, 1),
    ],
)
def test_workers_share_the_cores_of_the_nodes(nodes: list[Any], workers: int, gpus: float, each: int) -> None:
    assert cores(nodes, workers, gpus) == each


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus"), [([node(2)], 3, 0), ([node(8, 1), node(8, 1)], 1, 2), ([node(4)], 1, 1), ([], 1, 0)]
)
def test_a_cluster_that_is_too_small_is_refused(nodes: list[Any], workers: int, gpus: float) -> None:
    """Ray itself would wait for ever."""
    with pytest.raises(UsageError, match="lower --workers or --gpus-per-worker"):
        cores(nodes, workers, gpus)


def spec(model: Path | str, engine: str = "ray", **service: Any) -> RunSpec:
    grid = Grid((384, 512, 640), (0.0, 0.3, 0.6, 1.0))
    options = {"dtype": "float32", "service": {"workers": 2, "gpus_per_worker": 0, **service}}
    return RunSpec(str(model), "number", "essays", grid, engine=engine, max_new_tokens=8, options=options)


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ({"workers": 0}, "--workers 0 is no whole number from 1"),
        ({"workers": True}, "--workers True is no whole number from 1"),
        ({"gpus_per_worker": -1}, "--gpus-per-worker -1 is no number from 0"),
        ({"gpus_per_worker": 1.5}, "--gpus-per-worker 1.5: above 1 they come whole"),
        ({"worker_engine": "ray"}, "--worker-engine ray would never come to an answer; use transformers or vllm"),
        ({"worker_engine": "transformer"}, "unknown engine 'transformer'; did you mean 'transformers'?"),
    ],
)
def test_a_setting_without_meaning_is_refused(
    checkpoint: Callable[..., Path], service: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        engine.open(spec(checkpoint("qwen2"), **service), print)
    assert str(refused.value) == message


def test_settings_are_read_from_service_first_and_then_from_the_options(checkpoint: Callable[..., Path]) -> None:
    asked = spec(checkpoint("qwen2"), workers=3)
    assert engine.open(asked, print).workers == 3
    flat = {"workers": 4, "gpus_per_worker": 0}
    assert engine.open(replace(asked, options={**flat, "service": {"workers": 3}}), print).workers == 3
    assert engine.open(replace(asked, options=flat), print).workers == 4


def test_workers_with_gpus_compute_in_the_checkpoints_own_dtype(checkpoint: Callable[..., Path]) -> None:
    """Whatever the machine would choose that only hands out the work."""
    asked = spec(checkpoint("qwen2", dtype="float16"), gpus_per_worker=1)
    opened = engine.open(replace(asked, options={**asked.options, "dtype": "auto"}), print)
    assert opened.sources["dtype"] == opened.inner.options["dtype"] == "float16"
    assert opened.inner.options.get("device", "auto") == "auto"


def test_without_ray_one_line_says_what_to_install(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    opened = engine.open(spec(checkpoint("qwen2")), print)
    with pytest.raises(UsageError, match="pip install 'needle-eval"):
        opened.load()


# --- A cluster of two workers on this machine -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    # Workers, which inherit it, find the classes of this file.
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    connect(ray, "local", num_cpus=2, object_store_memory=100 * 1024**2)
    yield ray
    ray.shutdown()
    monkeypatch.undo()


class Watch:
    """A watcher that keeps what it is told, and does something when a cell comes."""

    def __init__(self, on_cell: Callable[[int], None] = lambda _: None) -> None:
        self.said: list[str] = []
        self.cells: list[Result] = []
        self._on_cell = on_cell

    def say(self, message: str) -> None:
        self.said.append(message)

    def loaded(self) -> None: ...

    def cell(self, result: Result, fresh: bool = True) -> None:
        self.cells.append(result)
        self._on_cell(len(self.cells))


def facts(results: list[Result]) -> list[tuple[Any, ...]]:
    """What a run found, cell by cell; how long it took may differ."""
    return [
        (
            r.length,
            r.depth,
            r.status,
            r.score,
            r.outcome,
            r.answer,
            r.answer_ids,
            r.finish,
            r.answer_rank,
            r.error,
            r.way,
        )
        for r in results
    ]


@pytest.fixture(scope="module")
def alone(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """The same cells measured by one transformers engine in this process."""
    asked = spec(checkpoint("qwen2"), "transformers")
    return running.execute(running.prepare(asked, print), tmp_path_factory.mktemp("alone"), Watch()).results


def test_two_workers_give_what_one_gives_and_a_killed_one_loses_nothing(
    cluster: Any, checkpoint: Callable[..., Path], tmp_path: Path, alone: list[Result]
) -> None:
    watch = Watch()
    prepared = running.prepare(spec(checkpoint("qwen2")), watch.say)
    found = running.execute(prepared, tmp_path / "whole", watch)
    assert found.status == "complete"
    assert facts(found.results) == facts(alone)
    for one, other in zip(found.results, alone, strict=True):
        assert one.answer_logprob == pytest.approx(other.answer_logprob, abs=1e-4)
    session = found.sessions[-1]
    workers = session["workers"]
    assert len({w["pid"] for w in workers}) == 2
    assert all(w["device"] == "cpu" and w["node"] for w in workers)
    assert (session["dtype"], session["versions"]["ray"]) == ("float32", cluster.__version__)

    # The same crew again; the worker that is killed has cells in its hands.
    pids = [w["pid"] for w in workers]
    loaded = prepared.engine
    loaded.load = lambda: session  # type: ignore[method-assign]
    watch = Watch(lambda count: os.kill(pids[0], signal.SIGKILL) if count == 1 else None)
    loaded.say = loaded.crew.say = watch.say  # type: ignore[attr-defined]
    again = running.execute(prepared, tmp_path / "killed", watch)
    assert facts(again.results) == facts(alone)
    assert len(watch.cells) == len(alone), "a cell was measured twice, or never"
    crew = loaded.crew  # type: ignore[attr-defined]
    assert pids[0] not in {m.report["pid"] for m in crew.members}
    for member in list(crew.members):
        crew.dismiss(member)


class Deadly(Worker):
    """A worker that dies over some cells, and finishes all others."""

    def __init__(self, killers: set[int]) -> None:
        self.killers = killers

    def load(self) -> dict[str, Any]:
        return {"node": "here", "pid": os.getpid(), "said": ["loaded"]}

    def answers(self, prompts: Any) -> Iterator[tuple[int, Answer]]:
        for at, prompt in enumerate(prompts):
            if prompt.position in self.killers:
                os._exit(1)
            yield at, Answer(text=str(prompt.position))


def deadly(cluster: Any, opened: Any, killers: set[int], size: int = 2) -> list[str]:
    """Put workers that die over `killers` into an opened engine; what it says."""
    said: list[str] = []
    actor = cluster.remote(Deadly).options(num_cpus=0)
    opened.say = said.append
    opened.crew = Crew(cluster, lambda: actor.remote(killers), size, said.append)
    opened.crew.gather()
    return said


def numbered(prompts: list[Prompt]) -> list[Prompt]:
    return [replace(prompt, position=at) for at, prompt in enumerate(prompts)]


def test_a_cell_that_kills_its_workers_is_an_error_and_all_others_are_done(
    cluster: Any, checkpoint: Callable[..., Path]
) -> None:
    prepared = running.prepare(spec(checkpoint("qwen2")), print)
    opened, prompts = prepared.engine, numbered(prepared.prompts)
    said = deadly(cluster, opened, {4})
    answers = dict(opened.answers(prompts))
    assert sorted(answers) == list(range(len(prompts)))
    assert [i for i, a in answers.items() if a.error] == [4]
    assert "workers died over it" in str(answers[4].error)
    assert "\n" not in str(answers[4].error)
    assert all(a.text == str(i) for i, a in answers.items() if not a.error)
    assert said.count("loaded") == 1, "what every worker says is told once"
    assert any("another takes over" in line for line in said)


def test_workers_that_all_die_end_the_run_with_errors(cluster: Any, checkpoint: Callable[..., Path]) -> None:
    prepared = running.prepare(spec(checkpoint("qwen2"), workers=1), print)
    prompts = numbered(prepared.prompts)
    deadly(cluster, prepared.engine, set(range(len(prompts))), size=1)
    answers = list(prepared.engine.answers(prompts))
    assert sorted(i for i, _ in answers) == list(range(len(prompts)))
    assert all(a.error for _, a in answers)


class Refusing(Deadly):
    def load(self) -> dict[str, Any]:
        raise UsageError("the weights are not here")


def test_a_crew_of_which_nobody_can_load_is_refused_with_the_workers_own_reason(cluster: Any) -> None:
    said: list[str] = []
    actor = cluster.remote(Refusing).options(num_cpus=0)
    with pytest.raises(UsageError, match="no worker could be started: the weights are not here"):
        Crew(cluster, lambda: actor.remote(set()), 1, said.append).gather()
    assert said == ["a worker could not be started (the weights are not here); 0 go on"]


def test_a_worker_with_other_files_under_the_same_name_refuses(checkpoint: Callable[..., Path]) -> None:
    opened = engine.open(spec(checkpoint("qwen2")), print)
    version, there = _ray_crew.__version__, opened.inner_sources
    worker = Worker(version, opened.inner, there)
    assert worker.load()["node"]
    assert worker.engine.sources == there
    with pytest.raises(UsageError, match="has another model under the name"):
        Worker(version, opened.inner, {**there, "model": "0"}).load()
    with pytest.raises(UsageError, match="install the same"):
        Worker("0.0.0", opened.inner, there).load()


def test_a_connection_that_is_there_is_used_and_rays_client_is_refused(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(cluster, "127.0.0.1:1")
    monkeypatch.setattr(cluster, "is_initialized", lambda: False)
    with pytest.raises(UsageError, match="cannot stream answers"):
        connect(cluster, "ray://head:10001")


def test_the_registry_finds_it() -> None:
    assert engines.get("ray") is engine
