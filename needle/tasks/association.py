"""A question that shares no word with its needle: what was said has to be understood to be found.

The idea is NoLiMa's (Modarressi et al. 2025, arXiv:2502.05167); facts, names and wording are our own. Sentences of the
same form lie about, of other people, none of whom the question fits.
"""

from __future__ import annotations

from dataclasses import dataclass

from needle import tasks
from needle.tasks._codes import early
from needle.types import Other, Question

ASK = "Which person mentioned above {clue}?"

FACTS = (
    ("{name} grew up beside the Brandenburg Gate.", "comes from Berlin"),
    ("Every morning {name} could see the Acropolis out of the kitchen window.", "has lived in Athens"),
    ("For years {name} ran a hut at the foot of Mount Fuji.", "knows Japan well"),
    ("{name} sold postcards under the Eiffel Tower.", "made money in Paris"),
    ("{name} slept in a tent next to the pyramids of Giza.", "travelled through Egypt"),
    ("{name} never eats anything that an animal had to give.", "is a vegan"),
    ("Red and green look the same to {name}.", "is colour-blind"),
    ("{name} does not go on any journey without insulin.", "suffers from diabetes"),
    ("{name} reads with the tips of ten fingers.", "cannot see"),
    ("{name} speaks with both hands, for no sound ever reached those ears.", "was born deaf"),
    ("{name} spent the winter tuning grand pianos.", "knows about musical instruments"),
    ("{name} looks after forty hives at the end of the orchard.", "makes honey"),
    ("{name} sits in the cockpit of a jumbo jet.", "is an airline pilot"),
    ("{name} drills and fills other people's teeth.", "works as a dentist"),
    ("{name} takes three hundred loaves out of the oven before dawn.", "sells bread"),
    ("{name} glided down the Grand Canal in some gondola.", "was once a tourist at Venice"),
    ("{name} walked along the red walls of the Kremlin.", "stayed at Moscow"),
    ("{name} threw one coin backwards into the Trevi Fountain.", "took a trip to Rome"),
    ("{name} set a watch by the bell of Big Ben.", "visited London"),
    ("{name} rowed below the Harbour Bridge, past the white sails of the Opera House.", "has seen Sydney"),
    ("{name} puts on a wig and a gown before the judge comes in.", "practises law"),
    ("{name} feeds the penguins and washes the elephants.", "has a job at some zoo"),
    ("{name} changes tyres and mends gearboxes all day.", "repairs cars"),
    ("{name} watches the rings of Saturn from under the dome on the roof.", "owns a telescope"),
    ("{name} shears four hundred ewes each spring.", "raises sheep"),
    ("{name} stamps what readers bring back and puts it on the shelf again.", "is employed by a library"),
    ("{name} rode the cable car up Sugarloaf and waved to the statue of Christ.", "holidayed at Rio de Janeiro"),
    ("{name} painted the Taj Mahal from the far bank of its river.", "spent time in India"),
    ("{name} can answer each move of the Sicilian Defence.", "plays chess"),
    ("{name} was christened on the thirty-first of December.", "celebrates birthdays around New Year's Eve"),
)
"""What a needle says of somebody, and what that makes him or her."""

NAMES = (
    "Aurelio Branka Ciaran Dagmar Efua Fenella Gwilym Hedda Ilario Jorunn Kasimir Leocadia Marit Nkechi Ottavia "
    "Quillon Rosamund Sigrid Tavish Ulrika Viggo Wilhelmina Xanthe Yoshiko Zdenka Anselm Bathsheba Corentin Delphine "
    "Evander Filippa Gaspard Hyacinth Ismene Jacinto Katarzyna Leander Mireille Ngozi Ottoline"
).split()

OTHERS = 12
"""People besides the one who is asked for; longer contexts hold more of them."""


@dataclass(frozen=True, slots=True)
class Association:
    """Another fact about somebody else at each place; see `needle.tasks.Task`."""

    summary: str = "who fits a description that shares no word with the needle"
    max_new_tokens: int = 32
    system: str | None = None
    template: str = tasks.TEMPLATE
    base: str = tasks.BASE
    haystack: str | None = None
    prefill: bool = False
    per_length: bool = False

    def question(self, seed: int, repeat: int, place: str) -> Question:
        """A person and a fact of whom and of which no other sentence speaks."""
        people, facts = self._drawn(seed, repeat)
        rng = tasks.rng(seed, repeat, place)
        name, (needle, clue) = rng.choice(people[OTHERS:]), rng.choice(facts[OTHERS:])
        return Question(
            needle=needle.format(name=name),
            question=ASK.format(clue=clue),
            answers=(name,),
            distractors=tuple(people[:OTHERS]),
            draft=f"It is {name}.",
            prefix="It is",
        )

    def others(self, seed: int, repeat: int, tokens: int) -> list[Other]:
        """Sentences of other people, at the positions of the tasks with codes."""
        people, facts = self._drawn(seed, repeat)
        told = zip(people[:OTHERS], facts[:OTHERS], strict=True)
        return early(seed, repeat, tokens, [needle.format(name=name) for name, (needle, _) in told])

    def _drawn(self, seed: int, repeat: int) -> tuple[list[str], list[tuple[str, str]]]:
        """Names and facts in an order of this repeat's own: the first are the others', the rest the needles'."""
        rng = tasks.rng(seed, repeat, "people")
        return rng.sample(NAMES, len(NAMES)), rng.sample(FACTS, len(FACTS))


TASK = Association()
