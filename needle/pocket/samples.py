"""Training samples: a body of text with many needles in it, and question turns that fork off it.

Each turn starts at a cut of its own, so one body serves many context lengths at once; it sees the body up to its cut
and itself, as a question at the end of a context of that length would.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from transformers import PreTrainedTokenizerFast

from needle.pocket import corpus
from needle.pocket.facts import Fact, FactMaker
from needle.pocket.tokenizer import IM_END, IM_START

_SYSTEMS = ["You are a helpful assistant.", "Answer from the text.", "You read long texts and answer questions."]


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer: `ids` start at position `cut` of the body; `weights[i]` is the loss at `ids[i]`."""

    cut: int
    ids: list[int]
    weights: list[float]


@dataclass(frozen=True, slots=True)
class Sample:
    """`body` ids at `positions`; `needle_rows` are the indices of body tokens that belong to a needle."""

    body: list[int]
    positions: list[int]
    needle_rows: list[int]
    turns: list[Turn]


class SampleMaker:
    """Draws samples from one seed; `held_out` words never become a key or a value."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, held_out: frozenset[str]) -> None:
        self.rng = Random(seed)
        self.tokenizer = tokenizer
        prose, manual = corpus.prose(), corpus.manual()
        sentences = [s for p in prose + manual for s in p]
        seen = {w.strip(".,;:!?\"'()") for s in sentences for w in s.split()}
        self.words = sorted(w for w in seen if w.isalpha() and 2 < len(w) < 12 and w.lower() not in held_out)
        self.facts = FactMaker(self.rng, self.words, [s for s in sentences if len(s.split()) > 6])
        self.paragraphs = (
            [[self._encode(" " + s) for s in p] for p in prose],
            [[self._encode(" " + s) for s in p] for p in manual],
        )

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def sample(self, tokens: int, needles: int, stretch: int = 0) -> Sample:
        """A body of about `tokens` tokens with `needles` needles, one turn for each.

        With `stretch` the positions run, with gaps, up to about `stretch`, which trains far rotary angles cheaply.
        """
        facts = self._groups(needles)
        body, spans = self._body(tokens, facts)
        positions = self._positions(len(body), stretch)
        rows = [i for start, end in spans for i in range(start, end)]
        turns = [self._turn(f, end, len(body)) for f, (_, end) in zip(facts, spans, strict=True)]
        return Sample(body, positions, rows, turns)

    def _groups(self, count: int) -> list[Fact]:
        facts: list[Fact] = []
        while len(facts) < count:
            facts += self.facts.group(min(self.rng.choice([3, 6, 9, 12]), count - len(facts)))
        self.rng.shuffle(facts)
        return facts

    def _paragraph(self) -> list[list[int]]:
        roll = self.rng.random()
        if roll < 0.4:
            return self.rng.choice(self.paragraphs[0])
        if roll < 0.85:
            return self.rng.choice(self.paragraphs[1])
        return [self._encode(" " + s) for s in corpus.salad(self.rng, self.words)]

    def _intro(self) -> list[int]:
        rng = self.rng
        system = f"{IM_START}system\n{rng.choice(_SYSTEMS)}{IM_END}\n" if rng.random() < 0.3 else ""
        opening = ""
        if rng.random() < 0.3:
            opening = (
                " ".join(rng.choice(self.words) for _ in range(rng.randint(3, 20))) + rng.choice([".", ":"]) + "\n"
            )
        return self._encode(f"{system}{IM_START}user\n{opening}")

    def _body(self, tokens: int, facts: list[Fact]) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of the body and each fact's (start, end); places are uniform, with both ends drawn often."""
        rng = self.rng
        body = self._intro()
        need = sum(len(self._encode(" " + f.statement)) for f in facts)
        room = max(16, tokens - need - len(body))
        places = [rng.choice([0.0, 1.0]) if rng.random() < 0.08 else rng.random() for _ in facts]
        waiting = sorted(range(len(facts)), key=lambda i: -places[i])
        spans: dict[int, tuple[int, int]] = {}
        first, fed = rng.random() < 0.7, 0
        while True:
            for at, sentence in enumerate([[], *self._paragraph()]):
                while waiting and places[waiting[-1]] * room <= fed:
                    lead = "" if first else rng.choice([" ", " ", " ", "\n\n"])
                    ids = self._encode(lead + facts[waiting[-1]].statement)
                    spans[waiting.pop()] = (len(body), len(body) + len(ids))
                    body += ids
                    first = False
                if fed >= room:
                    return body, [spans[i] for i in range(len(facts))]
                if at == 1 and fed:
                    body += self._encode("\n\n")
                ids = sentence[: room - fed]
                body += ids
                fed += len(ids)
                first = first and not ids

    def _positions(self, count: int, stretch: int) -> list[int]:
        if stretch <= count:
            return list(range(count))
        gaps = sorted(self.rng.randrange(1, count) for _ in range(self.rng.randint(1, 4)))
        spare, position, out = stretch - count, -1, []
        shares = [spare // len(gaps)] * len(gaps)
        for i in range(count):
            while gaps and gaps[0] == i:
                gaps.pop(0)
                position += shares.pop()
            position += 1
            out.append(position)
        return out

    def _turn(self, fact: Fact, earliest: int, latest: int) -> Turn:
        rng = self.rng
        cut = latest if rng.random() < 0.35 else rng.randint(earliest, latest)
        lead = rng.choice(["\n\n", "\n\n", "\n", " ", f"{IM_END}\n{IM_START}user\n"])
        question = self._encode(f"{lead}{fact.question}{IM_END}\n{IM_START}assistant\n")
        head = self._encode(fact.statement[: fact.statement.index(fact.value)].rstrip())
        answer = self._encode(fact.statement + IM_END)
        weights = [0.0] * len(question) + [0.3] * len(head) + [1.0] * (len(answer) - len(head))
        return Turn(cut, question + answer, weights)
