"""`needle run`: options to a `RunSpec`, and the run under the user's eyes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from needle.cli._screen import Screen
from needle.errors import UsageError

if TYPE_CHECKING:
    from needle.types import Grid, RunSpec


def _option(panel: str) -> Any:
    """Options of one panel of the help: help text first, then, where it is not the parameter's, the name."""

    def make(text: str, *names: str, metavar: str | None = None) -> Any:
        return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=panel)

    return make


def _there(folder: str) -> str:
    """The entries of one of the package's folders, for the help, without importing any of them."""
    return ", ".join(sorted(p.stem for p in (Path(__file__).parents[1] / folder).glob("[!_]*.py")))


_grid, _prompt, _model = _option("Grid"), _option("Prompt and scoring"), _option("Model")


def run(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Checkpoint folder, hub id, pocket-4k or pocket-32k (the default)."),
    ] = None,
    model_option: Annotated[str | None, typer.Option("--model", "-m", help="The same, as an option.")] = None,
    task: Annotated[str, typer.Option(help=f"What is hidden and asked: {_there('tasks')}.")] = "number",
    haystack: Annotated[str, typer.Option(help="essays, noise, or a text file or folder of your own.")] = "essays",
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder that holds the runs.")] = Path("runs"),
    min_len: Annotated[str, _grid("Shortest context, as 1024 or 1k.", metavar="TOKENS")] = "1k",
    max_len: Annotated[str, _grid("Longest context, as 32768 or 32k.", metavar="TOKENS")] = "32k",
    length_count: Annotated[int, _grid("Lengths, evenly between the two.")] = 10,
    lengths: Annotated[str | None, _grid("Exact lengths instead, as 1k,4k,32k.", metavar="LIST")] = None,
    depth_count: Annotated[int, _grid("Depths from 0 to 1.")] = 11,
    depth_spacing: Annotated[str, _grid("linear or sigmoid (closer at both ends).")] = "linear",
    depths: Annotated[str | None, _grid("Exact depths instead, as 0,0.5,1.", metavar="LIST")] = None,
    depth_tolerance: Annotated[float, _grid("How far a needle may stand off its depth, 0–0.1.")] = 0.01,
    repeats: Annotated[int, _grid("Measurements a cell, each with another needle.")] = 1,
    seed: Annotated[int, _grid("All randomness comes from it.")] = 0,
    prompt: Annotated[str, _prompt("auto, chat or base.")] = "auto",
    system: Annotated[str | None, _prompt("System prompt instead of the task's.", metavar="TEXT")] = None,
    max_new_tokens: Annotated[int | None, _prompt("Answer budget, part of the length; default: the task's.")] = None,
    scorer: Annotated[str, _prompt(f"How an answer is graded: {_there('scoring')}.")] = "match",
    engine: Annotated[str, _model(f"What computes the answers: {_there('engines')}.")] = "transformers",
    revision: Annotated[str | None, _model("Branch, tag or commit on the hub.")] = None,
    dtype: Annotated[str, _model("auto, bfloat16, float16 or float32.")] = "auto",
    device: Annotated[str, _model("auto, cpu, cuda, cuda:1, mps, …")] = "auto",
    device_map: Annotated[str | None, _model("auto spreads the model over the GPUs there are.")] = None,
    attn: Annotated[str, _model("auto, flash_attention_3, flash_attention_2, sdpa or eager.")] = "auto",
    rope_scaling: Annotated[
        str | None, _model('Stretch the positions, as in \'{"rope_type": "yarn", "factor": 4}\'.', metavar="JSON")
    ] = None,
    plan: Annotated[str, _model("forest shares prefills between cells, cells does not.")] = "forest",
    trust_remote_code: Annotated[
        bool, _model("Run the code that the model brings with it.", "--trust-remote-code")
    ] = False,
    allow_pickle: Annotated[bool, _model("Load weights that are no safetensors.", "--allow-pickle")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything but the weights; measure nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON to stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
) -> None:
    """Search a model for needles over lengths and depths.

    The same command again goes on where it stopped, failed cells included.

    Exit code: 0 every cell is measured, 1 some failed, 2 the request is at fault.

    Examples:

        needle run
        needle run Qwen/Qwen2.5-0.5B-Instruct --max-len 16k --depth-count 5
        needle run ./checkpoints/step-2000 --lengths 4k,16k,64k --repeats 3
        needle run ./my-model --haystack book.txt --task uuid --json > summary.json
    """
    from needle.types import RunSpec

    if not 0 <= depth_tolerance <= 0.1:
        raise UsageError(f"--depth-tolerance {depth_tolerance:g} lies outside 0–0.1")
    spec = RunSpec(
        model=_one_model(model, model_option),
        task=task,
        haystack=haystack,
        grid=_asked_grid(min_len, max_len, length_count, lengths, depth_count, depth_spacing, depths, repeats),
        seed=seed,
        engine=engine,
        scorer=scorer,
        max_new_tokens=_budget(task, max_new_tokens),
        prompt=prompt,
        system=system,
        depth_tolerance=depth_tolerance,
        options={
            "revision": revision,
            "dtype": dtype,
            "device": device,
            "device_map": device_map,
            "attn": attn,
            "rope_scaling": _json_object(rope_scaling),
            "plan": plan,
            "trust_remote_code": trust_remote_code,
            "allow_pickle": allow_pickle,
        },
    )
    raise typer.Exit(_run(spec, output_dir, dry_run, as_json, quiet))


