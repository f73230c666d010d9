"""Prompts rebuilt without torch are those that were measured, or are refused with the reason."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic

from needle import haystack, pocket, rebuilding, running, store
from needle.errors import StoreError
from needle.store import Run
from needle.types import Grid, RunSpec

GRID = Grid((512, 700), (0.0, 0.5, 1.0), 2)


def recorded(root: Path, spec: RunSpec) -> Run:
    """A run of `spec` with the recipes that it would have measured, and made-up scores."""
    prepared = running.prepare(spec, lambda _: None)
    known = store.identity(spec, prepared.sources)
    with store.writing(root, spec, prepared.sources, {}) as writer:
        for prompt in prepared.prompts:
            row = synthetic._result(store.key(known, prompt.cell), prompt.cell, 1.0, prompt.sha256)
            writer.append(replace(row, position=prompt.position, offset=prompt.offset))
    return store.read(writer.run.folder)


def spec_of(model: object, **more: Any) -> RunSpec:
    settings = {"task": "number", "haystack": "essays", "grid": GRID, "max_new_tokens": 16, **more}
    return RunSpec(str(model), **settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return recorded(tmp_path_factory.mktemp("runs"), spec_of("pocket-4k"))


def test_every_prompt_is_identical_to_the_measured_one(run: Run) -> None:
    _, measured = running.rebuild(run, run.results)
    rebuilt = rebuilding.prompts(run, run.results)
    assert len(rebuilt) == 12
    for (prompt, tokenizer), other, result in zip(rebuilt, measured, run.results, strict=True):
        assert prompt.ids.tolist() == other.ids.tolist()
        assert hashlib.sha256(prompt.ids.astype("<i4").tobytes()).hexdigest() == result.prompt_sha256
        assert prompt.question.answers[0] in tokenizer.decode(prompt.ids.tolist())


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_a_checkpoint_in_a_folder_is_read(family: str, checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    try:
        folder = checkpoint(family)
    except (KeyError, ValueError):
        pytest.skip(f"no such family as {family} in tests/models.py")
    run = recorded(tmp_path, spec_of(folder, prompt="base", task="word"))
    assert len(rebuilding.prompts(run, run.results)) == 12


def test_tokens_of_the_expected_answer_spell_it(run: Run) -> None:
    maker = rebuilding.opened(run)
    for result in run.results:
        prompt = maker.prompt(result)
        assert "".join(maker.expected_tokens(prompt)).strip() == prompt.question.answers[0]
    silent = replace(prompt, question=replace(prompt.question, draft=None))
    assert maker.expected_tokens(silent) == []


def refused(run: Run) -> str:
    with pytest.raises(StoreError) as caught:
        rebuilding.prompts(run, run.results)
    text = str(caught.value)
    assert "cannot be rebuilt here" in text
    assert "\n" not in text
    return text


def test_a_changed_haystack_is_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("It rained all day. Nobody minded at all. " * 200)
    run = recorded(tmp_path / "runs", spec_of("pocket-4k", haystack=str(text)))
    assert rebuilding.prompts(run, run.results)
    text.write_text(text.read_text() + "Then it stopped.")
    assert "has changed since the run" in refused(run)
    text.unlink()
    assert "mine.txt" in refused(run)


def test_other_tokens_than_the_measured_ones_are_refused(run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pocket.path("pocket-4k") or "", tmp_path / "model"))
    mine = recorded(tmp_path / "runs", spec_of(folder))
    assert rebuilding.prompts(mine, mine.results)
    odd = replace(mine, results=[replace(r, prompt_sha256="0" * 64) for r in mine.results])
    assert "not those that were measured" in refused(odd)
    path = folder / "tokenizer.json"
    changed = json.loads(path.read_text())
    changed["model"]["merges"] = changed["model"]["merges"][:-300]
    path.write_text(json.dumps(changed))
    assert "not those that were measured" in refused(mine)
    path.write_text("{")
    assert "cannot be loaded" in refused(mine)
    path.unlink()
    assert "no tokenizer.json" in refused(mine)


def test_a_place_that_is_none_is_refused(run: Run) -> None:
    moved = replace(run, results=[replace(run.results[1], position=run.results[1].position + 1)])  # type: ignore[operator]
    refused(moved)


def test_models_that_are_not_here_are_refused_without_asking_the_network(run: Run) -> None:
    for model in ("nobody/nothing", "/no/such/folder", "a" * 5000, "~nobody-at-all/x"):
        refused(replace(run, spec=replace(run.spec, model=model)))


def test_a_model_in_the_hubs_cache_is_found(tmp_path: Path) -> None:
    """As the hub's client lays it out: refs, and a snapshot of the commit that was measured."""
    from huggingface_hub.constants import HF_HUB_CACHE

    commit = "ab" * 20
    place = Path(HF_HUB_CACHE) / "models--somebody--pocket"
    shutil.copytree(pocket.path("pocket-4k") or "", place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    try:
        near = recorded(tmp_path, spec_of("pocket-4k"))
        far = replace(near, spec=replace(near.spec, model="somebody/pocket"), sources={**near.sources, "model": commit})
        assert [p.sha256 for p, _ in rebuilding.prompts(far, far.results)] == [r.prompt_sha256 for r in near.results]
        gone = replace(far, sources={**far.sources, "model": "cd" * 20})
        assert "not in the hub's cache" in refused(gone)
    finally:
        shutil.rmtree(place)


def test_imported_runs_have_no_prompts(run: Run) -> None:
    assert "imported" in refused(replace(run, spec=replace(run.spec, engine="import")))


def test_no_torch_is_loaded(run: Run) -> None:
    code = f"""
import sys
from pathlib import Path
from needle import rebuilding, store
run = store.read(Path({str(run.folder)!r}))
assert len(rebuilding.prompts(run, run.results)) == 12
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_bundled_haystack_is_the_one_that_was_used(run: Run) -> None:
    assert run.sources["haystack"] == haystack.load("essays").sha256
