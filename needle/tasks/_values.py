"""Keys and values that needle tasks draw from: cities, 7-digit numbers, uuids, adjective-noun words."""

from __future__ import annotations

import uuid
from random import Random

CITIES = (
    "Lisbon Nairobi Osaka Montreal Gdansk Lima Helsinki Hanoi Tunis Bergen Valencia Dakar Tallinn Cusco Adelaide "
    "Marseille Tbilisi Porto Kyoto Quito Ghent Zagreb Accra Bologna Dresden Halifax Izmir Jakarta Leipzig Manila "
    "Nantes Oslo Perth Riga Seville Turin Utrecht Vienna Warsaw Yerevan Bruges Cardiff Durban Geneva Havana Kigali "
    "Lyon Uppsala Odessa Palermo"
).split()

ADJECTIVES = (
    "amber brisk calm dusty eager fabled gentle hasty icy jolly keen lofty mellow nimble ornate placid quaint rustic "
    "silent tender unruly velvet wistful young zesty bold crimson dapper earnest frosty golden humble ivory jaunty"
).split()

NOUNS = (
    "anchor badger canyon dolphin ember falcon glacier harbor island jacket kettle lantern meadow nectar orchard "
    "pebble quarry ribbon saddle thimble umbrella violet walnut yonder zephyr acorn beacon cactus drizzle easel "
    "feather goblet hammock igloo"
).split()

WORDS = len(ADJECTIVES) * len(NOUNS)
"""How many different words there are."""


def number(rng: Random) -> str:
    """Seven digits, the first not zero (as in RULER)."""
    return str(rng.randrange(1_000_000, 10_000_000))


def uuid4(rng: Random) -> str:
    """A random uuid, version 4, lower case with hyphens."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def word(rng: Random) -> str:
    """An adjective and a noun joined by a hyphen."""
    return f"{rng.choice(ADJECTIVES)}-{rng.choice(NOUNS)}"


MAKERS = {"number": number, "uuid": uuid4, "word": word}


def held_out_words() -> frozenset[str]:
    """All of the words above in lower case: pocket is never trained to find them."""
    return frozenset(w.lower() for w in (*CITIES, *ADJECTIVES, *NOUNS))
