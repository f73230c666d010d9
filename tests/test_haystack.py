"""Texts are read as they are, endless under any tokenizer, and refused in one line where there is nothing to read."""

from __future__ import annotations

import hashlib
import os
import re
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import tokenizers_zoo as zoo
from hypothesis import given, settings
from hypothesis import strategies as st

from needle import haystack, needles
from needle.errors import UsageError
from needle.haystack import Haystack, Tokens

quick = settings(max_examples=100, deadline=None)
WORDS = "6b5eb441a17592cbe5f6b4193c5ff6895c6d040e553c043ab1795c44782925c6"
UUIDS = "cf3316462deb2893045f4b501e861a5f76be133fb850e5418c383f20d892be93"
ESSAYS = Path(haystack.__file__).parents[1] / "haystacks" / "essays"
CHINESE = ESSAYS.parent / "zh"


def refusal(source: str | Path) -> str:
    with pytest.raises(UsageError) as caught:
        haystack.load(str(source))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty.txt", b"", "holds no text; give a file with some words"),
        ("blank.txt", b" \n\t\r\n \xe2\x80\x83", "holds no text; give a file with some words"),
        ("bom.txt", b"\xef\xbb\xbf", "holds no text; give a file with some words"),
        ("binary.txt", b"ELF\0\1\2 some words", "is a binary file; give plain text"),
        ("latin.txt", "caf\u00e9 au lait".encode("latin-1"), r"is not UTF-8 text (byte 3); save it as UTF-8"),
        ("utf16.txt", "\ufeffwords".encode("utf-16-le"), r"is not UTF-8 text (byte 0); save it as UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_with_a_remedy(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert said in refusal(tmp_path / name)


def test_missing_and_impossible_paths_are_refused(tmp_path: Path) -> None:
    for source in (tmp_path / "none.txt", "", "x" * 5000, "two\nlines", "~nobody-of-that-name/text.txt", "a\0b"):
        message = refusal(source)
        assert "give a text file, a folder of .txt or .md files, or one of essays, noise, zh" in message
        assert len(message) < 250


def test_folder_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"x")
    (tmp_path / "folder.txt").mkdir()
    assert "has no .txt or .md file; put one there or give a file" in refusal(tmp_path)
    (tmp_path / "blank.txt").write_text("\n")
    assert "holds no text" in refusal(tmp_path)


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.txt"
    path.write_text("words")

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "cannot be read (Permission denied); give one that you may read" in refusal(path)


def test_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b.md", "a/z.txt", "a.txt", "C.TXT", "skipped.rst"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"\n\nThis is {name}.\n")
    text = haystack.load(str(tmp_path)).text
    assert re.findall(r"This is (\S+)\.", text) == ["C.TXT", "a.txt", "a/z.txt", "b.md"]
    assert "skipped" not in text


def test_line_ends_and_byte_order_mark_are_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "unix.txt").write_bytes(b"One.\nTwo.\n")
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbfOne.\r\nTwo.\r\n")
    unix, windows = (haystack.load(str(tmp_path / f"{name}.txt")) for name in ("unix", "windows"))
    assert unix.sha256 == windows.sha256 == hashlib.sha256(b"One.\nTwo.\n").hexdigest()


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(UsageError, match="use a fast tokenizer"):
        haystack.tokenize(haystack.load("noise"), object())


def test_a_text_that_repeats_parts_its_last_word_from_its_first() -> None:
    for family in zoo.BYTE_LEVEL:
        hay = zoo.tokens(family, "short")
        assert zoo.tokenizer(family).decode(hay.cut(0, 3 * len(hay))).split() == ["Rain", "fell"] * 3


def test_long_runs_of_dots_are_scanned_in_no_time() -> None:
    began = time.perf_counter()
    list(haystack._SENTENCE_END.finditer("." * 60_000 + "'" * 60_000 + "!?" * 60_000 + " " * 60_000))
    assert time.perf_counter() - began < 3


