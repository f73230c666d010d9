"""The bundled checkpoint as GGUF: read back by Transformers' own GGUF reader it is the same model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import copied
from transformers import AutoModelForCausalLM

from needle import pocket
from needle.engines import _words
from needle.errors import UsageError

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
from needle.pocket.gguf import convert  # noqa: E402  # it is of no use without the package

TEXT = "The secret code for Lisbon is 4821937.\n\nWhat's 12 of it?  Ünïcode, tabs\tand   blanks."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert("pocket-32k", tmp_path_factory.mktemp("gguf") / "pocket-32k.gguf")


def fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def test_the_weights_are_the_checkpoints(made: Path) -> None:
    there = AutoModelForCausalLM.from_pretrained(pocket.path("pocket-32k"), dtype=torch.float32)
    back = AutoModelForCausalLM.from_pretrained(made.parent, gguf_file=made.name, dtype=torch.float32)
    weights, read = there.state_dict(), back.state_dict()
    assert all(torch.equal(read[name], values) for name, values in weights.items())
    ids = torch.tensor([_words.read("pocket-32k", {})(TEXT)["input_ids"]])
    with torch.inference_mode():
        assert torch.allclose(back(ids).logits, there(ids).logits, atol=1e-4)


def test_shape_positions_and_vocabulary(made: Path) -> None:
    folder = pocket.path("pocket-32k")
    assert folder
    config = json.loads((folder / "config.json").read_text())
    words = json.loads((folder / "tokenizer.json").read_text())
    found = fields(made)
    assert found["qwen2.context_length"] == config["max_position_embeddings"]
    assert found["qwen2.rope.freq_base"] == config["rope_parameters"]["rope_theta"]
    assert found["qwen2.attention.head_count_kv"] == config["num_key_value_heads"]
    assert found["tokenizer.ggml.pre"] == "qwen2"
    assert found["tokenizer.ggml.eos_token_id"] == config["eos_token_id"]
    assert found["tokenizer.ggml.merges"] == [" ".join(m) for m in words["model"]["merges"]]
    assert found["tokenizer.chat_template"] == (folder / "chat_template.jinja").read_text()
    tokens = found["tokenizer.ggml.tokens"]
    assert len(tokens) == config["vocab_size"]
    assert all(tokens[index] == token for token, index in words["model"]["vocab"].items())
    kinds = found["tokenizer.ggml.token_type"]
    assert {i for i, kind in enumerate(kinds) if kind == gguf.TokenType.CONTROL} == {
        a["id"] for a in words["added_tokens"]
    }


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("config.json", {"model_type": "llama"}, "no Qwen2 with plain positions"),
        ("config.json", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "no Qwen2 with plain positions"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}, "splits text otherwise"),
    ],
)
def test_what_would_be_converted_wrongly_is_refused(
    tmp_path: Path, file: str, change: dict[str, Any], says: str
) -> None:
    source = pocket.path("pocket-32k")
    assert source
    folder = copied(source, tmp_path / "changed")
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError, match=says):
        convert(str(folder), tmp_path / "out.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


def test_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "needle.pocket.gguf", str(tmp_path / "nothing"), str(tmp_path / "out.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("needle: ")
    assert done.stderr.count("\n") == 1
