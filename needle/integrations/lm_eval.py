"""lm-evaluation-harness: the cells of a run as one of its tasks, in a folder that its `--include_path` finds.

Prompts are handed over as text with the chat template in it, so `--apply_chat_template` must stay off. Whether that
text becomes the same tokens again is checked for each cell when it is written (`Export.exact`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from needle import __version__
from needle.errors import UsageError
from needle.integrations import _cells
from needle.running import Prepared

_CELLS, _ABOUT = "cells.jsonl", "needle.json"
_TASK = """# Cells of needle {version} for lm-evaluation-harness. The prompts hold the chat template already: do not add
# --apply_chat_template. utils.py needs the package needle-eval.
task: {name}
custom_dataset: !function utils.cells
test_split: test
output_type: generate_until
doc_to_text: prompt
doc_to_target: "{{{{expected | join(', ')}}}}"
process_results: !function utils.grade
generation_kwargs:
  until: []
  max_gen_toks: {budget}
  do_sample: false
metric_list:
  - metric: needle_score
    aggregation: mean
    higher_is_better: true
  - metric: needle_found
    aggregation: mean
    higher_is_better: true
metadata:
  version: {format}
"""
_UTILS = '''"""What needle.yaml calls; the cells stand in cells.jsonl beside it."""

from pathlib import Path

from needle.integrations import lm_eval

HERE = Path(__file__).parent


def cells(**_):
    """The cells as a dataset."""
    return lm_eval.dataset(HERE)


def grade(doc, results):
    """The grades of one answer."""
    return lm_eval.grade(HERE, doc, results)
'''


@dataclass(frozen=True, slots=True)
class Export:
    """A written task: its folder, the name to give to `--tasks`, its cells, and how many are exact to the token."""

    folder: Path
    task: str
    cells: int
    exact: int

    @property
    def command(self) -> str:
        """How to run it."""
        return (
            f"lm_eval --model hf --model_args pretrained=MODEL --tasks {self.task} --include_path {self.folder} "
            "--log_samples --output_path results"
        )


def export(prepared: Prepared, folder: Path) -> Export:
    """Write the task to `folder`, made if need be; the four files of an earlier task there are overwritten.

    Raises:
        UsageError: the folder cannot be written or holds such a file of something else, or the scorer is not for other
            harnesses.
    """
    spec, name = prepared.spec, _cells.title(prepared)
    rows = _cells.records(prepared)
    task = _TASK.format(version=__version__, name=name, budget=spec.max_new_tokens, format=_cells.FORMAT)
    about = {"needle": __version__, "options": dict(spec.options), "sources": prepared.sources}
    files = {
        _CELLS: "".join(json.dumps(row) + "\n" for row in rows),
        _ABOUT: json.dumps(about, indent=1) + "\n",
        "utils.py": _UTILS,
        "needle.yaml": task,
    }
    strange = [] if (folder / _ABOUT).exists() else [file for file in files if (folder / file).exists()]
    if strange:
        raise UsageError(f"'{folder / strange[0]}' is no exported task's; give another --output-dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"'{folder}' cannot be written ({error.strerror}); give another --output-dir") from error
    exact = sum(_cells.exact(prepared.engine.tokenizer, prompt) for prompt in prepared.prompts)
    return Export(folder, name, len(rows), exact)


def dataset(folder: Path) -> dict[str, Any]:
    """The cells as lm-evaluation-harness wants them, a `datasets.Dataset` by split."""
    from datasets import Dataset

    with (folder / _CELLS).open(encoding="utf-8") as file:
        return {"test": Dataset.from_list([json.loads(line) for line in file])}


def grade(folder: Path, doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """`needle_score`, the run's scorer's grade 0–1, and `needle_found`, 1 where it is full."""
    score = _cells.grade(doc, results[0], _options(folder))
    return {"needle_score": score.value, "needle_found": float(score.value >= 1)}


@cache
def _options(folder: Path) -> dict[str, Any]:
    options: dict[str, Any] = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))["options"]
    return options
