"""What is asked of `needle run` and `needle plan`: their options, once, and the `RunSpec`s that they make.

Annotations here, and in the commands that take a request, are evaluated at once: typer finds the options in them, and
they are handed from one function to another.
"""

import functools
import inspect
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from needle.cli import _models
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


_grid, _prompt, _model, _served = (
    _option("Grid"),
    _option("Prompt and scoring"),
    _option("Model"),
    _option("Servers and workers"),
)


def request(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL", help="Checkpoint folders, 'out/checkpoint-*', hub ids, pocket-4k or pocket-32k (default)."
        ),
    ] = None,
    model_option: Annotated[list[str] | None, typer.Option("--model", "-m", help="The same, as an option.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help=f"What is hidden and asked: {_there('tasks')}, ruler for all of RULER's, or a .toml file."),
    ] = None,
    haystack: Annotated[
        str | None, typer.Option(help="essays, noise, zh, or a text file or folder of yours; default: the task's.")
    ] = None,
    min_len: Annotated[str, _grid("Shortest context, as 1024 or 1k.", metavar="TOKENS")] = "1k",
    max_len: Annotated[str, _grid("Longest context, as 32768 or 32k.", metavar="TOKENS")] = "32k",
    length_count: Annotated[int, _grid("Lengths, evenly between the two.")] = 10,
    lengths: Annotated[str | None, _grid("Exact lengths instead, as 1k,4k,32k.", metavar="LIST")] = None,
    depth_count: Annotated[int, _grid("Depths from 0 to 1.")] = 11,
    depth_spacing: Annotated[str, _grid("linear or sigmoid (closer at both ends).")] = "linear",
    depths: Annotated[str | None, _grid("Exact depths instead, as 0,0.5,1.", metavar="LIST")] = None,
    depth_tolerance: Annotated[float, _grid("How far a needle may stand off its depth, 0–0.1.")] = 0.01,
    repeats: Annotated[int, _grid("Measurements a cell, each with another needle.")] = 1,
    adaptive: Annotated[
        bool, _grid("Measure lengths again whose verdict is open, up to --max-repeats.", "--adaptive")
    ] = False,
    max_repeats: Annotated[int | None, _grid("Bound of --adaptive (10), and turns it on.")] = None,
    control: Annotated[bool, _grid("Also ask at each length without any needle.", "--control")] = False,
    seed: Annotated[int, _grid("All randomness comes from it.")] = 0,
    prompt: Annotated[str, _prompt("auto, chat or base.")] = "auto",
    system: Annotated[str | None, _prompt("System prompt instead of the task's.", metavar="TEXT")] = None,
    max_new_tokens: Annotated[int | None, _prompt("Answer budget, part of the length; default: the task's.")] = None,
    temperature: Annotated[float, _prompt("0 takes the likeliest token; more draws, by the seed.")] = 0.0,
    scorer: Annotated[str, _prompt(f"How an answer is graded: {_there('scoring')}.")] = "match",
    pattern: Annotated[
        str | None, _prompt("For --scorer regex; {answer} stands for the answer.", metavar="REGEX")
    ] = None,
    rouge_variant: Annotated[str | None, _prompt("For --scorer rouge: rougeL, rouge1, rouge2.", metavar="NAME")] = None,
    judge_model: Annotated[str | None, _prompt("For --scorer judge: who grades.", metavar="NAME")] = None,
    judge_base_url: Annotated[str | None, _prompt("For --scorer judge: its endpoint.", metavar="URL")] = None,
    engine: Annotated[str, _model(f"What computes the answers: {_there('engines')}.")] = "transformers",
    revision: Annotated[str | None, _model("Branch, tag or commit on the hub.")] = None,
    tokenizer: Annotated[
        str | None, _model("For a served model: folder, hub id or tokenizer.json.", metavar="PATH")
    ] = None,
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
    base_url: Annotated[str | None, _served("openai: the server, as http://localhost:8000/v1.", metavar="URL")] = None,
    api: Annotated[str | None, _served("openai: auto, completions (token ids) or chat.", metavar="NAME")] = None,
    concurrency: Annotated[int | None, _served("openai: requests at once.")] = None,
    timeout: Annotated[float | None, _served("openai: seconds for one request.")] = None,
    retries: Annotated[int | None, _served("openai: times that a request is tried again.")] = None,
    price_in: Annotated[float | None, _served("openai: dollars per million prompt tokens.")] = None,
    price_out: Annotated[float | None, _served("openai: dollars per million answer tokens.")] = None,
    budget: Annotated[float | None, _served("openai: dollars at which the run stops.")] = None,
    workers: Annotated[int | None, _served("ray: workers, each with the whole model.")] = None,
    gpus_per_worker: Annotated[float | None, _served("ray: GPUs that each takes.")] = None,
    address: Annotated[str | None, _served("ray: a cluster that runs: auto or host:6379.")] = None,
    worker_engine: Annotated[str | None, _served("ray: transformers or vllm.", metavar="NAME")] = None,
    tensor_parallel_size: Annotated[int | None, _served("vllm: GPUs that share each layer.")] = None,
    pipeline_parallel_size: Annotated[int | None, _served("vllm: GPUs that share the layers out.")] = None,
    gpu_memory_utilization: Annotated[float | None, _served("vllm: share of the GPU's memory it may take.")] = None,
    enforce_eager: Annotated[bool, _served("vllm: no CUDA graphs.", "--enforce-eager")] = False,
) -> "list[RunSpec]":
    """The runs that these options ask for: every model on every task, models outermost.

    Raises:
        UsageError: they contradict each other, or one has no meaning.
    """
    from needle import engines, scoring, tasks
    from needle.types import RunSpec

    if not 0 <= depth_tolerance <= 0.1:
        raise UsageError(f"--depth-tolerance {depth_tolerance:g} lies outside 0–0.1")
    if not 0 <= temperature < math.inf:
        raise UsageError(f"--temperature {temperature:g} is no number from 0")
    grid = _asked_grid(min_len, max_len, length_count, lengths, depth_count, depth_spacing, depths, repeats)
    grid = replace(grid, max_repeats=_bound(repeats, adaptive, max_repeats), control=control)
    options = {
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
        # Said only where they are used, so that other runs keep the identity that they have had.
        **_given(
            pattern=pattern,
            rouge_variant=rouge_variant,
            judge_model=judge_model,
            judge_base_url=judge_base_url,
            tokenizer=tokenizer,
            api=api,
        ),
    }
    scoring.check_settings(scorer, options)
    service = _given(
        base_url=base_url,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        price_in=price_in,
        price_out=price_out,
        budget=budget,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        address=address,
        worker_engine=worker_engine,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        gpu_memory_utilization=gpu_memory_utilization,
        enforce_eager=enforce_eager or None,
    )
    told = [*service, *(name for name in ("tokenizer", "api") if name in options)]
    if told:
        engines.check_settings(engine, told, worker_engine or "transformers")
    return [
        RunSpec(
            model=model,
            task=name,
            haystack=haystack or tasks.get(name).haystack or "essays",
            grid=grid,
            seed=seed,
            engine=engine,
            scorer=scorer,
            max_new_tokens=_budget(name, max_new_tokens),
            prompt=prompt,
            system=system,
            depth_tolerance=depth_tolerance,
            temperature=temperature,
            options={**options, "service": service} if service else options,
        )
        for model in _models.asked(models or [], model_option or [], served=engine == "openai")
        for name in dict.fromkeys(name for asked in task or ["number"] for name in tasks.family(asked))
    ]


