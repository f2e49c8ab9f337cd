"""Five captions of a picture by five styles. All they state is true; they differ in what they leave out."""

from random import Random

from showtell.data.datasets.scenes.forms import FORMS
from showtell.data.datasets.scenes.phrases import Habit
from showtell.data.datasets.scenes.speaker import Speaker
from showtell.data.datasets.scenes.structure import Picture

CAPTIONS_PER_PICTURE = 5
SHORTEST, LONGEST = 4, 18  # words

PEOPLE: tuple[Habit, ...] = (
    Habit(colour=0.85, size=0.3, place=0.8, when=0.3, behind=0.15, others=0.95, rare=0.2, forms="plain plain with"),
    Habit(colour=0.45, size=0.1, place=0.4, when=0.05, others=0.6, rare=0.15, verb=0.3, detail=0, forms="plain list"),
    Habit(colour=0.7, size=0.2, place=0.7, when=0.1, others=0.85, rare=0.4, verb=0.8, forms="sentence there seen"),
    Habit(colour=0.6, size=0.3, place=0.5, when=0.2, behind=0.3, others=0.8, rare=0.5, forms="scenery plain holds"),
    Habit(colour=0.3, size=0.15, place=0.7, when=0.35, others=0.7, rare=0.6, the=0.4, verb=0.9, forms="sentence front"),
    Habit(colour=0.7, size=0.5, place=0.5, when=0.1, others=0.9, rare=0.7, verb=0.7, detail=0.3,
          forms="plain while list"),
    Habit(colour=0.6, size=0.1, place=0.5, when=0.15, behind=0.1, others=0.9, rare=0.4, forms="there with opening"),
    Habit(colour=0.5, size=0.25, place=0.9, when=0.5, behind=0.2, others=0.75, rare=0.4, verb=0.8, depth=0.2,
          forms="front while scenery"),
    Habit(colour=0.8, size=0.2, place=0.3, when=0.1, others=0.6, rare=0.4, detail=0.7, forms="colour plain seen"),
    Habit(colour=0.4, size=0.2, place=0.5, others=0.9, rare=0.5, the=0.5, detail=0.2, depth=0.3, forms="two sentence"),
)  # fmt: skip


def captions(picture: Picture, rng: Random) -> list[str]:
    """Five different captions, capitalised, mostly with a full stop."""
    found: list[str] = []
    for habit in rng.sample(PEOPLE, CAPTIONS_PER_PICTURE):
        said = ""
        while said in found or not SHORTEST <= len(said.split()) <= LONGEST:
            said = say(picture, rng, habit)
        found.append(said)
    return [said[0].upper() + said[1:] + ("." if rng.random() < 0.7 else "") for said in found]


def say(picture: Picture, rng: Random, habit: Habit) -> str:
    """One caption in a style: lower case, no full stop."""
    form = rng.choice(habit.forms.split())
    speaker = Speaker(rng, picture, habit)
    said = FORMS[form](speaker)
    return f"{said} {speaker.ending(said)}".strip()
