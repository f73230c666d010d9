"""A crew of Ray actors, each with an engine and its weights: hired, replaced when they die, dismissed."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from needle import __version__, engines
from needle.engines import Engine
from needle.errors import UsageError, one_line
from needle.types import Answer, Prompt, RunSpec

PATIENCE = 600.0
"""Seconds to wait for a worker while there is none at all."""
_NEWS = 60.0
_STARTS = 3
_OBJECTS = 256 * 1024**2
"""Bytes of shared memory for prompts and answers on their way, where the cluster is this run's own."""


class Worker:
    """What runs in an actor: an engine for `spec`, its files checked against those of the one who sent it."""

    def __init__(self, version: str, spec: RunSpec, sources: Mapping[str, str]) -> None:
        # Nothing that may fail: Ray would bury the reason.
        self.version, self.spec, self.sources = version, spec, sources
        self.engine: Engine

    def load(self) -> dict[str, Any]:
        """Read the weights; provenance, the process it is, and under "said" what the user ought to know.

        Raises:
            UsageError: this node has another release or other files, or the engine refuses.
        """
        node, said = platform.node(), list[str]()
        if self.version != __version__:
            raise UsageError(f"{node} has needle {__version__}, the run is of {self.version}; install the same")
        self.engine = engines.get(self.spec.engine).open(self.spec, said.append)
        off = sorted(name for name, value in self.engine.sources.items() if self.sources.get(name) != value)
        if off:
            raise UsageError(f"{node} has another {' and '.join(off)} under the name '{self.spec.model}'")
        return {**self.engine.load(), "node": node, "pid": os.getpid(), "said": said}

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Answer]]:
        """See `needle.engines.Engine`; Ray hands on each answer as it comes."""
        # What comes out of Ray's shared memory cannot be written to, which torch warns of.
        own = [replace(prompt, ids=np.array(prompt.ids)) for prompt in prompts]
        yield from self.engine.answers(own)


@dataclass(eq=False, slots=True)
class Member:
    """A worker by its actor's handle, and what it reported once its weights were there."""

    actor: Any
    report: dict[str, Any] = field(default_factory=dict)

    def start(self, prompts: Sequence[Prompt]) -> Any:
        """The stream of its answers."""
        return self.actor.answers.options(num_returns="streaming").remote(list(prompts))


class Crew:
    """Up to `size` workers, made by `hire`; one that cannot be had is said, and the crew is smaller from then on."""

    def __init__(self, ray: Any, hire: Callable[[], Any], size: int, say: Callable[[str], None]) -> None:
        self.ray, self.size, self.say = ray, size, say
        self.members: list[Member] = []
        self.refused = ""
        self._hire = hire
        self._coming: dict[Any, Member] = {}
        self._said: set[str] = set()

    def fill(self) -> None:
        """Hire until there are, or are coming, as many as there should be."""
        while len(self.members) + len(self._coming) < self.size:
            actor = self._hire()
            self._coming[actor.load.remote()] = Member(actor)

    def gather(self) -> None:
        """Wait for all.

        Raises:
            UsageError: not one came.
        """
        self.fill()
        while self._coming:
            if self.wait([], _NEWS) is None:
                self.say(f"{len(self.members)} of {self.size} workers are there; waiting for the others")
        if not self.members:
            raise UsageError(f"no worker could be started: {self.refused}")

    def wait(self, streams: Iterable[Any], seconds: float | None = None) -> Any:
        """The first of `streams` that has something to give, or whoever came; None if nothing happened in time."""
        ready, _ = self.ray.wait([*streams, *self._coming], num_returns=1, timeout=seconds)
        if ready and ready[0] in self._coming:
            self._arrive(ready[0])
        return ready[0] if ready else None

    def dismiss(self, member: Member) -> None:
        """Make sure that it is gone."""
        self.members = [m for m in self.members if m is not member]
        self.ray.kill(member.actor)

    def _arrive(self, report: Any) -> None:
        member = self._coming.pop(report)
        try:
            member.report = self.ray.get(report)
        except self.ray.exceptions.RayError as error:
            self.refused, self.size = reason(error), self.size - 1
            self.say(f"a worker could not be started ({self.refused}); {self.size} go on")
            self.ray.kill(member.actor)
            return
        self.members.append(member)
        for line in member.report.pop("said"):
            if line not in self._said:
                self._said.add(line)
                self.say(line)


def connect(ray: Any, address: str | None, **own: Any) -> None:
    """Join the cluster at `address` (or at RAY_ADDRESS), or be one; where there is a connection already, it is used.

    `own` are further settings of `ray.init` for a cluster of this run's own.

    Raises:
        UsageError: there is no cluster, or it cannot be reached in this manner.
    """
    if ray.is_initialized():
        return
    # Ray tells its makers of each use unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's own default puts workers behind all else that a machine does, for the sake of its scheduler.
    os.environ.setdefault("RAY_worker_niceness", "0")
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise UsageError(
            f"--address {address}: Ray's client cannot stream answers; run needle on a node, with --address auto"
        )
    local = address == "local"
    settings = {"include_dashboard": False, "object_store_memory": _OBJECTS, **own} if local else {}
    for left in reversed(range(_STARTS if local else 1)):
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error", **settings)
        except Exception as error:
            # Ray has no error of its own for this: a node that is not up within half a minute is a plain Exception.
            ray.shutdown()
            if not left:
                remedy = "try again when the machine is less busy" if local else "start one with `ray start` there"
                raise UsageError(f"no Ray cluster at --address {address} ({reason(error)}); {remedy}") from error
        else:
            return


def cores(nodes: Sequence[Mapping[str, Any]], workers: int, gpus: float) -> int:
    """CPU cores that each of `workers`, with `gpus` GPUs each, can have for its own on these nodes of a cluster.

    Raises:
        UsageError: the nodes have no room for so many.
    """
    there = [node["Resources"] for node in nodes if node["Alive"]]
    # A GPU needs one core to feed it; on the CPU more cores are more speed.
    most = 1 if gpus else int(sum(node.get("CPU", 0) for node in there)) // workers
    for each in range(most, 0, -1):
        if sum(_room(node, each, gpus) for node in there) >= workers:
            return each
    has = f"{sum(n.get('CPU', 0) for n in there):g} CPU cores and {sum(n.get('GPU', 0) for n in there):g} GPUs"
    raise UsageError(
        f"no room for {workers} workers of a CPU core and {gpus:g} GPUs each: there are {has} on {len(there)} node(s); "
        "lower --workers or --gpus-per-worker"
    )


def _room(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    """Workers that fit on one node."""
    fitting = int(node.get("CPU", 0)) // cpus
    # A share such as 0.1 is not to lose its last worker to rounding.
    return min(fitting, int(node.get("GPU", 0) / gpus + 1e-9)) if gpus else fitting


def reason(error: Exception) -> str:
    """What became of a worker, in one line; an error that came from within it speaks for itself."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    # What went wrong before there was an actor stands below the traceback.
    text = (lines[-1] if "creation task" in lines[0] else lines[0]) if lines else ""
    return one_line(text if isinstance(cause, UsageError) else f"{type(cause).__name__}: {text}")[:300]
