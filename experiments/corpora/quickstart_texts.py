"""The sentences of the quickstart corpus: templates, word classes and a balanced seeded draw."""

import math
import random
import re

CLASSES = {
    "NUM": "two three four five six seven eight nine ten",
    "HOUR": "one two three four five six seven eight nine ten noon",
    "COLOUR": "red blue green white yellow black",
    "ADJ": "small large thick good cold warm",
    "ADVERB": "usually never always",
    "THING": "book table chair cup key coat lamp box",
    "THINGS": "horses birds shoes apples chickens",
    "WHO": "father mother teacher boy girl",
    "PLACE": "house kitchen garden river city school station",
    "WEATHER": "rain wind snow",
    "STATE": "cold warm quiet dark",
    "DAY": "monday friday",
    "PART": "morning evening",
    "WAY": "north south east west",
    "RIDE": "train boat bus",
    "DID": "saw found took bought lost washed",
    "SHUT": "opened closed",
    "OWNER": "my our his her",
    "THEY": "we they",
    "SHE": "he she",
}

TEMPLATES = """
the {ADJ} {THING} is {COLOUR}
{OWNER} {COLOUR} {THING} is {ADJ}
{OWNER} {WHO} {DID} a {COLOUR} {THING}
{OWNER} {WHO} {DID} {NUM} {THINGS}
{THEY} {DID} {NUM} {COLOUR} {THINGS}
{SHE} {DID} {OWNER} {ADJ} {THING}
{SHE} put the {THING} near the {THING}
{THEY} put {NUM} apples on the {THING}
{SHE} put {NUM} shoes in the {THING}
the {WHO} {SHUT} the {COLOUR} door
{SHE} {SHUT} {OWNER} window at {HOUR}
{OWNER} window and door were {SHUT}
the {COLOUR} {RIDE} goes {WAY} at {HOUR}
the {RIDE} comes from the {PLACE} at {HOUR}
a {COLOUR} {RIDE} {ADVERB} goes to the {PLACE}
the {WEATHER} {ADVERB} comes from the {WAY}
{WEATHER} comes from the {WAY} today
it was {STATE} near the {PLACE} today
it will be {STATE} and {STATE} on {DAY}
the {PART} was {STATE} and {STATE}
{THEY} heard the {WEATHER} in the {PART}
{THEY} heard a noise in the {PLACE}
{SHE} heard a voice near the {THING}
{OWNER} voice is {ADVERB} {STATE}
the noise comes from {OWNER} {PLACE}
there are {NUM} {THINGS} in the {PLACE}
there were {NUM} {COLOUR} {THINGS} near the {PLACE}
{NUM} {THINGS} were on the road
the {THINGS} are in {OWNER} {PLACE}
{COLOUR} {THINGS} are {ADVERB} {ADJ}
{THEY} will measure the {ADJ} {THING}
{SHE} will measure {NUM} {THINGS} on {DAY}
{OWNER} {WHO} is {ADVERB} at the {PLACE}
{OWNER} {WHO} will be there on {DAY}
the road to the {PLACE} is {STATE}
the road goes {WAY} and {WAY}
the {WHO} and the {WHO} walked {WAY}
{THEY} walked from the {PLACE} to the {PLACE}
{SHE} walked to the {PLACE} with {OWNER} {WHO}
{THEY} took the {RIDE} with {NUM} {THINGS}
{DAY} {PART} will be {STATE} there
look at the {COLOUR} {THING}
look at {OWNER} {NUM} {THINGS}
the {WEATHER} {SHUT} {OWNER} door
{THEY} will look there today
{THEY} heard {NUM} or {NUM} birds
""".strip().splitlines()

_SLOT = re.compile(r"\{(\w+)\}")
_WORDS = {name: words.split() for name, words in CLASSES.items()}


def vocabulary():
    """Every word a sentence can hold, sorted."""
    fixed = _SLOT.sub(" ", " ".join(TEMPLATES)).split()
    return sorted(set(fixed).union(*_WORDS.values()))


def _sentence(rng):
    template = rng.choice(TEMPLATES)
    used = set()

    def fill(match):
        word = rng.choice([w for w in _WORDS[match.group(1)] if w not in used])
        used.add(word)
        return word

    return _SLOT.sub(fill, template)


def draw(rng: random.Random, count: int, taken: set, candidates: int = 60):
    """`count` new sentences, each the one of `candidates` random ones whose words are rarest so far.

    Adds what it returns to `taken`, so that no sentence is ever drawn twice.
    """
    seen = dict.fromkeys(vocabulary(), 0)
    chosen = []
    for _ in range(count):
        fresh = sorted({_sentence(rng) for _ in range(candidates)} - taken)

        def rarity(text):
            words = text.split()
            return sum((1 + seen[w]) ** -3.0 for w in words) / math.sqrt(len(words))

        text = max(fresh, key=rarity)
        taken.add(text)
        chosen.append(text)
        for word in text.split():
            seen[word] += 1
    rng.shuffle(chosen)
    return chosen
