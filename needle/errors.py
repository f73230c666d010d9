"""What can go wrong, as the user is told. The message names the thing and the remedy, in one line."""

from __future__ import annotations


class NeedleError(Exception):
    """Base of the package's errors."""


class UsageError(NeedleError):
    """The request cannot be carried out as given; nothing was written (exit code 2)."""


class StoreError(UsageError):
    """A run folder cannot be read or written."""


class FitError(UsageError):
    """A cell's needle and question do not fit its length."""


class ScoreError(NeedleError):
    """An answer cannot be graded: its cell becomes an error row, never a score."""


def one_line(error: object) -> str:
    r"""What `error` says in one line; what a terminal would act on or not show is written out, ESC as `\x1b`."""
    text = " ".join(str(error).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
