"""Adjective-noun words as RULER's keys are, and which of them are asked for and which lie about in a haystack of them.

A pair is asked for in one case of `SHARE`, else it is strewn: so no key that is asked for is ever a haystack's.
"""

from __future__ import annotations

from random import Random

ADJECTIVES = (
    "amiable airy ancient arctic azure balmy bashful blithe bouncy brave breezy bronze bubbly bulky burly candid "
    "careful chalky cheery chilly classy clever coastal cobalt copper cosy crafty creamy curly dainty daring dashing "
    "deep devout dreamy droopy dusky earthy edible elated elder emerald ethnic faded fancy feathery festive fierce "
    "fiery flaky fleecy floral fluffy foamy fond fragile frugal fuzzy gallant gaudy genial giddy gilded glassy gleeful "
    "gloomy graceful grainy grand gritty hardy harsh hazel hearty hefty hidden hollow honest hungry husky idle inky "
    "jagged jovial juicy jumbo kind knotty languid leafy lively lonely loyal lucid lunar magenta marshy massive "
    "meek merry mighty milky misty modest mossy muddy murky musical narrow neat nocturnal obscure odd olive oval "
    "pale patient peppery perky plain polar polite prickly proud quick quiet radiant rapid regal remote restful rosy "
    "rugged ruddy salty sandy savvy scarlet secret serene shady sharp shiny sheer silky sleek slender smoky snug "
    "solemn sooty spare speedy spicy stately steep stormy sturdy subtle sulky sunny swift tame tangy tawny thorny "
    "tidy timid tiny tranquil trusty vast verdant vivid warm wary wavy weary wild windy witty woolly yearly"
).split()

NOUNS = (
    "abbey almond antler apron arrow atlas attic auction bakery balcony bamboo banner barley barrel basket bellows "
    "bench biscuit blanket boulder bracelet branch bridge bucket buffalo bugle butter cabin camel canoe "
    "canvas caravan carpet castle cedar cello chapel cheese cherry chimney cinnamon circus citadel clover cobbler "
    "comet compass copse coral cottage cradle cricket crystal curtain dairy daisy dancer desert diary donkey dragon "
    "drum dune eagle echo elbow elm envelope fairground fawn fern ferry fiddle finch flagpole flute forest fossil "
    "fountain fox garden gazelle gecko geyser ginger giraffe granite grape guitar gull harvest hazelnut hedge heron "
    "hilltop hornet inkwell iris ivy jaguar jasmine jigsaw juniper kayak kernel kimono kitten koala ladder lagoon "
    "lemon library lilac linen lizard llama lobster locket lotus magnet mango maple marble market mast melon "
    "mirror monsoon mosaic mountain museum mustard napkin needlework nightingale nutmeg oasis oatmeal ocelot octopus "
    "omelette opera osprey otter oyster paddle pagoda panther parcel parrot pasture peacock pelican pencil pepper "
    "piano picnic pigeon pillow pine planet plateau plum pocket pony poppy prairie prism puffin pumpkin puzzle quilt "
    "rabbit radish raven reef rhubarb river robin rocket rooster rope sandal sapling satchel scarf seal shark shelf "
    "sparrow spoon squirrel stable starfish tapestry teapot temple tiger torch trumpet tulip tunnel turnip urn valley "
    "vase village vineyard volcano wagon waterfall whale willow window wren yarn zebra"
).split()

SHARE = 8


def asked(rng: Random) -> str:
    """A word that is strewn in no haystack."""
    while True:
        i, j = rng.randrange(len(ADJECTIVES)), rng.randrange(len(NOUNS))
        if (i + j) % SHARE == 0:
            return f"{ADJECTIVES[i]}-{NOUNS[j]}"


def strewn() -> list[str]:
    """All words that are never asked for, in the order of their parts."""
    return [f"{a}-{n}" for i, a in enumerate(ADJECTIVES) for j, n in enumerate(NOUNS) if (i + j) % SHARE]
