"""Result files as other tools write them, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from needle import importing
from needle.store import Run
from needle.types import Result

NEEDLE = "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."


def save(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def save_lines(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def v1(length: int = 1000, depth: float = 50.0, score: Any = 10, **more: Any) -> dict[str, Any]:
    row = {
        "model": "gpt-4-1106-preview",
        "context_length": length,
        "depth_percent": depth,
        "version": 1,
        "needle": f"\n{NEEDLE}\n",
        "model_response": "Eat a sandwich.",
        "score": score,
        "test_duration_seconds": 2.5,
        "test_timestamp_utc": "2023-12-01 10:00:00+0000",
    }
    return {**row, **more}


def v1_folder(folder: Path, rows: Iterable[dict[str, Any]]) -> Path:
    for at, row in enumerate(rows):
        name = f"gpt_len_{row.get('context_length')}_depth_{at}_results.json"
        save(folder / name, row)
    return folder


def three_rows(folder: Path) -> Path:
    return v1_folder(folder, [v1(n, d, s) for n, d, s in [(1000, 0, 10), (1000, 100, 1), (4000, 0, 7)]])


def v2(length: int = 2000, depth: float = 25.0, value: float = 0.6, **more: Any) -> dict[str, Any]:
    placements = [{"text": "a maps to b", "insertion_token_index": 496, "actual_depth_percent": 24.8}]
    recipe = {
        "haystack": {"type": "files", "path": "PaulGrahamEssays"},
        "inserter": "even_spread",
        "needle_placements": placements,
        "final_context_token_count": 2082,
    }
    row = {
        "schema_version": 2,
        "run_name": "chain",
        "model_id": "opus",
        "model_request_name": "claude",
        "task_type": "uuid_chain",
        "context_length": length,
        "target_depth_percent": depth,
        "recipe": recipe,
        "needle_metadata": {},
        "expected_answer": "the-uuid",
        "prompt_question": "What is the value?",
        "response": "b",
        "score": {"value": value, "details": {"hops_correct": 3}},
        "usage": {"input_tokens": 2100, "output_tokens": 12},
        "cost_usd": 0.1,
        "duration_seconds": 12.4,
        "status": "ok",
        "error": None,
        "seed": 1,
    }
    return {**row, **more}


def text_with(needle: str, before: int, after: int) -> str:
    return "x" * before + needle + "y" * after


def prediction(index: int = 0, answers: Iterable[str] = ("4821937",), pred: str = "", **more: Any) -> dict[str, Any]:
    answers = list(answers)
    row = {
        "index": index,
        "pred": pred,
        "input": text_with(answers[0], 493, 500),
        "outputs": answers,
        "others": {},
        "truncation": -1,
        "length": 4012,
    }
    return {**row, **more}


def imported(path: Path, root: Path, **how: Any) -> list[Run]:
    found = importing.read(path, **how)
    return [run for run, _ in importing.write(root, found)]


def only(path: Path, root: Path, **how: Any) -> Run:
    (run,) = imported(path, root, **how)
    return run


def cells(run: Run) -> dict[tuple[int, float, int], float | None]:
    return {(r.length, r.depth, r.repeat): r.score for r in run.results}


def single(run: Run) -> Result:
    (result,) = run.results
    return result
