"""Which models a command line names: folders, patterns of folders, hub ids."""

import glob
import os
from pathlib import Path

from needle.errors import UsageError

DEFAULT = "pocket-32k"


def asked(arguments: list[str], options: list[str], served: bool = False) -> list[str]:
    """The models, each once, in the order given; those of a pattern by training step, then by name.

    A model that is `served` is a name, whatever folders there are.

    Raises:
        UsageError: the argument and --model differ, or a pattern fits nothing.
    """
    if arguments and options and arguments != options:
        raise UsageError(f"two models given: '{arguments[0]}' and --model '{options[0]}'")
    given = arguments or options or [DEFAULT]
    if served:
        return list(dict.fromkeys(given))
    found = [model for name in given for model in _expanded(name)]
    # A folder is the same one, and its run the same run, with or without a slash at its end.
    return list(dict.fromkeys(os.path.normpath(m) if Path(m).is_dir() else m for m in found))


def _expanded(name: str) -> list[str]:
    """The checkpoint folders that a pattern fits; a name without one stands for itself."""
    if not glob.has_magic(name) or Path(name).exists():
        return [name]
    folders = [path for path in glob.glob(name) if (Path(path) / "config.json").is_file()]
    if not folders:
        raise UsageError(f"no checkpoint folder (one with a config.json) fits '{name}'")
    return sorted(folders, key=_by_step)


def _by_step(folder: str) -> tuple[bool, int, str]:
    from needle import series

    step = series.step_of(folder)
    return step is None, step or 0, folder
