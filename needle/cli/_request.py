"""What is asked of `needle run` and `needle plan`: their options, once, and the `RunSpec` that they make.

Annotations here, and in the commands that take a request, are evaluated at once: typer finds the options in them, and
they are handed from one function to another.
"""

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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


def request(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Checkpoint folder, hub id, pocket-4k or pocket-32k (the default)."),
    ] = None,
    model_option: Annotated[str | None, typer.Option("--model", "-m", help="The same, as an option.")] = None,
    task: Annotated[str, typer.Option(help=f"What is hidden and asked: {_there('tasks')}.")] = "number",
    haystack: Annotated[str, typer.Option(help="essays, noise, or a text file or folder of your own.")] = "essays",
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
    prefill_chunk: Annotated[str, _model("Tokens fed at once; auto bounds the memory of activations.")] = "auto",
    trust_remote_code: Annotated[
        bool, _model("Run the code that the model brings with it.", "--trust-remote-code")
    ] = False,
    allow_pickle: Annotated[bool, _model("Load weights that are no safetensors.", "--allow-pickle")] = False,
) -> "RunSpec":
    """The run that these options ask for.

    Raises:
        UsageError: they contradict each other, or one has no meaning.
    """
    from needle.types import RunSpec

    if not 0 <= depth_tolerance <= 0.1:
        raise UsageError(f"--depth-tolerance {depth_tolerance:g} lies outside 0–0.1")
    return RunSpec(
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
            "prefill_chunk": None if prefill_chunk == "auto" else _chunk(prefill_chunk),
            "trust_remote_code": trust_remote_code,
            "allow_pickle": allow_pickle,
        },
    )


def _chunk(text: str) -> int:
    from needle import grid

    return grid.size(text)


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
) -> "Grid":
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


def taking_request(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is the `RunSpec`, as one that takes the options of `request` before its own."""
    shared = list(inspect.signature(request).parameters.values())
    own = list(inspect.signature(command).parameters.values())[1:]

    def call(**given: Any) -> None:
        spec = request(**{parameter.name: given.pop(parameter.name) for parameter in shared})
        command(spec, **given)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    # Typer reads these two.
    call.__signature__ = inspect.Signature([*shared, *own])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in [*shared, *own]}
    return call