def _one_model(argument: str | None, option: str | None) -> str:
    if argument and option and argument != option:
        raise UsageError(f"two models given: '{argument}' and --model '{option}'")
    model = argument or option or "pocket-32k"
    # A folder is the same one, and its run the same run, with or without a slash at its end.
    return os.path.normpath(model) if Path(model).is_dir() else model


def _asked_grid(
    min_len: str,
    max_len: str,
    length_count: int,
    lengths: str | None,
    depth_count: int,
    depth_spacing: str,
    depths: str | None,
    repeats: int,
) -> Grid:
    from needle import grid

    between = grid.size(min_len), grid.size(max_len), length_count
    return grid.make(
        grid.sizes(lengths) if lengths is not None else grid.spaced_lengths(*between),
        grid.depths(depths) if depths is not None else grid.spaced_depths(depth_count, depth_spacing),
        repeats,
    )


def _budget(task: str, asked: int | None) -> int:
    from needle import tasks

    budget = tasks.get(task).max_new_tokens if asked is None else asked
    if budget < 1:
        raise UsageError(f"--max-new-tokens {budget} is below 1")
    return budget


def _json_object(text: str | None) -> dict[str, Any] | None:
    """The value of --rope-scaling."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UsageError("""--rope-scaling takes a JSON object, as in '{"rope_type": "yarn", "factor": 4.0}'""")
    return value


def _check_folder(root: Path) -> None:
    """Raise UsageError if no run can be kept in `root`: better now than after the weights are loaded."""
    there = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    if not there.is_dir():
        raise UsageError(f"--output-dir '{root}': '{there}' is not a folder; give another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"--output-dir '{root}': '{there}' cannot be written; give another one")


def _run(spec: RunSpec, root: Path, dry: bool, as_json: bool, quiet: bool) -> int:
    """Measure, show, and say with what exit code the command ends: 0 complete, 1 some cells failed."""
    from needle import run as runs

    _check_folder(root)
    screen = Screen(quiet)
    try:
        with screen:
            prepared = runs.prepare(spec, screen.say)
            screen.prepared(prepared)
            if dry:
                return 0
            measured = runs.execute(prepared, root, screen)
    except KeyboardInterrupt:
        screen.stopped()
        return 130
    screen.summary(measured, as_json)
    return 0 if measured.status == "complete" else 1
