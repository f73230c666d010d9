"""Kamradt's kind of needle in Chinese: something to eat in a park, in a text of other things."""

from __future__ import annotations

from dataclasses import dataclass

from needle.types import Other, Question

NEEDLE = "在旧金山最值得做的事，是挑一个阳光明媚的日子，坐在多洛雷斯公园里吃一个三明治。"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One needle that is the same at every place; see `needle.tasks.Task`."""

    summary: str = "the sandwich in Dolores Park, all in Chinese"
    system: str | None = "你是一个乐于助人的助手，负责回答用户的问题。回答要简短、直接。"
    template: str = "{context}\n\n{question}只根据上文回答，不要补充文中没有的内容，也不要重复。"
    base: str = "{context}\n\n问题：{question}\n回答：{prefix}"
    max_new_tokens: int = 64
    haystack: str | None = "zh"
    prefill: bool = False
    per_length: bool = False

    def question(self, seed: int, repeat: int, place: str) -> Question:  # noqa: ARG002
        """The same everywhere."""
        return Question(
            needle=NEEDLE,
            question="在旧金山最值得做的事是什么？",
            answers=("阳光明媚", "多洛雷斯公园", "三明治"),
            draft=NEEDLE,
            prefix="在旧金山最值得做的事，是",
        )

    def others(self, seed: int, repeat: int, tokens: int) -> list[Other]:  # noqa: ARG002
        """None."""
        return []


TASK = Sentence()
