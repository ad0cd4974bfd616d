"""One customer's life as a chain of scheduled acts: what happens, what it does to the feeling, what follows.

Acts of the customer stop at the moment of leaving; acts of the company (a survey already planned, a parcel on
its way, a campaign) go on, as the company does not know.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from services.simulator.chance import Chance
from services.simulator.company import Company
from services.simulator.satisfaction import Satisfaction
from services.simulator.traits import Traits
from services.simulator.words import area_of, feeling, remark

RENEWAL_DAYS: Final = 30.0
IGNORED_AFTER_DAYS: Final = 14.0
"""A complaint without an answer for that long is one that was ignored."""
LIFE_CHANGES_PER_YEAR: Final = 0.08
"""Customers who leave because they move away or no longer need it, however content they are."""
SILENT_DAYS: Final = 60.0
"""Who cancels nothing and has not complained for so long leaves in silence."""

NOTICE_DAYS: Final = (4.0, 40.0)
"""Who has decided to leave over something goes so much later, and comes less and spends less until then."""
HESITATION: Final = 1.5
"""Factor on the gaps of who has decided to leave."""
WON_BACK: Final = 0.45
"""Probability that a good experience of weight makes them stay after all."""

Event = dict[str, Any]
Act = Callable[[float], None]


class Life:
    """Runs from the window's start to ``until_day``; read the public attributes afterwards."""

    def __init__(self, traits: Traits, company: Company, chance: Chance) -> None:
        self.traits = traits
        self.events: list[tuple[float, Event]] = []
        """(day, event without id and time) in the order of acting, which is nearly that of time."""
        self.leaves_day: float | None = None
        self.leaves_because: str | None = None
        self.leaves_silently = False
        self.returns: list[float] = []
        """Days of purchases, renewals and subscriptions."""
        self._company = company
        self._chance = chance
        self._feeling = Satisfaction(traits.baseline, traits.sensitivity, max(0.0, traits.joined_day))
        self._mood = 0.0
        self._agenda: list[tuple[float, int, Act]] = []
        self._acts = 0
        self._orders = 0
        self._decided_over: str | None = None
        self._last_complaint_day = float("-inf")

    def run(self, now_day: float, until_day: float) -> float:
        """Live until ``until_day``; the feeling as of ``now_day``, or at leaving if that was before."""
        self._begin(until_day)
        feeling_now: float | None = None
        while self._agenda and self._agenda[0][0] <= until_day:
            day, _, act = heapq.heappop(self._agenda)
            if feeling_now is None and (day > now_day or self.leaves_day is not None):
                feeling_now = self._feeling.at(min(day, now_day))
            act(day)
        return self._feeling.at(now_day) if feeling_now is None else feeling_now

    # how it is kept

    def _plan(self, day: float, act: Act) -> None:
        self._acts += 1
        heapq.heappush(self._agenda, (day, self._acts, act))

    def _emit(self, day: float, kind: str, source: str, touchpoint: str, channel: str, **members: Any) -> None:
        event = {
            "customer_id": self.traits.customer_id,
            "source": source,
            "kind": kind,
            "touchpoint": touchpoint,
            "channel": channel,
            **members,
        }
        self.events.append((day, event))

    def _felt(self, day: float, valence: float, weight: float, cause: str) -> None:
        """The customer takes something in, and may decide to leave over it, or to stay after all."""
        chance = self._chance
        self._feeling.feel(day, valence, weight)
        if self.leaves_day is not None:
            return
        if self._decided_over is None:
            if chance.happens(self._feeling.leaving_probability(valence, weight, cause)):
                self._decided_over = cause
                self._plan(day + chance.uniform(*NOTICE_DAYS), partial(self._go, because=cause))
        elif valence > 0.3 and weight >= 0.8 and chance.happens(WON_BACK):
            self._decided_over = None

    def _go(self, day: float, *, because: str) -> None:
        """The notice is over; who was won back meanwhile stays."""
        if self._decided_over == because:
            self._leave(day, because)

    def _leave(self, day: float, because: str) -> None:
        if self.leaves_day is not None:
            return
        self.leaves_day = day
        self.leaves_because = because
        cancels = bool(self.traits.subscription_eur) and self._chance.happens(0.6)
        self.leaves_silently = not cancels and day - self._last_complaint_day > SILENT_DAYS
        if cancels:
            words = {"text": remark("product", -0.5, self._chance)} if self._chance.happens(0.4) else {}
            yearly = f"{12 * self.traits.subscription_eur:.2f}"
            self._emit(day, "cancellation", "billing", "contract", "web", amount=yearly, currency="EUR", **words)

    def _valence(self, quality: float) -> float:
        """How something of that quality is felt today."""
        return min(1.0, max(-1.0, quality + 0.2 * self._mood + self._chance.normal(0.0, 0.15)))

    def _colour(self, touchpoint: str, valence: float, feelings: float, words: float) -> Event:
        """Emotion and text for an event, each with some probability; strong feelings show more."""
        members: Event = {}
        chance = self._chance
        area = area_of(touchpoint)
        shown = 0.4 + 0.6 * abs(valence)
        if chance.happens(feelings * shown):
            members["emotion"] = feeling(area, valence, chance)
            members["intensity"] = round(min(1.0, max(0.05, abs(valence) + chance.uniform(0.0, 0.2))), 2)
        if chance.happens(words * shown):
            members["text"] = remark(area, valence, chance)
        return members

    def _digital(self) -> str:
        return "app" if self.traits.channel == "app" else "web"

    # acts of the customer

    def _begin(self, until_day: float) -> None:
        traits, chance = self.traits, self._chance
        start = traits.joined_day
        if start >= 0:
            if traits.subscription_eur:
                self._plan(start, self._subscribe)
            self._plan(start + 0.02, self._visit)
        else:
            self._plan(chance.uniform(0.0, traits.mean_gap_days), self._visit)
            if traits.subscription_eur:
                self._plan(chance.uniform(0.0, RENEWAL_DAYS), self._renew)
        begin = max(0.0, start)
        life_change = begin + chance.gamma(365.0 / LIFE_CHANGES_PER_YEAR, 1.0)
        if life_change <= until_day:
            self._plan(life_change, lambda day: self._leave(day, "life_change"))
        if traits.accepts_marketing:
            for campaign_day in self._company.campaign_days:
                if campaign_day >= begin:
                    self._plan(campaign_day + chance.uniform(0.0, 0.3), self._campaign)
        for outage in self._company.outages:
            if outage.region == traits.region and outage.at_day >= begin and chance.happens(0.5):
                minutes = outage.minutes
                self._plan(outage.at_day + chance.uniform(0.0, 0.1), partial(self._outage, minutes=minutes))

    def _subscribe(self, day: float) -> None:
        fee = f"{self.traits.subscription_eur:.2f}"
        self._emit(day, "subscription", "billing", "contract", self._digital(), amount=fee, currency="EUR")
        self.returns.append(day)
        self._plan(day + RENEWAL_DAYS, self._renew)

    def _renew(self, day: float) -> None:
        if self.leaves_day is not None:
            return
        fee = f"{self.traits.subscription_eur:.2f}"
        self._emit(day, "renewal", "billing", "contract", self._digital(), amount=fee, currency="EUR")
        self.returns.append(day)
        if self._chance.happens(0.03):
            self._plan(day + self._chance.uniform(0.1, 2.0), self._billing_error)
        self._plan(day + RENEWAL_DAYS, self._renew)

    def _visit(self, day: float) -> None:
        if self.leaves_day is not None:
            return
        chance, traits = self._chance, self.traits
        self._mood = 0.7 * self._mood + chance.normal(0.0, 0.6)
        channel = traits.channel if chance.happens(0.8) else chance.choice(("web", "app", "store"))
        if channel == "store":
            quality = 0.45
            valence = self._valence(quality)
            colour = self._colour("store.service", valence, 0.3, 0.1)
            self._emit(
                day, "interaction", "store-crm", "store.service", "store", outcome=_outcome(valence, "failed"), **colour
            )
            self._felt(day, valence, 0.6, "store_service")
            self._buy(day + 0.01, "store.till", channel)
        else:
            if chance.happens(0.35):
                valence = self._valence(0.2)
                self._emit(
                    day, "interaction", "shop", f"{channel}.search", channel, outcome=_outcome(valence, "abandoned")
                )
                self._felt(day, valence, 0.2, "search")
            self._order(day + chance.uniform(0.003, 0.03), channel)
        self._plan(day + self._gap(day), self._visit)

    def _gap(self, day: float) -> float:
        """Days to the next visit: the customer's rhythm, slower when unhappy."""
        traits = self.traits
        slower = 1.0 - 0.6 * min(0.0, self._feeling.at(day))
        if self._decided_over is not None:
            slower *= HESITATION
        return max(0.3, self._chance.gamma(traits.mean_gap_days * slower, traits.regularity))

    def _order(self, day: float, channel: str) -> None:
        chance = self._chance
        if self.leaves_day is not None:
            return
        if chance.happens(0.06):
            valence = self._valence(-0.55)
            outcome = chance.choice(("failed", "abandoned"))
            colour = self._colour("checkout", valence, 0.3, 0.1)
            rated = {"metric": "ces", "rating": float(chance.choice((1, 2, 2, 3)))} if chance.happens(0.2) else {}
            self._emit(day, "interaction", "shop", "checkout", channel, outcome=outcome, **rated, **colour)
            self._felt(day, valence, 0.7, "checkout")
            if chance.happens(0.3):
                self._plan(day + chance.uniform(0.01, 0.5), self._support)
            return
        journey = self._buy(day, "checkout", channel)
        late = chance.happens(self._company.late_probability(day))
        wait = chance.uniform(5.0, 12.0) if late else chance.uniform(1.0, 3.5)
        self._plan(day + wait, lambda then: self._delivery(then, journey, late))

    def _buy(self, day: float, touchpoint: str, channel: str) -> str:
        if self.leaves_day is not None:
            return ""
        self._orders += 1
        journey = f"O-{self.traits.customer_id}-{self._orders}"
        wants = 1.0 if self._decided_over is None else 1.0 / HESITATION
        amount = f"{max(1.0, wants * self.traits.basket_eur * self._chance.gamma(1.0, 4.0)):.2f}"
        attributes = {"region": self.traits.region, "items": str(1 + int(self._chance.uniform(0, 4)))}
        self._emit(
            day,
            "purchase",
            "shop",
            touchpoint,
            channel,
            journey_id=journey,
            amount=amount,
            currency="EUR",
            attributes=attributes,
        )
        self.returns.append(day)
        return journey

    def _delivery(self, day: float, journey: str, late: bool) -> None:
        chance = self._chance
        valence = self._valence(-0.7 if late else 0.5)
        colour = self._colour("delivery", valence, 0.3, 0.0)
        if late:
            attributes = {"days_late": str(1 + int(chance.uniform(1, 8)))}
            self._emit(
                day,
                "incident",
                "logistics",
                "delivery",
                "logistics",
                journey_id=journey,
                attributes=attributes,
                **colour,
            )
        else:
            self._emit(
                day,
                "interaction",
                "logistics",
                "delivery",
                "logistics",
                journey_id=journey,
                outcome="succeeded",
                **colour,
            )
        self._felt(day, valence, 1.2 if late else 0.6, "late_delivery" if late else "delivery")
        product = self._valence(self._chance.normal(0.4, 0.3))
        if product < -0.1 and chance.happens(0.5):
            self._plan(day + chance.uniform(1.0, 5.0), lambda then: self._return(then, journey))
        elif late or product < -0.3:
            self._perhaps_complain(day, "delivery" if late else "product.quality")
        if chance.happens(0.22):
            self._plan(day + 1.0, lambda then: self._survey(then, "delivery"))
        # Extremes speak: an indifferent customer writes no review.
        if chance.happens(0.25 * product * product):
            self._plan(day + chance.uniform(1.0, 6.0), lambda then: self._review(then, product))
        if product > 0.5 and chance.happens(0.05):
            self._plan(day + chance.uniform(1.0, 6.0), self._refer)

    def _return(self, day: float, journey: str) -> None:
        if self.leaves_day is not None:
            return
        amount = f"{max(1.0, self.traits.basket_eur * self._chance.uniform(0.3, 1.0)):.2f}"
        self._emit(day, "refund", "shop", "returns.refund", "web", journey_id=journey, amount=amount, currency="EUR")
        valence = self._valence(-0.1)
        self._felt(day, valence, 0.5, "return")

    def _review(self, day: float, product: float) -> None:
        if self.leaves_day is not None:
            return
        stars = float(min(5, max(1, round(3.2 + 2.2 * product))))
        text = remark("product", product, self._chance)
        self._emit(day, "review", "marketplace", "product.review", "web", metric="stars", rating=stars, text=text)

    def _refer(self, day: float) -> None:
        if self.leaves_day is None and self._feeling.at(day) > 0.2:
            self._emit(day, "referral", "app-backend", "app.invite", self._digital())

    def _outage(self, day: float, *, minutes: int) -> None:
        if self.leaves_day is not None or self.traits.channel == "store":
            return
        valence = self._valence(-0.5)
        colour = self._colour("app.login", valence, 0.35, 0.15)
        attributes = {"minutes_down": str(minutes), "region": self.traits.region}
        self._emit(day, "incident", "status-page", "app.login", self._digital(), attributes=attributes, **colour)
        self._felt(day, valence, 0.8, "outage")
        if self._chance.happens(0.2):
            self._plan(day + self._chance.uniform(0.01, 0.2), self._support)

    def _billing_error(self, day: float) -> None:
        if self.leaves_day is not None:
            return
        valence = self._valence(-0.7)
        colour = self._colour("billing.invoice", valence, 0.4, 0.0)
        self._emit(day, "incident", "billing", "billing.invoice", "email", **colour)
        self._felt(day, valence, 1.1, "billing_error")
        self._perhaps_complain(day, "billing.invoice")

    # when something went wrong

    def _support(self, day: float) -> None:
        if self.leaves_day is not None:
            return
        chance = self._chance
        solved = chance.happens(0.65)
        valence = self._valence(0.5 if solved else -0.6)
        channel = chance.choice(("phone", "chat", "email"))
        touchpoint = f"support.{channel}"
        rated = {}
        if chance.happens(0.35):
            rated = {"metric": "ces", "rating": float(min(7, max(1, round(4.2 + 2.8 * valence))))}
        outcome = "succeeded" if solved else "failed"
        attributes = {"queue_minutes": str(int(chance.gamma(4.0 if solved else 14.0, 2.0)))}
        colour = self._colour(touchpoint, valence, 0.3, 0.25)
        self._emit(
            day,
            "interaction",
            "helpdesk",
            touchpoint,
            channel,
            outcome=outcome,
            attributes=attributes,
            **rated,
            **colour,
        )
        if channel != "phone" and chance.happens(0.4):
            self._emit(
                day + 0.005,
                "emotion",
                "chat-analysis",
                touchpoint,
                channel,
                emotion=feeling("support", valence, chance),
                intensity=round(max(0.1, abs(valence)), 2),
                confidence=round(chance.uniform(0.5, 0.95), 2),
            )
        self._felt(day, valence, 0.9, "support")
        if not solved:
            self._perhaps_complain(day, touchpoint)

    def _perhaps_complain(self, day: float, about: str) -> None:
        if self.leaves_day is None and self._chance.happens(self.traits.outspokenness):
            self._plan(day + self._chance.uniform(0.05, 1.5), lambda then: self._complain(then, about))

    def _complain(self, day: float, about: str) -> None:
        if self.leaves_day is not None:
            return
        chance = self._chance
        self._last_complaint_day = day
        case = f"T-{self.traits.customer_id}-{len(self.events)}"
        channel = chance.choice(("phone", "email", "chat"))
        colour = self._colour(about, -0.7, 0.6, 0.8)
        self._emit(day, "complaint_opened", "helpdesk", about, channel, case_id=case, **colour)
        handled = chance.uniform()
        if handled < 0.5:
            self._plan(day + chance.uniform(0.3, 3.0), lambda then: self._resolve(then, case, channel, well=True))
        elif handled < 0.8:
            self._plan(day + chance.uniform(6.0, 20.0), lambda then: self._resolve(then, case, channel, well=False))
        else:
            self._plan(day + IGNORED_AFTER_DAYS, self._ignored)

    def _resolve(self, day: float, case: str, channel: str, *, well: bool) -> None:
        chance = self._chance
        valence = self._valence(0.75 if well else -0.75)
        touchpoint = f"support.{channel}"
        rated = {}
        here = self.leaves_day is None
        if here and chance.happens(0.4):
            rated = {"metric": "csat", "rating": float(min(5, max(1, round(3.0 + 2.0 * valence))))}
        colour = self._colour(touchpoint, valence, 0.4, 0.2) if here else {}
        outcome = "succeeded" if well else "failed"
        self._emit(
            day, "complaint_resolved", "helpdesk", touchpoint, channel, outcome=outcome, case_id=case, **rated, **colour
        )
        self._felt(day, valence, 1.4, "complaint_well_handled" if well else "complaint_badly_handled")
        if chance.happens(0.5 if well else 0.15):
            self._plan(day + chance.uniform(2.0, 5.0), lambda then: self._follow_up(then, case))
        elif not well and chance.happens(0.3):
            self._plan(day + chance.uniform(1.0, 4.0), self._win_back)

    def _ignored(self, day: float) -> None:
        """Nothing happens, which the customer notices; there is no event of it."""
        self._felt(day, -0.9, 1.4, "complaint_ignored")

    # acts of the company

    def _follow_up(self, day: float, case: str | None) -> None:
        valence = self._valence(0.6)
        colour = self._colour("support.phone", valence, 0.4, 0.0) if self.leaves_day is None else {}
        members = {"case_id": case} if case else {}
        outcome = "succeeded" if self.leaves_day is None else "failed"
        self._emit(day, "follow_up", "helpdesk", "support.phone", "phone", outcome=outcome, **members, **colour)
        self._felt(day, valence, 0.8, "follow_up")

    def _win_back(self, day: float) -> None:
        self._emit(day, "outreach", "crm", "retention.call", "phone", attributes={"campaign": "win-back"})
        self._felt(day, self._valence(0.2), 0.4, "outreach")

    def _campaign(self, day: float) -> None:
        self._emit(
            day, "outreach", "campaigns", "marketing.newsletter", "email", attributes={"campaign": f"c{int(day // 30)}"}
        )
        self._felt(day, self._valence(0.05), 0.1, "outreach")

    def _survey(self, day: float, about: str) -> None:
        chance = self._chance
        metric = chance.choice(("nps", "nps", "csat", "ces"))
        self._emit(day, "survey_sent", "survey-tool", about, "email", metric=metric)
        if self.leaves_day is not None:
            return
        # Response bias: the very happy and the very unhappy answer, whoever is in between does not.
        feeling_now = self._feeling.at(day)
        self._felt(day, -0.05, 0.1, "survey")
        if chance.happens(min(0.95, self.traits.responsiveness * (0.35 + 1.3 * abs(feeling_now)))):
            self._plan(day + chance.uniform(0.05, 3.0), lambda then: self._answer(then, about, metric))

    def _answer(self, day: float, about: str, metric: str) -> None:
        if self.leaves_day is not None:
            return
        chance = self._chance
        valence = self._valence(self._feeling.at(day))
        low, high, middle, slope = _SCALES[metric]
        rating = float(min(high, max(low, round(middle + slope * valence))))
        colour = self._colour(about, valence, 0.3, 0.5)
        self._emit(day, "survey_response", "survey-tool", about, "email", metric=metric, rating=rating, **colour)
        if valence < -0.1:
            if chance.happens(0.4):
                self._plan(day + chance.uniform(1.0, 5.0), lambda then: self._follow_up(then, None))
            else:
                # A bad answer that nobody reacts to is worse than no survey.
                self._plan(day + 7.0, lambda then: self._felt(then, -0.5, 0.6, "feedback_ignored"))


_SCALES: Final = {"nps": (0, 10, 6.2, 4.6), "csat": (1, 5, 3.2, 2.2), "ces": (1, 7, 4.2, 3.2)}
"""Lowest and highest rating, the one for a neutral feeling, and what one unit of feeling adds."""


def _outcome(valence: float, when_bad: str) -> str:
    return when_bad if valence < -0.15 else "succeeded"