@pytest.mark.parametrize(
    ("text", "breaks"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…"]),
        ('"Quoted." He left. (So.) And [so.] On', ['"Quoted."', "He left.", "(So.)", "And [so.]"]),
        ("What?! Wait... No. Pi is 3.14 or so", ["What?!", "Wait...", "No."]),
        ("好。是吗？『对！』嗯", ["好。", "是吗？", "『对！』"]),
        ("क्या यह है। हाँ। ठीक", ["क्या यह है।", "हाँ।"]),
        ("no end at all", []),
    ],
)
def test_where_sentences_end(text: str, breaks: list[str]) -> None:
    ends = [m.start(m.lastindex or 0) for m in haystack._SENTENCE_END.finditer(text)]
    starts = [0, *(m.end() for m in haystack._SENTENCE_END.finditer(text))]
    assert [text[a:b] for a, b in zip(starts, ends, strict=False)] == breaks


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("essays", "sentence"),
        ("noise", "sentence"),
        ("cjk", "sentence"),
        ("crlf", "sentence"),
        ("mostly a table", "sentence"),
        ("no sentence end", "word"),
        ("newlines", "word"),
        ("short", "word"),
        ("cjk unpunctuated", "token"),
        ("one giant word", "token"),
        ("emoji", "token"),
        ("one letter", "token"),
    ],
)
def test_kind_says_where_needles_stand(name: str, kind: str) -> None:
    assert {zoo.tokens(family, name).kind for family in zoo.BUILDERS} == {kind}


@pytest.mark.parametrize("family", zoo.BUILDERS)
@pytest.mark.parametrize("name", zoo.NAMES)
def test_places_are_never_far_apart_and_never_within_a_word(family: str, name: str) -> None:
    hay = zoo.tokens(family, name)
    steps = np.diff([*hay.places, hay.places[0] + len(hay)])
    assert steps.min() > 0
    assert steps.max() <= haystack.LONG + haystack.APART
    assert (np.diff(hay.starts) >= 0).all()
    if hay.kind != "token" and name != "mostly a table":
        for place in hay.places:
            before, left, right = hay.around(int(place))
            assert left or right or before[-1] in "。！？』", (before, left, right)


def endless(places: list[int], length: int) -> Tokens:
    return Tokens("x" * length, np.arange(length, dtype=np.int32), np.arange(length), np.array(places), "token")


@st.composite
def looped(draw: st.DrawFn) -> Tokens:
    length = draw(st.integers(1, 12))
    return endless(sorted(draw(st.sets(st.integers(0, length - 1), min_size=1))), length)


@quick
@given(looped(), st.integers(0, 60), st.integers(0, 60))
def test_the_endless_text_goes_on_as_if_written_out(hay: Tokens, low: int, more: int) -> None:
    written = np.tile(hay.ids, 130)
    places = [int(p) + k * len(hay) for k in range(-1, 130) for p in hay.places]
    assert hay.cut(low, low + more).tolist() == written[low : low + more].tolist()
    assert hay.between(low, low + more).tolist() == [p for p in places if low <= p <= low + more]
    assert hay.after(low) == min(p for p in places if p > low)
    assert hay.nearest(low) == min(places, key=lambda p: (abs(p - low), p))


def test_essays_are_enough_and_plain() -> None:
    files = sorted(ESSAYS.glob("*.txt"))
    texts = [f.read_bytes().decode("utf-8") for f in files]
    assert len(files) >= 30
    assert sum(len(t.split()) for t in texts) >= 30_000
    for file, text in zip(files, texts, strict=True):
        assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}, file.name
        assert text.endswith("\n"), file.name
        assert not re.search(r"[^\S\n ]| \n|\n\n\n|  ", text), file.name


def sentences(text: str) -> list[str]:
    found = re.split(r"(?<=[.!?])[\"')]*\s+|\n+", text)
    return [" ".join(re.findall(r"[a-z0-9']+", s.lower())) for s in found]


def test_essays_repeat_no_sentence() -> None:
    seen: dict[str, str] = {}
    for file in sorted(ESSAYS.glob("*.txt")):
        for sentence in sentences(file.read_text("utf-8")):
            if len(sentence.split()) > 8:
                assert sentence not in seen, f"{file.name} and {seen.get(sentence)}: {sentence}"
                seen[sentence] = file.name


