"""What a run costs in dollars, and the budget that stops it before it is overdrawn."""

from __future__ import annotations

from needle.errors import UsageError
from needle.types import Prompt

MILLION = 1_000_000


class Purse:
    """Prices in dollars a million tokens, `budget` in dollars; without prices nothing is counted.

    What is under way is held back at the most that it can cost, so that a budget is not overdrawn by requests that run
    side by side. A request that failed without an answer counts in full: the server may have worked on it.
    """

    def __init__(self, price_in: float | None, price_out: float | None, budget: float | None) -> None:
        if budget is not None and price_in is None and price_out is None:
            raise UsageError("--budget needs prices: give --price-in and --price-out, in dollars a million tokens")
        self.price_in, self.price_out, self.budget = price_in or 0.0, price_out or 0.0, budget
        self.counts = price_in is not None or price_out is not None
        self.spent = 0.0
        self._held: dict[int, float] = {}

    def most(self, prompt: Prompt) -> float:
        """The most dollars that one request for `prompt` can cost."""
        return self._dollars(len(prompt.ids), prompt.max_new_tokens)

    def hold(self, index: int, prompt: Prompt) -> bool:
        """Set the money for a request aside; False if there is not enough left."""
        price = self.most(prompt)
        if self.budget is not None and self.spent + sum(self._held.values()) + price > self.budget:
            return False
        self._held[index] = price
        return True

    def settle(self, index: int, read: int | None, wrote: int | None, billed: bool) -> None:
        """Take what a request cost: by the server's counts, or where it gives none at the most it can be."""
        held = self._held.pop(index)
        if billed:
            self.spent += held if read is None or wrote is None else self._dollars(read, wrote)

    def _dollars(self, read: int, wrote: int) -> float:
        return (read * self.price_in + wrote * self.price_out) / MILLION
