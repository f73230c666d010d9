"""`needle run`: options to a `RunSpec`, and the run under the user's eyes."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from needle.errors import UsageError

if TYPE_CHECKING:
    from needle.store import Run
    from needle.types import RunSpec

_GRID, _MODEL, _PROMPT = "Grid", "Model", "Prompt and scoring"


def run(
    model: Annotated[str | None, typer.Argument(help="Checkpoint folder, hub id, pocket-4k or pocket-32k.")] = None,
    model_option: Annotated[str | None, typer.Option("--model", "-m", help="The same, as an option.")] = None,
    task: Annotated[str, typer.Option(help="What is hidden and asked; see `needle tasks`.")] = "number",
    haystack: Annotated[str, typer.Option(help="essays, noise, or a text file or folder of your own.")] = "essays",
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder that holds the runs.")] = Path("runs"),
    min_len: Annotated[str, typer.Option(help="Shortest context, as 1024 or 1k.", rich_help_panel=_GRID)] = "1k",
    max_len: Annotated[str, typer.Option(help="Longest context, as 32768 or 32k.", rich_help_panel=_GRID)] = "32k",
    lengths: Annotated[str | None, typer.Option(help="Exact lengths, as 1k,4k,32k.", rich_help_panel=_GRID)] = None,
    length_count: Annotated[int, typer.Option(help="Lengths between the two.", rich_help_panel=_GRID)] = 10,
    depths: Annotated[str | None, typer.Option(help="Exact depths, as 0,0.5,1.", rich_help_panel=_GRID)] = None,
    depth_count: Annotated[int, typer.Option(help="Depths from 0 to 1.", rich_help_panel=_GRID)] = 11,
    depth_spacing: Annotated[str, typer.Option(help="linear or sigmoid.", rich_help_panel=_GRID)] = "linear",
    depth_tolerance: Annotated[
        float, typer.Option(help="How far a needle may stand off its depth, 0–0.1.", rich_help_panel=_GRID)
    ] = 0.01,
    repeats: Annotated[int, typer.Option(help="Measurements a cell, each elsewhere.", rich_help_panel=_GRID)] = 1,
    seed: Annotated[int, typer.Option(help="All randomness comes from it.", rich_help_panel=_GRID)] = 0,
    prompt: Annotated[str, typer.Option(help="auto, chat or base.", rich_help_panel=_PROMPT)] = "auto",
    system: Annotated[str | None, typer.Option(help="System prompt, for the task's.", rich_help_panel=_PROMPT)] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Answer budget, part of the length.", rich_help_panel=_PROMPT)
    ] = None,
    scorer: Annotated[str, typer.Option(help="match or exact.", rich_help_panel=_PROMPT)] = "match",
    engine: Annotated[str, typer.Option(help="What computes the answers.", rich_help_panel=_MODEL)] = "transformers",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.", rich_help_panel=_MODEL)] = None,
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16, float32.", rich_help_panel=_MODEL)] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=_MODEL)] = "auto",
    device_map: Annotated[str | None, typer.Option(help="auto: spread over GPUs.", rich_help_panel=_MODEL)] = None,
    attn: Annotated[
        str, typer.Option(help="auto, flash_attention_3, flash_attention_2, sdpa, eager.", rich_help_panel=_MODEL)
    ] = "auto",
    rope_scaling: Annotated[
        str | None, typer.Option(help="JSON, as in {\"rope_type\": \"yarn\", \"factor\": 4}.", rich_help_panel=_MODEL)
    ] = None,
    plan: Annotated[str, typer.Option(help="forest shares prefills, cells does not.", rich_help_panel=_MODEL)] = "forest",
    trust_remote_code: Annotated[bool, typer.Option(help="Run the model's own code.", rich_help_panel=_MODEL)] = False,
    allow_pickle: Annotated[bool, typer.Option(help="Load weights that are no safetensors.", rich_help_panel=_MODEL)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON to stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
) -> None:
    """Search a model for needles over lengths and depths; the same command again goes on where it stopped."""
    from needle import grid as grids
    from needle import tasks
    from needle.types import RunSpec

    if model and model_option and model != model_option:
        raise UsageError(f"two models given: '{model}' and --model '{model_option}'")
    if not 0 <= depth_tolerance <= 0.1:
        raise UsageError(f"--depth-tolerance {depth_tolerance:g} lies outside 0–0.1")
    budget = tasks.get(task).max_new_tokens if max_new_tokens is None else max_new_tokens
    if budget < 1:
        raise UsageError(f"--max-new-tokens {budget} is below 1")
    spec = RunSpec(
        model=model or model_option or "pocket-32k",
        task=task,
        haystack=haystack,
        grid=grids.make(
            grids.sizes(lengths)
            if lengths is not None
            else grids.spaced_lengths(grids.size(min_len), grids.size(max_len), length_count),
            grids.depths(depths) if depths is not None else grids.spaced_depths(depth_count, depth_spacing),
            repeats,
        ),
        seed=seed,
        engine=engine,
        scorer=scorer,
        max_new_tokens=budget,
        prompt=prompt,
        system=system,
        depth_tolerance=depth_tolerance,
        options={
            "revision": revision,
            "dtype": dtype,
            "device": device,
            "device_map": device_map,
            "attn": attn,
            "rope_scaling": _json_object(rope_scaling, "--rope-scaling"),
            "plan": plan,
            "trust_remote_code": trust_remote_code,
            "allow_pickle": allow_pickle,
        },
    )
    raise typer.Exit(_run(spec, output_dir, as_json, quiet))


def _json_object(text: str | None, option: str) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UsageError(f"{option} takes a JSON object, as in '{{\"rope_type\": \"yarn\", \"factor\": 4.0}}'")
    return value


def _run(spec: RunSpec, root: Path, as_json: bool, quiet: bool) -> int:
    """Measure, show, and say with what exit code the command ends: 0 complete, 1 some cells failed."""
    from rich.console import Console

    from needle import analysis, terminal
    from needle import run as runs

    console = Console(stderr=True, quiet=quiet)
    with console.status("reading model and haystack …"):
        prepared = runs.prepare(spec, lambda message: console.print(analysis.printable(message), markup=False))
    tokens = sum(len(p.ids) for p in prepared.prompts)
    live = terminal.Live(spec, tokens, quiet, Console(stderr=True))
    with ExitStack() as stack:
        measured = runs.execute(prepared, root, _Lazy(live, stack))
    _report(measured, live, as_json, console)
    return 1 if measured.status == "failed cells" else 0


class _Lazy:
    """Opens the live picture with the first thing there is to see, so that a finished run is not painted anew."""

    def __init__(self, live: Any, stack: ExitStack) -> None:
        self.live, self.stack, self.entered = live, stack, False

    def say(self, message: str) -> None:
        self.live.say(message)

    def cell(self, result: Any, fresh: bool = True) -> None:
        if not self.entered:
            self.stack.enter_context(self.live)
            self.entered = True
        self.live.cell(result, fresh)


def _report(measured: Run, live: Any, as_json: bool, console: Any) -> None:
    from needle import analysis, terminal

    summary = analysis.summary(measured.results, measured.spec, measured.sessions[-1] if measured.sessions else {})
    if not live.fresh_tokens:
        console.print(f"already measured: all {summary.done} cells of this run; nothing to do", markup=False)
    for line in terminal.summary_lines(summary):
        console.print(line, markup=False, highlight=False)
    console.print(f"kept in            {measured.folder}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps({"run": str(measured.folder), **analysis.as_json(summary)}, indent=1))
