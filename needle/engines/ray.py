"""Ray: the trunks of a run spread over workers, on the GPUs of one machine or the nodes of a cluster.

Each worker is a Ray actor that holds the whole model in an engine of this folder. Stretches of the walk
(`needle.sharing`) wait in a queue; a free worker takes the next. Each answer comes back at once. When a worker dies,
another is hired and what it had not finished is done again (`needle.engines._ray_board`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from needle import __version__, engines, pocket, sharing
from needle.engines._ray_board import Board, Piece
from needle.engines._ray_crew import PATIENCE, Crew, Member, Worker, connect, cores, reason
from needle.engines._settings import count, setting
from needle.errors import UsageError
from needle.types import Answer, Prompt, RunSpec

SETTINGS = ("workers", "gpus_per_worker", "address", "worker_engine")
_BARREN = 3
"""Deaths in a row, a worker, with no cell finished in between, after which what waits is given up."""


def open(spec: RunSpec, say: Callable[[str], None]) -> Ray:
    """The engine for `spec`; settings are read from its options, under "service" first.

    `workers` (1), `gpus_per_worker` (1 where this machine has CUDA, else 0; may be a part of 1), `address` (of a
    cluster; else this machine alone), `worker_engine` (transformers).

    Raises:
        UsageError: a setting has no meaning, or the workers' engine refuses.
    """
    return Ray(spec, say)


class Ray:
    """See `needle.engines.Engine`."""

    def __init__(self, spec: RunSpec, say: Callable[[str], None]) -> None:
        self.say = say
        self.workers = count(spec.options, "workers", 1)
        self.gpus = _gpus(setting(spec.options, "gpus_per_worker"))
        self.address: str | None = setting(spec.options, "address")
        name = str(setting(spec.options, "worker_engine", "transformers"))
        if name == "ray":
            raise UsageError("--worker-engine ray would never come to an answer; use transformers or vllm")
        # This process only builds prompts: it may have no GPU where the workers have one.
        options = {**spec.options, "dtype": _dtype(spec, self.gpus)}
        here = {**options, "device": "cpu", "device_map": None, "attn": "auto"}
        probe = engines.get(name).open(replace(spec, engine=name, options=here), say)
        self.tokenizer, self.cost, self.chunk = probe.tokenizer, probe.cost, probe.chunk
        self.sources = {**probe.sources, "worker_engine": name}
        # All workers compute in the one dtype that the run's identity names, whatever their node would choose.
        options["dtype"] = probe.sources.get("dtype", options["dtype"])
        if not self.gpus and options.get("device", "auto") == "auto":
            options["device"] = "cpu"
        self.inner = replace(spec, engine=name, model=_found_anywhere(spec.model), options=options)
        self.inner_sources = probe.sources
        self.crew: Crew

    def load(self) -> dict[str, Any]:
        """Hire the workers and wait until each has its weights; device and the like as they really are, by worker.

        Raises:
            UsageError: Ray is not installed, its cluster is out of reach or too small, or no worker could load.
        """
        ray = _ray()
        connect(ray, self.address)
        cpus = cores(ray.nodes(), self.workers, self.gpus)
        if not self.gpus and ray.cluster_resources().get("GPU"):
            self.say("the workers run on the CPU though the cluster has GPUs; --gpus-per-worker 1 uses them")
        actor = ray.remote(Worker).options(num_cpus=cpus, num_gpus=self.gpus, max_restarts=0)
        hire = partial(actor.remote, __version__, self.inner, self.inner_sources)
        self.crew = Crew(ray, hire, self.workers, self.say)
        self.crew.gather()
        return _merged([member.report for member in self.crew.members], ray.__version__)

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Answer]]:
        """Answers as they come from the workers. A cell that kills them, or that nobody is left for, is an error."""
        stretches = sharing.queue([p.ids for p in prompts], self.cost, self.workers)
        board = Board([s.indexes for s in stretches], patience=_BARREN * self.workers + 2)
        busy: dict[Any, _Job] = {}
        try:
            while board or busy:
                self._hand_out(board, busy, prompts)
                stream = self.crew.wait(busy, None if busy else PATIENCE)
                if stream in busy:
                    yield from self._next(stream, busy, board)
                elif not busy and (stream is None or not self.crew.size):
                    why = self.crew.refused or f"none came within {PATIENCE:g} s"
                    yield from _failed(board.give_up(), f"no worker is left: {why}")
        finally:
            # Whoever stopped listening does not want them to go on.
            for job in busy.values():
                self.crew.dismiss(job.member)

    def _hand_out(self, board: Board, busy: dict[Any, _Job], prompts: Sequence[Prompt]) -> None:
        """Give each free worker the next piece, and have as many workers as there should be while any waits."""
        if board:
            self.crew.fill()
        working = {id(job.member) for job in busy.values()}
        for member in self.crew.members:
            if board and id(member) not in working:
                piece = board.take()
                order = tuple(piece.left)
                busy[member.start([prompts[i] for i in order])] = _Job(member, piece, order)

    def _next(self, stream: Any, busy: dict[Any, _Job], board: Board) -> Iterator[tuple[int, Answer]]:
        """What `stream` has to give: an answer, its end, or a worker's death and the cells given up for it."""
        job = busy[stream]
        try:
            at, answer = self.crew.ray.get(next(stream))
        except StopIteration:
            del busy[stream]
            if job.piece.left:
                yield from _failed(job.piece.left, "its worker gave no answer")
        except self.crew.ray.exceptions.RayError as error:
            del busy[stream]
            self.crew.dismiss(job.member)
            why = reason(error)
            if job.piece.left:
                self.say(f"a worker on {job.member.report['node']} was lost ({why}); another takes over")
            yield from _failed(board.lost(job.piece), f"workers died over it, one after another ({why})")
        else:
            board.finished(job.piece, job.order[at])
            yield job.order[at], answer


