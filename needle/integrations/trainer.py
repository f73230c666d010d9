"""Retrieval measured at each save of a training with transformers' Trainer, and logged beside its loss."""

from __future__ import annotations

import gc
import logging
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from needle import analysis, running, watching
from needle.cli._request import one, request
from needle.engines import _checkpoint
from needle.errors import NeedleError, UsageError, one_line
from needle.store import Run
from needle.types import Result

_log = logging.getLogger(__name__)


class NeedleCallback(TrainerCallback):  # type: ignore[misc]
    """Measures each checkpoint that the Trainer saves, and logs what it finds through the Trainer.

        trainer = Trainer(...)
        trainer.add_callback(NeedleCallback(trainer, lengths=("1k", "4k")))

    Logged are `needle/<tokens>`, the mean score 0–1 of each context length; `needle/mean`; `needle/effective_length` in
    tokens, 0 where not even the shortest passes; `needle/failed`, if any cells did; and `needle/seconds`. The run lies
    in `output_dir` as if `needle run` had made it, so that `needle series` and the app show it.

    What is measured is the checkpoint folder, read anew in this process, on world process zero, while the others wait
    in their next step. It needs the model's memory once more; the live model is not touched, nor are the random states.
    A checkpoint that cannot be measured is a warning in the log and never ends the training.

    Raises:
        UsageError: task, haystack, scorer, lengths or depths have no meaning, there is no tokenizer, or (when training
            begins) a length is more than the model takes.
    """

    def __init__(
        self,
        trainer: Any,
        lengths: Sequence[int | str] = (1024, 2048, 4096),
        depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
        task: str = "number",
        haystack: str | None = None,
        output_dir: str | os.PathLike[str] = "runs",
        processing_class: Any = None,
        **options: Any,
    ) -> None:
        """Set what is measured.

        `lengths` are tokens or as "4k"; `processing_class` is the tokenizer, where the Trainer has none; `options` are
        the other ones of `needle run`, underscored, as in `repeats=3` or `dtype="bfloat16"`.
        """
        self.trainer, self.root = trainer, Path(output_dir)
        self.tokenizer = processing_class if processing_class is not None else trainer.processing_class
        if self.tokenizer is None:
            raise UsageError("the Trainer has no tokenizer; give it one, or NeedleCallback, as processing_class")
        if trainer.args.use_cpu:
            options = {"device": "cpu", **options}
        asked = {"lengths": ",".join(map(str, lengths)), "depths": ",".join(map(str, depths)), **options}
        # The same request as the command's, so that the same command takes the runs for its own.
        self.spec = one(request(models=[trainer.args.output_dir], task=[task], haystack=haystack, **asked))
        watching.check(self.spec)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Refuse what no checkpoint of this model could be asked, before hours are spent."""
        model = kwargs.get("model")
        if model is not None and hasattr(model, "config"):
            _checkpoint.check_length(model.config, max(self.spec.grid.lengths))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Measure the checkpoint that was just written."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        try:
            with _undisturbed():
                run = self._measure(folder)
        except (NeedleError, OSError) as error:
            _log.warning("%s was not measured: %s", folder, one_line(error))
            return
        self.trainer.log(scores(run))

    def _measure(self, folder: Path) -> Run:
        """The checkpoint's run, gone on with or new.

        Raises:
            UsageError: the folder is no whole checkpoint, or cannot be measured.
        """
        lacks = watching.look(folder).lacks if folder.is_dir() else "there is no such folder"
        if lacks:
            raise UsageError(f"'{folder}' is no checkpoint to read: {lacks}")
        if not (folder / "tokenizer_config.json").exists():
            self.tokenizer.save_pretrained(folder)
        spec = replace(self.spec, model=os.path.normpath(folder))
        return running.execute(running.prepare(spec, _log.info), self.root, _Listener())


class _Listener:
    """The run's `Watcher`: cells that fail are warnings, each cause once."""

    def __init__(self) -> None:
        self._errors: set[str] = set()

    def say(self, message: str) -> None:
        _log.info("%s", message)

    def loaded(self) -> None:
        """Nothing to tell."""

    def cell(self, result: Result, fresh: bool = True) -> None:
        if fresh and result.error is not None and result.error not in self._errors:
            self._errors.add(result.error)
            _log.warning("cell %s:%g failed: %s", result.length, result.depth, one_line(result.error))


def scores(run: Run) -> dict[str, float]:
    """What is logged of a run; a length of which no cell was measured is left out."""
    summary = analysis.of(run)
    told = {f"needle/{row.length}": row.mean for row in summary.lengths}
    if summary.mean is not None:
        told["needle/mean"] = summary.mean
    told["needle/effective_length"] = float(summary.effective_length or 0)
    if summary.failed:
        told["needle/failed"] = float(summary.failed)
    told["needle/seconds"] = round(summary.seconds, 3)
    return told


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave the training as it was: random states, transformers' verbosity and bars, memory."""
    python, arrays = random.getstate(), np.random.get_state()
    verbosity, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