def _given(**settings: Any) -> dict[str, Any]:
    """Those that the user has set."""
    return {name: value for name, value in settings.items() if value is not None}


def _bound(repeats: int, adaptive: bool, asked: int | None) -> int | None:
    """The grid's `max_repeats`."""
    if asked is not None and asked < repeats:
        raise UsageError(f"--max-repeats {asked} is below --repeats {repeats}")
    return asked if asked is not None or not adaptive else max(10, repeats)


def _chunk(text: str) -> int:
    from needle import grid

    return grid.size(text)


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


def one(specs: "list[RunSpec]") -> "RunSpec":
    """The only one of `specs`.

    Raises:
        UsageError: there are several.
    """
    if len(specs) > 1:
        raise UsageError(f"this command takes one model and one task, not {len(specs)} of them together")
    return specs[0]


def taking_requests(command: Callable[..., None], without: tuple[str, ...] = ()) -> Callable[..., None]:
    """A command whose first parameter is the `RunSpec`s, as one that takes the options of `request` before its own.

    Options named in `without` are not offered; positional parameters of the command's own then stand first.
    """
    shared = [p for p in inspect.signature(request).parameters.values() if p.name not in without]
    own = list(inspect.signature(command).parameters.values())[1:]
    first = [p for p in own if p.default is inspect.Parameter.empty]
    order = [*first, *shared, *(p for p in own if p not in first)]

    def call(**given: Any) -> None:
        specs = request(**{parameter.name: given.pop(parameter.name) for parameter in shared})
        command(specs, **given)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    # Typer reads these two.
    call.__signature__ = inspect.Signature(order)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in order}
    return call


def taking_request(command: Callable[..., None]) -> Callable[..., None]:
    """`taking_requests` for a command that takes one run only."""

    @functools.wraps(command)
    def single(specs: "list[RunSpec]", **given: Any) -> None:
        command(one(specs), **given)

    return taking_requests(single)
