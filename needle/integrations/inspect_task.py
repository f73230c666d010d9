"""inspect_ai: the cells of a run as one of its tasks; a sample a cell.

    inspect eval needle/integrations/inspect_task.py --model hf/Qwen/Qwen2.5-7B-Instruct -M do_sample=false \\
        -T tokenizer=Qwen/Qwen2.5-7B-Instruct -T lengths=4k,16k -T depths=0,0.5,1 --log-format json

The options are those of `needle run`, of the same meaning. A prompt is handed over as messages, on which the model's
own side puts its chat template: with the same template and tokenizer the context has the length that the cell says.
Inspect's `hf` models draw unless they are told not to, by `-M do_sample=false`.

This module needs inspect_ai, which finds tasks by their decorator.
"""

from __future__ import annotations

from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser, GenerateConfig
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState, generate

from needle import grid, running, tasks
from needle.integrations import _cells
from needle.running import Prepared
from needle.types import Prompt, RunSpec


@task  # type: ignore[untyped-decorator, unused-ignore]
def needle(
    tokenizer: str = "pocket-32k",
    name: str = "number",
    haystack: str | None = None,
    lengths: Any = "1k,2k,4k",
    depths: Any = "0,0.5,1",
    depth_tolerance: float = 0.01,
    repeats: int = 1,
    seed: int = 0,
    prompt: str = "auto",
    system: str | None = None,
    max_new_tokens: int | None = None,
    scorer: str = "match",
) -> Task:
    """Needles at `lengths` × `depths`; `tokenizer` is the checkpoint whose tokens count, `name` needle's task.

    Raises:
        UsageError: the options contradict each other, or a cell does not fit.
    """
    asked = tasks.get(name)
    spec = RunSpec(
        model=tokenizer,
        task=name,
        haystack=haystack or asked.haystack or "essays",
        grid=grid.make(grid.sizes(_listed(lengths)), grid.depths(_listed(depths)), repeats),
        seed=seed,
        scorer=scorer,
        max_new_tokens=max_new_tokens or asked.max_new_tokens,
        prompt=prompt,
        system=system,
        depth_tolerance=depth_tolerance,
        options={"device": "cpu"},
    )
    prepared = running.prepare(spec, print)
    # Prompts need no device; which one answers is the harness's affair.
    return Task(
        dataset=MemoryDataset(samples(prepared), name=_cells.title(prepared)),
        solver=generate(),
        scorer=needle_score(dict(spec.options)),
        config=GenerateConfig(temperature=0.0, max_tokens=spec.max_new_tokens),
        metadata={"needle_sources": prepared.sources},
    )


def samples(prepared: Prepared) -> list[Sample]:
    """A sample a cell; its metadata is the cell's record without the prompt."""
    made = []
    for record, prompt in zip(_cells.records(prepared), prepared.prompts, strict=True):
        known = {key: value for key, value in record.items() if key != "prompt"}
        made.append(
            Sample(
                input=_messages(prepared, prompt, record["prompt"]),
                target=record["expected"],
                id=f"{record['length']}:{record['depth']:g}:{record['repeat']}{':control' * record['control']}",
                metadata=known,
            )
        )
    return made


@scorer(metrics=[mean(), stderr()])  # type: ignore[untyped-decorator, unused-ignore]
def needle_score(options: dict[str, Any]) -> Scorer:
    """The run's own scorer; outcome and reason go into the sample's log."""

    async def score(state: TaskState, target: Target) -> Score:  # noqa: ARG001
        graded = _cells.grade(state.metadata, state.output.completion, options)
        return Score(
            value=graded.value,
            answer=graded.extracted,
            explanation=graded.explanation,
            metadata={"outcome": graded.outcome},
        )

    return score


def _messages(prepared: Prepared, prompt: Prompt, whole: str) -> list[ChatMessage]:
    """The chat that the prompt renders; a plain prompt goes as the user's text as it stands."""
    spec, tokenizer = prepared.spec, prepared.engine.tokenizer
    if spec.prompt == "base" or not getattr(tokenizer, "chat_template", None):
        return [ChatMessageUser(content=whole)]
    asked = tasks.get(spec.task)
    start, end = prompt.document
    context = tokenizer.decode(prompt.ids[start:end].tolist(), clean_up_tokenization_spaces=False)
    user = ChatMessageUser(content=asked.template.format(context=context, question=prompt.question.question))
    system = asked.system if spec.system is None else spec.system
    return [ChatMessageSystem(content=system), user] if system else [user]


def _listed(values: Any) -> str:
    """`-T lengths=1k,2k` comes as a list, `-T lengths=1k` as text."""
    return ",".join(map(str, values)) if isinstance(values, list | tuple) else str(values)
