"""What an answer that is not right is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from questions import CODE

from needle.scoring import _refusal, exact, match, part
from needle.scoring._outcome import classify, plain
from needle.tasks import rng
from needle.tasks._values import MAKERS
from needle.types import Answer, Question

KEY, VALUE, OTHER, THIRD = (
    *("0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"),
    *("1b4e28ba-2fa1-41d2-883f-0016d3cca427", "6fa459ea-ee8a-4ca4-894e-db77e160355e"),
)
UUIDS = Question("", f"What is the special magic uuid for {KEY}?", (VALUE,), (OTHER,), prefix=f"The uuid for {KEY} is")
WORDS = Question("", "Which word?", ("placid-anchor",), ("rustic-gull", "amber-kettle"))
TWO = Question("", "Which numbers?", ("1234567", "7654321"), ("1111111",))
CHINESE = Question("", "上海的密码是什么？", ("4821937",), ("1111111",))
SANDWICH = Question("", "What is the best thing to do?", ("eat a sandwich", "sit in Dolores Park"))


@pytest.mark.parametrize(
    ("question", "text", "outcome", "words"),
    [
        # a distractor's value
        (CODE, "It is 2222222.", "distractor", "2222222"),
        (CODE, "Lisbon: 2222222; Nairobi: 1111111", "distractor", "2222222"),
        (CODE, "1111111,2222222", "distractor", "1111111"),
        (CODE, "code=1111111.", "distractor", "1111111"),
        (CODE, "Between 7654321 and 1111111.", "distractor", "1111111"),
        (CODE, "The code is 1111111. The text does not mention others.", "distractor", "1111111"),
        (WORDS, "It is Amber-Kettle!", "distractor", "amber-kettle"),
        (UUIDS, f"The uuid for {KEY} is {OTHER}.", "distractor", OTHER),
        (CHINESE, "上海的密码是1111111。", "distractor", "1111111"),
        # another value of the expected one's shape
        (CODE, "The secret code for Lisbon is 7654321.", "number", "7654321"),
        (CODE, "The secret code for Lisbon is 482197.", "number", "482197"),
        (CODE, "11111112", "number", "11111112"),
        (CHINESE, "上海的密码是7654321。", "number", "7654321"),
        (UUIDS, f"The uuid for {KEY} is {THIRD.upper()}.", "number", THIRD),
        # the same digits are not of that shape
        (CODE, "Lisbon had 482 of them in 1995, and 12 in 2001.", "wrong", ""),
        (CODE, "It costs 3.4821930 dollars or 11111.1111111", "wrong", ""),
        (CODE, "It is 4821930.5 or 4821930,5 or so.", "number", "4821930"),
        (CODE, "It is 4821930.5", "wrong", ""),
        (CODE, "id 0f8fad5b-1234567, 1234567-a165, build a4821930", "wrong", ""),
        (UUIDS, f"The uuid for {KEY} is not something I can tell.", "wrong", ""),
        (UUIDS, f"The uuid for {KEY} is", "wrong", ""),
        (WORDS, "The word is placid anchor.", "wrong", ""),
        (WORDS, "The word is brisk-badger.", "wrong", ""),
        (SANDWICH, "Visit 12 museums by 4821937 trams.", "wrong", ""),
        # the expected one, in a way that RULER does not count
        (CODE, "It is 4,821,937.", "wrong", "4,821,937"),
        (CODE, "It is 4 821 937", "wrong", "4 821 937"),
        # a refusal
        (CODE, "I don't know.", "refusal", "i don't know"),
        (CODE, "The text does not mention it. It says 1111111 for Nairobi.", "refusal", "text does not mention"),
        (CODE, "I don't know the code for Lisbon, perhaps 7654321.", "refusal", "i don't know"),
        (CHINESE, "文中没有提到上海的密码，只有1111111。", "refusal", "没有提到"),
        # right beats all, and part of it beats the rest
        (CODE, "I don't know, but 4821937 and 1111111 stand there.", "found", ""),
        (TWO, "1234567 and 1111111", "partial", ""),
        (TWO, "1234567. The other is not mentioned.", "partial", ""),
        (CODE, "", "empty", ""),
        (CODE, " \n\t", "empty", ""),
    ],
)
def test_outcome_and_the_words_that_it_rests_on(question: Question, text: str, outcome: str, words: str) -> None:
    answer = Answer(text)
    score = match.score(answer, question)
    assert score.outcome == outcome
    assert classify(score.value, answer, question) == (outcome, words)
    assert words in score.explanation
    if outcome not in ("found", "partial"):
        assert score.extracted == words


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("The secret code for Lisbon is 482", "truncated"),
        ("The secret code, as far as the text tells", "truncated"),
        ("It is 4,821,937 and", "truncated"),
        # What is there before the cut is more than the cut.
        ("It is 2222222, I thi", "distractor"),
        ("It is 7654321, I thi", "number"),
        ("I cannot find it, so", "refusal"),
        (" ", "empty"),
        ("4821937 it is and", "found"),
    ],
)
def test_an_answer_that_was_cut_off(text: str, outcome: str) -> None:
    assert match.score(Answer(text, finish="length"), CODE).outcome == outcome


def test_the_expected_value_among_other_words_is_no_other_value() -> None:
    assert exact.score(Answer("Sure, it is 4821937."), CODE).outcome == "wrong"
    assert exact.score(Answer("4821937 or 1111111"), CODE).outcome == "distractor"
    assert exact.score(Answer("4821937 or 7654321"), CODE).outcome == "number"


REFUSALS = """
I don't know.
I do not know the secret code for Lisbon.
I'm sorry, but I don't have that information.
I’m sorry, but the document doesn’t mention a code for Lisbon.
Sorry, I cannot find any mention of it.
Unfortunately, I couldn't find the code in the text.
I am unable to answer this question from the context.
I have no information about that.
I cannot disclose secret codes.
I can't help with that.
As an AI, I must not share codes.
The text does not explicitly mention the best thing to do in San Francisco.
The provided context does not contain this information.
The document you provided does not specify a code.
The essays don't say.
The secret code for Lisbon is not mentioned in the text.
The secret code for Lisbon isn't specified.
The code has not been provided.
It is not explicitly stated.
The code was not found in the document.
There is no secret code for Lisbon in the text.
There is no mention of Lisbon.
There is nothing about Lisbon in the text.
No information is given about Lisbon.
No secret code is mentioned.
No such code was found.
Not enough information.
It cannot be determined from the passage.
Unknown
N/A
none.
Not found
The answer is unknown.
**I don't know.**
"I do not know"
我不知道。
抱歉，我无法从文中找到答案。
文中没有提到上海的密码。
文章未提及此信息。
根据上下文无法确定。
没有相关信息。
文本中没有给出密码。
文中並未提到上海的密碼。
對不起，文中找不到。
这段文字没有任何关于上海密码的内容。
""".strip().splitlines()

OTHERS = """
The secret code for Lisbon is hidden.
I know the code.
The text mentions it.
I don't think startups are hard. What matters is that you begin.
The best founders I don't know, but I know their work.
People who know that they do not know much learn fastest.
He said that he had no idea what he would build next.
Nothing is as hard as it looks, and the answer is to begin.
It contains no surprises.
The unknown is what draws founders on.
None of them had a plan.
That was not a good idea at all.
It is not clear to me that schools teach this.
There is no shortcut.
They could not be happier.
You don't have to answer every letter.
It was found in the garden.
上海的密码是秘密。
我知道密码。
他没有停下来。
这本书很有意思，没有人不喜欢。
""".strip().splitlines()


@pytest.mark.parametrize("text", REFUSALS)
def test_words_of_not_knowing_are_a_refusal(text: str) -> None:
    assert match.score(Answer(text), CHINESE if text[0] > "\u4dff" else CODE).outcome == "refusal"


@pytest.mark.parametrize("text", OTHERS)
def test_prose_is_no_refusal(text: str) -> None:
    assert _refusal.find(plain(text)) is None


def test_prose_of_the_bundled_essays_is_hardly_ever_taken_for_a_refusal() -> None:
    from needle import haystack

    text = haystack.load("essays").text
    pieces = [text[at : at + 300] for at in range(0, len(text), 300)]
    assert sum(_refusal.find(plain(piece)) is not None for piece in pieces) < len(pieces) / 100


def test_a_number_that_is_too_long_counts_as_in_ruler_and_is_said_to() -> None:
    score = match.score(Answer("It is 48219375."), CODE)
    assert (score.value, score.outcome) == (1, "found")
    assert "only inside a longer word or number, which counts in RULER" in score.explanation
    assert "longer" not in match.score(Answer("It is 4821937, not 48219375."), CODE).explanation


@pytest.mark.parametrize("kind", sorted(MAKERS))
@given(
    number=st.integers(0, 10**6),
    before=st.sampled_from(["", "It is ", "密码是", "("]),
    after=st.sampled_from(["", ".", "。", " or so", ")"]),
)
def test_values_of_the_tasks_are_told_apart(kind: str, number: int, before: str, after: str) -> None:
    draw = rng("test", number)
    right, wrong, neither = (MAKERS[kind](draw) for _ in range(3))
    if len({right, wrong, neither}) < 3:
        return
    question = Question("", "What is it?", (right,), (wrong,))
    assert match.score(Answer(before + right + after), question).outcome == "found"
    assert match.score(Answer(before + wrong + after), question).outcome == "distractor"
    # Words have no shape: a word that was never hidden is a wrong answer like any other.
    assert match.score(Answer(before + neither + after), question).outcome == ("wrong" if kind == "word" else "number")


@given(st.text() | st.sampled_from(REFUSALS + OTHERS), st.sampled_from(["stop", "length"]))
def test_every_answer_has_one_class_and_one_line(text: str, finish: str) -> None:
    for question in (CODE, UUIDS, WORDS, TWO, CHINESE, SANDWICH):
        for scorer in (match, part, exact):
            score = scorer.score(Answer(text, finish=finish), question)  # type: ignore[arg-type]
            assert (score.value == 1) == (score.outcome == "found") or scorer is part
            assert (score.outcome == "empty") == (not text.strip())
            assert score.explanation
            assert "\n" not in score.explanation