class _Job:
    """A piece in a worker's hands; `order` is what its answers' indexes count in."""

    def __init__(self, member: Member, piece: Piece, order: tuple[int, ...]) -> None:
        self.member, self.piece, self.order = member, piece, order


def _failed(indexes: Sequence[int], why: str) -> Iterator[tuple[int, Answer]]:
    return ((index, Answer(finish="error", error=why, way="ray")) for index in indexes)


def _ray() -> ModuleType:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError("--engine ray needs the package ray: pip install 'needle-eval[ray]'") from error


def _gpus(asked: object) -> float:
    """GPUs a worker. The default looks at this machine; a cluster's other nodes are not known yet."""
    if asked is None:
        import torch

        return 1.0 if torch.cuda.is_available() else 0.0
    if isinstance(asked, bool) or not isinstance(asked, int | float) or asked < 0:
        raise UsageError(f"--gpus-per-worker {asked} is no number from 0")
    if asked > 1 and asked != int(asked):
        raise UsageError(f"--gpus-per-worker {asked:g}: above 1 they come whole")
    return float(asked)


def _dtype(spec: RunSpec, gpus: float) -> str:
    """The dtype that is asked for; "auto" is the checkpoint's own where the workers have GPUs and this one may not."""
    asked = str(spec.options.get("dtype", "auto"))
    if asked != "auto" or not gpus:
        return asked
    # The only thing here that needs Transformers; workers that load this module start sooner without.
    from needle.engines import _checkpoint

    config = _checkpoint.read_config(spec.model, spec.options)
    return str(getattr(config.get_text_config(), "dtype", None) or "float32").removeprefix("torch.")


def _found_anywhere(model: str) -> str:
    """A name that means the same on every worker, which has another working folder."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if model not in pocket.NAMES and folder.is_dir() else model


def _merged(reports: Sequence[dict[str, Any]], version: str) -> dict[str, Any]:
    """One report for all: what they agree on once, what differs side by side, and each worker's own."""
    first = reports[0]
    names = [name for name in first if name not in ("node", "pid", "versions")]
    said = {name: [report.get(name) for report in reports] for name in names}
    common = {
        name: values[0] if all(v == values[0] for v in values) else " + ".join(sorted({str(v) for v in values}))
        for name, values in said.items()
    }
    versions = {**first.get("versions", {}), "ray": version}
    own = [{k: r[k] for k in ("node", "pid", "device", "dtype", "kernel", "way") if k in r} for r in reports]
    return {**common, "versions": versions, "workers": own}