def test_essays_are_not_near_each_other() -> None:
    grams = {}
    for file in sorted(ESSAYS.glob("*.txt")):
        words = re.findall(r"[a-z0-9']+", file.read_text("utf-8").lower())
        grams[file.name] = {tuple(words[i : i + 8]) for i in range(len(words) - 7)}
        assert len(grams[file.name]) > 0.99 * (len(words) - 7), f"{file.name} repeats itself"
    for a, b in combinations(grams, 2):
        shared = len(grams[a] & grams[b]) / min(len(grams[a]), len(grams[b]))
        assert shared < 0.01, f"{a} and {b} share {shared:.1%} of their runs of eight words"


def test_essays_hold_no_needle() -> None:
    text = haystack.load("essays").text.lower()
    for wording in ("secret code", "passkey", "magic number", "san francisco", "dolores park", "sandwich"):
        assert wording not in text, wording
    assert not re.search(r"\b(code|number|password|key) for \w+ is\b", text)
    assert not re.search(r"\d{5}", text)


def test_bundled_essays_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = haystack.load("essays")
    monkeypatch.chdir(tmp_path)
    assert haystack.load("essays").sha256 == here.sha256
    assert isinstance(here, Haystack)
    assert os.listdir(tmp_path) == []


def test_chinese_essays_are_enough_and_plain() -> None:
    texts = {f.name: f.read_bytes().decode("utf-8") for f in sorted(CHINESE.glob("*.txt"))}
    assert len(texts) >= 12
    assert sum(len(re.findall(r"[\u4e00-\u9fff]", t)) for t in texts.values()) >= 15_000
    for name, text in texts.items():
        assert not set(re.sub(r"[\u4e00-\u9fff]", "", text)) - set("，。、；：？！“”\n"), name
        assert re.fullmatch(r"(?:[^\n]+[。！？]”?\n\n)*[^\n]+[。！？]”?\n", text), name


def test_chinese_essays_repeat_nothing_and_hold_no_needle() -> None:
    text = haystack.load("zh").text
    found = [s for s in re.split(r"[。！？\n]+", text) if len(s) > 8]
    assert len(set(found)) == len(found) > 400
    runs = [text[i : i + 12] for i in range(len(text) - 11)]
    assert len(set(runs)) > 0.999 * len(runs)
    for wording in ("旧金山", "多洛雷斯", "三明治", "阳光明媚"):
        assert wording not in text


@pytest.mark.parametrize("family", ["qwen", "llama", "mistral"])
def test_chinese_needles_may_stand_at_every_sentence_end(family: str) -> None:
    hay = zoo.tokens(family, "zh")
    assert hay.kind == "sentence"
    # Byte by byte a long sentence offers places within it, too.
    before = [hay.around(int(p))[0].rstrip("”")[-1] for p in hay.places]
    assert sum(b in "。！？" for b in before) >= 0.9 * len(re.findall(r"[。！？]+", hay.text))


@pytest.mark.parametrize(
    ("character", "yes"),
    [
        *(("字", True), ("。", True), ("』", True), ("？", True), ("の", True), ("カ", True), ("𠀀", True)),
        *(("a", False), (".", False), ("”", False), ("한", False), ("é", False), ("", False), (" ", False)),
    ],
)
def test_which_writing_has_no_spaces(character: str, yes: bool) -> None:
    assert haystack.unspaced(character) is yes


@pytest.mark.parametrize(("keys", "kind", "count"), [("words", "numbers", 10_000), ("uuids", "uuids", 4_000)])
def test_a_haystack_of_needles_has_each_key_once(keys: str, kind: str, count: int) -> None:
    text = haystack.load(f"needles-{keys}").text
    found = re.findall(rf"^One of the special magic {kind} for (\S+) is: (\S+)\.$", text, re.M)
    assert len(found) == text.count("\n") == count
    assert len({key for key, _ in found}) == len({value for _, value in found}) == count
    assert found == list(needles.pairs(keys))
    assert list(needles.values(keys)) == [value for _, value in found]


def test_haystacks_of_needles_are_the_same_on_every_machine() -> None:
    assert haystack.load("needles-words").sha256 == WORDS
    assert haystack.load("needles-uuids").sha256 == UUIDS


def test_a_haystack_of_needles_fills_long_contexts() -> None:
    """Even where a token is as long as in the best of tokenizers, of words that is, not of digits and hyphens."""
    for keys in ("words", "uuids"):
        tokens = re.findall(r"\w{1,4}|[^\w\s]", haystack.load(f"needles-{keys}").text)
        assert len(tokens) > 131_072
