"""What customers say and feel, by how it went: small templates, nobody's real words."""

from __future__ import annotations

from typing import Final

from services.simulator.chance import Chance

_BAD_FEELINGS: Final = {
    "delivery": ("disappointed", "irritated", "unsatisfied"),
    "checkout": ("frustrated", "hurried", "irritated"),
    "support": ("frustrated", "neglected", "stressed"),
    "billing": ("irritated", "unhappy", "stressed"),
    "app": ("irritated", "hurried", "frustrated"),
    "store": ("hurried", "neglected", "unsatisfied"),
    "product": ("disappointed", "unsatisfied", "unhappy"),
}
_FAIR_FEELINGS: Final = ("interested", "exploratory", "stimulated", "energetic", "indulgent")
_GOOD_FEELINGS: Final = ("trusting", "valued", "cared_for", "focused", "safe", "happy", "pleased")

_TEXTS: Final = {
    "delivery": (
        ("Promised for {day}, still not here.", "Parcel left in the rain.", "Third late delivery in a row."),
        ("Arrived as expected.", "Parcel is here."),
        ("Came a day early, neatly packed.", "Fast as always, thank you!"),
    ),
    "checkout": (
        ("Payment failed twice and the basket was gone.", "Could not find how to pay."),
        ("Order went through.",),
        ("Ordered in two minutes.",),
    ),
    "support": (
        ("Had to explain it all again.", "Nobody called back as promised.", "Twenty minutes on hold on {day}."),
        ("Got an answer.", "It took a while but it is settled."),
        ("Solved on the first call, so friendly!", "They really cared."),
    ),
    "billing": (
        ("Charged twice for the same month.", "The invoice is wrong again."),
        ("Invoice received.",),
        ("Clear bill, no surprises.",),
    ),
    "app": (
        ("Login does not work.", "The app has been down since {day}."),
        ("App is all right.",),
        ("The new app is a joy.",),
    ),
    "store": (
        ("Nobody at the counter.", "The queue was endless."),
        ("Normal visit.",),
        ("Great advice in the store.",),
    ),
    "product": (
        ("Not what was described.", "Broke after a week."),
        ("Does what it should.",),
        ("Better than expected 😀", "Would buy again any time."),
    ),
}
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


def area_of(touchpoint: str) -> str:
    """The part of the company a touchpoint belongs to, as the templates know it."""
    area = touchpoint.partition(".")[0]
    return area if area in _TEXTS else "product"


def feeling(area: str, valence: float, chance: Chance) -> str:
    """An emotion of the published vocabulary that fits a valence in [-1, 1]."""
    if valence < -0.15:
        return chance.choice(_BAD_FEELINGS[area])
    return chance.choice(_FAIR_FEELINGS if valence < 0.3 else _GOOD_FEELINGS)


def remark(area: str, valence: float, chance: Chance) -> str:
    """A sentence that fits a valence in [-1, 1]."""
    sentences = _TEXTS[area][0 if valence < -0.15 else 1 if valence < 0.3 else 2]
    return chance.choice(sentences).format(day=chance.choice(_DAYS))
