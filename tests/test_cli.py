"""`needle run` as people and scripts meet it: exit codes, and one line for what they got wrong."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, rows_of, without_weights

from needle import __version__
from needle.cli import _screen
from needle.errors import one_line

Needle = Callable[..., Done]
Checkpoint = Callable[..., Path]

PLAIN = ("--plan", "cells", "--haystack", "noise", "--max-new-tokens", 8)
ASKED = (*PLAIN, "--lengths", "256,512", "--depths", "0,0.5,1")
FINE = ("--haystack", "noise", "--max-new-tokens", 8, "--max-len", "1k", "--depth-count", 2)


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """A folder with one of each thing that is not what it ought to be."""
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    (tmp_path / "nul.txt").write_bytes(b"some text\0 and more")
    (tmp_path / "blank.txt").write_text(" \n ")
    (tmp_path / "empty").mkdir()
    (tmp_path / "no-json").mkdir()
    (tmp_path / "no-json" / "config.json").write_text("{")
    (tmp_path / "no-kind").mkdir()
    (tmp_path / "no-kind" / "config.json").write_text('{"hidden_size": 8}')
    (tmp_path / "bad-value").mkdir()
    (tmp_path / "bad-value" / "config.json").write_text('{"model_type": "llama", "hidden_size": "wide"}')
    (tmp_path / "no-words").mkdir()
    (tmp_path / "no-words" / "config.json").write_text('{"model_type": "llama"}')
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        # Models.
        (["MODEL", "-m", "other"], "two models given"),
        (["./nowhere"], "no model at './nowhere'"),
        (["/no/where"], "no model at '/no/where'"),
        (["empty"], "no config.json"),
        (["no-json"], "config cannot be loaded"),
        (["no-kind"], "config cannot be loaded"),
        (["bad-value"], "config cannot be loaded"),
        (["no-words"], "tokenizer cannot be loaded"),
        (["binary.txt"], "no model at 'binary.txt'"),
        (["somebody/some-model"], "the hub did not give its config"),
        (["some-model"], "the hub did not give its config"),
        (["pocket-23k"], "did you mean 'pocket-32k'?"),
        (["not a/model id!"], "the hub did not give its config"),
        # Grids.
        (["MODEL", "--min-len", "2k", "--max-len", "1k"], "--min-len 2048 is greater than --max-len 1024"),
        (["MODEL", "--max-len", "lots"], "'lots' is no length"),
        (["MODEL", "--lengths", ""], "no lengths given"),
        (["MODEL", "--lengths", "0"], "above zero"),
        (["MODEL", "--length-count", "0"], "--length-count 0 is below 1"),
        (["MODEL", "--lengths", "60"], "a context of 60 tokens is too short"),
        (["MODEL", "--lengths", "4k"], "longer than the model's 2048"),
        (["MODEL", "--depths", "0,1.5"], "depth 1.5 lies outside 0–1"),
        (["MODEL", "--depths", "50"], "write 0.5 for 50 %"),
        (["MODEL", "--depths", "-0.1"], "outside 0–1"),
        (["MODEL", "--depths", "nan"], "outside 0–1"),
        (["MODEL", "--depths", "deep"], "'deep' is no depth"),
        (["MODEL", "--depth-count", "0"], "--depth-count 0 is below 1"),
        (["MODEL", "--depth-spacing", "wavy"], "linear or sigmoid"),
        (["MODEL", "--depth-tolerance", "0.5"], "outside 0–0.1"),
        (["MODEL", "--depth-tolerance", "nan"], "outside 0–0.1"),
        (["MODEL", "--repeats", "0"], "--repeats 0 is below 1"),
        # Names.
        (["MODEL", "--task", "numbr"], "unknown task 'numbr'; did you mean 'number'?"),
        (["MODEL", "--scorer", "macth"], "unknown scorer 'macth'; did you mean 'match'?"),
        (["MODEL", "--engine", "abacus"], "unknown engine 'abacus'; known are"),
        (["MODEL", "--prompt", "shout"], "auto, chat or base"),
        # Haystacks.
        (["MODEL", "--haystack", "hay.txt"], "no haystack 'hay.txt'"),
        (["MODEL", "--haystack", "binary.txt"], "not UTF-8 text"),
        (["MODEL", "--haystack", "nul.txt"], "binary file"),
        (["MODEL", "--haystack", "blank.txt"], "holds no text"),
        (["MODEL", "--haystack", "empty"], "no .txt or .md file"),
        # The rest.
        (["MODEL", "--max-new-tokens", "0"], "--max-new-tokens 0 is below 1"),
        (["MODEL", "--rope-scaling", "yarn"], "takes a JSON object"),
        (["MODEL", "-o", "binary.txt"], "--output-dir 'binary.txt'"),
        (["MODEL", "-o", "binary.txt/runs/deep"], "binary.txt' is not a folder"),
        (["MODEL", "--taks", "number"], "No such option"),
        (["MODEL", "--repeats", "many"], "Invalid value for '--repeats'"),
        (["MODEL", "surplus"], "surplus"),
        (["MODEL", "--task"], "requires an argument"),
    ],
    ids=lambda value: " ".join(value[-3:]) if isinstance(value, list) else "",
)
def test_a_request_that_cannot_be_is_one_line_and_leaves_nothing(
    arguments: list[str],
    told: str,
    needle: Needle,
    checkpoint: Checkpoint,
    spoilt: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(spoilt)
    before = sorted(spoilt.rglob("*"))
    given = [str(checkpoint()) if a == "MODEL" else a for a in arguments]
    line = needle("run", *FINE, *given).line
    assert told in line
    assert len(line) < 500
    assert sorted(spoilt.rglob("*")) == before


def test_the_models_error_stands_alone_though_there_is_more_to_say(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "tiny.txt").write_text("no sentence ends here")
    asked = ("run", checkpoint(), *PLAIN[:2], "--haystack", tmp_path / "tiny.txt", "-o", tmp_path / "runs")
    assert "too short" in needle(*asked, "--lengths", 64).line
    notes = needle(*asked, "--lengths", 256, "--depths", 0, "--max-new-tokens", 8)
    assert notes.code == 0
    assert "it repeats to fill contexts" in notes.err
    assert "no sentence ends; needles stand at word boundaries" in notes.err


@pytest.mark.parametrize("damage", ["head", "row", "identity"])
def test_a_damaged_run_is_told_of_and_left_alone(
    damage: str, needle: Needle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    command = ("run", checkpoint(), *PLAIN, "--lengths", 256, "--depths", "0,1", "--quiet", "-o", tmp_path)
    assert needle(*command).code == 0
    head = rows_of(tmp_path).with_name("run.json")
    if damage == "row":
        rows_of(tmp_path).write_text("not json\n" + rows_of(tmp_path).read_text())
    else:
        text = head.read_text()
        head.write_text(text[: len(text) // 2] if damage == "head" else text.replace('"seed": 0', '"seed": 1'))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert head.parent.name in needle(*command).line
    assert head.parent.name in needle("show", "-o", tmp_path).line
    listed = needle("list", "-o", tmp_path)
    assert listed.code == 0
    assert re.search(rf"{head.parent.name}.* damaged", listed.out)
    assert listed.err.count("\n") == 1
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_exit_code_0_and_then_nothing_to_do(needle: Needle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    command = ("run", checkpoint(), *ASKED, "-o", tmp_path)
    first = needle(*command)
    assert (first.code, first.out) == (0, "")
    assert "[6/6]" in first.err
    rows = rows_of(tmp_path).read_bytes()
    again = needle(*command, "--json")
    assert again.code == 0
    assert "nothing to do" in again.err
    assert "[6/6]" not in again.err
    assert json.loads(again.out)["done"] == 6
    assert rows_of(tmp_path).read_bytes() == rows
    silent = needle("run", f"{checkpoint()}/", *ASKED, "-o", tmp_path, "--quiet")
    assert (silent.code, silent.out, silent.err) == (0, "", "")
    assert rows_of(tmp_path).read_bytes() == rows


def test_a_plan_takes_the_options_of_a_run_and_reads_no_weights(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = without_weights(checkpoint(), tmp_path / "model")
    done = needle("plan", folder, *ASKED, "--json")
    assert done.code == 0
    plan = json.loads(done.out)
    assert (plan["cells"], plan["plain_tokens"]) == (6, 3 * (256 - 8) + 3 * (512 - 8))
    assert needle("plan", folder, *ASKED).out
    assert "longer than the model's 2048" in needle("plan", folder, *PLAIN, "--lengths", "4k").line
    assert "No such option" in needle("plan", folder, "--output-dir", "runs").line
    assert not (tmp_path / "runs").exists()


def test_a_run_is_verified(needle: Needle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert needle("run", checkpoint(), *ASKED, "-o", tmp_path).code == 0
    done = needle("verify", "llama", "-o", tmp_path, "--sample", 2, "--json")
    assert done.code == 0
    told = json.loads(done.out)
    assert (told["cells"], told["same_tokens"], told["same_scores"], told["dtype"]) == (2, 2, 2, "float32")
    rows = [json.loads(line) for line in rows_of(tmp_path).read_text().splitlines()]
    changed = "".join(json.dumps({**row, "answer_ids": [1, 2], "answer": "other", "score": 1.0}) + "\n" for row in rows)
    rows_of(tmp_path).write_text(changed)
    done = needle("verify", "llama", "-o", tmp_path, "--sample", 2)
    assert done.code == 1
    assert "0 of 2 cells say the same tokens" in done.out


def test_ctrl_c_keeps_what_is_finished(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    generate, calls = transformers.GenerationMixin.generate, []

    def stop_at_third(self: Any, *args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(self, *args, **more)

    command = ("run", checkpoint(), *ASKED, "-o", tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(transformers.GenerationMixin, "generate", stop_at_third)
        stopped = needle(*command)
    assert (stopped.code, stopped.out) == (130, "")
    assert "goes on from here" in stopped.err.splitlines()[-1]
    assert rows_of(tmp_path).read_bytes().count(b"\n") == 2
    assert "partial" in needle("list", "-o", tmp_path).out
    rest = needle(*command)
    assert rest.code == 0
    assert "2 of 6 cells were measured before" in rest.err


def test_a_terminal_sees_the_picture_fill_and_gets_its_cursor_back(
    needle: Needle, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    seen = io.StringIO()
    terminal = Console(file=seen, force_terminal=True, width=80, height=30, color_system="truecolor")
    monkeypatch.setattr(_screen._out, "console", lambda **_: terminal)
    assert needle("run", checkpoint(), *ASKED, "-o", tmp_path).code == 0
    text = seen.getvalue()
    assert "reading model and haystack" in text
    assert 0 < text.rfind("reading weights") < re.search(r"\d/6 cells", text).start()  # type: ignore[union-attr]
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0
    assert "6 of 6 measured" in text


def test_one_line_is_one_line() -> None:
    assert one_line(ValueError("a\n\tb  c")) == "a b c"
    assert one_line("\x1b[31mred\u202e") == r"\x1b[31mred\u202e"
    assert one_line("Kraków – 東京") == "Kraków – 東京"


def test_version_and_help(needle: Needle) -> None:
    assert needle("--version").out == f"needle {__version__}\n"
    told = needle("version").out.splitlines()
    assert told[0] == f"needle {__version__}"
    assert [line.split()[0] for line in told] == ["needle", "python", "torch", "transformers"]
    bare, asked = needle(), needle("--help")
    assert (bare.code, asked.code) == (0, 0)
    assert bare.out.split() == asked.out.split()
    assert "needle run Qwen/Qwen2.5-0.5B-Instruct" in needle("run", "-h").out
