"""A watcher of runs that nothing reaches."""

from __future__ import annotations

from needle.types import Result


class Quiet:
    def say(self, message: str) -> None: ...

    def loaded(self) -> None: ...

    def cell(self, result: Result, fresh: bool = True) -> None: ...
