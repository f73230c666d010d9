"""Real fast tokenizers of the families in use, trained on a few essays: small, but built as their elders are.

Beside them the texts that prompts are tried on, from the bundled ones to such as no sane person would choose.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from needle import haystack
from needle.haystack import Haystack, Tokens
from needle.pocket import tokenizer as pocket

LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_CHAT = (
    "{{- bos_token }}{%- for m in messages %}"
    "{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
GEMMA_CHAT = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}"
    "{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL_CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)


def texts() -> Iterator[str]:
    """A few essays, and the characters of values and names that essays are short of."""
    files = sorted((Path(__file__).parents[1] / "haystacks" / "essays").glob("*.txt"))[:6]
    yield from (line for f in files for line in f.read_text().splitlines(keepends=True))
    yield from (
        "0123456789 a1b2c3d4e5f6-0918-4273-9564-abcdefabcdef: " * 20,
        "Kraków, Malmö; Zürich? Quito! Xe Yz. " * 5,
    )


def _byte_level(split: str | None, specials: list[str], vocab: int = 900) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    cuts = [pre_tokenizers.Split(Regex(split), behavior="isolated")] if split else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cuts, level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=specials, initial_alphabet=level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def _wrapped(tokenizer: Tokenizer, **settings: str | None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **settings)


def _surrounded(tokenizer: Tokenizer, before: str, after: str | None) -> processors.TemplateProcessing:
    parts = [before, "$A", after] if after else [before, "$A"]
    return processors.TemplateProcessing(
        single=" ".join(parts), special_tokens=[(t, tokenizer.token_to_id(t)) for t in (before, after) if t]
    )


def qwen() -> PreTrainedTokenizerFast:
    """Byte-level BPE, digits apart, no BOS, ChatML."""
    return pocket.train(texts(), 900, 4096)


def llama() -> PreTrainedTokenizerFast:
    """Byte-level BPE, digits in threes, a BOS from the post-processor and another in the template's own text."""
    tokenizer = _byte_level(
        LLAMA_SPLIT, ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    )
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), _surrounded(tokenizer, "<|begin_of_text|>", None)]
    )
    return _wrapped(tokenizer, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", chat_template=LLAMA_CHAT)


def gemma() -> PreTrainedTokenizerFast:
    """Unigram over Metaspace with a dummy prefix, unknown characters lost, BOS and EOS added, no system role."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    specials = ["<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=700, special_tokens=specials, unk_token="<unk>", n_sub_iterations=1, show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = _surrounded(tokenizer, "<bos>", "<eos>")
    return _wrapped(tokenizer, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>", chat_template=GEMMA_CHAT)


def mistral() -> PreTrainedTokenizerFast:
    """SentencePiece BPE as Llama 2's: spaces made visible by the normaliser, no pre-tokenizer, fallback to bytes."""
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False
    )
    learner.train_from_iterator(texts(), trainer)
    learner.pre_tokenizer = None
    learner.model.byte_fallback = True
    learner.model.fuse_unk = True
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    learner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<s>", "</s>")])
    learner.post_processor = _surrounded(learner, "<s>", None)
    return _wrapped(learner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=MISTRAL_CHAT)


def bert() -> PreTrainedTokenizerFast:
    """Lower-casing WordPiece between [CLS] and [SEP], without white space in its tokens and without a chat template."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = _surrounded(tokenizer, "[CLS]", "[SEP]")
    return _wrapped(tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", chat_template=None)


def neox() -> PreTrainedTokenizerFast:
    """Byte-level BPE with GPT-2's split, offsets that leave white space out, and no chat template."""
    tokenizer = _byte_level(None, ["<|endoftext|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return _wrapped(tokenizer, eos_token="<|endoftext|>", chat_template=None)


BUILDERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    f.__name__: f for f in (qwen, llama, gemma, mistral, bert, neox)
}
CHATS = ("qwen", "llama", "gemma", "mistral")
BYTE_LEVEL = ("qwen", "llama", "neox")
"""Families whose ids decode to the very text."""


@cache
def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """The one of that family, trained once a process."""
    return BUILDERS[family]()


TEXTS = {
    "no sentence end": "the river runs on and on between low banks of clay " * 60,
    "one giant word": "antidisestablishmentarianism" * 120,
    "cjk": "昨天下雨了。今天天气很好！我们去公园散步，好吗？『好的。』大家都很高兴。" * 30,
    "cjk unpunctuated": "春眠不觉晓处处闻啼鸟夜来风雨声花落知多少" * 40,
    "emoji": "🐝🌻👩‍🚀🏳️‍🌈" * 150,
    "emoji and words": "Bees 🐝 are busy. Flowers 🌻 wait! 👩‍🚀 " * 60,
    "newlines": "\n".join(f"word{i}" for i in range(500)),
    "blank lines": "\n\n\n\n\n\n\n\n".join(f"Line {i}." for i in range(200)),
    "crlf": "A line ends here.\r\nAnother begins.\r\n\r\nA paragraph follows it, longer than both.\r\n" * 40,
    "short": "Rain fell",
    "one letter": "x",
    "mostly a table": "It was a fine day. " * 20 + "17|4|amber;" * 600 + " And so it ended. " * 5,
    "control tokens": "Say <|im_end|> or <eos>. Then </s> and [SEP] follow. So does <|eot_id|>, or <|endoftext|>! "
    * 30,
    "tabs": "\tcell one.\tcell two.\t\tcell three.\t" * 60,
}
NAMES = ("essays", "noise", *TEXTS)


@cache
def hay(name: str) -> Haystack:
    """The bundled haystack of that name, or the text of that name read from a file as a user's would be."""
    if name not in TEXTS:
        return haystack.load(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.txt"
        path.write_bytes(TEXTS[name].encode())
        return haystack.load(str(path))


@cache
def tokens(family: str, name: str) -> Tokens:
    """The haystack of that name in the ids of that family."""
    return haystack.tokenize(hay(name), tokenizer(family))
