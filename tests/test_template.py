"""What stands around the document: every family's chat as it renders it, and what is done where a template balks."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import pytest
import tokenizers_zoo as zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils import chat_template_utils

from needle import tasks, template
from needle.errors import UsageError
from needle.types import Question

QUESTION = Question("The secret code for Oslo is 1.", "What is the secret code for Oslo?", ("1",), prefix="The code is")


def templated(chat: Any, family: str = "qwen") -> Any:
    tokenizer = zoo.BUILDERS[family]()
    tokenizer.chat_template = chat
    return tokenizer


def around(tokenizer: Any, task: str = "number", prompt: str = "auto", system: str | None = None) -> tuple[str, str]:
    frame = template.frame(tokenizer, tasks.get(task), prompt, system)
    return tokenizer.decode(frame.prefix), tokenizer.decode(frame.suffix(QUESTION))


def test_chatml() -> None:
    assert around(zoo.tokenizer("qwen")) == (
        "<|im_start|>user\n",
        "\n\nWhat is the secret code for Oslo?<|im_end|>\n<|im_start|>assistant\n",
    )


def test_a_system_prompt_goes_where_the_template_has_it() -> None:
    user = "<|im_start|>user\n"
    asked = around(zoo.tokenizer("qwen"), system="You find codes.")[0]
    assert asked == f"<|im_start|>system\nYou find codes.<|im_end|>\n{user}"
    assert str(tasks.get("sentence").system) in around(zoo.tokenizer("qwen"), "sentence")[0]
    assert around(zoo.tokenizer("qwen"), "sentence", system="")[0] == user


@pytest.mark.parametrize("family", zoo.CHATS)
def test_every_chat_begins_and_ends_as_the_tokenizer_renders_it(family: str) -> None:
    """One BOS if the template writes one, and the very ids of the whole chat's beginning."""
    tokenizer = zoo.tokenizer(family)
    frame = template.frame(tokenizer, tasks.get("number"))
    chat = [{"role": "user", "content": f"Words.\n\n{QUESTION.question}"}]
    whole = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert frame.kind == "chat"
    assert frame.note == ""
    # Where the template ends in a space, the word after it would have taken that in.
    same = len(frame.prefix) - (family == "mistral")
    assert whole[:same] == frame.prefix[:same]
    assert frame.prefix.count(tokenizer.bos_token_id) == (0 if tokenizer.bos_token_id is None else 1)
    suffix = frame.suffix(QUESTION)
    assert whole[-len(suffix) + 2 :] == suffix[2:]


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_without_a_system_role_its_text_heads_the_users_turn(family: str) -> None:
    tokenizer = zoo.tokenizer(family)
    frame = template.frame(tokenizer, tasks.get("number"), system="You find codes.")
    text = tokenizer.decode(frame.prefix)
    assert text.endswith("You find codes.\n\n")
    assert text.index("user" if family == "gemma" else "[INST]") < text.index("You find")
    assert frame.note == "the chat template takes no system role; its text heads the user's turn"


def test_a_template_that_drops_the_system_role_is_noticed() -> None:
    chat = "{% for m in messages if m.role == 'user' %}<|im_start|>{{ m.content | trim }}<|im_end|>{% endfor %}"
    frame = template.frame(templated(chat), tasks.get("number"), system=" You find codes. ")
    assert "takes no system role" in frame.note


def test_a_template_that_trims_the_system_prompt_has_taken_it() -> None:
    frame = template.frame(zoo.tokenizer("llama"), tasks.get("number"), system=" You find codes.\n")
    assert frame.note == ""


@pytest.mark.parametrize(
    ("family", "prefix"), [("neox", []), ("bert", ["[CLS]"]), ("llama", ["<|begin_of_text|>"]), ("gemma", ["<bos>"])]
)
def test_base_prompts_begin_with_what_the_tokenizer_puts_there(family: str, prefix: list[str]) -> None:
    tokenizer = zoo.tokenizer(family)
    frame = template.frame(tokenizer, tasks.get("number"), "base")
    assert frame.kind == "base"
    assert tokenizer.convert_ids_to_tokens(frame.prefix) == prefix
    tail = tokenizer.decode(frame.suffix(QUESTION)).lower()
    assert "".join(tail.split()) == f"question:{QUESTION.question}answer:{QUESTION.prefix}".lower().replace(" ", "")


def test_base_prompt_without_an_answer_prefix_ends_without_a_space() -> None:
    tokenizer = zoo.tokenizer("neox")
    frame = template.frame(tokenizer, tasks.get("number"))
    assert tokenizer.decode(frame.suffix(dataclasses.replace(QUESTION, prefix=""))).endswith("Answer:")


def test_base_system_prompt_heads_the_text() -> None:
    assert around(zoo.tokenizer("neox"), system="You find {codes}.")[0] == "You find {codes}.\n\n"


@pytest.mark.parametrize(
    ("chat", "said"),
    [
        ("{{ messages[0].content | upper }}", "does not carry the user's text through once"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "does not carry the user's text through once"),
        ("{{ 'fixed' }}", "does not carry the user's text through once"),
        ("{{ raise_exception('no users\nhere') }}", "cannot be rendered (no users here)"),
        ("{% for %}", "cannot be rendered"),
        ("{{ messages[0].content.nothing.more }}", "cannot be rendered"),
        ("{{ messages[0].content + 1 }}", "cannot be rendered"),
        ({"rag": "{{ messages[0].content }}"}, "chat templates but no default one"),
    ],
)
def test_a_template_that_will_not_do_is_refused_in_one_line(chat: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        template.frame(templated(chat), tasks.get("number"))
    assert said in str(caught.value)
    assert str(caught.value).endswith("; use --prompt base")
    assert "\n" not in str(caught.value)


def test_prompt_option_is_checked() -> None:
    with pytest.raises(UsageError, match="--prompt 'chats' is unknown; use auto, chat or base"):
        template.frame(zoo.tokenizer("qwen"), tasks.get("number"), "chats")
    with pytest.raises(UsageError, match="has no chat template; use --prompt base"):
        template.frame(zoo.tokenizer("neox"), tasks.get("number"), "chat")


def test_the_default_of_several_templates_is_taken() -> None:
    chat = {"rag": "{{ 1 }}", "default": "<|im_start|>{{ messages[0].content }}<|im_end|>"}
    assert around(templated(chat))[0] == "<|im_start|>"


def test_a_template_that_asks_for_today_renders_the_same_tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise no run could be resumed, nor a prompt be rebuilt, after midnight."""
    chat = (
        "{%- if strftime_now is defined %}{%- set today = strftime_now('%d %b %Y') %}{%- endif %}"
        "<|im_start|>Today: {{ today }}, {{ strftime_now('%A, %B %-d, %Y, %Y-%m-%d %H:%M') }}\n"
        "{% for m in messages %}{{ strftime_now('%y') }}{{ m.content }}{% endfor %}<|im_end|>"
    )
    tokenizer = templated(chat)
    first = template.frame(tokenizer, tasks.get("number"))

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Tomorrow:
            return cls(2031, 1, 2)

    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    assert template.frame(tokenizer, tasks.get("number")).prefix == first.prefix
    assert tokenizer.decode(first.prefix) == (
        "<|im_start|>Today: 26 Jul 2024, Friday, July 26, 2024, 2024-07-26 12:00\n24"
    )
    assert "today's date and is told 26 July 2024" in first.note


def test_thinking_is_switched_off_and_said_so() -> None:
    chat = (
        "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
        "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    )
    tokenizer = templated(chat)
    frame = template.frame(tokenizer, tasks.get("number"))
    assert tokenizer.decode(frame.suffix(QUESTION)).endswith("<|im_end|><think>\n\n</think>\n\n")
    assert frame.note == "the chat template's thinking is switched off: the answer budget has no room for it"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(set(zoo.BUILDERS) - {"bert", "gemma"})),
    st.sampled_from(["a.", "end", "The river.\n\n", "春", "it's", "\n", "🐝"]),
    st.text(st.sampled_from("ab.,' \n春。🐝ó"), min_size=1, max_size=12),
)
def test_text_is_encoded_whole_wherever_it_stands(family: str, before: str, text: str) -> None:
    tokenizer = zoo.tokenizer(family)
    decoded = tokenizer.decode(template.encode(tokenizer, "x") + template.encode_after(tokenizer, before, text))
    assert "".join(decoded.split()) == "x" + "".join(text.split())


def test_text_after_text_is_what_the_tokenizer_makes_of_both() -> None:
    for family in zoo.BUILDERS:
        tokenizer = zoo.tokenizer(family)
        both = template.encode(tokenizer, "The end. Now") + template.encode_after(tokenizer, "The end. Now", " then.")
        assert both == template.encode(tokenizer, "The end. Now then.")


def test_no_dummy_space_where_the_tokenizer_joins_a_full_stop_and_a_line_break() -> None:
    for family in ("gemma", "mistral"):
        tokenizer = zoo.tokenizer(family)
        ids = template.encode_after(tokenizer, "a.", "\n\nWhat")
        assert not tokenizer.convert_ids_to_tokens(ids[0]).startswith("▁")
